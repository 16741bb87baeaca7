"""From scores to an alarm that does not flicker."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Debounce", "Hysteresis"]


@dataclass(frozen=True)
class Debounce:
    """When an alarm rises and falls.

    Attributes:
        raise_after: steps in a row above the threshold before it rises.
        release: share of the threshold below which a step counts as calm.
        clear_after: calm steps in a row before it falls.
        settle: model steps after a reset in which it cannot rise.

    Raises:
        ValueError: a number out of its range.
    """

    raise_after: int = 1
    release: float = 0.8
    clear_after: int = 2
    settle: int = 1

    def __post_init__(self) -> None:
        if min(self.raise_after, self.clear_after) < 1 or not 0 < self.release <= 1 or self.settle < 0:
            raise ValueError(f"{self}: counts must be at least 1, settle at least 0, release in (0, 1]")


class Hysteresis:
    """The alarms of B rows.

    Attributes:
        on: (B,) bool.
    """

    def __init__(self, settings: Debounce, batch: int) -> None:
        self._settings = settings
        self.on = np.zeros(batch, bool)
        self._above, self._calm = np.zeros(batch, np.int64), np.zeros(batch, np.int64)

    def reset(self, mask: np.ndarray) -> None:
        """Switch off the alarms of a mask (B,) bool."""
        self.on[mask], self._above[mask], self._calm[mask] = False, 0, 0

    def update(self, scores: np.ndarray, steps: np.ndarray, rows: np.ndarray, threshold: float = 1.0) -> np.ndarray:
        """Take the scores (R,) of some rows and return whether their alarms rose, (R,) bool.

        Args:
            scores: NaN counts as calm.
            steps: (R,), model steps since each row's reset.
            rows: (R,), which of B.
            threshold: of the scores.
        """
        settings = self._settings
        above = (scores > threshold) & (steps >= settings.settle)
        self._above[rows] = np.where(above, self._above[rows] + 1, 0)
        calm = ~(scores >= settings.release * threshold)
        self._calm[rows] = np.where(calm, self._calm[rows] + 1, 0)
        before = self.on[rows]
        self.on[rows] = (before & (self._calm[rows] < settings.clear_after)) | (
            self._above[rows] >= settings.raise_after
        )
        return self.on[rows] & ~before
