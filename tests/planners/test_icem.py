"""What ICEM adds to the cross-entropy method."""

from itertools import pairwise

import pytest
import torch
from integrators import context_of, double_integrators
from registered import Walk, at, fresh, problem_of

from wmkit.planners import CEM, ICEM, GoalObjective, Scored
from wmkit.planners.icem import ICEMState

INF = float("inf")


def state_of(kept, mean=0.5):
    return ICEMState(
        torch.full((1, 1, 1), mean),
        torch.full((1, 1, 1), 0.1),
        torch.tensor(kept, dtype=torch.float32).view(1, -1, 1, 1),
    )


def test_kept_elites_are_tried_again_as_they_were():
    drawn = ICEM(double_integrators()).sample(state_of([1.5, -1.5, 1.25]), problem_of(10))
    assert drawn.shape == (1, 10, 1, 1)
    assert drawn[0, -3:, 0, 0].tolist() == [1.5, -1.5, 1.25]
    assert ((drawn[0, :-3] - 0.5).abs() < 0.5).all(), "the others are drawn around the mean"


@pytest.mark.parametrize(("progress", "expected"), [(0.0, True), (0.3, False), (1.0, True)])
def test_the_mean_is_a_candidate_first_and_last_only(progress, expected):
    drawn = ICEM(double_integrators()).sample(state_of([]), problem_of(10, progress=progress))
    assert bool((drawn == 0.5).any()) == expected
    assert drawn.shape[1] == 10


def test_few_candidates_take_the_mean_and_the_best_of_the_kept():
    drawn = ICEM(double_integrators()).sample(state_of([1.5, -1.5, 1.25]), problem_of(3, progress=1.0))
    assert drawn.flatten().tolist() == [0.5, 1.5, -1.5]


@pytest.mark.parametrize(("keep", "expected"), [(0.0, []), (0.5, [1.0, 3.0]), (1.0, [1.0, 3.0, 4.0, 2.0])])
def test_keeps_the_cheapest_of_the_elites(keep, expected):
    planner = ICEM(double_integrators(), samples=6, elites=4, keep=keep)
    knots = torch.tensor([2.0, 3.0, 1.0, 7.0, 8.0, 4.0]).view(1, 6, 1, 1)
    costs = torch.tensor([[0.4, 0.2, 0.1, 9.0, 8.0, 0.3]])
    after = planner.update(state_of([]), Scored(knots, costs), problem_of(6))
    assert after.kept.flatten().tolist() == expected
    assert after.kept.shape == (1, len(expected), 1, 1)


def test_refits_as_the_cross_entropy_method_does():
    model, knots = double_integrators(), torch.randn(1, 12, 1, 1, generator=fresh())
    scored, options = Scored(knots, knots[..., 0, 0].square()), {"samples": 12, "elites": 5, "momentum": 0.2}
    plain, improved = CEM(model, **options, iterations=10), ICEM(model, **options)
    state = state_of([])
    expected, found = (planner.update(state, scored, problem_of(12)) for planner in (plain, improved))
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.std, expected.std)


def test_elites_without_a_finite_cost_are_not_kept():
    planner = ICEM(double_integrators(), samples=4, elites=4, keep=1.0, momentum=0.0)
    knots = torch.tensor([1.0, 1.5, 90.0, 80.0]).view(1, 4, 1, 1)
    after = planner.update(state_of([]), Scored(knots, torch.tensor([[0.2, 0.1, INF, INF]])), problem_of(4))
    assert after.kept.flatten().tolist() == [1.5, 1.0, 1.25, 1.25]
    after = planner.update(state_of([]), Scored(knots, torch.full((1, 4), INF)), problem_of(4))
    assert after.kept.flatten().tolist() == [0.5] * 4


def test_later_iterations_have_fewer_candidates_of_the_same_sum():
    model = Walk()
    ICEM(model, horizon=1, samples=100, elites=10, iterations=5).plan(at(0.0), GoalObjective(torch.ones(1, 1)))
    assert len(model.sizes) == 5
    assert 490 <= sum(model.sizes) <= 500
    for before, after in pairwise(model.sizes):
        assert before / after == pytest.approx(1.25, rel=0.03)


def test_beats_plain_cem_with_few_candidates_of_many_knots():
    """Sixteen candidates, to go far soon in 40 steps of two numbers: what the paper is about. Sums over 10 seeds."""
    model, context = double_integrators(), context_of(torch.zeros(1, 4))
    objective = GoalObjective(torch.tensor([[20.0, -20.0, 0.0, 0.0]]), "mean")
    common = {"horizon": 40, "samples": 16, "elites": 5, "iterations": 10, "std": 0.5}
    costs = [
        sum(planner.plan(context, objective, generator=fresh(seed)).cost.item() for seed in range(10))
        for planner in (CEM(model, **common), ICEM(model, noise_exponent=1.0, **common))
    ]
    assert costs[1] < 0.95 * costs[0]


@pytest.mark.parametrize("keep", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(keep):
    with pytest.raises(ValueError, match="keep is"):
        ICEM(double_integrators(), keep=keep)


def test_defaults_are_the_papers_and_give_way():
    model = double_integrators()
    assert (ICEM(model).noise_exponent, ICEM(model).decay) == (2.0, 1.25)
    assert ICEM(model, noise_exponent=0.5, decay=1.0).noise_exponent == 0.5
