"""The shared base of all planners that roll candidates out and score them."""

import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import torch
from torch import Tensor

from wmkit.contracts import Context, Objective, Plan, PlanningBudget, Proposal, WorldModel
from wmkit.control.advance import advance

from .parametrisation import Hold, Parametrisation
from .problem import Best, Problem, Scored
from .scoring import Clock, Scorer

__all__ = ["SamplingPlanner"]

State = TypeVar("State")


class SamplingPlanner(ABC, Generic[State]):
    """Sample candidates, roll them out, score them, update; the best so far is valid at any time.

    This class owns warm start, proposal, bounds, chunking, non-finite costs, random generators, budget and pending
    actions. A planner adds `start`, `sample` and `update` on a state of its own, a frozen dataclass whose tensors have
    B first. Rows of B do not influence each other, and candidates are drawn alike for every row: planning a batch
    equals planning its rows one by one from the same generator.

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
        proposal: Proposal | None = None,
        proposal_share: float = 0.0,
        budget: PlanningBudget | None = None,
        seed: int = 0,
    ) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            horizon: H, model steps of a plan.
            samples: N, candidates of one iteration.
            iterations: refinements of the candidates.
            parametrisation: what to search over; None leaves every environment action free.
            proposal: its first candidate is where the search starts; a warm start then becomes one more candidate.
            proposal_share: fraction of the first iteration's candidates that the proposal draws, in [0, 1).
            budget: limits of every decision that brings none of its own.
            seed: of the generator for decisions that bring none of their own.

        Raises:
            ValueError: a number out of its range.
        """
        for name, value in (("horizon", horizon), ("samples", samples), ("iterations", iterations)):
            if value < 1:
                raise ValueError(f"{type(self).__name__}: {name} is {value!r}; give at least 1")
        if not 0 <= proposal_share < 1:
            raise ValueError(f"{type(self).__name__}: proposal_share is {proposal_share!r}; give a fraction in [0, 1)")
        self._model = model
        self._horizon = horizon
        self.samples = samples
        self.iterations = iterations
        self.parametrisation = Hold(1) if parametrisation is None else parametrisation
        self.proposal = proposal
        self.proposal_share = proposal_share
        self.budget = PlanningBudget() if budget is None else budget
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

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

    def answer(self, state: State) -> Tensor | None:
        """Return the knots (B, M, E) to execute, or None to execute the best candidate seen."""
        return None

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
        _check_inputs(self._model, context, warm_start, horizon)
        with self._grad_mode():
            found, iterations, stopped = self._search(context, objective, warm_start, budget, horizon, generator, began)
        self._check_found(found)
        return Plan(
            actions=found.actions.clone(),
            cost=found.cost.clone(),
            latents=found.latents.clone(),
            iterations=iterations,
            seconds=time.perf_counter() - began,
            stopped=stopped,
            non_finite=int(found.non_finite),
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
    ) -> tuple[Best, int, str]:
        """Run the iterations; return the plan, how many iterations there were and why they ended."""
        problem, stopped = self._problem(context, warm_start, budget, horizon, generator)
        scorer = Scorer(self._model, self.parametrisation, self.wants_gradients, problem, objective, budget)
        state = self.start(problem)
        clock = Clock(began, budget.seconds, context.latents.device)
        found: Best | None = None
        done = 0
        while done < problem.iterations and not (done and clock.out_of_time()):
            parameters = self.sample(state, problem)
            if done == 0 and problem.extra.shape[1]:
                parameters = torch.cat([parameters[:, : -problem.extra.shape[1]], problem.extra], dim=1)
            scored, best = scorer.score(parameters)
            state = self.update(state, scored, problem)
            found = best if found is None else found.merged(best)
            done += 1
        if found is None:
            raise ValueError(f"{type(self).__name__}: no iteration was planned; give at least 1")
        stopped = stopped if done == problem.iterations else "seconds"
        knots = self.answer(state) if budget.rollouts is None or budget.rollouts > 1 else None
        if knots is not None:
            found = found.replaced(scorer.score(knots.unsqueeze(1))[1])
        return found, done, stopped

    def _problem(
        self,
        context: Context,
        warm_start: Tensor | None,
        budget: PlanningBudget,
        horizon: int,
        generator: torch.Generator | None,
    ) -> tuple[Problem, str]:
        """Lay the decision out from its budget; return it, and why it will stop if time does not run out."""
        spec, latents = self._model.spec, context.latents
        generator = self._own_generator(latents.device) if generator is None else generator
        if self.wants_gradients:
            context = _cloned(context)
        context = advance(self._model, context, generator)
        samples, iterations, stopped = self._layout(budget)
        dtype = torch.promote_types(latents.dtype, torch.float32)
        low, high = spec.bounds(latents.device, dtype)
        low, high = low[: spec.action_size], high[: spec.action_size]
        guesses = self._guesses(context, warm_start, horizon, samples, generator, dtype)
        if guesses is None:
            knots = self.parametrisation.knots(spec, horizon)
            guesses = torch.zeros_like(low).expand(context.batch, 1, knots, spec.action_size)
        guesses = guesses.clamp(low, high)
        initial, extra = guesses[:, 0], guesses[:, 1:samples]
        return Problem(context, spec, horizon, samples, iterations, low, high, initial, extra, generator), stopped

    def _layout(self, budget: PlanningBudget) -> tuple[int, int, str]:
        """Return samples, iterations and the name of the limit that set them, keeping the budget of rollouts."""
        iterations = min(self.iterations, budget.iterations or self.iterations)
        if budget.rollouts is None or iterations * self.samples < budget.rollouts:
            return self.samples, iterations, "iterations"
        usable = max(1, budget.rollouts - (type(self).answer is not SamplingPlanner.answer))
        samples = min(self.samples, usable)
        return samples, min(iterations, usable // samples), "rollouts"

    def _guesses(
        self,
        context: Context,
        warm_start: Tensor | None,
        horizon: int,
        samples: int,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> Tensor | None:
        """Return the knots (B, 1 + X, M, E) that are known before the search, the one to start from first."""
        found = []
        if self.proposal is not None:
            drawn = self.proposal.propose(context, 1 + int(self.proposal_share * samples), horizon, generator)
            found += [drawn[:, :1], drawn[:, 1:]]
        if warm_start is not None:
            found.insert(1, _fitted(warm_start, horizon).unsqueeze(1))
        if not found:
            return None
        actions = torch.cat([guess.to(context.latents.device, dtype) for guess in found], dim=1)
        return self.parametrisation.parameters(actions, self._model.spec)

    def _own_generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self._generators[device]

    def _check_found(self, found: Best) -> None:
        bad = (~torch.isfinite(found.cost)).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"{type(self._model).__name__} gave no candidate of row {bad[0]} a finite cost "
                f"({int(found.non_finite)} costs were not finite in all); "
                "check its weights, the observation and the objective"
            )


def _fitted(actions: Tensor, horizon: int) -> Tensor:
    """Cut actions (B, H', A) to the horizon, or continue them with the last step."""
    missing = horizon - actions.shape[1]
    if missing <= 0:
        return actions[:, :horizon]
    return torch.cat([actions, actions[:, -1:].expand(-1, missing, -1)], dim=1)


def _cloned(context: Context) -> Context:
    """Copy a context so that tensors made in inference mode can take part in a gradient."""
    copies = [None if x is None else x.clone() for x in (context.pending, context.goal)]
    return Context(context.latents.clone(), context.actions.clone(), *copies)


def _check_inputs(model: WorldModel, context: Context, warm_start: Tensor | None, horizon: int) -> None:
    """Refuse shapes that do not fit, with one line each."""
    spec = model.spec
    b, t = context.latents.shape[:2]
    if horizon < 1:
        raise ValueError(f"horizon is {horizon!r}; give at least 1 model step")
    if context.latents.shape[2:] != (spec.latent_size,) or not 1 <= t <= spec.history:
        raise ValueError(
            f"context.latents has shape {tuple(context.latents.shape)}; expected (B, T, D) with T from 1 to "
            f"{spec.history} and D = {spec.latent_size}"
        )
    expected: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("context.actions", context.actions, (b, t - 1, spec.block_size)),
        ("context.goal", context.goal, (b, spec.latent_size)),
        ("context.pending", context.pending, (b, -1, spec.block_size)),
        ("warm_start", warm_start, (b, -1, spec.block_size)),
    ]
    for name, tensor, shape in expected:
        if tensor is None:
            continue
        fits = tensor.ndim == len(shape) and all(e in (-1, s) for e, s in zip(shape, tensor.shape, strict=True))
        if not fits or (name == "warm_start" and tensor.shape[1] == 0):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape} with any size where -1 stands")
