"""What kind of surprise: rules over what is known since the alarm began."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Case", "judge"]

_ROUGH = 6.0
"""Standard deviations of roughness from which on a picture counts as noisy."""
_PERSISTENT = 3
"""Model steps with a large one-step error from which on something is not over at a stroke."""
_EXPLAINED = 1.0
"""Unexplained rest, relative to what is normal, up to which a hypothesis explains what was seen."""
_STUCK = 1.0
"""Predicted change, relative to the usual one, from which on an unchanged observation is no sign of rest."""


@dataclass
class Case:
    """What was seen of one row since its alarm began.

    Attributes:
        steps: model steps since then, the present one included.
        peak: largest signals since then by name.
        now: signals of the present step.
        large: steps at which the one-step error was above its scale.
        rest: what the best hypothesis left unexplained at its best step with a large error or at the beginning.
        evidence: (J,), log-likelihood ratio of each hypothesis, summed since the alarm began.
        best: name of the hypothesis with most evidence.
        along: residuals along the effect of no actuation at all, summed since the alarm began.
        size: that effect's squared length, summed.
        frozen: steps at which the observation stayed the same though the model expected it to change.
        blank: whether a picture was empty.
        rough: largest roughness, in standard deviations above normal.
        broken: whether a latent was not finite.
    """

    steps: int = 0
    peak: dict[str, float] = field(default_factory=dict)
    now: Mapping[str, float] = field(default_factory=dict)
    large: int = 0
    rest: float = np.inf
    evidence: np.ndarray | float = 0.0
    best: str = ""
    along: float = 0.0
    size: float = 0.0
    frozen: int = 0
    blank: bool = False
    rough: float = 0.0
    broken: bool = False

    def add(
        self,
        signals: Mapping[str, float],
        evidence: np.ndarray,
        explained: np.ndarray,
        effects: np.ndarray,
        names: Sequence[str],
        *,
        expected: float,
        frozen: bool,
        blank: bool,
        rough: float,
        finite: bool,
    ) -> None:
        """Take one more step.

        Args:
            signals: of the step, by name.
            evidence: (J,), log-likelihood ratio of each hypothesis at this step.
            explained: (J,), what each leaves unexplained at this step.
            effects: (J, 2), see `Scaled`; the first hypothesis is that actions have no effect.
            names: J names.
            expected: predicted change over the usual one.
            frozen: whether the observation is the same as before.
            blank: whether the picture is empty.
            rough: standard deviations by which it is rougher than normal.
            finite: whether the latent is.
        """
        self.steps += 1
        self.now = signals
        for name, value in signals.items():
            self.peak[name] = max(self.peak.get(name, -np.inf), -np.inf if np.isnan(value) else value)
        large = signals.get("one_step", 0.0) > 1
        self.large += large
        if len(effects) and np.isfinite(effects[0]).all():
            self.along, self.size = self.along + float(effects[0, 0]), self.size + float(effects[0, 1])
        self.evidence = self.evidence + np.nan_to_num(evidence)
        index = int(np.argmax(self.evidence))
        self.best = names[index]
        if (large or self.steps == 1) and np.isfinite(explained[index]):
            self.rest = float(explained[index])
        self.frozen += frozen and expected > _STUCK
        self.blank |= blank
        self.rough = max(self.rough, rough)
        self.broken |= not finite


def judge(case: Case) -> tuple[str, dict[str, float], str]:
    """Return the kind of a surprise, the evidence by name, and one line for people.

    In this order: a latent that is not finite, an empty or noisy picture, or one that stands still though it should
    have changed, is the sensor; looks beyond their normal range are looks; a hypothesis about the actuators that has
    evidence and explains what was seen is the dynamics, and so is an error that stays; an error that came at one stroke
    and is not explained by any of them is the state.
    """
    peak = {name: value for name, value in case.peak.items() if np.isfinite(value)}
    evidence = {name: round(value, 3) for name, value in peak.items()} | {"steps": float(case.steps)}
    if case.broken:
        return "sensor", evidence, "the observation gives numbers that are not finite"
    if case.blank:
        return "sensor", evidence, "the picture is empty"
    if case.frozen:
        evidence["frozen steps"] = float(case.frozen)
        return "sensor", evidence, f"the observation has stood still for {case.frozen} model steps of motion"
    if case.rough > _ROUGH:
        evidence["roughness"] = round(case.rough, 3)
        return "sensor", evidence, f"the picture is noisy: {case.rough:.0f} standard deviations rougher than normal"
    if peak.get("looks", 0.0) > 1:
        return "looks", evidence, f"the scene looks different: {peak['looks']:.1f} times the normal range"
    actuation = max(peak.get("gain", 0.0), peak.get("actuation", 0.0))
    if actuation > 1 and case.rest <= _EXPLAINED:
        evidence[case.best] = round(actuation, 3)
        evidence["left unexplained"] = round(case.rest, 3)
        evidence["gain estimate"] = round(1 - case.along / max(case.size, 1e-12), 3)
        return "dynamics", evidence, f"the actions have the effect of others: {case.best} explains what is seen"
    if case.large >= _PERSISTENT:
        evidence["large errors"] = float(case.large)
        return "dynamics", evidence, f"{case.large} of {case.steps} model steps were predicted wrong, and it goes on"
    if case.large and peak.get("one_step", 0.0) > 1:
        return "state", evidence, f"something moved at a stroke: {peak['one_step']:.1f} times the normal error"
    return "unknown", evidence, "more than the model expects, with no sign of what it is"
