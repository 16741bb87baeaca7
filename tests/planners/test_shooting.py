"""Random shooting and predictive sampling: what they draw, and what they go on with."""

from dataclasses import replace

import pytest
import torch
from integrators import context_of, double_integrators
from registered import Walk, at, fresh, problem_of

from wmkit.planners import GoalObjective, PredictiveSampling, RandomShooting, Scored
from wmkit.planners.predictive_sampling import PredictiveSamplingState

INF = float("inf")
SIX = {"knots": 6, "initial": 0.5, "low": -1.0, "high": 3.0}


@pytest.mark.parametrize("exponent", [0.0, 2.0])
def test_shooting_is_uniform_at_every_knot_of_any_colour(exponent):
    drawn = RandomShooting(double_integrators()).sample(None, problem_of(20001, exponent=exponent, **SIX))[0, 1:, :, 0]
    levels = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    reached = torch.quantile(drawn, levels, dim=0)
    torch.testing.assert_close(reached, (-1 + 4 * levels)[:, None].expand(-1, 6), rtol=0, atol=0.08)
    assert drawn.min() >= -1
    assert drawn.max() <= 3


def test_shooting_of_red_noise_has_alike_neighbours():
    planner = RandomShooting(double_integrators())
    white, red = (planner.sample(None, problem_of(2001, exponent=e, **SIX))[0, 1:, :, 0] for e in (0.0, 2.0))
    assert red.diff(dim=1).square().mean() < 0.4 * white.diff(dim=1).square().mean()


def test_shooting_takes_the_cheapest_of_all_iterations():
    """With every iteration the best of N uniform numbers gets nearer to 0.8, as their number grows."""
    model = Walk()
    plans = [
        RandomShooting(model, horizon=1, samples=20, iterations=iterations).plan(
            at(0.0), GoalObjective(torch.full((1, 1), 0.8)), generator=fresh()
        )
        for iterations in (1, 2, 50)
    ]
    assert plans[0].cost >= plans[1].cost > plans[2].cost
    assert plans[2].cost < 1e-5
    assert RandomShooting(model).iterations == 1


def test_one_scale_scatters_by_it_and_the_nominal_comes_first():
    planner = PredictiveSampling(double_integrators(), std=0.25)
    nominal = torch.full((2, 6, 1), 0.5)
    drawn = planner.sample(PredictiveSamplingState(nominal), problem_of(5001, **SIX))
    assert drawn.shape == (2, 5001, 6, 1)
    assert torch.equal(drawn[:, 0], nominal)
    assert drawn[:, 1:].mean().item() == pytest.approx(0.5, abs=0.02)
    assert drawn[:, 1:].std().item() == pytest.approx(0.25 * 2.0, abs=0.02), "a fraction of half the range, which is 2"


def test_a_pair_of_scales_spreads_the_candidates_geometrically():
    planner = PredictiveSampling(double_integrators(), std=(0.01, 1.0))
    drawn = planner.sample(PredictiveSamplingState(torch.zeros(1, 400, 1)), problem_of(102, knots=400))
    spread = drawn[0, 1:, :, 0].std(dim=1)
    expected = 2.0 * 0.01 * 100 ** torch.linspace(0, 1, 101)
    torch.testing.assert_close(spread, expected, rtol=0.2, atol=0)


def test_the_cheapest_becomes_the_nominal_of_its_row():
    planner, state = PredictiveSampling(double_integrators()), PredictiveSamplingState(torch.full((3, 1, 1), 9.0))
    knots = torch.arange(9.0).view(3, 3, 1, 1)
    costs = torch.tensor([[3.0, 1.0, 2.0], [INF, INF, 5.0], [INF, INF, INF]])
    after = planner.update(state, Scored(knots, costs), problem_of(3))
    assert after.nominal.flatten().tolist() == [1.0, 5.0, 9.0]
    assert torch.equal(planner.centre(after), after.nominal)


def test_warm_starts_improve_from_decision_to_decision():
    model, objective = double_integrators(), GoalObjective(torch.zeros(1, 4), "mean")
    planner, context = PredictiveSampling(model, samples=30), context_of(torch.tensor([[1.0, -0.5, 0.2, 0.1]]))
    plan = planner.plan(context, objective)
    costs = [plan.cost.item()]
    for _ in range(15):
        plan = planner.plan(context, objective, plan.actions)
        costs.append(plan.cost.item())
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.8 * costs[0]


@pytest.mark.parametrize("std", [0.0, -1.0, (0.5, 0.1), (0.0, 0.5), (0.1, 0.2, 0.3)])
def test_scales_out_of_range_are_refused(std):
    with pytest.raises(ValueError, match="std is"):
        PredictiveSampling(double_integrators(), std=std)


def test_rows_share_the_draw_but_not_the_guess():
    problem = problem_of(5, **SIX)
    two = replace(problem, initial=torch.tensor([0.0, 1.0]).view(2, 1, 1).expand(2, 6, 1))
    drawn = RandomShooting(double_integrators()).sample(None, two)
    assert torch.equal(drawn[0, 1:], drawn[1, 1:])
    assert drawn[:, 0, 0, 0].tolist() == [0.0, 1.0]
