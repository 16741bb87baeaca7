"""Rolling candidates out, scoring them, and watching the clock."""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wmkit.contracts import Objective, PlanningBudget, Rollout, WorldModel

from .limits import limit_rate
from .parametrisation import Parametrisation
from .problem import Best, Problem, Scored, picked

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
        bounds: the lower and the upper bound of one model step's actions, each (A,).
        keep: E, cheapest candidates of an iteration whose imagined latents and actions are kept.
        rescore: how many of them, at most E, the model's reference rolls out once more.
    """

    model: WorldModel
    parametrisation: Parametrisation
    max_change: Tensor | None
    wants_gradients: bool
    problem: Problem
    objective: Objective
    budget: PlanningBudget
    bounds: tuple[Tensor, Tensor]
    keep: int = 0
    rescore: int = 0

    def select(self, rows: Tensor) -> "Scorer":
        """Return the scorer of the given rows of B."""
        return replace(self, problem=self.problem.select(rows), objective=self.objective.select(rows))

    def actions(self, parameters: Tensor) -> Tensor:
        """Return the actions (B, N, H, A) of knots (B, N, M, E), within the bounds and the limit on their change."""
        problem = self.problem
        actions = self.parametrisation.actions(parameters, problem.context, problem.spec, problem.horizon)
        if not getattr(self.parametrisation, "keeps_bounds", False):
            actions = self._clipped(actions, *self.bounds)
        if self.max_change is not None:
            actions = limit_rate(actions, problem.context.last_action, self.max_change, problem.spec)
        return actions

    def score(self, parameters: Tensor) -> tuple[Scored, Best]:
        """Score knots (B, N, M, E)."""
        parameters = self._clipped(parameters, self.problem.low, self.problem.high)
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

    def rescored(self, best: Best) -> Best:
        """Return the cheapest by the model's reference, of the best so far and the candidates of the last iteration."""
        if not self.rescore:
            return best
        actions = torch.cat([best.actions.unsqueeze(1), best.candidate_actions[:, : self.rescore]], dim=1)
        reference: Any = self.model
        found: Best | None = None
        for chunk in actions.split(self._chunk_size(actions.shape[1]), dim=1):
            rollout = reference.reference_rollout(self.problem.context, chunk, self.problem.generator)
            part = self._ranked(rollout, chunk, self._cost(rollout, chunk))[1]
            found = part if found is None else found.joined(part)
        return best if found is None else best.replaced(found)

    def _score_chunk(self, parameters: Tensor) -> tuple[Tensor, Best, Tensor | None]:
        problem, model = self.problem, self.model
        if not self.wants_gradients:
            actions = self.actions(parameters).to(problem.context.latents.dtype)
            rollout = model.rollout(problem.context, actions, problem.generator)
            return *self._ranked(rollout, actions, self._cost(rollout, actions)), None
        with torch.enable_grad():
            parameters = parameters.detach().requires_grad_()
            actions = self.actions(parameters).to(problem.context.latents.dtype)
            rollout = model.rollout(problem.context, actions, problem.generator)
            if not _differentiable(rollout):
                raise ValueError(f"{type(model).__name__} {_NO_GRADIENTS}")
            cost = self._cost(rollout, actions)
            gradient = self._gradient(cost, parameters)
        return *self._ranked(rollout, actions.detach(), cost.detach()), gradient

    def _cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the costs (B, N), checked for their shape."""
        cost = self.objective.cost(rollout, actions)
        if cost.shape != actions.shape[:2]:
            raise ValueError(
                f"{type(self.objective).__name__}.cost gave shape {tuple(cost.shape)}; "
                f"expected (B, N) = {tuple(actions.shape[:2])}"
            )
        return cost

    def _ranked(self, rollout: Rollout, actions: Tensor, cost: Tensor) -> tuple[Tensor, Best]:
        """Return the costs (B, N), +inf where they are not finite, and the best of the N candidates."""
        cost = cost.to(self.problem.low.dtype)
        cost = cost.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
        lowest, index = cost.min(dim=1, keepdim=True)
        latents = rollout.latents.detach()
        best, imagined = (picked(part, index).squeeze(1) for part in (actions, latents))
        kept = _cheapest(cost, latents, actions, self.keep)
        return cost, Best(lowest.squeeze(1), best, imagined, (cost == torch.inf).sum(dim=1), *kept)

    def _gradient(self, cost: Tensor, parameters: Tensor) -> Tensor:
        """Return the gradients (B, N, M, E) of the costs (B, N)."""
        gradient = torch.autograd.grad(cost.sum(), parameters, allow_unused=True)[0] if cost.requires_grad else None
        if gradient is None:
            raise ValueError(f"{type(self.model).__name__} {_NO_GRADIENTS}")
        return gradient

    def _clipped(self, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Clip values (..., X) to bounds (X,); by numbers where they are alike, which is several times faster."""
        spec = self.problem.spec
        lows, highs = set(spec.action_low), set(spec.action_high)
        return values.clamp(*lows, *highs) if len(lows) == len(highs) == 1 else values.clamp(low, high)

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

    def restart(self) -> None:
        """Time the first iteration from now on, whatever came in between."""
        self._last = time.perf_counter()

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


def _cheapest(cost: Tensor, latents: Tensor, actions: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents (B, E, H, D), costs (B, E) and actions (B, E, H, A) of the cheapest of N candidates.

    Those beyond N cost +inf and repeat the last.
    """
    if not keep:
        return latents[:, :0], cost[:, :0], actions[:, :0]
    costs, index = cost.topk(min(keep, cost.shape[1]), dim=1, largest=False)
    missing = keep - costs.shape[1]
    if missing:
        costs = torch.cat([costs, torch.full_like(costs[:, :1], torch.inf).expand(-1, missing)], dim=1)
        index = torch.cat([index, index[:, -1:].expand(-1, missing)], dim=1)
    return picked(latents, index), costs, picked(actions, index)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
