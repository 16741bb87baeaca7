"""What is normal: scales of the raw signals, fitted on nominal episodes, and the signals on a common scale."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from .conformal import log_betting, p_values
from .evidence import effects, fit_ratios, log_ratios
from .hypotheses import GAINS
from .looks import ROUGHNESS
from .signals import Raw

__all__ = ["SIGNALS", "Accumulated", "Nominal", "Scaled"]

SIGNALS: tuple[str, ...] = ("one_step", "k_step", "drift", "gain", "actuation", "looks", "disagreement", "unlikeliness")
"""Names of the signals, in order."""

PARTS = {
    "one_step": 0.2,
    "k_step": 0.03,
    "drift": 0.03,
    "gain": 0.5,
    "actuation": 0.08,
    "looks": 0.06,
    "disagreement": 0.05,
    "unlikeliness": 0.05,
}
"""Part of the false alarms that each signal may cause: most where what is to be found is faint, little where it is
loud."""
_SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Shares of the nominal steps between whose quantiles the common scale is interpolated."""
_SENSITIVE = [0, 3, 4]
"""Hypotheses, gains of 0, 0.75 and 1.5, whose effects tell how sensitive a prediction is to the actions."""
_TRUST = 0.5
"""How far the usual error in the circumstances is believed."""
_LEAST_FIT = 50
"""Fewest steps to fit it on."""
_BODY = 0.05
"""Share of the nominal steps beyond which a signal's tail is no thinner than its least scale."""
_LEAST_TAIL = {"drift": 1.0, "gain": 0.5, "actuation": 0.5, "looks": 0.3}
"""Least scales of tails, in nats where the signal is a log-likelihood ratio."""
_LEAST = 1e-6
"""Least distance of two quantiles, as a share of the range, so that signals that are mostly 0 have a scale too."""
_TOLL = 2.0
"""Nats that a hypothesis pays a step, so that it takes more than one step to believe it, and it is soon forgotten."""
_DRIFT_TOLL = 0.5
"""Nats that the bettor pays a step."""
_LIMIT = 3.0
"""Value on the common scale that an accumulated signal can reach, so that it falls soon after the cause is gone."""
_LOOKS_FLOOR = 2e-4
"""Smallest standard deviation of a number that describes looks: about one pixel of a picture of 64 x 64."""
_SHRINK = 0.05
"""Share of the diagonal in the covariance of the residuals."""


@dataclass(frozen=True)
class Nominal:
    """Statistics of nominal episodes.

    Attributes:
        one_step: (D,), standard deviation of the one-step residuals.
        steadiness: (5,), weights of `_circumstances` in the logarithm of a step's usual one-step error.
        k_step: (D,), of the k-step residuals; NaN without.
        precision: (D, D), inverse covariance of the one-step residuals, shrunk towards its diagonal; they are measured
            by their Mahalanobis length, so that errors which usually come together do not count twice.
        edges: (J, 7), see `fit_ratios`.
        ratios: (J, 8, 30), see `fit_ratios`.
        table: (1001,), sorted one-step scores at even quantiles.
        looks_mean: (F,).
        looks_std: (F,), at least about a pixel.
        knots: (8, 7), quantiles of each of `SIGNALS` at its `rarities`; NaN where the model has none.
        tails: (8,), mean excess over the last but one of them, the scale of an exponential tail beyond the last.
        rarities: (8, 7), natural logarithms of one over the chance of a nominal step to lie above a quantile,
            ascending; the last one is 1 on the common scale, and the signal's part of the promised rate.
        energy: (1,), that quantile of the one-step residuals' squared Mahalanobis length.
        moves: (1,), median length of the predicted change.
    """

    one_step: np.ndarray
    steadiness: np.ndarray
    k_step: np.ndarray
    precision: np.ndarray
    edges: np.ndarray
    ratios: np.ndarray
    table: np.ndarray
    looks_mean: np.ndarray
    looks_std: np.ndarray
    knots: np.ndarray
    tails: np.ndarray
    rarities: np.ndarray
    energy: np.ndarray
    moves: np.ndarray

    @classmethod
    def fit(cls, episodes: Sequence[Sequence[Raw]], rate: float) -> "Nominal":
        """Fit on episodes, each a sequence of raw signals (1, ...).

        Args:
            episodes: nominal ones.
            rate: promised share of the steps above the threshold, in (0, 1), which the signals divide among them.
        """
        joined = {
            each.name: np.concatenate([getattr(raw, each.name) for steps in episodes for raw in steps])
            for each in fields(Raw)
        }
        residuals = joined["one_step"][np.isfinite(joined["one_step"]).all(axis=1)]
        one_step = _spread(residuals)
        around = _circumstances(joined["one_step"], joined["others"], joined["expected"], one_step)
        precision = _precision(residuals)
        errors = _length(joined["one_step"], precision)
        steadiness = _steadiness(around, errors)
        scores = errors / _usual(around, steadiness)
        scores = np.sort(scores[np.isfinite(scores)])
        looks = joined["looks"]
        edges, ratios = fit_ratios(*effects(joined["one_step"], joined["others"], precision))
        first = cls(
            one_step=one_step,
            steadiness=steadiness,
            k_step=_spread(joined["k_step"]),
            precision=precision,
            edges=edges,
            ratios=ratios,
            table=np.quantile(scores, np.linspace(0, 1, 1001)),
            looks_mean=looks.mean(axis=0),
            looks_std=np.maximum(looks.std(axis=0), _LOOKS_FLOOR),
            knots=np.zeros((len(SIGNALS), 0)),
            tails=np.zeros(len(SIGNALS)),
            rarities=np.zeros((len(SIGNALS), 0)),
            energy=np.array([np.nan]),
            moves=np.array([np.nanmedian(joined["expected"])]),
        )
        energy = _quantile(first.energies(joined["one_step"][:, None])[:, 0], 1 - rate * PARTS["one_step"])
        unscaled = np.concatenate([first.follow(steps).values for steps in episodes])
        shares = np.array([[*_SHARES, rate * PARTS[name]] for name in SIGNALS])
        shares = -np.sort(-np.maximum(shares, rate * np.array(list(PARTS.values()))[:, None]), axis=1)
        fitted = [_tail(x, shares[k], _LEAST_TAIL.get(SIGNALS[k], 0.0)) for k, x in enumerate(unscaled.T)]
        values = {each.name: getattr(first, each.name) for each in fields(cls)} | {
            "knots": np.array([knots for knots, _ in fitted]),
            "tails": np.array([tail for _, tail in fitted]),
            "rarities": -np.log(shares),
            "energy": np.array([energy]),
        }
        return cls(**values)

    def follow(self, steps: Sequence[Raw]) -> "Scaled":
        """Return the signals (S, 8) of one episode's raw signals, each (1, ...)."""
        memory = Accumulated.empty(1, self, steps[0].others.shape[1])
        found = [self.scaled(raw, memory, np.array([0])) for raw in steps]
        return Scaled(*(np.concatenate([getattr(each, name) for each in found]) for name in _PARTS))

    def scaled(self, raw: Raw, memory: "Accumulated", rows: np.ndarray) -> "Scaled":
        """Return the signals of R rows on the common scale, and keep what accumulates in memory.

        Args:
            raw: of the step.
            memory: of B rows.
            rows: (R,), which of B.
        """
        around = _circumstances(raw.one_step, raw.others, raw.expected, self.one_step)
        one = _length(raw.one_step, self.precision) / _usual(around, self.steadiness)
        along, size = effects(raw.one_step, raw.others, self.precision)
        evidence = log_ratios(along, size, self.edges, self.ratios)
        bets = log_betting(p_values(np.nan_to_num(one), self.table))
        memory.add(rows, np.where(np.isfinite(one), bets, 0.0), np.nan_to_num(evidence) - _TOLL * np.isfinite(evidence))
        looks = np.abs(raw.looks - memory.look[rows]) / self.looks_std
        columns = [
            one,
            _rms(raw.k_step / self.k_step),
            np.where(np.isfinite(one), memory.drift[rows], np.nan),
            np.where(np.isfinite(one), memory.actuation[rows, :GAINS].max(axis=1), np.nan),
            np.where(np.isfinite(one), memory.actuation[rows, GAINS:].max(axis=1), np.nan),
            looks.max(axis=1, initial=-np.inf) if looks.shape[1] else np.full(len(rows), np.nan),
            raw.disagreement,
            raw.unlikeliness,
        ]
        values = self._common(np.stack(columns, axis=1))
        values[~raw.finite] = np.inf
        with np.errstate(invalid="ignore"):
            explained = self.energies(raw.others) / self.energy
        return Scaled(values, explained, evidence, np.stack([along, size], axis=-1))

    def _common(self, values: np.ndarray) -> np.ndarray:
        """Return signals (R, 8) on the common scale: how rare they are, as a logarithm; as they are before the fit."""
        if not self.rarities.size:
            return values
        found = np.full(values.shape, np.nan)
        for index, (knots, tail, rarities) in enumerate(zip(self.knots, self.tails, self.rarities, strict=True)):
            if np.isfinite(knots).all():
                inside = np.interp(values[:, index], knots, rarities)
                found[:, index] = (inside + np.maximum(values[:, index] - knots[-1], 0.0) / tail) / rarities[-1]
        return np.where(np.isnan(values), np.nan, found)

    def high(self, name: str, value: float = 1.0) -> float:
        """Return what is `value`, at least 1, on the common scale, in the units of a signal."""
        index = SIGNALS.index(name)
        return float(self.knots[index, -1] + (value - 1) * self.rarities[index, -1] * self.tails[index])

    def energies(self, residuals: np.ndarray) -> np.ndarray:
        """Return the squared Mahalanobis lengths (R, J) of residuals (R, J, D)."""
        return _energy(residuals, self.precision)

    def rougher(self, looks: np.ndarray) -> np.ndarray:
        """Return how many standard deviations rougher than normal descriptions (R, F) of looks are, (R,)."""
        if looks.shape[1] <= ROUGHNESS:
            return np.zeros(len(looks))
        return ((looks - self.looks_mean) / self.looks_std)[:, ROUGHNESS]


@dataclass(frozen=True)
class Scaled:
    """Signals on the common scale.

    Attributes:
        values: (R, 8), of `SIGNALS`; 1 is high for a nominal step; NaN where there is none.
        explained: (R, J), what each hypothesis leaves unexplained; up to about 1 it explains all.
        evidence: (R, J), log-likelihood ratio of each hypothesis at this step.
        effects: (R, J, 2), the residual along each hypothesis' effect, and the effect's squared length, both measured
            in nominal residuals: the first over the second is the share of the effect that is seen.
    """

    values: np.ndarray
    explained: np.ndarray
    evidence: np.ndarray
    effects: np.ndarray


@dataclass
class Accumulated:
    """What adds up over the steps of B rows.

    Attributes:
        drift: (B,), logarithm of the capital of a bettor who starts anew whenever all is lost.
        actuation: (B, J), log-likelihood ratio of each hypothesis, at least 0.
        look: (B, F), the looks that are normal for each row.
    """

    drift: np.ndarray
    actuation: np.ndarray
    look: np.ndarray
    limits: np.ndarray

    @classmethod
    def empty(cls, batch: int, nominal: Nominal, hypotheses: int) -> "Accumulated":
        """Return what is known of rows that have seen nothing."""
        limits = [nominal.high(name, _LIMIT) for name in _ACCUMULATED] if nominal.rarities.size else None
        return cls(
            np.zeros(batch),
            np.zeros((batch, hypotheses)),
            np.tile(nominal.looks_mean, (batch, 1)),
            np.full(3, np.inf) if limits is None else np.array(limits),
        )

    def reset(self, mask: np.ndarray, nominal: Nominal) -> None:
        """Forget the rows of a mask (B,) bool."""
        self.drift[mask], self.actuation[mask], self.look[mask] = 0.0, 0.0, nominal.looks_mean

    def add(self, rows: np.ndarray, bets: np.ndarray, evidence: np.ndarray) -> None:
        """Take a step's bets (R,) and evidence (R, J)."""
        self.drift[rows] = np.clip(self.drift[rows] + bets - _DRIFT_TOLL, 0, self.limits[0])
        limits = np.where(np.arange(evidence.shape[1]) < GAINS, *self.limits[1:])
        self.actuation[rows] = np.clip(self.actuation[rows] + evidence, 0, limits)


_ACCUMULATED = ("drift", "gain", "actuation")
_PARTS = ("values", "explained", "evidence", "effects")


def _circumstances(one_step: np.ndarray, others: np.ndarray, expected: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return what tells how sure a prediction can be (R, 5): how much changes, and how that depends on the actions.

    Args:
        one_step: (R, D), observed minus predicted.
        others: (R, J, D), observed minus predicted under each hypothesis.
        expected: (R,), length of the predicted change.
        scale: (D,), of the residuals.
    """
    effect = _rms((others[:, _SENSITIVE] - one_step[:, None]) / scale)
    return np.concatenate([np.ones((len(effect), 1)), np.log(effect + 0.02), np.log(expected + 1e-3)[:, None]], axis=1)


def _steadiness(around: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return least-squares weights (5,) of circumstances (n, 5) in the logarithms of errors (n,), less their mean."""
    known = np.isfinite(errors) & np.isfinite(around).all(axis=1) & (errors > 0)
    if known.sum() < _LEAST_FIT:
        return np.zeros(around.shape[1])
    weights = np.linalg.lstsq(around[known], np.log(errors[known]), rcond=None)[0]
    weights[0] -= (around[known] @ weights).mean()
    return weights


def _usual(around: np.ndarray, steadiness: np.ndarray) -> np.ndarray:
    """Return the usual error (R,) in circumstances (R, 5), relative to all steps' and drawn half way towards it."""
    return np.exp(_TRUST * np.clip(around @ steadiness, -1.0, 2.0))


def _length(residuals: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return the Mahalanobis lengths (R,) of residuals (R, D) over the square root of D, 1 in the root mean square."""
    return np.sqrt(_energy(residuals, precision) / precision.shape[0])


def _energy(residuals: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return the squared Mahalanobis lengths (...) of residuals (..., D)."""
    return np.einsum("...d,de,...e->...", residuals, precision, residuals)


def _rms(values: np.ndarray) -> np.ndarray:
    """Return the root mean square over the last axis."""
    return np.sqrt(np.square(values).mean(axis=-1))


def _spread(residuals: np.ndarray) -> np.ndarray:
    """Return the root mean square (D,) of the finite rows of (n, D), with a floor; NaN where there is none."""
    known = residuals[np.isfinite(residuals).all(axis=1)]
    if not len(known):
        return np.full(residuals.shape[1], np.nan)
    found = np.sqrt(np.square(known).mean(axis=0))
    return np.maximum(found, 1e-3 * found.mean() + 1e-12)


def _precision(residuals: np.ndarray) -> np.ndarray:
    """Return the inverse of the second moments (D, D) of residuals (n, D), shrunk towards their diagonal."""
    moments = residuals.T @ residuals / len(residuals)
    moments = (1 - _SHRINK) * moments + _SHRINK * np.diag(np.diag(moments))
    moments += np.eye(len(moments)) * (1e-9 * np.trace(moments) / len(moments) + 1e-24)
    return np.linalg.inv(moments)


def _tail(values: np.ndarray, shares: np.ndarray, least: float) -> tuple[np.ndarray, float]:
    """Return the quantiles of values (n,) that these shares of them lie above, ascending, and the mean excess.

    The excess is over the last quantile but one, the scale of an exponential tail; NaN for no values.
    Source: J. Pickands, "Statistical inference using extreme order statistics" (1975).

    Args:
        values: NaN are left out.
        shares: descending.
        least: smallest scale of the tail, from the quantile for 5 % on.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(shares), np.nan), float("nan")
    span = _LEAST * max(1.0, float(np.ptp(known)))
    knots = np.quantile(known, 1 - shares)
    knots = np.maximum(knots, least * np.log(_BODY / shares)) + span * np.arange(len(shares))
    beyond = known[known > knots[-2]] - knots[-2]
    return knots, max(float(beyond.mean()) if len(beyond) else 0.0, least, span)


def _quantile(values: np.ndarray, level: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, level, method="higher")) if len(known) else float("nan")
