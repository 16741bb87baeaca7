"""What a controller decided and was surprised by, kept for the window to draw."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Plan
from ..monitor.report import Reaction, Response, Surprise
from ..tasks import Playground
from .snapshot import Future

if TYPE_CHECKING:
    from ..control.controller import Controller

__all__ = ["ReactionSwitch", "Track", "following", "imagined"]

_KEPT = 120
"""Decisions and model steps that the window shows."""
_TIMED = 1000
"""Decisions that the quantiles of the times are of."""

ReadOut = Callable[[Tensor], Mapping[str, Tensor]]
"""Latents (..., D) -> name -> (..., size)."""


class ReactionSwitch:
    """A reaction that can be changed for another while the controller runs.

    Attributes:
        name: of the reaction that acts.
    """

    def __init__(self, reactions: Mapping[str, Reaction], name: str) -> None:
        """Take reactions by name, and the name of the one that acts at first."""
        self._reactions = dict(reactions)
        self.name = name

    def __call__(self, surprise: Surprise) -> Response | None:
        """Ask the reaction that acts."""
        return self._reactions[self.name](surprise)

    def cycle(self) -> str:
        """Let the next reaction act; return its name."""
        self.name = following(tuple(self._reactions), self.name)[0]
        return self.name


class Track:
    """The last decisions and surprises of a controller of one environment.

    Attributes:
        costs: of the last plans, oldest first.
        scores: of the last model steps, oldest first.
        alarms: for each of `scores`.
        surprise: the newest, or None.
        futures: what the last plan's candidates lead to.
    """

    def __init__(self, playground: Playground, readout: ReadOut | None = None) -> None:
        """Create an empty track; without a readout there are no futures."""
        self._playground, self._readout = playground, readout
        self._seconds: deque[float] = deque(maxlen=_TIMED)
        self._plan: Plan | None = None
        self.costs: deque[float] = deque(maxlen=_KEPT)
        self.scores: deque[float] = deque(maxlen=_KEPT)
        self.alarms: deque[bool] = deque(maxlen=_KEPT)
        self.surprise: Surprise | None = None
        self.futures: tuple[Future, ...] = ()

    def note(self, controller: "Controller") -> None:
        """Take over what is new since the last call."""
        if controller.plan is not None and controller.plan is not self._plan:
            self._plan = controller.plan
            self._seconds.append(controller.decisions[-1])
            self.costs.append(float(self._plan.cost[0]))
            self.futures = imagined(self._plan, self._readout, self._playground)
        surprises = getattr(controller, "surprises", None)
        newest: Surprise | None = surprises[0] if surprises else None
        if newest is not None and newest is not self.surprise:
            self.surprise = newest
            self.scores.append(float(newest.score))
            self.alarms.append(bool(newest.alarm))

    def decision_ms(self, quantile: float | None = None) -> float:
        """Return a quantile of the decision times in milliseconds, the last one's for None; 0 before the first."""
        if not self._seconds:
            return 0.0
        seconds = self._seconds[-1] if quantile is None else float(np.quantile(self._seconds, quantile))
        return 1e3 * seconds


def imagined(plan: Plan, readout: ReadOut | None, playground: Playground) -> tuple[Future, ...]:
    """Return outlines of what the first row's candidates lead to, best first; empty where they cannot be read out."""
    if readout is None or plan.candidates is None:
        return ()
    with torch.inference_mode():
        found = {name: values.float().cpu().numpy() for name, values in readout(plan.candidates[0]).items()}
    candidates, steps = plan.candidates.shape[1:3]
    return tuple(
        tuple(tuple(_sketched(playground, found, number, step)) for step in range(steps))
        for number in range(candidates)
    )


def _sketched(playground: Playground, found: Mapping[str, np.ndarray], number: int, step: int) -> Any:
    return playground.sketch({name: values[number, step] for name, values in found.items()})


def following(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return all names in a circle, the one after `name` first and `name` last."""
    after = names.index(name) + 1
    return names[after:] + names[:after]
