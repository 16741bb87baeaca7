"""The limit on how fast actions may change."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integrators import double_integrators
from registered import Walk, at, fresh, make

from wmkit.contracts import Context
from wmkit.planners import GoalObjective
from wmkit.planners.limits import block_bounds, limit_rate

WALK = Walk().spec


def limited(actions, last, step):
    last = None if last is None else torch.tensor([[last]])
    return limit_rate(torch.tensor(actions).view(1, 1, -1, 1), last, torch.tensor([step]), WALK).flatten().tolist()


def test_by_hand():
    assert limited([1.0, 1.0, -1.0], 0.0, 0.5) == [0.5, 1.0, 0.5]
    assert limited([1.0, 1.0, -1.0], None, 0.5) == [1.0, 1.0, 0.5]
    assert limited([0.25, 0.5, 0.25], 0.0, 0.5) == [0.25, 0.5, 0.25]


def test_the_order_within_a_model_step_is_the_order_in_time():
    spec = double_integrators(repeat=2).spec
    actions = torch.tensor([2.0, 2.0, 2.0, 2.0]).view(1, 1, 1, 4)
    found = limit_rate(actions, torch.zeros(1, 2), torch.tensor([1.0, 0.25]), spec)
    assert found.flatten().tolist() == [1.0, 0.25, 2.0, 0.5]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), step=st.floats(0.01, 3.0), repeat=st.integers(1, 3), horizon=st.integers(1, 4))
def test_keeps_the_limit_and_the_bounds_and_changes_nothing_twice(seed, step, repeat, horizon):
    spec = double_integrators(repeat=repeat).spec
    actions = (4 * torch.rand(2, 3, horizon, 2 * repeat, generator=fresh(seed)) - 2).double()
    last = (4 * torch.rand(2, 2, generator=fresh(seed + 1)) - 2).double()
    steps = torch.tensor([step, 2 * step], dtype=torch.float64)
    once = limit_rate(actions, last, steps, spec)
    single = torch.cat([last[:, None, None].expand(2, 3, 1, 2), once.view(2, 3, -1, 2)], dim=2)
    assert (single.diff(dim=2).abs() <= steps + 1e-12).all()
    assert once.abs().max() <= 2.0
    torch.testing.assert_close(limit_rate(once, last, steps, spec), once)


def test_gradients_pass_where_the_limit_does_not_bind():
    actions = torch.tensor([0.25, 1.0, 1.1]).view(1, 1, 3, 1).requires_grad_()
    limit_rate(actions, torch.zeros(1, 1), torch.tensor([0.5]), WALK).flatten()[[0, 2]].sum().backward()
    assert actions.grad.flatten().tolist() == [1.0, 0.0, 1.0]


def test_the_rate_is_per_second():
    """A walk's model step takes 0.1 seconds: at 2 a second an action changes by 0.2."""
    planner = make("cem", Walk(), horizon=3, samples=200, max_rate=2.0)
    context = Context(at(0.0).latents, at(0.0).actions, last_action=torch.full((1, 1), -0.1))
    plan = planner.plan(context, GoalObjective(torch.full((1, 1), 9.0)), generator=fresh())
    torch.testing.assert_close(plan.actions.flatten(), torch.tensor([0.1, 0.3, 0.5]))


def test_bounds_are_those_of_the_spec_and_made_once():
    spec = double_integrators(repeat=2).spec
    device = torch.device("cpu")
    found = block_bounds(spec, device, torch.float64)
    for mine, theirs in zip(found, spec.bounds(device, torch.float64), strict=True):
        assert torch.equal(mine, theirs)
    with torch.inference_mode():
        again = block_bounds(spec, device, torch.float64)
        other = block_bounds(spec, device, torch.float16)
    assert again[0] is found[0]
    assert not other[0].is_inference(), "what is made in inference mode must serve outside too"
