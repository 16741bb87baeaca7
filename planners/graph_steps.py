"""The iterations of one decision without a look at any tensor: what is recorded and replayed.

Rows that have settled stay in the arithmetic, but what is handed out for them is frozen. Rows do not influence each
other, so this equals letting them leave, as `search` does, except that a stochastic model draws for all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .certainty import CertaintyStop, alike
from .graph_doubts import postponed
from .problem import Best
from .schedule import Schedule
from .scoring import Scorer
from .search import Method, finish, first_actions, iterate

__all__ = ["Handed", "Outcome", "Step", "Unrolled"]


@dataclass(frozen=True)
class Handed:
    """What an iteration hands out; frozen for rows that have settled.

    Attributes:
        best: so far.
        knots: (B, M, E), the planner's answer; None where it has none.
        iterations: (B,), integer, refinements of each row.
        settled: (B,), bool.
        doubt: (), bool, a postponed check might fail.
    """

    best: Best
    knots: Tensor | None
    iterations: Tensor
    settled: Tensor
    doubt: Tensor


@dataclass(frozen=True)
class Step:
    """Everything after an iteration.

    Attributes:
        handed: what it hands out.
        state: the planner's own.
        first: (B, A), the first model step's actions; None where no certainty is watched.
        all_settled: (1,), bool.
    """

    handed: Handed
    state: Any
    first: Tensor | None
    all_settled: Tensor


@dataclass(frozen=True)
class Outcome:
    """What a decision ends with.

    Attributes:
        best: what is executed.
        iterations: (B,), integer.
        settled: (B,), bool.
        numbers: (4,), int64: most iterations of a row; costs that were not finite; whether all rows settled; whether
            a row is without a finite cost, or a postponed check might fail.
    """

    best: Best
    iterations: Tensor
    settled: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class Unrolled:
    """One decision, iteration by iteration.

    Attributes:
        method: the planner.
        scorer: of the whole problem.
        schedule: candidates of each iteration.
        certainty: when a row has settled; None never.
        answers: whether the budget leaves a rollout for what `method.answer` returns.
    """

    method: Method
    scorer: Scorer
    schedule: Schedule
    certainty: CertaintyStop | None
    answers: bool

    @property
    def stops_early(self) -> bool:
        """Whether the host may end it before the last iteration."""
        return self.certainty is not None or self.scorer.budget.seconds is not None

    def whole(self) -> Outcome:
        """Do all iterations and finish."""
        steps: list[Step] = []
        for _ in self.schedule.counts:
            steps.append(self.step(steps))
        return self.finish(steps[-1].handed)

    def step(self, steps: Sequence[Step]) -> Step:
        """Do the iteration after some others."""
        with postponed() as doubts:
            return self._step(steps, doubts)

    def finish(self, handed: Handed) -> Outcome:
        """Score the answer, let the reference choose, and sum up."""
        with postponed() as doubts:
            best = finish(self.scorer, handed.best, handed.knots)
            lost = ~torch.isfinite(best.cost).all()
            bad = torch.stack([lost, handed.doubt, *doubts]).any()
            numbers = (handed.iterations.amax(), best.non_finite.sum(), handed.settled.all(), bad)
            return Outcome(best, handed.iterations, handed.settled, torch.stack([x.to(torch.int64) for x in numbers]))

    def _step(self, steps: Sequence[Step], doubts: list[Tensor]) -> Step:
        """Do one iteration; without a certainty to watch, no kernel is spent on what only that needs."""
        method, scorer, index = self.method, self.scorer, len(steps)
        last = steps[-1] if steps else None
        state = last.state if last else method.start(scorer.problem)
        before = last.handed.best if last else None
        state, best = iterate(method, scorer, state, before, self.schedule.count(index), self.schedule.progress(index))
        asked = self.stops_early or index + 1 == len(self.schedule.counts)
        knots = method.answer(state) if self.answers and asked else None
        first = None if self.certainty is None else first_actions(method, scorer, state, best)
        new = self._handed(last, best, knots, doubts, index + 1 if asked else None)
        if self.certainty is None or first is None:
            return Step(new, state, None, new.settled[:1])
        new = self._watched(last, new, [*(step.first for step in steps if step.first is not None), first])
        return Step(new, state, first, new.settled.all().reshape(1))

    def _handed(
        self, last: Step | None, best: Best, knots: Tensor | None, doubts: list[Tensor], done: int | None
    ) -> Handed:
        """Return what an iteration hands out before any row is frozen; `done` iterations, if anybody asks."""
        rows, device = best.cost.shape[:1], best.cost.device
        nothing = torch.zeros(rows, dtype=torch.bool, device=device) if last is None else last.handed.settled
        doubt = nothing[0] if last is None else last.handed.doubt
        doubt = torch.stack([doubt, *doubts]).any() if doubts else doubt
        if last is None or (done is not None and self.certainty is None):
            iterations = torch.full(rows, done or 1, dtype=torch.int64, device=device)
        else:
            iterations = last.handed.iterations
        return Handed(best, knots, iterations, nothing, doubt)

    def _watched(self, last: Step | None, new: Handed, firsts: list[Tensor]) -> Handed:
        """Return what is handed out once rows that had settled are frozen, and which have settled now."""
        rule = self.certainty
        if rule is not None and len(firsts) >= rule.earliest:
            low, high = self.scorer.bounds
            new = replace(new, settled=alike(firsts[-rule.window :], rule.tolerance * (high - low)))
        return new if last is None else _frozen(last.handed, new)


def _frozen(old: Handed, new: Handed) -> Handed:
    """Return the new, and the old for the rows that had settled."""
    kept = old.settled

    def chosen(before: Tensor, after: Tensor) -> Tensor:
        return torch.where(kept.view(-1, *[1] * (after.ndim - 1)), before, after)

    best = Best(*(chosen(getattr(old.best, x.name), getattr(new.best, x.name)) for x in fields(Best)))
    knots = None if old.knots is None or new.knots is None else chosen(old.knots, new.knots)
    iterations = torch.where(kept, old.iterations, old.iterations + 1)
    return Handed(best, knots, iterations, kept | new.settled, new.doubt)
