"""A planner that remembers, for the benchmarks that ask what its plans took."""

from dataclasses import dataclass, field

import torch

from wmkit.contracts import Context, Objective, Plan, Planner, PlanningBudget, WorldModel

__all__ = ["Recorded"]


@dataclass
class Recorded:
    """A planner that keeps the plans it made.

    Attributes:
        planner: makes them.
        plans: in their order.
    """

    planner: Planner
    plans: list[Plan] = field(default_factory=list)

    @property
    def model(self) -> WorldModel:
        """The planner's model."""
        return self.planner.model

    @property
    def horizon(self) -> int:
        """The planner's horizon."""
        return self.planner.horizon

    def plan(
        self,
        context: Context,
        objective: Objective,
        warm_start: torch.Tensor | None = None,
        budget: PlanningBudget | None = None,
        *,
        horizon: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Plan and keep the plan."""
        plan = self.planner.plan(context, objective, warm_start, budget, horizon=horizon, generator=generator)
        self.plans.append(plan)
        return plan
