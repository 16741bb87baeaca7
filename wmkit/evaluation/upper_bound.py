"""The upper bound of an evaluation: planning through the true simulator, with what the scripted expert would do.

Nothing here is special to the bound: the model is the registry's "simulator", the planner its "cem", and both stand
behind the ordinary `Controller`. Three things make it one: it plans up to the end of the budget, at most 50 steps, and
asks for a success at any step until then, not at one step; every environment step has an action of its own; and the
search starts from what the expert would do, followed through the simulator, because contact has local minima that noise
does not leave. Where a plan is known that the simulator says arrives and stays, nothing is searched for.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import registry
from ..contracts import Context, Objective, Plan, Planner, PlanningBudget, Proposal, Rollout, WorldModel
from ..control import Controller
from ..control.advance import advance, extend
from ..tasks import Expert, Task
from .agents import Start
from .protocols import SETTLING_STEPS

__all__ = ["ExpertProposal", "FrugalPlanner", "ReachObjective", "SimulatorAgent"]

_EXECUTED = 5
"""Environment steps after which a new plan is made."""
_PLANNER: dict[str, Any] = {"samples": 48, "iterations": 5, "elites": 6, "std": 0.25, "noise_exponent": 2.0}
_HORIZON = 50
"""Most environment steps of a plan."""
_PATIENCE = 40
"""Environment steps that the expert is followed for without coming nearer to the goal."""


class SimulatorAgent:
    """Plans through the simulator of each pair's scene towards the goal's state, until the end of its budget.

    Pairs of one scene and one budget share a controller. What a search draws depends on how many searches there were
    before it, so a pair that is searched for may be solved in another way beside others than alone.
    """

    name, observes = "simulator", "state"

    def __init__(
        self, task: Task, rule: str, seed: int = 0, *, horizon: int = _HORIZON, expert: bool = True, **settings: Any
    ) -> None:
        """Create the agent.

        Args:
            task: with a simulator and a distance.
            rule: success rule that the distance is measured for.
            seed: of the candidates and of the expert.
            horizon: most environment steps of a plan.
            expert: whether the search starts from what the expert would do.
            settings: of the planner "cem", in place of the agent's own.

        Raises:
            ValueError: the task has no simulator or no distance.
        """
        if task.simulator is None or task.distance is None:
            raise ValueError(f"{task.name} has no simulator or no distance between states; its Task names them")
        self._task, self._rule, self._seed = task, rule, seed
        self._horizon, self._expert, self._settings = horizon, expert, _PLANNER | settings
        self._groups: list[tuple[np.ndarray, Controller]] = []

    def reset(self, start: Start) -> None:
        """Begin B episodes."""
        kinds: dict[str, list[int]] = {}
        for row, pair in enumerate(start.pairs):
            kinds.setdefault(json.dumps([pair.budget, dict(pair.variation)], sort_keys=True), []).append(row)
        self._groups = []
        for rows in kinds.values():
            pair = start.pairs[rows[0]]
            controller = self._controller(pair.variation, min(self._horizon, pair.budget))
            controller.set_goal({"state": start.goals[rows]}, steps=pair.budget)
            self._groups.append((np.array(rows), controller))

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return the controllers' actions (B, action_size)."""
        actions = np.zeros((len(states), len(self._task.action_low)))
        for rows, controller in self._groups:
            actions[rows] = controller.act({"state": np.asarray(states, np.float64)[rows]})
        return actions

    def _controller(self, variation: Mapping[str, Any], horizon: int) -> Controller:
        """Return a controller of one scene."""
        model: WorldModel = registry.load("models", "simulator").from_task(self._task, variation, 1)
        proposal = ExpertProposal(model, self._task, self._rule, variation, self._seed) if self._expert else None
        planner: Planner = registry.load("planners", "cem")(
            model, horizon=horizon, proposal=proposal, seed=self._seed, **self._settings
        )
        return Controller(
            FrugalPlanner(planner, proposal),
            lambda goal: ReachObjective(self._task, self._rule, goal),
            execute=min(_EXECUTED, horizon),
        )


class FrugalPlanner:
    """Searches only for rows without a plan that is known to cost nothing, which no search can better.

    Known are what remains of the last plan, then what the proposal gives. The model has to be deterministic, and costs
    must not be negative.
    """

    def __init__(self, planner: Planner, proposal: Proposal | None = None) -> None:
        """Create a planner that leaves the search to another, and takes first candidates from a proposal."""
        self._planner, self._proposal = planner, proposal

    @property
    def model(self) -> WorldModel:
        """The model that is planned through."""
        return self._planner.model

    @property
    def horizon(self) -> int:
        """H of a plan, unless the call says otherwise."""
        return self._planner.horizon

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
        """Plan for each of the B contexts; see `wmkit.contracts.Planner.plan`."""
        began, steps = time.perf_counter(), self.horizon if horizon is None else horizon
        context = advance(self.model, context, generator)
        rows, latents = context.batch, context.latents
        plan = Plan(
            actions=latents.new_zeros(rows, steps, self.model.spec.block_size),
            cost=latents.new_full((rows,), torch.inf),
            latents=latents.new_zeros(rows, steps, latents.shape[-1]),
            iterations=1,
            seconds=0.0,
            stopped="certain",
        )
        if warm_start is not None:
            self._try(plan, context, objective, _fitted(warm_start, steps), generator)
        left = (plan.cost != 0).nonzero()[:, 0]
        if self._proposal is not None and len(left):
            proposed = torch.zeros_like(plan.actions)
            known = generator or torch.Generator(latents.device).manual_seed(0)
            proposed[left] = self._proposal.propose(context.select(left), 1, steps, known)[:, 0].to(proposed)
            self._try(plan, context, objective, proposed, generator)
            left = (plan.cost != 0).nonzero()[:, 0]
        if len(left):
            warm = None if warm_start is None else warm_start[left]
            found = self._planner.plan(
                context.select(left), objective.select(left), warm, budget, horizon=steps, generator=generator
            )
            plan.actions[left], plan.cost[left] = found.actions.to(plan.actions), found.cost.to(plan.cost)
            plan.latents[left] = found.latents.to(plan.latents)
            plan = replace(plan, iterations=found.iterations, stopped=found.stopped, non_finite=found.non_finite)
        return replace(plan, seconds=time.perf_counter() - began)

    def _try(
        self, plan: Plan, context: Context, objective: Objective, guesses: Tensor, generator: torch.Generator | None
    ) -> None:
        """Write into a plan the rows of guesses (B, H, A) that cost nothing, where it has none yet."""
        left = (plan.cost != 0).nonzero()[:, 0]
        tried = guesses[left].to(plan.actions)[:, None]
        rollout = self.model.rollout(context.select(left), tried, generator)
        free = objective.select(left).cost(rollout, tried)[:, 0] == 0
        rows = left[free]
        plan.actions[rows], plan.latents[rows], plan.cost[rows] = tried[free, 0], rollout.latents[free, 0], 0.0


class ReachObjective:
    """Be at the goal once, at any step, and preferably still at the plan's end.

    The cost is the task's distance where it is least, and a little of that at the plan's last steps.
    """

    def __init__(self, task: Task, rule: str, goals: Tensor, settle: float = 0.3) -> None:
        """Create the objective.

        Args:
            task: with a distance.
            rule: success rule.
            goals: (B, S).
            settle: weight of the mean distance over the last steps, as many as the strict measure counts.
        """
        self._task, self._rule, self._goals, self._settle = task, rule, goals, settle

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return (B, N) from the rollout's "state" (B, N, H, S)."""
        states = rollout.quantities["state"]
        distance = _distances(self._task, states, self._goals[:, None, None], self._rule)
        return distance.amin(dim=-1) + self._settle * distance[..., -SETTLING_STEPS:].mean(dim=-1)

    def select(self, rows: Tensor) -> Objective:
        """Return the objective of the given rows."""
        return ReachObjective(self._task, self._rule, self._goals[rows], self._settle)


class ExpertProposal:
    """What a task's expert would do, followed through a model whose latent is the state.

    After the step at which the goal was nearest the action is 0: the expert may care for less than the success rule
    does, so the rest is the planner's. The model's step is one environment step.
    """

    def __init__(self, model: WorldModel, task: Task, rule: str, variation: Mapping[str, Any], seed: int = 0) -> None:
        """Create the proposal; `variation` is the scene that the expert is told."""
        self._model, self._task, self._rule, self._variation = model, task, rule, variation
        self._seed = seed

    def propose(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        """Return n candidates (B, n, H, A), all alike.

        Raises:
            ValueError: the context has no goal.
        """
        goals = context.goal
        if goals is None:
            raise ValueError("ExpertProposal: the context has no goal; set one, or use another proposal")
        experts = self._experts(context.latents[:, -1], goals)
        rest = self._clipped(torch.zeros(len(goals), horizon, self._model.spec.block_size).to(goals))
        actions, least = rest.clone(), _distances(self._task, context.latents[:, -1], goals, self._rule)
        nearest = torch.zeros_like(least, dtype=torch.long)
        for step in range(horizon):
            going = (least > 0) & (step - nearest < _PATIENCE)
            if not bool(going.any()):
                break
            actions[going, step] = self._act(experts, context.latents[:, -1], going)
            taken = actions[:, step : step + 1]
            latents = self._model.rollout(context, taken[:, None], generator).latents[:, 0]
            context = extend(context, taken, latents, self._model.spec.history)
            distances = _distances(self._task, latents[:, 0], goals, self._rule)
            nearer = going & (distances < least)
            least, nearest = torch.where(nearer, distances, least), nearest.masked_fill(nearer, step + 1)
        kept = torch.arange(horizon, device=nearest.device) < nearest[:, None]
        return torch.where(kept[..., None], actions, rest)[:, None].expand(-1, n, -1, -1)

    def _experts(self, states: Tensor, goals: Tensor) -> list[Expert]:
        """Return an expert for each row, told its start and goal, each (B, S)."""
        experts = []
        for state, goal in zip(states.cpu().numpy(), goals.cpu().numpy(), strict=True):
            experts.append(self._task.expert(self._seed))
            experts[-1].reset(state, goal, self._variation)
        return experts

    def _act(self, experts: list[Expert], states: Tensor, going: Tensor) -> Tensor:
        """Return the actions (R, A) of the experts of the R rows that `going` (B,) marks, for states (B, S)."""
        seen = states.cpu().numpy()
        acts = [experts[row].act(seen[row]) for row in going.nonzero()[:, 0].tolist()]
        return self._clipped(torch.as_tensor(np.stack(acts)).to(states))

    def _clipped(self, actions: Tensor) -> Tensor:
        """Return actions (..., A) within the bounds."""
        low, high = self._model.spec.bounds(actions.device, actions.dtype)
        return actions.clamp(low, high)


def _distances(task: Task, states: Tensor, goals: Tensor, rule: str) -> Tensor:
    """Return the task's distance (...) of states (..., S) from goals that broadcast with them."""
    if task.distance is None:
        raise ValueError(f"{task.name} has no distance between states; its Task names none")
    return torch.as_tensor(task.distance(states.cpu().numpy(), goals.cpu().numpy(), rule)).to(states)


def _fitted(actions: Tensor, horizon: int) -> Tensor:
    """Return actions (B, H, A) cut to a horizon, or continued with their last step."""
    missing = max(0, horizon - actions.shape[1])
    return torch.cat((actions[:, :horizon], actions[:, -1:].expand(-1, missing, -1)), dim=1)
