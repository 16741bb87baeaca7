"""Planning ahead while a chunk executes, so that an observation mostly finds its plan ready."""

import itertools
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..contracts import Objective, Planner, PlanningBudget
from .controller import Controller
from .rows import Rows
from .speculation_drafts import SPREADS, Drafts, Errand, Spread, outcomes, plan_rows
from .speculation_errors import RecordedErrors
from .speculation_thread import Worker

__all__ = ["SpeculationCounts", "SpeculativeController"]

_ENOUGH = 20
"""Recorded errors from which on their scale and quantile are used."""


@dataclass
class SpeculationCounts:
    """What became of the drafts; hits, misses and unfinished are rows that were due for a further plan.

    Attributes:
        hits: took a draft's plan.
        misses: had drafts, none of them near enough, and were planned for.
        unfinished: had no draft ready, for whatever reason, and were planned for.
        drafts: plans made ahead.
        failures: errors of the drafting thread.
    """

    hits: int = 0
    misses: int = 0
    unfinished: int = 0
    drafts: int = 0
    failures: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of hits among the rows that were due; NaN before the first."""
        due = self.hits + self.misses + self.unfinished
        return self.hits / due if due else float("nan")


class SpeculativeController(Controller):
    """A controller that plans ahead, for the likely outcomes of the chunk that executes.

    A chunk is the `execute` model steps of the present plan. While it executes, `speculate` predicts where it will end
    and plans from there, for the prediction and outcomes spread around it, in one batch. When the observation arrives
    it is encoded, and the nearest draft's plan is taken if its outcome is within the tolerance; otherwise the row is
    planned for as by `Controller`, with the nearest draft's plan as warm start. Rows that hit are not planned for
    again; rows that miss are planned for together.

    Drafting and verification overlap as in speculative decoding (Leviathan et al., 2023). Unlike there it is not
    lossless: a hit executes a plan made for a latent that is near the observed one, not equal to it. Compare success
    with and without, not only latency.

    Distances are the root mean square over D of the difference. With `tolerance=None` each dimension is divided by the
    recorded errors' scale (`RecordedErrors.scale`) and the tolerance is a quantile of the recorded errors' norms; until
    20 errors are recorded nothing hits. With a number, distances are in the latents' own units and hits count from the
    first decision. Errors are recorded at every decision that had a draft, and outlive `reset` and `set_goal`.

    A draft plans with a copy of the generator in its present state, and the generator moves on only when a draft is
    taken: where all rows decide together, a decision sees the same random numbers as without speculation.

    Attributes:
        counts: what became of the drafts.
        distances: of the nearest draft, one for each row that had drafts when it was due.
        drafting: seconds of each batch of drafts, prediction included.
        errors: observed minus predicted latents at the ends of chunks.
        failure: the drafting thread's last error, or None.
    """

    def __init__(
        self,
        planner: Planner,
        objective: Callable[[Tensor], Objective] | Objective,
        *,
        drafts: int = 1,
        spread: Spread = "errors",
        tolerance: float | None = None,
        quantile: float = 0.75,
        background: bool = False,
        recorded: int = 512,
        seed: int = 0,
        execute: int = 1,
        min_horizon: int = 1,
        renew: int | None = None,
        warm_start: bool = True,
        budget: PlanningBudget | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Create a controller.

        Args:
            planner: as for `Controller`; with `background`, `plan` must bear being called from two threads.
            objective: as for `Controller`.
            drafts: K, outcomes planned for, the model's prediction first; each more costs a plan, and seldom hits.
            spread: where the other K-1 come from: "errors" recorded before, "samples" of a stochastic model, "members"
                of an ensemble, or "none".
            tolerance: largest distance of a hit, in latent units; None takes a quantile of the recorded errors.
            quantile: which, in [0, 1].
            background: whether a daemon thread drafts as soon as `act` has returned; `act` then takes finished drafts
                only and never waits. Without it, call `speculate` after `act`.
            recorded: errors kept.
            seed: of the draws of outcomes, and of the planner's randomness where no generator is given.
            execute: as for `Controller`.
            min_horizon: as for `Controller`.
            renew: as for `Controller`.
            warm_start: as for `Controller`; False also plans for misses without their nearest draft.
            budget: as for `Controller`; it holds for one batch of drafts too.
            generator: as for `Controller`; None makes one from the seed.

        Raises:
            ValueError: a number out of its range, or an unknown spread.
        """
        super().__init__(
            planner,
            objective,
            execute=execute,
            min_horizon=min_horizon,
            renew=renew,
            warm_start=warm_start,
            budget=budget,
            generator=generator,
        )
        if drafts < 1:
            raise ValueError(f"drafts is {drafts!r}; give at least 1")
        if spread not in SPREADS:
            raise ValueError(f"unknown spread {spread!r}; known: {', '.join(SPREADS)}")
        if tolerance is not None and not tolerance >= 0:
            raise ValueError(f"tolerance is {tolerance!r}; give 0 or more, or None for a quantile of recorded errors")
        if not 0 <= quantile <= 1:
            raise ValueError(f"quantile is {quantile!r}; give a share in [0, 1]")
        self.drafts, self.tolerance, self.quantile = drafts, tolerance, quantile
        self.spread: Spread = spread
        self.seed = seed
        self.counts = SpeculationCounts()
        self.distances: list[float] = []
        self.drafting: list[float] = []
        self.errors = RecordedErrors(recorded)
        self.failure: Exception | None = None
        self._dice = torch.Generator().manual_seed(seed)
        self._numbers = itertools.count(1)
        self._chunks = np.zeros(0, dtype=np.int64)
        self._undrafted = np.zeros(0, dtype=bool)
        self._ready: dict[int, tuple[Drafts, int]] = {}
        self._worker: Worker[Drafts | None] | None = Worker("wmkit-drafts") if background else None
        if self._worker is not None:
            weakref.finalize(self, self._worker.close)

    @property
    def background(self) -> bool:
        """Whether a thread drafts."""
        return self._worker is not None

    def set_goal(
        self, observation: Mapping[str, Any], steps: int | np.ndarray | None = None, mask: np.ndarray | None = None
    ) -> None:
        """As for `Controller`; drafts towards the old goals are dropped."""
        super().set_goal(observation, steps, mask)
        self._drop(mask)

    def reset(self, mask: np.ndarray | None = None) -> None:
        """As for `Controller`; drafts are dropped, recorded errors stay."""
        super().reset(mask)
        self._drop(mask)

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """As for `Controller`; with `background`, drafting has begun when it returns."""
        action = super().act(observation)
        if self._worker is not None:
            self.speculate()
        return action

    def speculate(self) -> int:
        """Draft for the rows whose model step began since the last time; call it while the chunk executes.

        Where a chunk has several model steps, drafts made from a newer observation replace older ones. With
        `background` the thread is handed the work, by `act` already.

        Returns:
            How many rows were, or will be, drafted for.
        """
        if self._rows is None:
            return 0
        errands = self._errands(self._rows)
        for errand in errands:
            if self._worker is None:
                self._file(self._draft(errand))
            else:
                self._worker.submit(lambda errand=errand: self._draft(errand) if self._current(errand).any() else None)
        return sum(len(errand.rows) for errand in errands)

    def close(self) -> None:
        """End the drafting thread; the controller goes on without drafts of its own accord. Safe to call twice."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop(self, mask: np.ndarray | None) -> None:
        rows = np.arange(len(self._chunks)) if mask is None else np.flatnonzero(mask)
        if rows.size and rows[-1] < len(self._chunks):
            self._chunks[rows] = next(self._numbers)
        for row in rows.tolist():
            self._ready.pop(row, None)

    def _prepare(self, batch: int) -> Rows:
        rows = super()._prepare(batch)
        if len(self._chunks) != batch:
            self._chunks, self._undrafted = np.full(batch, next(self._numbers)), np.zeros(batch, dtype=bool)
            self._ready.clear()
        return rows

    def _start_blocks(self, rows: Rows, arrays: Mapping[str, np.ndarray | Tensor], starting: np.ndarray) -> None:
        super()._start_blocks(rows, arrays, starting)
        self._undrafted[starting] = True

    def _decide(self, rows: Rows, group: np.ndarray) -> None:
        """Take the drafts that are near; plan for the other rows, from the nearest drafts where there are any."""
        generator = self._randomness(rows)
        missed = self._serve(rows, group, generator) if rows.has_plan[group[0]] else group
        if missed.size:
            super()._decide(rows, missed)
        self._chunks[group] = next(self._numbers)

    def _serve(self, rows: Rows, group: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Take over the nearest drafts' plans; return the rows that must be planned for all the same."""
        self._collect()
        found = {row: self._ready.pop(row) for row in group.tolist() if row in self._ready}
        sources = {id(drafts): drafts for drafts, _ in found.values()}
        hits = np.zeros(0, dtype=group.dtype)
        for drafts in sources.values():
            mine = np.array([row for row, (source, _) in found.items() if source is drafts], dtype=group.dtype)
            positions = np.array([found[row][1] for row in mine.tolist()])
            hits = np.concatenate([hits, mine[self._take(rows, drafts, mine, positions)]])
        self.counts.hits += hits.size
        self.counts.misses += len(found) - hits.size
        self.counts.unfinished += group.size - len(found)
        for drafts in sources.values() if hits.size == group.size else ():
            if torch.equal(generator.get_state(), drafts.errand.random_state):
                generator.set_state(drafts.random_state)
                break
        return group[~np.isin(group, hits)]

    def _take(self, rows: Rows, drafts: Drafts, mine: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Put the nearest drafts' plans in the place of the rows' plans; return which (n,) are near enough."""
        device = drafts.latents.device
        index, at = torch.from_numpy(mine).to(device), torch.from_numpy(positions).to(device)
        observed = rows.latents[index, -1]
        distance, best = drafts.nearest(at, observed)
        self.errors.add(observed - drafts.latents[at, 0])
        rows.keep(mine, drafts.plan.actions[best])
        distances = distance.cpu().numpy()
        self.distances += distances.tolist()
        near = distances <= drafts.errand.tolerance
        if near.any():
            self.plan, self.planned_rows = plan_rows(drafts.plan, best[torch.from_numpy(near).to(device)]), mine[near]
        return near

    def _errands(self, rows: Rows) -> list[Errand]:
        """Return what to draft now, one errand for rows that are alike."""
        wanted = np.flatnonzero(self._undrafted & rows.has_plan & rows.has_acted)
        self._undrafted[:] = False
        if not wanted.size:
            return []
        left = np.minimum(self.execute, rows.length[wanted]) - rows.cursor[wanted] + 1
        keys = np.stack([rows.count[wanted], left, self._later_horizons(rows, wanted, left)], axis=1)
        kinds, kind = np.unique(keys, axis=0, return_inverse=True)
        scale, tolerance = self._measure(rows)
        return [
            self._errand(rows, wanted[kind.reshape(-1) == k], int(steps), int(horizon), scale, tolerance)
            for k, (_, steps, horizon) in enumerate(kinds)
        ]

    def _later_horizons(self, rows: Rows, wanted: np.ndarray, left: np.ndarray) -> np.ndarray:
        """Return the horizons (R,) that the rows will plan with when their chunks end, `left` model steps on."""
        if self._steps is None:
            return np.full(wanted.shape, self.planner.horizon)
        repeat = self.model.spec.action_repeat
        still = left * repeat - np.where(rows.phase[wanted] == 0, repeat, rows.phase[wanted])
        return self.horizon_for(self.steps_left(self._steps[wanted], still))

    def _measure(self, rows: Rows) -> tuple[Tensor, float]:
        """Return the scale (D,) of distances, and the tolerance."""
        if self.tolerance is not None:
            return torch.ones_like(rows.latents[0, 0]), self.tolerance
        if len(self.errors) < _ENOUGH:
            return torch.ones_like(rows.latents[0, 0]), -float("inf")
        scale = self.errors.scale()
        return scale, self.errors.quantile(self.quantile, scale)

    def _errand(self, rows: Rows, mine: np.ndarray, left: int, horizon: int, scale: Tensor, tolerance: float) -> Errand:
        """Copy what drafting for rows that are alike needs."""
        begun = torch.from_numpy(rows.block[mine].reshape(len(mine), 1, -1)).to(rows.latents)
        extra = self.drafts - 1 if self.spread == "errors" and len(self.errors) else 0
        return Errand(
            rows=mine,
            chunks=self._chunks[mine],
            context=rows.context(mine),
            actions=torch.cat([begun, rows.remaining(mine)[:, : left - 1].to(begun)], dim=1),
            warm_start=replace(rows, cursor=rows.cursor + left - 1).remaining(mine) if self.warm_start else None,
            horizon=horizon,
            errors=self.errors.draw(extra, self._dice) if extra else scale.new_zeros(0, len(scale)),
            scale=scale,
            tolerance=tolerance,
            random_state=self._randomness(rows).get_state(),
            seed=int(torch.randint(2**62, (), generator=self._dice)),
        )

    def _draft(self, errand: Errand) -> Drafts:
        """Predict and plan; reads nothing that `act` changes but the goals, and drafts to old goals are dropped."""
        began = time.perf_counter()
        device = errand.context.latents.device
        dice, generator = torch.Generator(device).manual_seed(errand.seed), torch.Generator(device)
        generator.set_state(errand.random_state)
        with torch.no_grad():
            latents, context = outcomes(self.model, errand, self.spread, self.drafts, dice)
        many = latents.shape[1]
        index = torch.from_numpy(errand.rows.repeat(many)).to(device)
        goal = None if self._goal is None else self._goal[index]
        warm = None if errand.warm_start is None else errand.warm_start.repeat_interleave(many, dim=0)
        plan = self.planner.plan(
            replace(context, goal=goal),
            self._objective_of(goal, index),
            warm,
            self.budget,
            horizon=errand.horizon,
            generator=generator,
        )
        return Drafts(errand, latents, plan, generator.get_state(), time.perf_counter() - began)

    def _randomness(self, rows: Rows) -> torch.Generator:
        """Return the planner's generator."""
        if self.generator is None:
            self.generator = torch.Generator(rows.latents.device).manual_seed(self.seed)
        return self.generator

    def _current(self, errand: Errand) -> np.ndarray:
        """Return which rows (R,) of an errand still execute the chunk that it is for."""
        chunks = self._chunks
        inside = errand.rows < len(chunks)
        return inside & (chunks[np.where(inside, errand.rows, 0)] == errand.chunks)

    def _file(self, drafts: Drafts) -> None:
        """Keep drafts for the rows that still execute their chunk."""
        self.counts.drafts += drafts.latents.shape[0] * drafts.latents.shape[1]
        self.drafting.append(drafts.seconds)
        for position in np.flatnonzero(self._current(drafts.errand)).tolist():
            self._ready[int(drafts.errand.rows[position])] = drafts, position

    def _collect(self) -> None:
        """File what the thread has finished."""
        for result in self._worker.finished() if self._worker is not None else ():
            if isinstance(result, Exception):
                self.counts.failures += 1
                self.failure = result
            elif result is not None:
                self._file(result)
