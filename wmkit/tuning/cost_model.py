"""What a decision costs: seconds = overhead + iterations x (iteration + candidate x samples)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["CostModel", "Probe", "fit"]

_CALM, _TAIL = 0.25, 0.95
"""Quantiles of a probe's decisions: of those that nothing else disturbed, and of the slow ones, over those."""


@dataclass(frozen=True)
class Probe:
    """Decisions timed with one size of search.

    Attributes:
        samples: candidates of an iteration.
        iterations: of a decision.
        seconds: of each decision.
    """

    samples: int
    iterations: int
    seconds: tuple[float, ...]

    @property
    def calm(self) -> float:
        """Seconds of a decision that nothing else on the machine disturbed: the lower quartile."""
        return float(np.quantile(self.seconds, _CALM))


@dataclass(frozen=True)
class CostModel:
    """What decisions cost on one machine in one way of computing.

    Attributes:
        overhead: seconds around the iterations: encoding, the proposal, the controller.
        iteration: seconds of an iteration, however few its candidates.
        candidate: seconds of one more candidate in an iteration.
        tail: a slow decision's seconds over those of one that nothing disturbed, at least 1.
    """

    overhead: float
    iteration: float
    candidate: float
    tail: float = 1.0

    def seconds(self, samples: int, iterations: int) -> float:
        """Return the seconds of a slow decision."""
        return self.tail * (self.overhead + iterations * (self.iteration + self.candidate * samples))

    def most_iterations(self, samples: int, seconds: float, most: int) -> int:
        """Return how many iterations, at most `most`, a slow decision can have within some seconds; 0 if not even 1."""
        each = self.iteration + self.candidate * samples
        left = seconds / self.tail - self.overhead
        if each <= 0:
            return most if left >= 0 else 0
        return int(np.clip(np.floor(left / each * (1 + 1e-9)), 0, most))


def fit(probes: Sequence[Probe]) -> CostModel:
    """Fit the cost model to the probes' calm decisions by least squares of the relative errors; no part is below zero.

    Raises:
        ValueError: there is no probe.
    """
    if not probes:
        raise ValueError("there are no probes to fit a cost model to")
    sizes = np.array([[1, probe.iterations, probe.iterations * probe.samples] for probe in probes], np.float64)
    calm = np.array([max(probe.calm, 1e-9) for probe in probes])
    parts = _non_negative(sizes / calm[:, None], np.ones(len(probes)))
    over = np.concatenate([np.asarray(probe.seconds) / each for probe, each in zip(probes, calm, strict=True)])
    return CostModel(*map(float, parts), tail=max(1.0, float(np.quantile(over, _TAIL))))


def _non_negative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return x >= 0 that minimises |matrix x - target|, the best over all choices of which parts are zero."""
    best, least = np.zeros(matrix.shape[1]), float("inf")
    for mask in range(1, 2 ** matrix.shape[1]):
        kept = [column for column in range(matrix.shape[1]) if mask >> column & 1]
        found = np.linalg.lstsq(matrix[:, kept], target, rcond=None)[0]
        error = float(np.square(matrix[:, kept] @ found - target).sum())
        if (found >= 0).all() and error < least - 1e-12:
            best, least = np.zeros(matrix.shape[1]), error
            best[kept] = found
    return best
