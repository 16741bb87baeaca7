"""How far a change moves the signals: aggregated over time, separated from nominal episodes, compared pair by pair."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .paired_tests import auroc, effect_size, holm, paired_t, signed_rank
from .violation import Trace

__all__ = ["AGGREGATORS", "Timing", "aggregate", "effects", "plain_number", "separation"]

AGGREGATORS = ("mean", "maximum", "worst tenth", "tail")
"""Over the observations of a window: their mean; the largest; the mean of the largest tenth, at least one; and the sum
of what exceeds the 95 % quantile of nominal episodes."""

_TAIL = 0.95


@dataclass(frozen=True)
class Timing:
    """When the monitor looked and when something changed.

    Attributes:
        steps: (M,) int64, environment step of each observation.
        moments: (P,) int64, environment step of each change; observations after it can show it.
        second: environment steps of one second.
        window: environment steps after the change within which kinds, separation and effects are judged.
    """

    steps: np.ndarray
    moments: np.ndarray
    second: int
    window: int

    @property
    def after(self) -> np.ndarray:
        """(P, M) bool, observations that can show the change."""
        return self.steps[None] > self.moments[:, None]

    def select(self, rows: np.ndarray) -> "Timing":
        """Return the timing of some episodes, by a mask (P,) bool."""
        return replace(self, moments=self.moments[rows])

    @property
    def inside(self) -> np.ndarray:
        """(P, M) bool, those among them within the window."""
        return self.after & (self.steps[None] <= self.moments[:, None] + self.window)


def aggregate(window: np.ndarray, tail_from: float) -> dict[str, np.ndarray]:
    """Aggregate signals over time.

    Args:
        window: (P, M), NaN outside the window.
        tail_from: where the tail begins.

    Returns:
        Aggregator -> (P,), NaN for rows without a number.
    """
    known = ~np.isnan(window)
    counts = known.sum(axis=1)
    some = counts > 0
    ordered = np.sort(np.where(known, window, -np.inf), axis=1)[:, ::-1]
    top = np.arange(window.shape[1])[None] < np.ceil(counts / 10)[:, None]
    found = {
        "mean": np.nansum(window, axis=1) / counts.clip(1),
        "maximum": ordered[:, 0],
        "worst tenth": np.where(top, ordered, 0.0).sum(axis=1) / top.sum(axis=1).clip(1),
        "tail": np.nansum((window - tail_from).clip(0.0), axis=1),
    }
    return {name: np.where(some, found[name], np.nan) for name in AGGREGATORS}


def separation(nominal: Trace, changed: Trace, timing: Timing) -> dict[str, dict[str, float | None]]:
    """Return the AUROC of changed against nominal windows, signal -> aggregator -> area; None where not known."""
    found = {}
    for name in _signals(nominal, changed):
        usual = _values(nominal, name)
        finite = usual[np.isfinite(usual)]
        tail_from = float(np.quantile(finite, _TAIL)) if finite.size else math.nan
        without, with_change = (_window(trace, name, timing, tail_from) for trace in (nominal, changed))
        areas = {one: auroc(_known(with_change[one]), _known(without[one])) for one in AGGREGATORS}
        found[name] = {one: plain_number(area) for one, area in areas.items()}
    return found


def effects(nominal: Trace, changed: Mapping[str, Trace], timing: Timing) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare each episode's mean signal in the window with the same episode's without the change.

    Logarithms are compared where a signal is above 0 in all windows, else the numbers themselves. The p-values are
    two-sided; those named "holm" are corrected for the number of changes, for each signal by itself.

    Returns:
        Change -> signal -> {"pairs", "logarithm", "ratio" or "difference" (median over the pairs), "d_z",
        "wilcoxon", "t", "wilcoxon_holm", "t_holm"}; None where a number is not known.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in changed}
    for signal in _signals(nominal, *changed.values()):
        logarithm = all(_positive(trace, signal, timing) for trace in (nominal, *changed.values()))
        rows = [_effect(_mean(nominal, signal, timing), _mean(t, signal, timing), logarithm) for t in changed.values()]
        for test in ("wilcoxon", "t"):
            for row, value in zip(rows, holm([row[test] for row in rows]), strict=True):
                row[f"{test}_holm"] = value
        for name, row in zip(changed, rows, strict=True):
            found[name][signal] = {key: plain_number(value) for key, value in row.items()}
    return found


def plain_number(value: Any) -> Any:
    """Return a number that JSON can hold: None for NaN and infinities."""
    if isinstance(value, bool | int):
        return value
    return float(value) if math.isfinite(value) else None


def _signals(*traces: Trace) -> list[str]:
    """Return the score and the signals that all conditions have."""
    return ["score", *(name for name in traces[0].signals if all(name in trace.signals for trace in traces))]


def _values(trace: Trace, name: str) -> np.ndarray:
    """Return a signal (P, M) float64; "score" is the score itself."""
    return np.asarray(trace.score if name == "score" else trace.signals[name], np.float64)


def _window(trace: Trace, name: str, timing: Timing, tail_from: float) -> dict[str, np.ndarray]:
    return aggregate(np.where(timing.inside, _values(trace, name), np.nan), tail_from)


def _mean(trace: Trace, name: str, timing: Timing) -> np.ndarray:
    """Return the mean of a signal in the window (P,)."""
    return _window(trace, name, timing, 0.0)["mean"]


def _positive(trace: Trace, name: str, timing: Timing) -> bool:
    return bool((_finite(_mean(trace, name, timing)) > 0).all())


def _effect(without: np.ndarray, with_change: np.ndarray, logarithm: bool) -> dict[str, Any]:
    """Compare pairs (P,); those where either is not known are left out."""
    known = np.isfinite(without) & np.isfinite(with_change)
    a, b = without[known], with_change[known]
    differences = np.log(b) - np.log(a) if logarithm else b - a
    middle = float(np.median(differences)) if differences.size else math.nan
    return {
        "pairs": int(known.sum()),
        "logarithm": logarithm,
        "ratio" if logarithm else "difference": math.exp(middle) if logarithm else middle,
        "d_z": effect_size(differences),
        "wilcoxon": signed_rank(differences) if differences.size else math.nan,
        "t": paired_t(differences),
    }


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _known(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]
