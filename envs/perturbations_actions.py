"""What becomes of an action on its way to the motors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Motors"]


class Motors:
    """Delays, amplifies and weakens the actions of B rows; while all of that is off, passes them on as they are.

    Args:
        low: (A,), bounds of an action.
        high: (A,).
        count: B.
        longest: environment steps of delay at strength 1.

    Attributes:
        size: A.
    """

    def __init__(self, low: ArrayLike, high: ArrayLike, count: int, longest: int) -> None:
        self._low, self._high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        self._rest = np.clip(0.0, self._low, self._high)
        self.size, self._longest = len(self._rest), longest
        self._past = np.empty((longest + 1, count, self.size))
        self._delay, self._gain = np.zeros(count, int), np.zeros(count)
        self._weakness = np.zeros((count, self.size))
        self._step = -1
        self._rows: list[int] = []

    def reset(self, rows: Sequence[int]) -> None:
        """Turn all off in the given rows; what they asked before counts as action 0."""
        self._past[:, rows] = self._rest
        self._delay[rows], self._gain[rows], self._weakness[rows] = 0, 0.0, 0.0
        self._find()

    def switch(self, name: str, strength: float, rows: Sequence[int], actuator: int | None) -> None:
        """Turn "action-delay", "action-gain" or "weak-actuator" on or off in the given rows."""
        if name == "action-delay":
            self._delay[rows] = max(1, round(strength * self._longest)) if strength else 0
        elif name == "action-gain":
            self._gain[rows] = strength
        else:
            self._weakness[rows, slice(None) if actuator is None else actuator] = strength
        self._find()

    def weakest(self, row: int) -> float:
        """Return the strength of "weak-actuator" in a row, the largest of all actuators."""
        return float(self._weakness[row].max())

    def __call__(self, actions: Any) -> Any:
        """Return what the motors get for actions (B, A): the same object while all is off, else float64 (B, A)."""
        self._step = (self._step + 1) % len(self._past)
        if np.shape(actions) != self._past.shape[1:]:
            return actions
        self._past[self._step] = actions
        if not self._rows:
            return actions
        sent = self._past[self._step].copy()
        sent[self._rows] = self._moved(self._rows)
        return sent

    def _moved(self, rows: list[int]) -> NDArray[np.float64]:
        """Return what the motors of M rows get, (M, A)."""
        asked = self._past[(self._step - self._delay[rows]) % len(self._past), rows]
        asked = np.clip(asked, self._low, self._high) - self._rest
        gained = np.clip(self._rest + (1.0 + self._gain[rows, None]) * asked, self._low, self._high)
        return self._rest + (1.0 - self._weakness[rows]) * (gained - self._rest)

    def _find(self) -> None:
        """Bring up to date in which rows anything is on."""
        on = (self._delay > 0) | (self._gain > 0) | (self._weakness > 0).any(axis=1)
        self._rows = np.flatnonzero(on).tolist()
