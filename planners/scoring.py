"""Rolling candidates out, scoring them, and watching the clock."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wmkit.contracts import Objective, PlanningBudget, Rollout, WorldModel

from .limits import limit_rate
from .parametrisation import Parametrisation
from .problem import Best, Problem, Scored

__all__ = ["Clock", "Scorer"]

_NO_GRADIENTS = "gives costs without gradients by the actions; plan with a planner that needs none, e.g. CEM"


@dataclass(frozen=True)
class Scorer:
    """Rolls candidates out in chunks and scores them.

    Attributes:
        model: what to roll out through.
        parametrisation: what the knots stand for.
        max_change: (E,), largest change of an action between two environment steps; None for no limit.
        wants_gradients: whether the costs' gradients by the knots are asked for.
        problem: where to roll out from.
        objective: what to score by.
        budget: limits the memory.
        keep: E, cheapest candidates of an iteration whose imagined latents are kept.
    """

    model: WorldModel
    parametrisation: Parametrisation
    max_change: Tensor | None
    wants_gradients: bool
    problem: Problem
    objective: Objective
    budget: PlanningBudget
    keep: int = 0

    def select(self, rows: Tensor) -> "Scorer":
        """Return the scorer of the given rows of B."""
        return replace(self, problem=self.problem.select(rows), objective=self.objective.select(rows))

    def actions(self, parameters: Tensor) -> Tensor:
        """Return the actions (B, N, H, A) of knots (B, N, M, E), within the bounds and the limit on their change."""
        problem = self.problem
        low, high = (bound.repeat(problem.spec.action_repeat) for bound in (problem.low, problem.high))
        actions = self.parametrisation.actions(parameters, problem.context, problem.spec, problem.horizon)
        actions = actions.clamp(low, high)
        if self.max_change is not None:
            actions = limit_rate(actions, problem.context.last_action, self.max_change, problem.spec)
        return actions

    def score(self, parameters: Tensor) -> tuple[Scored, Best]:
        """Score knots (B, N, M, E)."""
        parameters = parameters.clamp(self.problem.low, self.problem.high)
        costs: list[Tensor] = []
        gradients: list[Tensor] = []
        best: Best | None = None
        for chunk in parameters.split(self._chunk_size(parameters.shape[1]), dim=1):
            cost, found, gradient = self._score_chunk(chunk)
            best = found if best is None else best.joined(found)
            costs.append(cost)
            gradients += [] if gradient is None else [gradient]
        if best is None:
            raise ValueError("sample gave no candidate; give at least 1")
        return Scored(parameters, _joined(costs), _joined(gradients) if gradients else None), best

    def _score_chunk(self, parameters: Tensor) -> tuple[Tensor, Best, Tensor | None]:
        problem, model = self.problem, self.model
        with torch.set_grad_enabled(self.wants_gradients):
            if self.wants_gradients:
                parameters = parameters.detach().requires_grad_()
            actions = self.actions(parameters).to(problem.context.latents.dtype)
            rollout = model.rollout(problem.context, actions, problem.generator)
            if self.wants_gradients and not _differentiable(rollout):
                raise ValueError(f"{type(model).__name__} {_NO_GRADIENTS}")
            cost = self.objective.cost(rollout, actions)
            if cost.shape != actions.shape[:2]:
                raise ValueError(
                    f"{type(self.objective).__name__}.cost gave shape {tuple(cost.shape)}; "
                    f"expected (B, N) = {tuple(actions.shape[:2])}"
                )
            gradient = self._gradient(cost, parameters) if self.wants_gradients else None
        cost = cost.detach().to(problem.low.dtype)
        finite = torch.isfinite(cost)
        cost = torch.where(finite, cost, torch.inf)
        lowest, index = cost.min(dim=1)
        row = torch.arange(cost.shape[0], device=cost.device)
        latents = rollout.latents.detach()
        kept = _cheapest(cost, latents, self.keep)
        best = Best(lowest, actions.detach()[row, index], latents[row, index], (~finite).sum(dim=1), *kept)
        return cost, best, gradient

    def _gradient(self, cost: Tensor, parameters: Tensor) -> Tensor:
        """Return the gradients (B, N, M, E) of the costs (B, N)."""
        gradient = torch.autograd.grad(cost.sum(), parameters, allow_unused=True)[0] if cost.requires_grad else None
        if gradient is None:
            raise ValueError(f"{type(self.model).__name__} {_NO_GRADIENTS}")
        return gradient

    def _chunk_size(self, n: int) -> int:
        """Return how many candidates fit into the memory limit, at least one."""
        if self.budget.bytes is None:
            return n
        latents, spec = self.problem.context.latents, self.problem.spec
        numbers = latents.shape[0] * self.problem.horizon * (spec.block_size + spec.latent_size)
        return max(1, min(n, self.budget.bytes // (numbers * latents.element_size())))


class Clock:
    """Tells whether another iteration would end too late, by the longest one so far.

    The rollout of an answer after the last iteration, of one candidate, is taken to cost half an iteration.

    Attributes:
        laps: how many iterations were timed.
        candidates: rolled out in them, those of all rows together.
        elapsed: their seconds.
        overhead: seconds before the first of them.
    """

    def __init__(self, began: float, seconds: float | None, device: torch.device, answers: bool = False) -> None:
        self._began = began
        self._seconds = seconds
        self._device = device
        self._ahead = 1.5 if answers else 1.0
        self._last = time.perf_counter()
        self._longest = 0.0
        self.overhead = self._last - began
        self.laps = 0
        self.candidates = 0
        self.elapsed = 0.0

    def out_of_time(self, candidates: int) -> bool:
        """Return whether the next iteration would miss the limit; call once after every iteration of so many."""
        if self._seconds is None:
            return False
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        lap, self._last = now - self._last, now
        self.candidates += candidates
        self.laps, self.elapsed, self._longest = self.laps + 1, self.elapsed + lap, max(self._longest, lap)
        return now - self._began + self._ahead * self._longest > self._seconds


def _differentiable(rollout: Rollout) -> bool:
    """Return whether anything that the model imagines has gradients."""
    parts = (rollout.latents, rollout.uncertainty, *rollout.quantities.values())
    return any(part is not None and part.requires_grad for part in parts)


def _cheapest(cost: Tensor, latents: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Return latents (B, E, H, D) and costs (B, E) of the cheapest of N candidates; those beyond N cost +inf."""
    if not keep:
        return latents[:, :0], cost[:, :0]
    costs, index = cost.topk(min(keep, cost.shape[1]), dim=1, largest=False)
    row = torch.arange(len(index), device=index.device).unsqueeze(1)
    missing = keep - costs.shape[1]
    found = latents[row, index]
    if missing:
        costs = torch.cat([costs, torch.full_like(costs[:, :1], torch.inf).expand(-1, missing)], dim=1)
        found = torch.cat([found, found[:, -1:].expand(-1, missing, -1, -1)], dim=1)
    return found, costs


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
