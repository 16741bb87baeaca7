"""Knots to actions and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integrators import context_of, double_integrators
from registered import Walk, at, fresh, make

from wmkit.planners import GoalObjective, Hold, Spline

sizes = st.integers(1, 5)
orders = st.sampled_from(["zero", "linear", "cubic"])


def actions_of(parametrisation, knots, spec, horizon):
    return parametrisation.actions(knots, context_of(torch.zeros(knots.shape[0], 4)), spec, horizon)


def curve(knots, steps, order):
    """Return the actions (steps,) of a spline through knots of one number."""
    spline = Spline(len(knots), order)
    parameters = torch.tensor(knots, dtype=torch.float64).view(1, 1, -1, 1)
    return actions_of(spline, parameters, Walk().spec, steps).flatten().tolist()


@settings(deadline=None, max_examples=40)
@given(steps=sizes, repeat=sizes, horizon=sizes)
def test_held_knots_survive_the_way_to_actions_and_back(steps, repeat, horizon):
    spec, hold = double_integrators(repeat=repeat).spec, Hold(steps)
    knots = torch.randn(2, 3, hold.knots(spec, horizon), 2)
    actions = actions_of(hold, knots, spec, horizon)
    assert actions.shape == (2, 3, horizon, 2 * repeat)
    torch.testing.assert_close(hold.parameters(actions, spec), knots)


@settings(deadline=None, max_examples=40)
@given(steps=sizes, repeat=sizes, horizon=sizes)
def test_each_knot_is_held_in_time_order(steps, repeat, horizon):
    spec, hold = double_integrators(repeat=repeat).spec, Hold(steps)
    knots = torch.randn(1, 1, hold.knots(spec, horizon), 2)
    single = actions_of(hold, knots, spec, horizon).view(-1, 2)
    for time, action in enumerate(single):
        assert torch.equal(action, knots[0, 0, time // steps])


def test_the_nearest_held_knot_is_the_mean():
    spec = double_integrators(repeat=2).spec
    actions = torch.tensor([[[[1.0, 0.0, 3.0, 4.0]]]])
    assert Hold(2).parameters(actions, spec).tolist() == [[[[2.0, 2.0]]]]


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 9), order=orders, repeat=sizes, horizon=sizes)
def test_spline_knots_survive_the_way_to_actions_and_back(count, order, repeat, horizon):
    spec, spline = double_integrators(repeat=repeat).spec, Spline(count, order)
    knots = torch.randn(2, 3, spline.knots(spec, horizon), 2, dtype=torch.float64)
    actions = actions_of(spline, knots, spec, horizon)
    assert knots.shape[2] == min(count, horizon * repeat)
    assert actions.shape == (2, 3, horizon, 2 * repeat)
    torch.testing.assert_close(spline.parameters(actions, spec), knots, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", ["linear", "cubic"])
@pytest.mark.parametrize(("count", "between"), [(2, 1), (3, 4), (5, 2)])
def test_splines_pass_through_their_knots(count, between, order):
    knots = torch.randn(count, dtype=torch.float64, generator=fresh()).tolist()
    found = curve(knots, (count - 1) * between + 1, order)
    assert found[::between] == pytest.approx(knots)


def test_values_by_hand():
    assert curve([1.0, 2.0, 4.0], 6, "zero") == [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    assert curve([1.0, 2.0], 5, "zero") == [1.0, 1.0, 1.0, 2.0, 2.0]
    assert curve([0.0, 4.0, 0.0], 9, "linear") == pytest.approx([0, 1, 2, 3, 4, 3, 2, 1, 0])
    assert curve([0.0, 1.0], 4, "linear") == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for order in ("zero", "linear", "cubic"):
        assert curve([0.7], 3, order) == [0.7] * 3


def test_the_cubic_is_catmull_roms():
    """Halfway between inner knots it is (-a + 9 b + 9 c - d) / 16; at the ends the slope is that of the last line."""
    found = curve([1.0, 5.0, -2.0, 3.0], 7, "cubic")
    assert found[3] == pytest.approx((-1.0 + 9 * 5.0 + 9 * -2.0 - 3.0) / 16)
    slopes = (4.0, -1.5)
    assert found[1] == pytest.approx((1.0 + 5.0) / 2 + (slopes[0] - slopes[1]) / 8)


@pytest.mark.parametrize("order", ["linear", "cubic"])
def test_a_straight_line_stays_one(order):
    assert curve([0.0, 1.0, 2.0, 3.0], 13, order) == pytest.approx([i / 4 for i in range(13)])


def test_the_fit_is_the_least_squares_one():
    spec, spline = Walk().spec, Spline(3, "cubic")
    actions = torch.randn(1, 1, 9, 1, dtype=torch.float64, generator=fresh())
    best = spline.parameters(actions, spec)

    def error(knots):
        return (actions_of(spline, knots, spec, 9) - actions).square().sum().item()

    for direction in torch.eye(3, dtype=torch.float64).view(3, 1, 1, 3, 1):
        assert error(best) < min(error(best + 1e-3 * direction), error(best - 1e-3 * direction))


@pytest.mark.parametrize("parametrisation", [Hold(3), Spline(3, "zero"), Spline(3, "linear"), Spline(3, "cubic")])
def test_gradients_reach_every_knot(parametrisation):
    spec = double_integrators(repeat=2).spec
    knots = torch.zeros(1, 1, parametrisation.knots(spec, 4), 2, requires_grad=True)
    actions_of(parametrisation, knots, spec, 4).square().sum().backward()
    actions_of(parametrisation, knots, spec, 4).sum().backward()
    assert (knots.grad != 0).all()


def test_a_plan_between_the_knots_stays_within_the_bounds():
    """Knots at 1, 1, -1, -1 overshoot in between; the planner clips."""
    assert max(curve([-1.0, 1.0, 1.0, -1.0], 31, "cubic")) > 1.05
    planner = make("cem", Walk(), horizon=31, samples=32, iterations=2, parametrisation=Spline(4))
    plan = planner.plan(at(0.0), GoalObjective(torch.full((1, 1), 99.0)), generator=fresh())
    assert plan.actions.abs().max() <= 1.0


@pytest.mark.parametrize("device", ["meta"])
@pytest.mark.parametrize("order", ["zero", "linear", "cubic"])
def test_splines_ignore_the_default_device(order, device):
    spec, spline, knots = Walk().spec, Spline(11, order), torch.zeros(1, 1, 11, 1)
    with torch.device(device):
        actions = spline.actions(knots, at(0.0), spec, 37)
        back = spline.parameters(actions, spec)
    assert actions.device.type == back.device.type == "cpu"


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Hold(0), "Hold.steps"),
        (lambda: Spline(0), "Spline.knots"),
        (lambda: Spline(3, "fifth"), "Spline.order"),
    ],
)
def test_mistakes_are_named(build, text):
    with pytest.raises(ValueError, match=text):
        build()
