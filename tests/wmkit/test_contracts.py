"""The payloads' own arithmetic."""

import pytest
import torch

from wmkit.contracts import (
    Context,
    ModelSpec,
    Objective,
    ObservationSpec,
    Plan,
    Planner,
    PlanningBudget,
    Proposal,
    SupportsDecode,
    SupportsInverse,
    WorldModel,
)
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, GaussianProposal, GoalObjective

SPEC = ModelSpec({"state": ObservationSpec((2,), "float32", -1, 1)}, (-1.0, -2.0), (1.0, 3.0), 2, 1, 2, 0.1)


def test_bounds_repeat_the_environment_actions_in_time_order():
    low, high = SPEC.bounds(dtype=torch.float64)
    assert low.tolist() == [-1, -2, -1, -2]
    assert high.tolist() == [1, 3, 1, 3]
    assert low.dtype == torch.float64
    assert (SPEC.action_size, SPEC.block_size) == (2, 4)


@pytest.mark.parametrize("rows", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_select_takes_the_rows_of_every_tensor(rows):
    parts = [torch.arange(3.0).view(3, 1, 1).expand(3, n, 1) for n in (2, 1, 4)]
    chosen = Context(*parts, goal=torch.arange(3.0).view(3, 1)).select(rows)
    expected = [2.0, 0.0] if rows.dtype == torch.long else [0.0, 2.0]
    assert chosen.batch == 2
    for tensor in (chosen.latents, chosen.actions, chosen.pending):
        assert tensor[:, 0, 0].tolist() == expected
    assert chosen.goal[:, 0].tolist() == expected
    assert Context(parts[0], parts[1]).select(rows).pending is None


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, [1, 2, 3]), (1, [2, 3, 3]), (2, [3, 3, 3]), (3, [3, 3, 3]), (9, [3, 3, 3])]
)
def test_shifted_repeats_the_last_step(steps, expected):
    plan = Plan(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.zeros(1), torch.zeros(1, 3, 1), 1, 0.1, "iterations")
    assert plan.shifted(steps).flatten().tolist() == expected


@pytest.mark.parametrize("name", ["seconds", "iterations", "rollouts", "bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_budgets_are_above_zero(name, value):
    with pytest.raises(ValueError, match=f"PlanningBudget.{name} is"):
        PlanningBudget(**{name: value})


def test_the_parts_are_what_the_protocols_ask_for():
    model = LinearModel(torch.eye(1), torch.eye(1))
    for part, protocol in (
        (model, WorldModel),
        (model, SupportsDecode),
        (model, SupportsInverse),
        (CEM(model), Planner),
        (GaussianProposal(model), Proposal),
        (GoalObjective(torch.zeros(1, 1)), Objective),
    ):
        assert isinstance(part, protocol)
    assert not isinstance(model, Planner)
