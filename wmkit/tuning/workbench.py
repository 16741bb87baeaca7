"""Tries settings for real: times a controller's decisions, and solves problems with its planner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..contracts import Context, Objective, Plan, PlanningBudget, WorldModel
from ..control import Controller
from .problems import Problems
from .trade import Setting, Way
from .ways import applied

__all__ = ["PlanningBench"]

_ROWS = 8
"""Problems that are solved side by side, with the same random numbers: a group."""
_CANDIDATES, _BEST, _RANKED = 300, 30, 2
"""Candidates that are ranked, how many count as the best, and in how many groups of problems."""
_RANDOM_PLANS = 64
_DRAWS = 16
"""Rollouts whose mean cost counts, of a stochastic model."""


@dataclass(frozen=True)
class _Posed:
    """Some problems as a planner gets them."""

    context: Context
    objective: Objective


class _Tap:
    """Stands for a controller's planner, and keeps what it is asked."""

    def __init__(self, controller: Controller) -> None:
        self.model, self.horizon = controller.model, controller.planner.horizon
        self.posed: _Posed | None = None
        controller.planner = self

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
        """Return a plan of nothing."""
        self.posed = _Posed(context, objective)
        latents = context.latents[:, -1:]
        actions = latents.new_zeros(context.batch, 1, self.model.spec.block_size)
        return Plan(actions, latents.new_zeros(context.batch), latents, 0, 0.0, "iterations")


class PlanningBench:
    """A `Workbench` of a model and a planner on this machine.

    Args:
        model: what to plan through.
        make: returns a new controller with a setting's candidates and iterations; the way of computing is taken care of
            here.
        problems: what to plan.
        seed: of the random numbers, the same for every setting.
        batch: B, robots that are planned for at once where decisions are timed.
    """

    def __init__(
        self,
        model: WorldModel,
        make: Callable[[Setting], Controller],
        problems: Problems,
        seed: int = 0,
        batch: int = 1,
    ) -> None:
        self._model, self._make, self._problems, self._seed, self._batch = model, make, problems, seed, batch
        self._exact = Way("reference" if hasattr(model, "rollout_path") else None)
        self._random: np.ndarray | None = None
        with applied(model, self._exact):
            smallest = make(Setting(_BEST, 1))
            self._horizon = smallest.planner.horizon
            self._posed = [self._pose(smallest, rows) for rows in _groups(len(problems))]
            self._draws = self._draws_needed()

    def seconds(self, setting: Setting, decisions: int, limit: float | None = None) -> tuple[float, ...]:
        """Time decisions of one controller that meets the problems' starts one after another; see `Workbench`."""
        with applied(self._model, setting.way):
            controller = self._make(setting)
            if self._problems.goals is not None:
                rows = self._rows(0)
                controller.set_goal({key: value[rows] for key, value in self._problems.goals.items()})
            warm_up = self._model.spec.history + 2
            late, allowed = 0, decisions // 100
            for number in range(warm_up + decisions):
                self._decide(controller, number)
                late += limit is not None and number >= warm_up and controller.decisions[-1] > limit
                if late > allowed and number - warm_up + 1 >= min(decisions, 20):
                    break
        return tuple(controller.decisions[warm_up:])

    def _decide(self, controller: Controller, number: int) -> None:
        """Act until one more decision was made."""
        rows = self._rows(number)
        seen = {key: value[rows, -1] for key, value in self._problems.observations.items()}
        made = len(controller.decisions)
        while len(controller.decisions) == made:
            controller.act(seen)

    def _rows(self, number: int) -> np.ndarray:
        """Return the problems (B,) that robots meet at a decision."""
        return (number * self._batch + np.arange(self._batch)) % len(self._problems)

    def costs(self, setting: Setting) -> np.ndarray:
        """Solve all problems from a cold start; see `Workbench`."""
        with applied(self._model, setting.way):
            planner = self._make(setting).planner
            plans = [
                planner.plan(posed.context, posed.objective, generator=self._generator(number)).actions
                for number, posed in enumerate(self._posed)
            ]
        return self._score([plan.unsqueeze(1) for plan in plans])[:, 0]

    def random_costs(self) -> np.ndarray:
        """Return the mean cost of plans drawn uniformly within the bounds; see `Workbench`."""
        if self._random is None:
            costs = self._score(self._drawn(_RANDOM_PLANS))
            finite = np.isfinite(costs)
            total = np.where(finite, costs, 0.0).sum(axis=1)
            self._random = np.divide(
                total, finite.sum(axis=1), out=np.full(len(costs), np.inf), where=finite.any(axis=1)
            )
        return self._random

    def agreement(self, way: Way) -> float:
        """Rank candidates drawn uniformly within the bounds, this way and exactly; see `Workbench`."""
        drawn = self._drawn(_CANDIDATES)[:_RANKED]
        exact, fast = self._ranked(drawn, self._exact), self._ranked(drawn, way)
        shared = [len(set(a) & set(b)) / _BEST for a, b in zip(exact, fast, strict=True)]
        return float(np.mean(shared))

    def _ranked(self, plans: Sequence[Tensor], way: Way) -> list[list[int]]:
        """Return the best candidates of each problem."""
        with applied(self._model, way):
            costs = np.concatenate([self._roll(number, plan) for number, plan in enumerate(plans)])
        return np.argsort(costs, axis=1, kind="stable")[:, :_BEST].tolist()

    def _score(self, plans: Sequence[Tensor]) -> np.ndarray:
        """Return the exact costs (P, N) of plans, for each group (B, N, H, A)."""
        with applied(self._model, self._exact):
            rows = []
            for number, plan in enumerate(plans):
                costs = self._roll(number, plan.repeat_interleave(self._draws, 1))
                rows.append(costs.reshape(len(costs), -1, self._draws).mean(axis=2))
        return np.concatenate(rows)

    def _roll(self, number: int, plans: Tensor) -> np.ndarray:
        """Return the costs (B, N) of plans (B, N, H, A) for a group of problems, those not finite as +inf."""
        posed = self._posed[number]
        with torch.inference_mode():
            actions = plans.to(posed.context.latents)
            rollout = self._model.rollout(posed.context, actions, self._generator(number))
            cost = posed.objective.cost(rollout, actions).double().cpu().numpy()
        return np.where(np.isfinite(cost), cost, np.inf)

    def _drawn(self, count: int) -> list[Tensor]:
        """Return plans (B, N, H, A) drawn uniformly within the bounds, for each group."""
        spec = self._model.spec
        drawn = []
        for number, posed in enumerate(self._posed):
            generator, latents = self._generator(number), posed.context.latents
            low, high = spec.bounds(latents.device)
            shape = (posed.context.batch, count, self._horizon, spec.block_size)
            drawn.append(low + (high - low) * torch.rand(shape, generator=generator, device=latents.device))
        return drawn

    def _draws_needed(self) -> int:
        """Return how many rollouts a cost is the mean of: one where the same plan costs the same twice."""
        self._draws = 1
        plan = self._drawn(1)[0].expand(-1, 2, -1, -1)
        costs = self._roll(0, plan)
        return 1 if np.allclose(costs[:, 0], costs[:, 1], rtol=1e-4, equal_nan=True) else _DRAWS

    def _pose(self, controller: Controller, rows: np.ndarray) -> _Posed:
        """Return what the controller asks its planner for some of the problems."""
        goals = self._problems.goals
        if goals is not None:
            controller.set_goal({key: value[rows] for key, value in goals.items()})
        with torch.no_grad():
            latents = self._model.encode({key: value[rows] for key, value in self._problems.observations.items()})
        actions = torch.as_tensor(self._problems.actions[rows]).to(latents)
        planner, tap = controller.planner, _Tap(controller)
        try:
            controller.plan_from(Context(latents, actions))
        finally:
            controller.planner = planner
        if tap.posed is None:
            raise ValueError(f"{type(controller).__name__} asked its planner for nothing")
        return tap.posed

    def _generator(self, number: int) -> torch.Generator:
        """Return the random numbers of a group of problems."""
        device = self._posed[number].context.latents.device
        return torch.Generator(device).manual_seed(1000 * self._seed + number)


def _groups(count: int) -> list[np.ndarray]:
    """Return the rows of each group of problems."""
    return [np.arange(first, min(first + _ROWS, count)) for first in range(0, count, _ROWS)]
