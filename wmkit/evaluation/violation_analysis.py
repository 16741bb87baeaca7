"""What the traces of a violation-of-expectation study say: false alarms, detection, kinds; and all of it together.

Everything here is arithmetic on arrays (P, M): P episodes, M starts of model steps.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..monitor.report import KINDS
from .statistics import wilson
from .violation import Trace
from .violation_effects import Timing, effects, plain_number, separation

__all__ = [
    "EXPECTED",
    "analyse",
    "delays",
    "detection",
    "false_alarms",
    "kinds_after",
    "still_running",
    "told_apart",
]

_DRAWS = 10_000
"""Of the bootstrap."""
EXPECTED = {
    "teleport": "state",
    "colour": "looks",
    "lighting": "looks",
    "occlusion": "looks",
    "sensor-noise": "sensor",
    "frozen-frame": "sensor",
    "dropped-frame": "sensor",
    "action-delay": "dynamics",
    "action-gain": "dynamics",
    "weak-actuator": "dynamics",
    "mass": "dynamics",
    "friction": "dynamics",
    "weak-ankle": "dynamics",
    "heavy-torso": "dynamics",
    "slippery": "dynamics",
    "broken-sensor": "sensor",
}
"""Perturbation -> the kind of surprise that it is."""


def still_running(nominal: Trace, timing: Timing) -> np.ndarray:
    """Return which episodes (P,) bool were not over, without the change, before it could be seen."""
    looks = np.where(timing.after, timing.steps[None], np.inf).min(axis=1)
    return np.full(len(timing.moments), True) if nominal.ends is None else nominal.ends >= looks


def false_alarms(trace: Trace) -> dict[str, Any]:
    """Count the alarms of nominal episodes.

    Returns:
        - "steps": observations at the starts of model steps, those at which the monitor settles too, and "episodes": P
        - "exceeding": those with a score above 1, which is what a calibration promises, "on": those under an alarm,
          which lasts longer, "rises": those at which one began, each {"count", "share", "wilson", "bootstrap"}: the
          share of all, with Wilson's interval, which takes them for independent, and a bootstrap over episodes
        - "per_episode": episodes with an alarm, {"count", "of", "share", "wilson"}
    """
    judged = ~np.isnan(trace.score) if trace.ends is None else trace.steps[None] <= trace.ends[:, None]
    exceeding = np.nan_to_num(trace.score, nan=0.0) > 1.0
    found = {"on": trace.alarm, "exceeding": exceeding, "rises": _rises(trace.alarm)}
    return {
        "steps": int(judged.sum()),
        "episodes": len(judged),
        **{name: _share_of_steps(mask & judged, judged) for name, mask in found.items()},
        "per_episode": _rate(np.any(trace.alarm, axis=1)),
    }


def delays(alarm: np.ndarray, timing: Timing) -> tuple[np.ndarray, np.ndarray]:
    """Return how long the first alarm after each change took, and which rows were under one already.

    Args:
        alarm: (P, M) bool.
        timing: of the same episodes.

    Returns:
        (P,) float64, environment steps from the change to the observation at which an alarm began, NaN where none did
        or where one was on already; (P,) bool, whether one was on at the last observation before the change.
    """
    before = np.where(timing.after, -1, np.arange(len(timing.steps))[None]).max(axis=1)
    already = (before >= 0) & alarm[np.arange(len(alarm)), before.clip(0)]
    late = _rises(alarm) & timing.after
    detected = late.any(axis=1) & ~already
    found = timing.steps[late.argmax(axis=1)] - timing.moments
    return np.where(detected, found.astype(np.float64), np.nan), already


def detection(trace: Trace, timing: Timing) -> dict[str, Any]:
    """Say how often and how fast a change was detected.

    An episode that was under an alarm when the change came can tell nothing of it, nor can one that ended before it was
    looked at again: rates are of the others, as in the conditional delay of sequential change detection (Pollak 1985),
    and such episodes are counted apart.

    Returns:
        "next" (at the first observation that can show it), "steps_20", "second" and "ever", each a rate {"count", "of",
        "share", "wilson"}; "already" and "unseen", counts; "delay_median" and "delay_90" in environment
        steps over the detected ones, None without any.
    """
    delay, already = delays(trace.alarm, timing)
    seen = (timing.after & ~np.isnan(trace.score)).any(axis=1)
    first = np.where(timing.after.any(axis=1), timing.steps[timing.after.argmax(axis=1)] - timing.moments, 0)
    limits = {"next": first, "steps_20": 20, "second": timing.second, "ever": np.inf}
    with np.errstate(invalid="ignore"):
        rates = {
            name: _rate((np.isfinite(delay) & (delay <= limit))[seen & ~already]) for name, limit in limits.items()
        }
    known = delay[np.isfinite(delay)]
    median, late = np.quantile(known, [0.5, 0.9]) if known.size else (math.nan, math.nan)
    return {
        **rates,
        "already": int(already.sum()),
        "unseen": int((~seen & ~already).sum()),
        "delay_median": plain_number(median),
        "delay_90": plain_number(late),
    }


def kinds_after(trace: Trace, timing: Timing, which: str = "last") -> np.ndarray:
    """Return the kind that was reported for the change, (P,) places in `KINDS`; -1 where no alarm was on.

    Args:
        trace: of P episodes.
        timing: of the same.
        which: "first", as the alarm began, or "last", what was reported last within the window under an alarm, when
            the monitor has seen most. Episodes under an alarm before the change give -1.
    """
    _, already = delays(trace.alarm, timing)
    told = timing.inside & trace.alarm & (trace.kind >= 0) & ~already[:, None]
    place = told.argmax(axis=1) if which == "first" else told.shape[1] - 1 - told[:, ::-1].argmax(axis=1)
    return np.where(told.any(axis=1), trace.kind[np.arange(len(place)), place], -1)


def told_apart(looks: np.ndarray, state: np.ndarray) -> dict[str, Any]:
    """Say how well a change of looks is told from one of state, from the kinds (P,) reported for each.

    Returns:
        - "alarmed": of all episodes with an alarm, those given their own kind
        - "all": of all episodes, those given their own kind; without an alarm is not
        - "confused": of all episodes, those given the other's kind
        - "looks" and "state": "alarmed" for each alone

        each {"count", "of", "share", "wilson"}; None without episodes.
    """
    own = np.concatenate([looks == KINDS.index("looks"), state == KINDS.index("state")])
    other = np.concatenate([looks == KINDS.index("state"), state == KINDS.index("looks")])
    alarmed = np.concatenate([looks, state]) >= 0
    first = np.arange(len(own)) < len(looks)
    return {
        "alarmed": _rate(own[alarmed]),
        "all": _rate(own),
        "confused": _rate(other),
        "looks": _rate(own[alarmed & first]),
        "state": _rate(own[alarmed & ~first]),
    }


def analyse(
    nominal: Trace, changed: Mapping[str, Trace], timing: Timing, strengths: Mapping[str, float]
) -> dict[str, Any]:
    """Return everything that a study found, as plain JSON values.

    Episodes that were over before their change tell nothing of it and are left out of all but the false alarms; they
    are the same in every condition.

    Args:
        nominal: the condition without a change.
        changed: change -> its condition.
        timing: of all conditions.
        strengths: change -> strength.

    Returns:
        - "false_alarms", see `false_alarms`; "over_before", the episodes left out of all that follows
        - "placebo", the detection of nothing in the nominal episodes; their "success" and "seconds"
        - "conditions", change -> "strength", "expected" kind, "detection", "kinds_first" and "kinds_last" (kind ->
          episodes), "success", "same_before" (episodes with exactly the nominal scores until the change), "auroc",
          "effects" and "seconds"
        - "told_apart" where both a colour change and a teleport were tried
    """
    alarms, running = false_alarms(nominal), still_running(nominal, timing)
    nominal, timing = nominal.select(running), timing.select(running)
    changed = {name: trace.select(running) for name, trace in changed.items()}
    compared = effects(nominal, changed, timing)
    conditions = {}
    for name, trace in changed.items():
        conditions[name] = {
            "strength": strengths[name],
            "expected": EXPECTED.get(name),
            "detection": detection(trace, timing),
            "kinds_first": _counted(kinds_after(trace, timing, "first")),
            "kinds_last": _counted(kinds_after(trace, timing, "last")),
            "success": None if trace.success is None else _rate(trace.success),
            "same_before": _rate(_same_before(nominal, trace, timing)),
            "auroc": separation(nominal, trace, timing),
            "effects": compared[name],
            "seconds": trace.seconds,
        }
    result: dict[str, Any] = {
        "false_alarms": alarms,
        "over_before": int((~running).sum()),
        "placebo": detection(nominal, timing),
        "success": None if nominal.success is None else _rate(nominal.success),
        "seconds": nominal.seconds,
        "conditions": conditions,
    }
    if {"colour", "teleport"} <= set(changed):
        result["told_apart"] = told_apart(*(kinds_after(changed[name], timing) for name in ("colour", "teleport")))
    return result


def _same_before(nominal: Trace, changed: Trace, timing: Timing) -> np.ndarray:
    """Return which episodes (P,) had exactly the nominal scores until the change, as pairs should."""
    alike = (nominal.score == changed.score) | (np.isnan(nominal.score) & np.isnan(changed.score))
    return np.all(alike | timing.after, axis=1)


def _rises(alarm: np.ndarray) -> np.ndarray:
    """Return where alarms (P, M) begin."""
    return alarm & ~np.pad(alarm, ((0, 0), (1, 0)))[:, :-1]


def _rate(hits: np.ndarray) -> dict[str, Any] | None:
    """Return the share of hits (P,) with Wilson's interval; None of nothing."""
    if not len(hits):
        return None
    count = int(hits.sum())
    return {"count": count, "of": len(hits), "share": count / len(hits), "wilson": list(wilson(count, len(hits)))}


def _share_of_steps(hits: np.ndarray, judged: np.ndarray) -> dict[str, Any]:
    """Return the share of hits (P, M) among the judged, with both intervals."""
    count, total = int(hits.sum()), int(judged.sum())
    if not total:
        return {"count": 0, "share": None, "wilson": None, "bootstrap": None}
    drawn = np.random.default_rng(0).integers(0, len(hits), (_DRAWS, len(hits)))
    on, all_of_them = hits.sum(axis=1)[drawn].sum(axis=1), judged.sum(axis=1)[drawn].sum(axis=1)
    return {
        "count": count,
        "share": count / total,
        "wilson": list(wilson(count, total)),
        "bootstrap": np.quantile(on / all_of_them.clip(1), [0.025, 0.975]).tolist(),
    }


def _counted(kinds: np.ndarray) -> dict[str, int]:
    """Return kind -> episodes, with "none" for those without an alarm; what did not occur is left out."""
    labels: Sequence[str] = ["none", *KINDS]
    counts = {label: int((kinds == place - 1).sum()) for place, label in enumerate(labels)}
    return {label: count for label, count in counts.items() if count}
