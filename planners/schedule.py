"""How many iterations of how many candidates a decision gets, laid out from its budget before it begins."""

from dataclasses import dataclass
from typing import Literal

from wmkit.contracts import PlanningBudget

__all__ = ["Pace", "Schedule", "lay_out"]

_MARGIN = 0.9
"""Part of the seconds that a schedule may fill; the rest is for what happens around the iterations."""


@dataclass(frozen=True)
class Schedule:
    """The iterations of one decision.

    Attributes:
        counts: candidates of each iteration.
        limit: what it will end by, unless time runs out or the rows settle: "iterations", "rollouts" or "seconds".
    """

    counts: tuple[int, ...]
    limit: str

    def count(self, iteration: int) -> int:
        """Return the candidates of an iteration; those beyond the schedule are like its last."""
        return self.counts[min(iteration, len(self.counts) - 1)]

    def progress(self, iteration: int) -> float:
        """Return how far the schedule is at an iteration, from 0 at the first to 1 at the last and beyond."""
        return min(1.0, iteration / max(1, len(self.counts) - 1))


class Pace:
    """What an iteration has cost lately: half of it fixed, half in proportion to the candidates.

    Attributes:
        overhead: seconds of what came before the first iteration, e.g. the proposal.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.overhead = 0.0
        self._candidates = 0.0
        self._seconds = 0.0

    def record(self, candidates: float, seconds: float, overhead: float) -> None:
        """Take in the mean of a decision's iterations; older decisions are forgotten by half each time."""
        weight = 0.5 if self._seconds else 1.0
        self._candidates += weight * (candidates - self._candidates)
        self._seconds += weight * (seconds - self._seconds)
        self.overhead += weight * (overhead - self.overhead)

    def scaled(self, ratio: float) -> "Pace":
        """Return what is expected of a plan that is `ratio` times as long."""
        pace = Pace()
        pace.overhead, pace._candidates, pace._seconds = ratio * self.overhead, self._candidates, ratio * self._seconds
        return pace

    def affordable(self, seconds: float) -> float:
        """Return the candidates of an iteration that takes so long; infinite while nothing is known."""
        if not self._seconds:
            return float("inf")
        ratio = seconds / self._seconds
        return self._candidates * (ratio if ratio > 1 else max(0.0, 2 * ratio - 1))


def lay_out(
    samples: int,
    iterations: int,
    budget: PlanningBudget,
    *,
    style: Literal["fit", "truncate"],
    decay: float,
    reserved: int,
    rows: int,
    pace: Pace,
) -> Schedule:
    """Lay the iterations of a decision out.

    "fit" shrinks the number of iterations and of candidates by the same factor until both limits are kept, and then
    fills the iterations up; "truncate" keeps the candidates and drops the last iterations.

    Args:
        samples: candidates of an iteration without limits.
        iterations: how many there are without limits.
        budget: the limits.
        style: what gives way.
        decay: each iteration has this factor fewer candidates than the one before, with the same sum.
        reserved: rollouts needed besides those of the iterations.
        rows: B.
        pace: what iterations have cost.
    """
    iterations = min(iterations, budget.iterations or iterations)
    rollouts = None if budget.rollouts is None else max(1, budget.rollouts - reserved)
    limit = "iterations" if rollouts is None or samples * iterations < rollouts else "rollouts"
    if style == "truncate":
        count = samples if rollouts is None else min(samples, rollouts)
        done = iterations if rollouts is None else min(iterations, rollouts // count)
        return Schedule(_decayed(count, done, decay), limit)
    done, count = iterations, float(samples)
    for done in range(iterations, 0, -1):
        count = float(samples) if rollouts is None else min(samples, rollouts // done)
        if budget.seconds is not None:
            affordable = pace.affordable((_MARGIN * budget.seconds - pace.overhead) / done) / rows
            if affordable < count:
                count, limit = affordable, "seconds"
        if count >= samples * done / iterations:
            break
    return Schedule(_decayed(max(1, int(count)), done, decay), limit)


def _decayed(count: int, iterations: int, decay: float) -> tuple[int, ...]:
    """Share count x iterations candidates out: one for each iteration, and the others `decay` times fewer each time."""
    weights = [decay**-i for i in range(iterations)]
    share = (count - 1) * iterations / sum(weights)
    return tuple(1 + int(share * weight + 1e-9) for weight in weights)
