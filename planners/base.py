"""The shared base of all planners that roll candidates out and score them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

from wmkit.contracts import Context, Objective, Plan, PlanningBudget, Proposal, WorldModel
from wmkit.control.advance import advance

from .certainty import CertaintyStop
from .checks import check_inputs, check_settings
from .graph_steps import Unrolled
from .graphs import Graphs
from .limits import block_bounds, numbers_on
from .parametrisation import Hold, Parametrisation
from .problem import Best, Problem, Scored
from .schedule import Pace, Schedule, lay_out
from .scoring import Clock, Scorer
from .search import Found, search

__all__ = ["SamplingPlanner", "fitted"]

State = TypeVar("State")


class SamplingPlanner(ABC, Generic[State]):
    """Sample candidates, roll them out, score them, update; the best so far is valid at any time.

    This class owns warm start, proposal, bounds, rate limits, chunking, non-finite costs, random generators, budget,
    certainty and pending actions. A planner adds `start`, `sample` and `update` on a state of its own, a frozen
    dataclass whose tensors have B first. Rows of B do not influence each other, and candidates are drawn alike for
    every row: planning a batch equals planning its rows one by one from the same generator.

    Attributes:
        wants_gradients: class attribute; True hands `update` the gradients of the costs by the knots.
    """

    wants_gradients: bool = False

    def __init__(
        self,
        model: WorldModel,
        *,
        horizon: int = 5,
        samples: int = 300,
        iterations: int = 30,
        parametrisation: Parametrisation | None = None,
        noise_exponent: float = 0.0,
        noise_knots: int | None = None,
        max_rate: float | Sequence[float] | None = None,
        proposal: Proposal | None = None,
        proposal_share: float = 0.0,
        decay: float = 1.0,
        certainty: CertaintyStop | None = None,
        schedule: Literal["fit", "truncate"] = "fit",
        budget: PlanningBudget | None = None,
        candidates: int = 0,
        rescore: int = 0,
        graph: bool = True,
        seed: int = 0,
    ) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            horizon: H, model steps of a plan.
            samples: N, candidates of one iteration.
            iterations: refinements of the candidates.
            parametrisation: what to search over; None leaves every environment action free.
            noise_exponent: colour of the noise over the knots, whose power falls as 1 / frequency to this; 0 is white.
            noise_knots: draws the noise at so many places, evenly spaced over the plan, and in straight lines between
                them, so that candidates are smooth changes of a plan that need not be smooth itself.
            max_rate: largest change of an action, environment units per second, one number or one for each; it counts
                from `Context.last_action` where the context has one.
            proposal: its first candidate is where the search starts; a warm start then becomes one more candidate.
                Where its attribute `centred` is False, candidates are draws, and a warm start is where it starts.
            proposal_share: fraction of the first iteration's candidates that the proposal draws, in [0, 1).
            decay: each iteration has this factor fewer candidates than the one before, with the same sum.
            certainty: lets rows stop once their first action has settled; None never.
            schedule: what gives way to a budget of rollouts or seconds: "fit" lays fewer iterations of fewer
                candidates out beforehand, "truncate" drops the last iterations.
            budget: limits of every decision that brings none of its own.
            candidates: E, how many of the last iteration's a plan shows in `Plan.candidates`; 0 for none.
            rescore: rolls so many of the last iteration's cheapest candidates, and the best so far, out once more by
                the model's `reference_rollout`, and executes the cheapest by that; 0 trusts `rollout`. A budget of
                rollouts must leave room for them, or they are left out.
            graph: on a CUDA device, captures all iterations as a CUDA graph for each shape of decision, and replays it:
                the same plan from the same generator, without the host in the loop. The first decision of a shape is
                slow. What cannot be captured is said once and planned without. Where there is a limit of seconds, it
                drops the last iterations, as in the schedule "truncate".
            seed: of the generator for decisions that bring none of their own.

        Raises:
            ValueError: a number out of its range, or a proposal that is for another kind of model.
        """
        self._model = model
        self._horizon = horizon
        self.samples = samples
        self.iterations = iterations
        self.parametrisation = Hold(1) if parametrisation is None else parametrisation
        self.noise_exponent = noise_exponent
        self.noise_knots = noise_knots
        self.max_rate = max_rate
        self.proposal = proposal
        self.proposal_share = proposal_share
        self.decay = decay
        self.certainty = certainty
        self.schedule: Literal["fit", "truncate"] = schedule
        self.budget = PlanningBudget() if budget is None else budget
        self.candidates = candidates
        self.rescore = rescore
        self.graph = graph
        self.seed = seed
        self._graphs = Graphs()
        self._generators: dict[torch.device, torch.Generator] = {}
        self._paces: dict[int, Pace] = {}
        check_settings(self)

    @property
    def model(self) -> WorldModel:
        """The model that is planned through."""
        return self._model

    @property
    def horizon(self) -> int:
        """H of a plan, unless the call says otherwise."""
        return self._horizon

    @abstractmethod
    def start(self, problem: Problem) -> State:
        """Return the state before the first iteration, from `problem.initial`."""

    @abstractmethod
    def sample(self, state: State, problem: Problem) -> Tensor:
        """Return `problem.samples` candidates as knots (B, N, M, E); the base clips them to the bounds."""

    @abstractmethod
    def update(self, state: State, scored: Scored, problem: Problem) -> State:
        """Return the state after an iteration; costs of +inf must not reach it."""

    def centre(self, state: State) -> Tensor | None:
        """Return the knots (B, M, E) that a certainty stop watches, or None to watch the best candidate seen."""
        return None

    def answer(self, state: State) -> Tensor | None:
        """Return the knots (B, M, E) to execute, or None to execute the best candidate seen."""
        return None

    @property
    def answers(self) -> bool:
        """Whether `answer` returns knots, whose rollout the budget must leave room for."""
        return type(self).answer is not SamplingPlanner.answer

    def plan(
        self,
        context: Context,
        objective: Objective,
        warm_start: Tensor | None = None,
        budget: PlanningBudget | None = None,
        *,
        horizon: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Plan for each of the B contexts; see `wmkit.contracts.Planner.plan`.

        A warm start shorter or longer than the horizon is cut, or continued with its last step.

        Raises:
            ValueError: shapes that do not fit, or a row without any finite cost (the text names the model).
        """
        began = time.perf_counter()
        budget = self.budget if budget is None else budget
        horizon = self.horizon if horizon is None else horizon
        check_inputs(self._model, context, warm_start, horizon)
        with self._grad_mode():
            found = self._search(context, objective, warm_start, budget, horizon, generator, began)
        if found.failed:
            self._refuse(found.best)
        return Plan(
            actions=found.best.actions.clone(),
            cost=found.best.cost.clone(),
            latents=found.best.latents.clone(),
            iterations=found.most,
            seconds=time.perf_counter() - began,
            stopped=found.stopped,
            non_finite=found.non_finite,
            row_iterations=found.iterations.clone(),
            certain=found.certain.clone(),
            candidates=found.best.shown(self.candidates),
        )

    def _grad_mode(self) -> AbstractContextManager[object]:
        return torch.no_grad() if self.wants_gradients else torch.inference_mode()

    def _search(
        self,
        context: Context,
        objective: Objective,
        warm_start: Tensor | None,
        budget: PlanningBudget,
        horizon: int,
        generator: torch.Generator | None,
        began: float,
    ) -> Found:
        """Lay the decision out, run its iterations and learn what they cost."""
        pace, captured = self._pace_of(horizon), self._captured(context.latents.device)
        rescore = self._rescored_in(budget)
        schedule = lay_out(
            self.samples,
            self.iterations,
            replace(budget, seconds=None) if captured else budget,
            style=self.schedule,
            decay=self.decay,
            reserved=int(self.answers) + (rescore and rescore + 1),
            rows=context.batch,
            pace=pace,
        )
        problem = self._problem(context, warm_start, schedule, horizon, generator)
        scorer = self._scorer(problem, objective, budget, rescore)
        answers = self.answers and (budget.rollouts is None or budget.rollouts > 1)
        clock = Clock(began, budget.seconds, context.latents.device, answers)

        def on_host() -> Found:
            return search(self, scorer, schedule, self.certainty, clock, answers)

        if captured:
            found = self._graphs.search(Unrolled(self, scorer, schedule, self.certainty, answers), clock, on_host)
        else:
            found = on_host()
        if clock.laps:
            pace.record(clock.candidates / clock.laps, clock.elapsed / clock.laps, clock.overhead)
        return found

    def _rescored_in(self, budget: PlanningBudget) -> int:
        """Return how many candidates get a second look, none where the budget leaves nothing for the search."""
        least = int(self.answers) + self.rescore + 1
        return self.rescore if budget.rollouts is None or budget.rollouts > least else 0

    def _scorer(self, problem: Problem, objective: Objective, budget: PlanningBudget, rescore: int) -> Scorer:
        return Scorer(
            model=self._model,
            parametrisation=self.parametrisation,
            max_change=self._max_change(problem.low),
            wants_gradients=self.wants_gradients,
            problem=problem,
            objective=objective,
            budget=budget,
            bounds=block_bounds(problem.spec, problem.low.device, problem.low.dtype),
            keep=max(self.candidates, rescore),
            rescore=rescore,
        )

    def _captured(self, device: torch.device) -> bool:
        """Return whether decisions on a device are captured: none that needs gradients, or moves iterations about."""
        moves = self.certainty is not None and self.certainty.max_iterations is not None
        return self.graph and not (self.wants_gradients or moves) and self._graphs.active(device)

    def _max_change(self, like: Tensor) -> Tensor | None:
        """Return the largest change (E,) of an action between two environment steps; None for no limit."""
        spec, rate = self._model.spec, self.max_rate
        if rate is None:
            return None
        rates = rate if isinstance(rate, Sequence) else [rate] * spec.action_size
        step = spec.seconds_per_step / spec.action_repeat
        return numbers_on([step * each for each in rates], like.device, like.dtype)

    def _problem(
        self,
        context: Context,
        warm_start: Tensor | None,
        schedule: Schedule,
        horizon: int,
        generator: torch.Generator | None,
    ) -> Problem:
        """Bring the context to where the plan starts, and the guesses into knots."""
        spec, latents = self._model.spec, context.latents
        generator = self._own_generator(latents.device) if generator is None else generator
        if self.wants_gradients:
            context = _cloned(context)
        context = advance(self._model, context, generator)
        dtype = torch.promote_types(latents.dtype, torch.float32)
        bounds = block_bounds(spec, latents.device, dtype)
        low, high = (bound[: spec.action_size] for bound in bounds)
        samples = schedule.counts[0]
        guesses = self._guesses(context, warm_start, horizon, samples, generator, dtype).clamp(*bounds)
        knots = self.parametrisation.parameters(guesses, spec).clamp(low, high)
        return Problem(
            context=context,
            spec=spec,
            horizon=horizon,
            samples=samples,
            iterations=len(schedule.counts),
            progress=0.0,
            low=low,
            high=high,
            initial=knots[:, 0],
            extra=knots[:, 1:],
            noise_exponent=self.noise_exponent,
            noise_knots=self.noise_knots,
            generator=generator,
        )

    def _guesses(
        self,
        context: Context,
        warm_start: Tensor | None,
        horizon: int,
        samples: int,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return the plans (B, 1 + X, H, A) that are known before the search, the one to start from first."""
        found = []
        if self.proposal is not None:
            drawn = self.proposal.propose(context, 1 + int(self.proposal_share * samples), horizon, generator)
            found += [drawn[:, :1], drawn[:, 1:]]
        if warm_start is not None:
            centred = getattr(self.proposal, "centred", True)
            found.insert(int(centred), fitted(warm_start, horizon).unsqueeze(1))
        if not found:
            shape = (context.batch, 1, horizon, self._model.spec.block_size)
            return torch.zeros(shape, dtype=dtype, device=context.latents.device)
        return torch.cat([guess.to(context.latents.device, dtype) for guess in found], dim=1)

    def _pace_of(self, horizon: int) -> Pace:
        """Return what iterations have cost at a horizon, or at the nearest known one."""
        if horizon not in self._paces:
            near = min(self._paces, key=lambda known: abs(known - horizon), default=None)
            self._paces[horizon] = Pace() if near is None else self._paces[near].scaled(horizon / near)
        return self._paces[horizon]

    def _own_generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self._generators[device]

    def _refuse(self, found: Best) -> None:
        row = int(torch.isfinite(found.cost).logical_not().nonzero()[0])
        raise ValueError(
            f"{type(self._model).__name__} gave no candidate of row {row} a finite cost "
            f"({int(found.non_finite.sum())} costs were not finite in all); "
            "check its weights, the observation and the objective"
        )


def fitted(actions: Tensor, horizon: int) -> Tensor:
    """Cut actions (B, H', A) to the horizon, or continue them with the last step."""
    missing = horizon - actions.shape[1]
    if missing <= 0:
        return actions[:, :horizon]
    return torch.cat([actions, actions[:, -1:].expand(-1, missing, -1)], dim=1)


def _cloned(context: Context) -> Context:
    """Copy a context so that tensors made in inference mode can take part in a gradient."""
    values = {field.name: getattr(context, field.name) for field in fields(context)}
    return replace(context, **{name: value.clone() for name, value in values.items() if value is not None})
