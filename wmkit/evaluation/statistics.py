"""Intervals and tests for success counts, and percentiles of times."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError

__all__ = ["Comparison", "bootstrap", "compare", "mcnemar", "percentiles", "wilson"]


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share, both ends in [0, 1].

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Args:
        successes: 0 to `trials`.
        trials: at least 1.
        confidence: in (0, 1).

    Raises:
        ValueError: a number outside its range.
    """
    if trials < 1 or not 0 <= successes <= trials or not 0.0 < confidence < 1.0:
        raise ValueError(f"wilson({successes}, {trials}, {confidence}): need 0 <= successes <= trials, trials >= 1")
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    scale = 1.0 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high


def bootstrap(
    values: Sequence[float] | np.ndarray, confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).

    Args:
        values: (E,), at least one.
        confidence: in (0, 1).
        draws: samples with replacement.
        seed: of the draws.

    Raises:
        ValueError: no values, or a number outside its range.
    """
    given = np.asarray(values, np.float64)
    if given.ndim != 1 or not given.size or not 0.0 < confidence < 1.0 or draws < 1:
        raise ValueError(f"bootstrap of shape {given.shape}, {confidence}, {draws}: need at least one value and draw")
    chosen = np.random.default_rng(seed).integers(0, given.size, (draws, given.size))
    low, high = np.quantile(given[chosen].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Args:
        only_first: pairs that only the first agent solved.
        only_second: pairs that only the second agent solved.

    Raises:
        ValueError: a negative count.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"mcnemar({only_first}, {only_second}): counts must not be negative")
    trials = only_first + only_second
    tail = sum(math.comb(trials, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2.0 * tail / 2**trials)


@dataclass(frozen=True)
class Comparison:
    """Two agents on the same pairs.

    Attributes:
        both: pairs that both solved.
        only_first: pairs that only the first solved.
        only_second: pairs that only the second solved.
        neither: pairs that none solved.
        p_value: of McNemar's exact test, two-sided.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


def compare(first: Sequence[bool], second: Sequence[bool]) -> Comparison:
    """Compare two agents' successes, each (P,) bool over the same pairs in the same order.

    Raises:
        UserError: the numbers of pairs differ.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape:
        raise UserError(f"cannot compare {a.size} pairs with {b.size}; evaluate both agents on the same --manifest")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    p_value = mcnemar(only_first, only_second)
    return Comparison(int((a & b).sum()), only_first, only_second, int((~a & ~b).sum()), p_value)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return {"p50", "p99", "count"} of times in seconds, linearly interpolated.

    Raises:
        ValueError: no times.
    """
    if not len(seconds):
        raise ValueError("no times to take percentiles of; time at least one decision after the warm-up")
    p50, p99 = np.percentile(np.asarray(seconds, float), [50, 99])
    return {"p50": float(p50), "p99": float(p99), "count": len(seconds)}
