"""Thresholds whose false-alarm rate holds for any distribution, if episodes are exchangeable.

Steps of one episode depend on each other, so nothing here assumes that steps are exchangeable: the unit is the episode.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["episodes_needed", "log_betting", "p_values", "quantile_of_maxima", "risk_threshold"]


def episodes_needed(rate: float) -> int:
    """Return the least number of calibration episodes with which a rate in (0, 1) can be promised.

    Raises:
        ValueError: the rate is out of its range.
    """
    if not 0 < rate < 1:
        raise ValueError(f"the false-alarm rate is {rate!r}; give a number above 0 and below 1")
    return math.ceil(1 / rate - 1e-9) - 1


def risk_threshold(
    losses: Callable[[float], np.ndarray], candidates: Sequence[float] | np.ndarray, rate: float, most: float = 1.0
) -> float | None:
    """Return the smallest candidate at which, and above which, the expected loss of a new episode is at most `rate`.

    Source: Angelopoulos et al., "Conformal risk control" (2022), Theorem 1.

    Args:
        losses: threshold -> (E,), each calibration episode's loss in [0, most], e.g. the share of its steps in alarm.
        candidates: thresholds.
        rate: in (0, 1).
        most: what no loss can exceed.

    Returns:
        The threshold; None where no candidate will do.
    """
    best = None
    for threshold in np.sort(np.asarray(candidates, float))[::-1]:
        found = losses(float(threshold))
        if (found.sum() + most) / (len(found) + 1) > rate:
            break
        best = float(threshold)
    return best


def quantile_of_maxima(maxima: np.ndarray, rate: float) -> float | None:
    """Return the threshold that a new episode's maximum exceeds with a chance of at most `rate`; None for too few.

    It bounds the chance of any alarm at any time in an episode no longer than those of the calibration, whatever the
    dependence between its steps. Source: Vovk et al., "Algorithmic learning in a random world" (2005).

    Args:
        maxima: (E,), of each calibration episode's score over time.
        rate: in (0, 1).
    """
    rank = math.ceil((len(maxima) + 1) * (1 - rate) - 1e-9)
    return None if rank > len(maxima) else float(np.sort(maxima)[rank - 1])


def p_values(scores: np.ndarray, nominal: np.ndarray) -> np.ndarray:
    """Return the share of nominal scores (n,), sorted, that are at least as large as each of (...), counting itself."""
    above = len(nominal) - np.searchsorted(nominal, scores, side="left")
    return (1 + above) / (len(nominal) + 1)


def log_betting(p: np.ndarray) -> np.ndarray:
    """Return the logarithm of the e-value of p-values (...) in (0, 1], the mixture of all power bets.

    The bet is the integral over k in [0, 1] of k p^(k - 1), whose mean under uniform p is 1, so that the running
    product of bets is a conformal test martingale. Source: Vovk, Nouretdinov & Gammerman, "Testing exchangeability
    on-line" (2003).
    """
    p = np.clip(np.asarray(p, float), 1e-300, 1 - 1e-6)
    log = np.log(p)
    return np.log((1 - p + p * log) / (p * log**2))
