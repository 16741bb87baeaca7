"""What else the robot might have done with the actions it was sent: the alternatives that a surprise is held against.

An actuator that has become weak, or answers late, moves the robot as the model would predict for other actions than
those sent. Rolling the model out under those other actions tells which of them explain what is seen.
"""

import numpy as np
import torch
from torch import Tensor

from ..contracts import ModelSpec

__all__ = ["GAINS", "Hypotheses"]

_GAINS = (0.0, 0.25, 0.5, 0.75, 1.5)
GAINS = len(_GAINS)
"""How many hypotheses, the first ones, are about all actuators together."""
_ONE = (("gain 0", 0.0, 1.0), ("gain 0.5", 0.5, 1.0), ("limit 0.5", 1.0, 0.5))
"""Name, gain and limit of a single actuator while the others are as they should be."""


class Hypotheses:
    """J ways in which actions may have been carried out, by name.

    "gain G" scales all actuators about rest, the action 0 clipped into the bounds; "actuator I gain G" one of them;
    "actuator I limit L" cuts one off at this share of its range;
    "delay S" carries out what was sent S environment steps before.

    Args:
        spec: the model's.

    Attributes:
        names: J names.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._repeat, self._size = spec.action_repeat, spec.action_size
        self._low = torch.tensor(spec.action_low)
        self._high = torch.tensor(spec.action_high)
        factors = [(f"gain {gain:g}", np.full(self._size, gain), np.ones(self._size)) for gain in _GAINS]
        for actuator in range(self._size if self._size > 1 else 0):
            one = np.eye(self._size)[actuator]
            factors += [(f"actuator {actuator} {name}", 1 - (1 - g) * one, 1 - (1 - at) * one) for name, g, at in _ONE]
        self._gains = torch.tensor(np.stack([gain for _, gain, _ in factors]), dtype=torch.float32)
        self._limits = torch.tensor(np.stack([limit for *_, limit in factors]), dtype=torch.float32)
        self._delays = sorted({1, max(1, self._repeat // 2), self._repeat})
        self.names = (*(name for name, *_ in factors), *(f"delay {steps}" for steps in self._delays))

    def actions(self, block: Tensor, before: Tensor | None) -> Tensor:
        """Return what each hypothesis says was carried out.

        Args:
            block: (R, A), sent during a model step, environment units.
            before: (R, A), sent during the one before; None where there was none, which counts as rest.

        Returns:
            (R, J, A), within the bounds.
        """
        low, high = self._low.to(block), self._high.to(block)
        rest = torch.zeros_like(low).clamp(low, high)
        sent = block.unflatten(1, (self._repeat, self._size))
        earlier = rest.expand_as(sent) if before is None else before.unflatten(1, (self._repeat, self._size))
        limits = self._limits.to(block)[None, :, None]
        scaled = self._gains.to(block)[None, :, None] * (sent - rest).unsqueeze(1)
        scaled = rest + scaled.clamp(limits * (low - rest), limits * (high - rest))
        both = torch.cat([earlier, sent], dim=1)
        late = [both[:, self._repeat - steps : 2 * self._repeat - steps] for steps in self._delays]
        return torch.cat([scaled, torch.stack(late, dim=1)], dim=1).clamp(low, high).flatten(2)
