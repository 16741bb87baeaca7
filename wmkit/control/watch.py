"""The controller's side of the surprise monitor: asks it, asks the reaction, and does what that says."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..contracts import ModelSpec
from ..monitor.report import Reaction, Response, Surprise

__all__ = ["Monitor", "Watch"]


class Monitor(Protocol):
    """What the controller asks of a monitor; `wmkit.SurpriseMonitor` is one."""

    def update(
        self,
        latents: Tensor,
        blocks: Tensor | None,
        observation: Mapping[str, Any] | None = None,
        rows: np.ndarray | None = None,
        batch: int | None = None,
    ) -> list[Surprise]:
        """Take the start of a model step of R rows: latents (R, D), blocks (R, A); return R reports."""
        ...

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget the rows of a mask (B,); None for all."""
        ...


class Watch:
    """Keeps the newest report of each row and the response that holds until the row's next model step.

    Args:
        monitor: says what is surprising; None switches everything off.
        reaction: says what to do about it; None does nothing.
        spec: of the model.

    Attributes:
        surprises: the newest report of each row, None before its first.
        seconds: of the last calls of the monitor and the reactions.
        rest: (action_size,), the action 0 clipped into the bounds.

    Raises:
        ValueError: a reaction without a monitor.
    """

    def __init__(self, monitor: Monitor | None, reaction: Reaction | None, spec: ModelSpec) -> None:
        if reaction is not None and monitor is None:
            raise ValueError("a reaction needs a monitor; give both")
        self.monitor, self.reaction = monitor, reaction
        self.surprises: list[Surprise | None] = []
        self.seconds: deque[float] = deque(maxlen=10_000)
        self._responses: list[Response] = []
        self._low, self._high = np.array(spec.action_low, np.float32), np.array(spec.action_high, np.float32)
        self.rest: np.ndarray = np.clip(np.zeros_like(self._low), self._low, self._high)

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget the rows of a mask (B,) bool; None for all."""
        if self.monitor is None:
            return
        self.monitor.reset(mask)
        if mask is None:
            self.surprises, self._responses = [], []
        for row in np.flatnonzero(mask) if mask is not None and self.surprises else []:
            self.surprises[row], self._responses[row] = None, Response()

    def begin(
        self, latents: Tensor, blocks: Tensor, observation: Mapping[str, Any], rows: np.ndarray, batch: int
    ) -> Any:
        """Take the start of a model step of some rows and return those (list of int) that are to be planned anew.

        Args:
            latents: (R, D).
            blocks: (R, A), of the model step that ended; anything where none did.
            observation: by key (R, ...).
            rows: (R,), which of B.
            batch: B.
        """
        if self.monitor is None:
            return []
        began = time.perf_counter()
        if len(self.surprises) != batch:
            self.surprises, self._responses = [None] * batch, [Response()] * batch
        for surprise in self.monitor.update(latents, blocks, observation, rows, batch):
            response = None if self.reaction is None else self.reaction(surprise)
            self.surprises[surprise.row] = surprise
            self._responses[surprise.row] = Response() if response is None else response
        self.seconds.append(time.perf_counter() - began)
        return [row for row in rows.tolist() if self._responses[row].replan]

    def idle(self, rows: np.ndarray) -> np.ndarray:
        """Return which of the rows (R,) need no plan, bool: a policy acts for them, or nothing moves."""
        if not self._responses:
            return np.zeros(len(rows), bool)
        responses = [self._responses[row] for row in rows.tolist()]
        return np.array([one.policy is not None or one.scale == 0.0 for one in responses], bool)

    def apply(self, actions: np.ndarray, observation: Mapping[str, Any]) -> np.ndarray:
        """Return actions (B, action_size) as the responses to observations, by key (B, ...), change them.

        Raises:
            ValueError: a policy gave an action of the wrong shape, or one that is not finite.
        """
        if self.reaction is None:
            return actions
        for row, response in enumerate(self._responses):
            if response.policy is not None:
                one = {key: np.asarray(value[row]) for key, value in observation.items()}
                actions[row] = self._checked(response.policy(one), actions[row])
            elif response.scale != 1.0:
                actions[row] = self.rest + np.float32(response.scale) * (actions[row] - self.rest)
        record = getattr(self.reaction, "record", None)
        if record is not None:
            record(observation, actions)
        return actions

    def _checked(self, action: Any, like: np.ndarray) -> np.ndarray:
        found = np.asarray(action, np.float32)
        if found.shape != like.shape or not np.isfinite(found).all():
            raise ValueError(f"the reaction's policy gave {found.tolist()}; expected {like.shape[0]} finite numbers")
        return np.clip(found, self._low, self._high)
