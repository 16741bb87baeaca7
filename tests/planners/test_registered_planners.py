"""What every registered planner must do."""

import pytest
import torch

from wmkit.conformance import check_planner
from wmkit.planners import DecodedObjective, GoalObjective

HORIZON = 8
STATE_COST, ACTION_COST = 1.0, 0.1


def quadratic(values, actions):
    return STATE_COST * values.square().sum(-1) + ACTION_COST * actions.square().sum(-1)


def riccati_costs(model, states):
    """Return the optimal cost (B,) of `quadratic` over HORIZON steps by the finite-horizon Riccati recursion."""
    a, b = model._transition.T.double(), model._control.T.double()
    q, r = STATE_COST * torch.eye(4).double(), ACTION_COST * torch.eye(2).double()
    value = q
    for _ in range(HORIZON):
        gain = torch.linalg.solve(r + b.T @ value @ b, b.T @ value @ a)
        value = q + a.T @ value @ (a - b @ gain)
    return torch.einsum("bi,ij,bj->b", states.double(), value - q, states.double())


def test_reaches_the_riccati_optimum(planner_class, model, context):
    plan = planner_class(model, horizon=HORIZON).plan(context, DecodedObjective(quadratic, "state", model))
    optimum = riccati_costs(model, context.latents[:, 0])
    assert (plan.cost.double() >= optimum * (1 - 1e-4)).all(), "below the optimum: the cost is computed wrongly"
    assert (plan.cost.double() <= optimum * 1.02).all()


def test_bounds_hold_where_they_bind(planner_class, model, context):
    plan = planner_class(model, horizon=3).plan(context, GoalObjective(torch.full((3, 4), 50.0)))
    assert plan.actions.abs().max() <= 2.0
    assert plan.actions[:, 0].min() > 1.9, "pushing at full strength is best here"


def test_batched_equals_looped(planner_class, model, context):
    objective, planner = GoalObjective(torch.zeros(3, 4), "mean"), planner_class(model)
    batched = planner.plan(context, objective, generator=torch.Generator().manual_seed(4))
    for row in range(3):
        index = torch.tensor([row])
        alone = planner.plan(context.select(index), objective.select(index), generator=torch.Generator().manual_seed(4))
        torch.testing.assert_close(batched.actions[row], alone.actions[0], rtol=1e-4, atol=1e-4)


def test_keeps_the_contract(planner_class, model):
    check_planner(planner_class(model, horizon=3))


def test_creates_nothing_on_the_default_device(planner_class, model, context):
    planner, objective = planner_class(model), GoalObjective(torch.zeros(3, 4))
    generator = torch.Generator().manual_seed(0)
    warm = torch.zeros(3, 5, 2)
    expected = planner.plan(context, objective, warm, generator=torch.Generator().manual_seed(0))
    with torch.device("meta"):
        plan = planner.plan(context, objective, warm, generator=generator)
    assert plan.actions.device.type == "cpu"
    assert torch.equal(plan.actions, expected.actions)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_runs_on_the_gpu(planner_class, model, context):
    from wmkit.contracts import Context

    on_gpu = Context(context.latents.cuda(), context.actions.cuda(), None, None)
    plan = planner_class(model).plan(on_gpu, GoalObjective(torch.zeros(3, 4, device="cuda")))
    assert plan.actions.is_cuda
