"""Observation in, action out: the receding-horizon control loop."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..contracts import Context, Objective, Plan, Planner, PlanningBudget
from ..monitor.report import Reaction, Surprise
from .observations import checked, selected
from .rows import Rows
from .watch import Monitor, Watch

__all__ = ["Controller"]


class Controller:
    """Plans through a model towards a goal and hands out one environment action a call.

    It keeps what planning needs: the latents at the starts of the last model steps and the actions between them, the
    last plan as a warm start, and how far each row is within its model step. Rows of B may be at different points of a
    model step and of their episodes; those that need a plan at the same time and alike share one call of the planner.

    Attributes:
        decisions: seconds of each call of `act` that planned, encoding included, for all rows together.
        plan: the last plan, or None.
        planned_rows: (R,), the rows of B that the last plan is for.
        watch: what the monitor said, with the seconds that it took.
    """

    def __init__(
        self,
        planner: Planner,
        objective: Callable[[Tensor], Objective] | Objective,
        *,
        execute: int = 1,
        min_horizon: int = 1,
        renew: int | None = None,
        warm_start: bool = True,
        budget: PlanningBudget | None = None,
        generator: torch.Generator | None = None,
        monitor: Monitor | None = None,
        reaction: Reaction | None = None,
    ) -> None:
        """Create a controller.

        Args:
            planner: decides, and names the model.
            objective: called with the goals' latents (B, D) to make the objective, e.g. `GoalObjective`; or an
                objective that needs no goal.
            execute: model steps of a plan that are executed before planning anew.
            min_horizon: shortest horizon once the steps given to `set_goal` run out.
            renew: model steps that a goal is given where `set_goal` is told none, and again whenever they have run out;
                None keeps the horizon whole, or, once it has shrunk, short.
            warm_start: whether a plan starts from what remains of the last one.
            budget: limits of one decision; None takes the planner's own.
            generator: source of all randomness; None takes the planner's own.
            monitor: a `wmkit.SurpriseMonitor`, asked at the start of each model step; None for none.
            reaction: what to do about a surprise, see `wmkit.monitor.reactions`; None does nothing.

        Raises:
            ValueError: a number out of its range, or a reaction without a monitor.
        """
        if not 1 <= execute <= planner.horizon:
            raise ValueError(f"execute is {execute!r}; give 1 to the planner's horizon, {planner.horizon} model steps")
        if not 1 <= min_horizon <= planner.horizon:
            raise ValueError(f"min_horizon is {min_horizon!r}; give 1 to the planner's horizon, {planner.horizon}")
        if renew is not None and not (isinstance(renew, int | np.integer) and renew >= 1):
            raise ValueError(f"renew is {renew!r}; give 1 or more whole model steps, or None")
        self.planner = planner
        self.model = planner.model
        self._renewed = -1 if renew is None else renew * planner.model.spec.action_repeat
        self.execute = execute
        self.min_horizon = min_horizon
        self.warm_start = warm_start
        self.budget = budget
        self.generator = generator
        self.decisions: list[float] = []
        self.plan: Plan | None = None
        self.planned_rows = np.zeros(0, dtype=np.int64)
        self.watch = Watch(monitor, reaction, planner.model.spec)
        self._objective = objective
        self._takes_goal = isinstance(objective, type) or not isinstance(objective, Objective)
        self._goal: Tensor | None = None
        self._steps: np.ndarray | None = None
        self._rows: Rows | None = None

    @property
    def surprises(self) -> tuple[Surprise | None, ...]:
        """The monitor's newest report of each row, None before a row's first; empty before all."""
        return tuple(self.watch.surprises)

    def set_goal(
        self, observation: Mapping[str, Any], steps: int | np.ndarray | None = None, mask: np.ndarray | None = None
    ) -> None:
        """Set what to reach; the next model step of those rows starts with a new plan, from rest or the proposal.

        Args:
            observation: of the goal, as `act` takes it.
            steps: environment steps, one number or (B,), after which the goal should be reached. The horizon then
                shrinks: it ends where the steps end. None gives it `renew`, or without that plans with the planner's
                whole horizon always.
            mask: (B,), boolean, the rows to change; None for all.

        Raises:
            ValueError: the observation does not fit the model, or B differs from the goals set before.
        """
        arrays, _ = checked(observation, self.model.spec.observations)
        batch = next(iter(arrays.values())).shape[0]
        rows = np.arange(batch) if mask is None else np.flatnonzero(self._full(mask, batch))
        goal = self._encode(arrays, np.arange(batch))
        given = np.broadcast_to(np.asarray(-1 if steps is None else steps, dtype=np.int64), (batch,))
        left = self.steps_left(given, 0)
        if steps is not None and given.min() < 1:
            raise ValueError(f"steps is {steps!r}; give at least 1 environment step, or None")
        if mask is None:
            self._goal, self._steps = goal, left
        elif self._goal is None or self._steps is None or self._goal.shape[0] != batch:
            raise ValueError(
                f"the mask changes some of {batch} goals, but no {batch} goals are set; leave it out first"
            )
        else:
            self._goal = self._goal.clone()
            self._goal[rows], self._steps[rows] = goal[rows], left[rows]
        if self._rows is not None and self._rows.batch == batch:
            self._rows.has_plan[rows] = False
        else:
            self._rows = None
            self.watch.reset()

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget history and plan, as at the start of an episode; goals and the steps left to them stay.

        Args:
            mask: (B,), boolean, the rows to reset; None for all.
        """
        if mask is None or self._rows is None:
            self._rows = None
            self.watch.reset()
            return
        self.watch.reset(self._full(mask, self._rows.batch))
        rows = np.flatnonzero(mask)
        self._rows.count[rows] = 0
        self._rows.phase[rows] = 0
        self._rows.has_plan[rows] = False
        self._rows.has_acted[rows] = False

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        """Return the next environment action.

        Args:
            observation: one instant, by key (B, ...), or (...) for one environment.

        Returns:
            (B, action_size), or (action_size,) for one environment; float32, environment units, within the bounds.

        Raises:
            ValueError: the observation does not fit the model or the goals, or the planner found no valid plan.
        """
        arrays, batched = checked(observation, self.model.spec.observations)
        rows = self._prepare(next(iter(arrays.values())).shape[0])
        starting = np.flatnonzero(rows.phase == 0)
        if starting.size:
            self._start_blocks(rows, arrays, starting)
        actions = self.watch.apply(rows.block[np.arange(rows.batch), rows.phase], arrays)
        rows.block[np.arange(rows.batch), rows.phase] = actions
        rows.phase = (rows.phase + 1) % self.model.spec.action_repeat
        if self._steps is not None:
            self._steps = self.steps_left(self._steps, 1)
        return actions if batched else actions[0]

    def encode(self, observation: Mapping[str, Any]) -> Tensor:
        """Return the latents (B, D) of one instant's observation, as `act` takes it; nothing is remembered.

        Raises:
            ValueError: the observation does not fit the model.
        """
        arrays, _ = checked(observation, self.model.spec.observations)
        return self._encode(arrays, np.arange(next(iter(arrays.values())).shape[0]))

    def plan_from(
        self,
        context: Context,
        *,
        warm_start: Tensor | None = None,
        horizon: int | None = None,
        rows: np.ndarray | None = None,
    ) -> Plan:
        """Plan from a context towards the goals set, with the controller's objective, budget and generator.

        Nothing is remembered; `act` and whatever plans beside it, e.g. ahead of time, share this call.

        Args:
            context: B contexts; its own `goal` is replaced.
            warm_start: (B, H, A), a first guess; None starts from the proposal or from rest.
            horizon: H of this plan; None takes the planner's own.
            rows: (B,), for each context the row of the goals that it plans to, repeats allowed; None for all, in order.

        Raises:
            ValueError: B differs from the goals or their rows, or the planner found no valid plan.
        """
        rows = np.arange(context.batch) if rows is None else np.asarray(rows)
        if rows.shape != (context.batch,):
            raise ValueError(f"rows has shape {rows.shape} for {context.batch} contexts; give one row for each")
        self._check_goal(int(rows.max(initial=0)) + 1)
        index = torch.from_numpy(rows).to(context.latents.device)
        goal = None if self._goal is None else self._goal[index]
        return self.planner.plan(
            replace(context, goal=goal),
            self._objective_of(goal, index),
            warm_start,
            self.budget,
            horizon=horizon,
            generator=self.generator,
        )

    def horizon_for(self, steps: np.ndarray) -> np.ndarray:
        """Return the horizons in model steps that end `steps` environment steps (R,) from now; -1 stands for none.

        They lie between `min_horizon` and the planner's horizon.
        """
        left = -(-steps // self.model.spec.action_repeat)
        return np.where(steps < 0, self.planner.horizon, left.clip(self.min_horizon, self.planner.horizon))

    def steps_left(self, steps: np.ndarray, elapsed: int | np.ndarray) -> np.ndarray:
        """Return how many of the environment steps (R,) that goals were given are left, -1 standing for no such limit.

        Args:
            steps: (R,), as given to `set_goal`, -1 for none.
            elapsed: environment steps since then, one number or (R,).
        """
        left = np.where(steps < 0, self._renewed, steps) - elapsed
        if self._renewed > 0:
            return np.where(left > 0, left, self._renewed - (-left) % self._renewed)
        return np.where(steps < 0, -1, left.clip(min=0))

    def latency(self, quantile: float, warm_up: int = 1) -> float:
        """Return a quantile of the decision times in seconds, e.g. 0.99; the first `warm_up` decisions are left out.

        Raises:
            ValueError: there are no more decisions than those left out.
        """
        if len(self.decisions) <= warm_up:
            raise ValueError(f"{len(self.decisions)} decisions with {warm_up} left out; act first, or lower warm_up")
        return float(np.quantile(self.decisions[warm_up:], quantile))

    def _full(self, mask: np.ndarray, batch: int) -> np.ndarray:
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (batch,):
            raise ValueError(f"mask has dtype {mask.dtype} and shape {mask.shape}; expected bool ({batch},)")
        return mask

    def _prepare(self, batch: int) -> Rows:
        """Return the rows' state, made on the first call."""
        if self._goal is not None and self._goal.shape[0] != batch:
            raise ValueError(f"the observation has {batch} rows and the goals {self._goal.shape[0]}; set_goal for all")
        self._check_goal(batch)
        if self._rows is None:
            self._rows = Rows.empty(batch, self.planner)
        if self._rows.batch != batch:
            raise ValueError(f"the observation has {batch} rows, the ones before had {self._rows.batch}; reset() first")
        return self._rows

    def _check_goal(self, batch: int) -> None:
        if self._takes_goal and self._goal is None:
            raise ValueError("no goal is set; call set_goal(observation) first")
        if self._goal is not None and self._goal.shape[0] < batch:
            raise ValueError(f"{batch} rows of goals are needed and {self._goal.shape[0]} are set; set_goal for all")

    def _encode(self, arrays: Mapping[str, np.ndarray | Tensor], rows: np.ndarray) -> Tensor:
        """Return the latents (R, D) of some rows of one instant."""
        with torch.no_grad():
            return self.model.encode(selected(arrays, rows))[:, -1].detach()

    def _start_blocks(self, rows: Rows, arrays: Mapping[str, np.ndarray | Tensor], starting: np.ndarray) -> None:
        """Begin a model step for some rows: remember what is seen, plan where that is due, load the actions."""
        began = time.perf_counter()
        latents = self._encode(arrays, starting)
        rows.remember(starting, latents)
        self._surprised(rows, arrays, starting, latents)
        idle = self.watch.idle(starting)
        rows.rest(starting[idle], self.watch.rest)
        starting = starting[~idle]
        due = starting[
            ~rows.has_plan[starting] | (rows.cursor[starting] >= np.minimum(self.execute, rows.length[starting]))
        ]
        for group in self._alike(rows, due):
            self._decide(rows, group)
        if starting.size:
            rows.load(starting, self.model.spec.action_repeat)
        if due.size:
            self.decisions.append(time.perf_counter() - began)

    def _surprised(
        self, rows: Rows, arrays: Mapping[str, np.ndarray | Tensor], starting: np.ndarray, latents: Tensor
    ) -> None:
        """Ask the monitor, and drop the plans of rows that it says are to be planned anew."""
        if self.watch.monitor is None:
            return
        blocks = torch.from_numpy(rows.block[starting].reshape(len(starting), -1)).to(latents)
        seen = {key: value[starting] for key, value in arrays.items()}
        for row in self.watch.begin(latents, blocks, seen, starting, rows.batch):
            rows.has_plan[row] = False
            if self._steps is not None and self._steps[row] >= 0:
                whole = self.planner.horizon * self.model.spec.action_repeat
                self._steps[row] = self._renewed if self._renewed > 0 else whole

    def _alike(self, rows: Rows, due: np.ndarray) -> list[np.ndarray]:
        """Group rows alike in history length, horizon, need of a warm start, and whether there is a last action."""
        if due.size == 1:
            return [due]
        keys = np.stack([rows.count[due], self._horizons(due), rows.has_plan[due], rows.has_acted[due]], axis=1)
        kinds, kind = np.unique(keys, axis=0, return_inverse=True)
        return [due[kind.reshape(-1) == k] for k in range(len(kinds))]

    def _horizons(self, rows: np.ndarray) -> np.ndarray:
        """Return the horizon (R,) that ends where the steps left to the goal end."""
        if self._steps is None:
            return np.full(rows.shape, self.planner.horizon)
        return self.horizon_for(self._steps[rows])

    def _decide(self, rows: Rows, group: np.ndarray) -> None:
        """Plan for rows that are alike."""
        warm = rows.remaining(group) if self.warm_start and rows.has_plan[group[0]] else None
        horizon = int(self._horizons(group[:1])[0])
        plan = self.plan_from(rows.context(group), warm_start=warm, horizon=horizon, rows=group)
        rows.keep(group, plan.actions)
        self.plan, self.planned_rows = plan, group

    def _objective_of(self, goal: Tensor | None, index: Tensor) -> Objective:
        if self._takes_goal:
            return cast(Callable[[Tensor | None], Objective], self._objective)(goal)
        return cast(Objective, self._objective).select(index)
