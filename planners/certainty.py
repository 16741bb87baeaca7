"""Leaving a search once the action that it is about to execute no longer changes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CertaintyStop", "Watch", "alike"]


@dataclass(frozen=True)
class CertaintyStop:
    """When the search of a row has settled.

    Attributes:
        window: iterations over which the first model step's actions must have stayed alike, at least 2.
        tolerance: how far they may move within the window, as a fraction of each action's range.
        min_iterations: iterations that every row gets.
        max_iterations: iterations that a row may get out of those that settled rows of the same batch gave up; None
            gives no row more than the planner's `iterations`, which keeps rows independent of each other.

    Raises:
        ValueError: a number out of its range.
    """

    window: int = 2
    tolerance: float = 0.05
    min_iterations: int = 2
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"CertaintyStop.window is {self.window!r}; give at least 2 iterations to compare")
        if not self.tolerance >= 0:
            raise ValueError(f"CertaintyStop.tolerance is {self.tolerance!r}; give a fraction of the range, 0 or more")
        if self.min_iterations < 1 or (self.max_iterations or self.min_iterations) < self.min_iterations:
            raise ValueError(
                f"CertaintyStop: min_iterations is {self.min_iterations!r} and max_iterations "
                f"{self.max_iterations!r}; give 1 <= min_iterations <= max_iterations"
            )

    @property
    def earliest(self) -> int:
        """The first iteration, counted from 1, after which a row may have settled."""
        return max(self.min_iterations, self.window)


def alike(recent: Sequence[Tensor], limit: Tensor) -> Tensor:
    """Return in which rows, (R,) bool, actions (R, A) differ by no more than a limit (A,) from one another."""
    stacked = torch.stack(list(recent))
    return (stacked.amax(dim=0) - stacked.amin(dim=0) <= limit).all(dim=-1)


class Watch:
    """Remembers the last first actions of the rows that are still searched."""

    def __init__(self, rule: CertaintyStop, span: Tensor) -> None:
        """Watch by `rule`; `span` (A,) is the range of each action."""
        self._rule = rule
        self._limit = rule.tolerance * span
        self._recent: deque[Tensor] = deque(maxlen=rule.window)
        self._seen = 0

    def settled(self, actions: Tensor) -> Tensor:
        """Take the first actions (R, A) after an iteration; return which rows have settled, (R,) bool."""
        self._recent.append(actions)
        self._seen += 1
        if self._seen < self._rule.earliest:
            return torch.zeros(actions.shape[0], dtype=torch.bool, device=actions.device)
        return alike(list(self._recent), self._limit)

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows of a mask (R,) only."""
        self._recent = deque((actions[rows] for actions in self._recent), maxlen=self._rule.window)
