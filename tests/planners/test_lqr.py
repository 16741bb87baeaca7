"""Every registered planner against the known optimum of a linear-quadratic problem."""

import numpy as np
import pytest
import torch
from integrators import context_of, double_integrators
from registered import NAMES, make, settings_of
from scipy.linalg import solve_discrete_are

from wmkit.planners import DecodedObjective, Hold, Spline

STATE_COST, ACTION_COST = 1.0, 0.1
STATES = torch.tensor([[0.7, -0.4, 0.1, 0.1], [0.2, 0.6, -0.3, 0.0], [-0.4, -0.1, 0.0, 0.4]])
TOLERANCE = 1.05


def quadratic(values, actions):
    return STATE_COST * values.square().sum(-1) + ACTION_COST * actions.square().sum(-1)


def riccati_value(model, horizon):
    """Return the matrix P of the optimal cost z' P z of `quadratic` and of the first state, over `horizon` steps."""
    a, b = model._transition.T.double(), model._control.T.double()
    q, r = STATE_COST * torch.eye(4).double(), ACTION_COST * torch.eye(2).double()
    value = q
    for _ in range(horizon):
        gain = torch.linalg.solve(r + b.T @ value @ b, b.T @ value @ a)
        value = q + a.T @ value @ (a - b @ gain)
    return value


def riccati_costs(model, horizon):
    value = riccati_value(model, horizon) - STATE_COST * torch.eye(4).double()
    return torch.einsum("bi,ij,bj->b", STATES.double(), value, STATES.double())


def restricted_optimum(model, parametrisation, horizon):
    """Return the least cost (B,) over a parametrisation's knots, by one Newton step, which is exact here."""
    spec = model.spec
    context = context_of(STATES.double(), spec.block_size)
    shape = (3, 1, parametrisation.knots(spec, horizon), 2)

    def actions(flat):
        return parametrisation.actions(flat.view(shape), context, spec, horizon)

    def cost(flat):
        plan = actions(flat)
        return DecodedObjective(quadratic, "state", model).cost(model.rollout(context, plan), plan).flatten()

    start = torch.zeros(shape, dtype=torch.float64).flatten().requires_grad_()
    gradient = torch.autograd.grad(cost(start).sum(), start)[0]
    hessian = torch.autograd.functional.hessian(lambda flat: cost(flat).sum(), start.detach())
    best = -torch.linalg.solve(hessian, gradient)
    assert actions(best).abs().max() < 2.0, "a bound binds: choose states nearer to the origin"
    return cost(best)


def plan_cost(name, model, **options):
    planner = make(name, model, **(settings_of(name) | options))
    return planner.plan(
        context_of(STATES, model.spec.block_size), DecodedObjective(quadratic, "state", model)
    ).cost.double()


def test_the_recursion_agrees_with_scipy_over_a_long_horizon(model):
    a, b = model._transition.T.numpy(), model._control.T.numpy()
    expected = solve_discrete_are(a, b, STATE_COST * np.eye(4), ACTION_COST * np.eye(2))
    np.testing.assert_allclose(riccati_value(model, 200).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_reaches_the_riccati_optimum(name, model):
    cost, optimum = plan_cost(name, model), riccati_costs(model, settings_of(name)["horizon"])
    assert (cost >= optimum * (1 - 1e-4)).all(), "below the optimum: the cost is computed wrongly"
    assert (cost <= optimum * TOLERANCE).all()


@pytest.mark.parametrize(
    ("parametrisation", "repeat"),
    [
        (Hold(2), 1),
        (Hold(3), 2),
        (Spline(3, "zero"), 1),
        (Spline(3, "linear"), 2),
        (Spline(4, "cubic"), 1),
        (Spline(99, "cubic"), 1),
    ],
    ids=["hold 2", "hold 3", "zero 3", "linear 3", "cubic 4", "cubic 99"],
)
@pytest.mark.parametrize("name", NAMES)
def test_reaches_the_optimum_of_each_parametrisation(name, parametrisation, repeat):
    model, horizon = double_integrators(repeat=repeat), settings_of(name)["horizon"] // repeat
    optimum = restricted_optimum(model, parametrisation, horizon)
    cost = plan_cost(name, model, horizon=horizon, parametrisation=parametrisation)
    assert (cost >= optimum * (1 - 1e-4)).all()
    assert (cost <= optimum * TOLERANCE).all()


@pytest.mark.parametrize("parametrisation", [Hold(1), Spline(8, "zero"), Spline(99, "linear"), Spline(8, "cubic")])
def test_a_knot_for_every_action_can_represent_the_riccati_plan(parametrisation, model):
    torch.testing.assert_close(
        restricted_optimum(model, parametrisation, 8), riccati_costs(model, 8), rtol=1e-6, atol=0
    )
