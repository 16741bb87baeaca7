"""The loop that all sampling planners share: sample, score, update, and stop row by row."""

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from .certainty import CertaintyStop, Watch
from .problem import Best, Problem, Scored, select_rows
from .schedule import Schedule
from .scoring import Clock, Scorer

__all__ = ["Found", "Method", "finish", "first_actions", "iterate", "search"]


class Method(Protocol):
    """What the loop asks of a planner; `SamplingPlanner` describes each."""

    def start(self, problem: Problem) -> Any: ...  # noqa: D102
    def sample(self, state: Any, problem: Problem) -> Tensor: ...  # noqa: D102
    def update(self, state: Any, scored: Scored, problem: Problem) -> Any: ...  # noqa: D102
    def centre(self, state: Any) -> Tensor | None: ...  # noqa: D102
    def answer(self, state: Any) -> Tensor | None: ...  # noqa: D102


@dataclass(frozen=True)
class Found:
    """What a search ends with.

    Attributes:
        best: of every row.
        iterations: (B,), integer, refinements of each row.
        certain: (B,), bool, rows that settled.
        stopped: which rule ended the search.
        most: iterations of the row that had most.
        non_finite: costs that were not finite, over all rows.
        failed: whether a row is without any finite cost.
    """

    best: Best
    iterations: Tensor
    certain: Tensor
    stopped: str
    most: int
    non_finite: int
    failed: bool = False


def iterate(
    method: Method, scorer: Scorer, state: Any, best: Best | None, samples: int, progress: float
) -> tuple[Any, Best]:
    """Do one iteration and return the state and the best so far after it.

    Args:
        method: the planner.
        scorer: of the rows that are searched.
        state: the planner's own.
        best: so far; None before the first iteration, which tries the problem's further candidates.
        samples: N of this iteration.
        progress: see `Problem.progress`.
    """
    problem = replace(scorer.problem, samples=samples, progress=progress)
    parameters = method.sample(state, problem)
    extra = problem.extra[:, : samples - 1]
    if best is None and extra.shape[1]:
        parameters = torch.cat([parameters[:, : -extra.shape[1]], extra], dim=1)
    scored, found = scorer.score(parameters)
    return method.update(state, scored, problem), found if best is None else best.merged(found)


def finish(scorer: Scorer, best: Best, knots: Tensor | None) -> Best:
    """Return the answer, knots (B, M, E), or without one the best so far, after a second look by the reference."""
    if knots is not None:
        best = best.replaced(scorer.score(knots.unsqueeze(1))[1])
    return scorer.rescored(best)


def first_actions(method: Method, scorer: Scorer, state: Any, best: Best) -> Tensor:
    """Return the first model step's actions (R, A) that the search is centred on."""
    centre = method.centre(state)
    return best.actions[:, 0] if centre is None else scorer.actions(centre.unsqueeze(1))[:, 0, 0]


def search(
    method: Method, scorer: Scorer, schedule: Schedule, certainty: CertaintyStop | None, clock: Clock, answers: bool
) -> Found:
    """Run the iterations of one decision.

    Rows that have settled leave, and the arithmetic goes on with the others alone. Where the rule allows rows more
    than the laid-out iterations, they come out of what the settled ones gave up.

    Args:
        method: the planner.
        scorer: of the whole problem.
        schedule: candidates of each iteration.
        certainty: when a row has settled; None never.
        clock: ends the search early.
        answers: whether the budget leaves a rollout for what `method.answer` returns.
    """
    problem = scorer.problem
    loop = _Loop(method, scorer, certainty, answers)
    planned = len(schedule.counts)
    longest = planned if certainty is None or certainty.max_iterations is None else certainty.max_iterations
    longest = min(longest, scorer.budget.iterations or longest)
    after = int(answers) + (scorer.rescore and scorer.rescore + 1)
    rollouts = None if scorer.budget.rollouts is None else scorer.budget.rollouts - after
    pool, spent = planned * problem.context.batch, 0
    done, late, stopped = 0, False, schedule.limit
    while done < longest and 0 < len(loop.rows) <= pool:
        count = schedule.count(done)
        if done >= planned and rollouts is not None and spent + count > rollouts:
            stopped = "rollouts"
            break
        if late:
            stopped = "seconds"
            break
        pool, spent, rows = pool - len(loop.rows), spent + count, len(loop.rows)
        loop.iterate(count, schedule.progress(done))
        late = clock.out_of_time(rows * count)
        done += 1
    if len(loop.rows):
        loop.leave(torch.ones(len(loop.rows), dtype=torch.bool, device=loop.rows.device), certain=False)
    return loop.found(stopped)


class _Loop:
    """The rows that are still searched, and what was found for those that have left."""

    def __init__(self, method: Method, scorer: Scorer, certainty: CertaintyStop | None, answers: bool) -> None:
        problem = scorer.problem
        device = problem.initial.device
        self._method, self._scorer, self._answers = method, scorer, answers
        self._state = method.start(problem)
        self._best: Best | None = None
        self._done = 0
        span = (problem.high - problem.low).repeat(problem.spec.action_repeat)
        self._watch = None if certainty is None else Watch(certainty, span)
        self._left: list[tuple[Tensor, Best, int, bool]] = []
        self.rows = torch.arange(problem.context.batch, device=device)

    def iterate(self, samples: int, progress: float) -> None:
        """Do one iteration for the rows that are left; let those go that have settled."""
        self._state, self._best = iterate(self._method, self._scorer, self._state, self._best, samples, progress)
        self._done += 1
        if self._watch is not None:
            settled = self._watch.settled(first_actions(self._method, self._scorer, self._state, self._best))
            if bool(settled.any()):
                self.leave(settled, certain=True)

    def leave(self, mask: Tensor, certain: bool) -> None:
        """Keep what was found for the rows of a mask (R,), and go on without them."""
        if self._best is None:
            raise ValueError("no iteration was planned; give at least 1")
        everyone = bool(mask.all())
        best, scorer, state = self._best, self._scorer, self._state
        if not everyone:
            best, scorer, state = select_rows(best, mask), scorer.select(mask), select_rows(state, mask)
        knots = self._method.answer(state) if self._answers else None
        self._left.append((self.rows[mask], finish(scorer, best, knots), self._done, certain))
        self.rows = self.rows[~mask]
        if not everyone:
            self._best, self._state = select_rows(self._best, ~mask), select_rows(self._state, ~mask)
            self._scorer = self._scorer.select(~mask)
            if self._watch is not None:
                self._watch.keep(~mask)

    def found(self, stopped: str) -> Found:
        """Return what was found for all rows, in their order; `stopped` is what ended the search of those left."""
        order = torch.cat([rows for rows, *_ in self._left]).argsort()
        names = [field.name for field in fields(Best)]
        whole = [torch.cat([getattr(best, name) for _, best, *_ in self._left])[order] for name in names]
        iterations = torch.cat([torch.full_like(rows, done) for rows, _, done, _ in self._left])[order]
        certain = torch.cat([torch.full_like(rows, sure, dtype=torch.bool) for rows, *_, sure in self._left])[order]
        best = Best(*whole)
        stopped = "certain" if bool(certain.all()) else stopped
        failed = not bool(torch.isfinite(best.cost).all())
        return Found(best, iterations, certain, stopped, int(iterations.max()), int(best.non_finite.sum()), failed)
