"""The cross-entropy method's own arithmetic and options."""

import pytest
import torch
from integrators import context_of, double_integrators

from wmkit.planners import CEM, DecodedObjective, GaussianProposal, GoalObjective, Hold, Problem, Scored
from wmkit.planners.cem import CEMState


def problem_of(samples=4):
    low, high, rest = torch.tensor([-2.0]), torch.tensor([2.0]), torch.zeros(1, 1, 1)
    spec = double_integrators().spec
    return Problem(
        context=context_of(torch.zeros(1, 4)),
        spec=spec,
        horizon=1,
        samples=samples,
        iterations=30,
        progress=0.0,
        low=low,
        high=high,
        initial=rest,
        extra=rest[:, None],
        noise_knots=None,
        noise_exponent=0.0,
        generator=torch.Generator(),
    )


def scored_of(*pairs):
    knots, costs = torch.tensor(pairs).T
    return Scored(knots.view(1, -1, 1, 1), costs.view(1, -1))


def refitted(pairs, **options):
    planner = CEM(double_integrators(), samples=4, elites=2, min_std=0.0, **options)
    state = CEMState(torch.full((1, 1, 1), 10.0), torch.full((1, 1, 1), 4.0))
    after = planner.update(state, scored_of(*pairs), problem_of())
    return after.mean.item(), after.std.item()


def test_refits_to_the_cheapest():
    assert refitted([(1.0, 0.1), (3.0, 0.2), (90.0, 7.0), (80.0, 8.0)]) == pytest.approx((2.0, 1.0))


def test_momentum_mixes_with_the_old():
    pairs = [(1.0, 0.1), (3.0, 0.2), (90.0, 7.0), (80.0, 8.0)]
    assert refitted(pairs, momentum=0.25) == pytest.approx((0.75 * 2 + 0.25 * 10, 0.75 * 1 + 0.25 * 4))


def test_infinite_costs_are_no_elites():
    inf = float("inf")
    assert refitted([(1.0, 0.1), (50.0, inf), (60.0, inf), (70.0, inf)]) == pytest.approx((1.0, 0.0))
    assert refitted([(1.0, inf), (50.0, inf), (60.0, inf), (70.0, inf)]) == pytest.approx((10.0, 4.0))


def test_std_is_a_fraction_of_half_the_range_and_never_below_its_minimum():
    planner = CEM(double_integrators(), samples=4, elites=1, std=0.5, min_std=0.1)
    start = planner.start(problem_of())
    assert start.std.item() == pytest.approx(0.5 * 2.0)
    after = planner.update(start, scored_of((1.0, 0.1), (2.0, 1.0), (2.0, 1.0), (2.0, 1.0)), problem_of())
    assert after.std.item() == pytest.approx(0.1 * 2.0)


def test_candidates_follow_the_distribution_and_hold_its_mean():
    planner = CEM(double_integrators(), samples=20000)
    state = CEMState(torch.full((2, 1, 1), 3.0), torch.full((2, 1, 1), 0.5))
    drawn = planner.sample(state, problem_of(20000))
    assert drawn.shape == (2, 20000, 1, 1)
    assert (drawn[:, 0] == 3.0).all()
    assert drawn.mean().item() == pytest.approx(3.0, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.02)


def test_block_hold_plans_one_action_for_each_model_step():
    model = double_integrators(repeat=3)
    plan = CEM(model, horizon=2, parametrisation=Hold(model.spec.action_repeat)).plan(
        context_of(torch.ones(1, 4), size=6), GoalObjective(torch.zeros(1, 4))
    )
    blocks = plan.actions.view(2, 3, 2)
    assert (blocks == blocks[:, :1]).all()
    assert (blocks[0] != blocks[1]).any()


@pytest.mark.parametrize("result", ["best", "mean"])
def test_both_results_are_what_they_say(result):
    """The cost prefers a rare value, 1.5, by little: the mean of the elites is not the best candidate."""

    def cost(values, actions):
        near = (actions[..., 0] - 1.5).abs() < 0.02
        return actions.square().sum(-1) - 10.0 * near

    planner = CEM(double_integrators(), horizon=1, samples=500, iterations=1, elites=100, result=result)
    plan = planner.plan(context_of(torch.zeros(1, 4)), DecodedObjective(cost, "state", planner.model))
    assert (plan.cost.item() < -5) == (result == "best")


def test_starts_from_the_proposal_and_still_tries_the_warm_start():
    model, context = double_integrators(), context_of(torch.zeros(1, 4))
    seen = []

    def cost(values, actions):
        seen.append(actions)
        return actions[..., 0]

    proposal = GaussianProposal(model, std=0.01, mean=torch.tensor([1.0, 1.0]))
    planner = CEM(model, horizon=2, samples=10, iterations=1, elites=2, std=1.0, proposal=proposal, proposal_share=0.5)
    planner.plan(context, DecodedObjective(cost, "state", model), torch.full((1, 2, 2), -1.25))
    candidates = seen[0][0]
    assert (candidates[0] == 1.0).all()
    assert (candidates[-6] == -1.25).all()
    assert ((candidates[-5:] - 1.0).abs() < 0.1).all()
    assert len(candidates) == 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"elites": 0}, "elites"),
        ({"elites": 301}, "elites"),
        ({"std": 0.01}, "min_std"),
        ({"momentum": 1.0}, "momentum"),
        ({"horizon": 0}, "horizon"),
        ({"proposal_share": 1.0}, "proposal_share"),
        ({"result": "worst"}, "result"),
        ({"decay": 0.5}, "decay"),
        ({"max_rate": [1.0]}, "max_rate"),
        ({"noise_exponent": -1.0}, "noise_exponent"),
        ({"schedule": "cut"}, "schedule"),
    ],
)
def test_numbers_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        CEM(double_integrators(), **options)
