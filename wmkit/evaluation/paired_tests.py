"""Two conditions on the same episodes, number by number: effect size, paired tests, and how well they separate.

Nothing here needs a statistics package; the tests compare with SciPy.
"""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["auroc", "effect_size", "holm", "paired_t", "signed_rank"]

_EXACT = 50
"""Up to so many differences without ties the signed-rank test is exact."""

Numbers = Sequence[float] | np.ndarray


def auroc(positive: Numbers, negative: Numbers) -> float:
    """Return the area under the ROC curve: the chance that a positive lies above a negative, ties counted half.

    Args:
        positive: (E,), the larger the more positive.
        negative: (F,).

    Returns:
        In [0, 1], 0.5 where nothing separates them; NaN where either is empty.

    Raises:
        ValueError: a number is NaN.
    """
    a, b = _numbers(positive, "positive"), _numbers(negative, "negative")
    if not (a.size and b.size):
        return math.nan
    rank_sum = _ranks(np.concatenate([a, b]))[: a.size].sum()
    return float((rank_sum - a.size * (a.size + 1) / 2) / (a.size * b.size))


def effect_size(differences: Numbers) -> float:
    """Return Cohen's d_z of paired differences (E,): their mean over their standard deviation.

    Source: J. Cohen, "Statistical power analysis for the behavioral sciences" (1988), section 2.3.5.

    Returns:
        0 where all differences are 0, infinite where they are alike, NaN with fewer than two.

    Raises:
        ValueError: a number is NaN.
    """
    values = _numbers(differences, "differences")
    if values.size < 2:
        return math.nan
    mean, std = float(values.mean()), float(values.std(ddof=1))
    return mean / std if std > 0 else math.copysign(math.inf, mean) if mean else 0.0


def signed_rank(differences: Numbers) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test of paired differences (E,).

    Zeros are left out. Up to 50 differences of distinct size give the exact distribution; beyond that, and with ties,
    the normal approximation with its correction for ties, without one for continuity.

    Source: F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1 (1945).

    Returns:
        1 where no difference is left.

    Raises:
        ValueError: a number is NaN.
    """
    values = _numbers(differences, "differences")
    values = values[values != 0]
    if not values.size:
        return 1.0
    ranks = _ranks(np.abs(values))
    positive, total = float(ranks[values > 0].sum()), values.size * (values.size + 1) / 2
    _, ties = np.unique(np.abs(values), return_counts=True)
    if values.size <= _EXACT and ties.max() == 1:
        return _exact_signed_rank(round(min(positive, total - positive)), values.size)
    variance = values.size * (values.size + 1) * (2 * values.size + 1) / 24 - float((ties**3 - ties).sum()) / 48
    return math.erfc(abs(positive - total / 2) / math.sqrt(2 * variance))


def paired_t(differences: Numbers) -> float:
    """Return the two-sided p-value of Student's paired t-test of differences (E,).

    Returns:
        1 where all differences are 0, 0 where they are alike or beyond the smallest number, NaN with fewer than two.

    Raises:
        ValueError: a number is NaN.
    """
    values = _numbers(differences, "differences")
    d = effect_size(values)
    if math.isnan(d) or d == 0:
        return d if math.isnan(d) else 1.0
    if math.isinf(d):
        return 0.0
    freedom = values.size - 1
    square = values.size * d * d
    return _incomplete_beta(freedom / (freedom + square), freedom / 2, 0.5)


def holm(p_values: Numbers) -> list[float]:
    """Return p-values corrected for being several, in the order given; NaN stays NaN and does not count.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).
    """
    given = np.asarray(p_values, np.float64)
    corrected, known = given.copy(), np.flatnonzero(~np.isnan(given))
    largest = 0.0
    for place, index in enumerate(known[np.argsort(given[known], kind="stable")]):
        largest = max(largest, min(1.0, float(given[index]) * (known.size - place)))
        corrected[index] = largest
    return corrected.tolist()


def _numbers(values: Numbers, name: str) -> np.ndarray:
    found = np.asarray(values, np.float64).reshape(-1)
    if np.isnan(found).any():
        raise ValueError(f"{name} has {int(np.isnan(found).sum())} NaN of {found.size} numbers; leave those pairs out")
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks (E,) from 1, the mean rank for ties."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse.reshape(-1)]


def _exact_signed_rank(smaller: int, count: int) -> float:
    """Return the two-sided p-value of the smaller rank sum of `count` distinct differences."""
    ways = [1] + [0] * smaller
    for rank in range(1, count + 1):
        for total in range(smaller, rank - 1, -1):
            ways[total] += ways[total - rank]
    return min(1.0, 2.0 * (sum(ways) / 2**count))


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction.

    Source: W. H. Press et al., "Numerical recipes" (2007), section 6.4, after Lentz; the formula is DLMF 8.17.22.
    """
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _fraction(x, a, b))


def _fraction(x: float, a: float, b: float, terms: int = 500) -> float:
    """Return 1 + d1 x / (1 + d2 x / (1 + ...)) of the incomplete beta function."""
    value, upper, lower = 1.0, 1.0, 0.0
    for n in range(1, terms):
        m = n // 2
        even = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
        factor = x * (odd if n % 2 else even)
        upper = _nonzero(1.0 + factor / upper)
        lower = 1.0 / _nonzero(1.0 + factor * lower)
        value *= upper * lower
        if abs(upper * lower - 1.0) < 1e-14:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
