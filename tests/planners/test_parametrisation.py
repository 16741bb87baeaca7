"""Knots to actions and back."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integrators import context_of, double_integrators

from wmkit.planners import Hold

sizes = st.integers(1, 5)


@settings(deadline=None)
@given(steps=sizes, repeat=sizes, horizon=sizes)
def test_knots_survive_the_way_to_actions_and_back(steps, repeat, horizon):
    spec, hold = double_integrators(repeat=repeat).spec, Hold(steps)
    knots = torch.randn(2, 3, hold.knots(spec, horizon), 2)
    actions = hold.actions(knots, context_of(torch.zeros(2, 4)), spec, horizon)
    assert actions.shape == (2, 3, horizon, 2 * repeat)
    torch.testing.assert_close(hold.parameters(actions, spec), knots)


@settings(deadline=None)
@given(steps=sizes, repeat=sizes, horizon=sizes)
def test_each_knot_is_held_in_time_order(steps, repeat, horizon):
    spec, hold = double_integrators(repeat=repeat).spec, Hold(steps)
    knots = torch.randn(1, 1, hold.knots(spec, horizon), 2)
    single = hold.actions(knots, context_of(torch.zeros(1, 4)), spec, horizon).view(-1, 2)
    for time, action in enumerate(single):
        assert torch.equal(action, knots[0, 0, time // steps])


def test_the_nearest_knot_is_the_mean():
    spec = double_integrators(repeat=2).spec
    actions = torch.tensor([[[[1.0, 0.0, 3.0, 4.0]]]])
    assert Hold(2).parameters(actions, spec).tolist() == [[[[2.0, 2.0]]]]
