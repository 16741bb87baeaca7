"""MPPI's weights in closed form, its limits, and its smoothing."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integrators import context_of, double_integrators
from registered import Walk, at, fresh, problem_of
from scipy.signal import savgol_filter

from wmkit.planners import MPPI, DecodedObjective, GoalObjective, Scored
from wmkit.planners.mppi import MPPIState

INF = float("inf")
COSTS = [3.0, 1.0, 2.0, 6.0]


def updated(costs, values=(-1.0, 0.5, 1.0, 2.0), mean=0.25, **options):
    """Return the mean after one update with candidates of one knot."""
    planner = MPPI(double_integrators(), **options)
    scored = Scored(torch.tensor(values).view(1, -1, 1, 1), torch.tensor(costs).view(1, -1))
    return planner.update(MPPIState(torch.full((1, 1, 1), mean)), scored, problem_of()).mean.item()


def average(values, exponents):
    weights = [math.exp(x) for x in exponents]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def test_the_weights_are_the_exponentials_of_the_costs():
    values = (-1.0, 0.5, 1.0, 2.0)
    expected = average(values, [-c / 0.7 for c in COSTS])
    assert updated(COSTS, values, temperature=0.7, temperature_unit="absolute") == pytest.approx(expected)


def test_a_relative_temperature_is_in_standard_deviations_of_the_finite_costs():
    spread = math.sqrt(sum((c - 3.0) ** 2 for c in COSTS) / 4)
    expected = average((-1.0, 0.5, 1.0, 2.0), [-c / (0.3 * spread) for c in COSTS])
    assert updated(COSTS, temperature=0.3) == pytest.approx(expected)
    with_broken = updated([*COSTS, INF, INF], (-1.0, 0.5, 1.0, 2.0, 9.0, -9.0), temperature=0.3)
    assert with_broken == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-100, 100))
def test_a_relative_temperature_ignores_the_unit_of_the_costs(scale, shift):
    scaled = [scale * (c + shift) for c in COSTS]
    assert updated(scaled, temperature=0.3) == pytest.approx(updated(COSTS, temperature=0.3), abs=1e-3)


@pytest.mark.parametrize("unit", ["relative", "absolute"])
def test_the_limits_of_the_temperature(unit):
    assert updated(COSTS, temperature=1e-9, temperature_unit=unit) == 0.5
    assert updated(COSTS, temperature=1e9, temperature_unit=unit) == pytest.approx((-1.0 + 0.5 + 1.0 + 2.0) / 4)


@pytest.mark.parametrize("unit", ["relative", "absolute"])
def test_huge_tiny_and_equal_costs_stay_finite(unit):
    options = {"temperature": 0.1, "temperature_unit": unit}
    assert math.isfinite(updated([1e30, 2e30, 3e30, 2e30], **options))
    assert math.isfinite(updated([-1e30, 2e30, 1e-30, 2e-38], **options))
    assert updated([5.0] * 4, **options) == pytest.approx(2.5 / 4)


def test_costs_that_are_not_finite_weigh_nothing():
    assert updated([INF, 1.0, INF, INF]) == 0.5
    assert updated([INF] * 4, mean=0.25) == 0.25


def test_the_control_cost_is_the_papers():
    """Weights exp(-(S + temperature u' inverse(covariance) e) / temperature), with u the mean and e the noise."""
    values, mean, variance = (-1.0, 0.5, 1.0, 2.0), 0.25, (0.5 * 2.0) ** 2
    for weight in (0.0, 0.4, 1.0):
        exponents = [-c / 0.7 - weight * mean * (v - mean) / variance for c, v in zip(COSTS, values, strict=True)]
        found = updated(COSTS, values, mean, temperature=0.7, temperature_unit="absolute", std=0.5, control_cost=weight)
        assert found == pytest.approx(average(values, exponents))


def test_candidates_scatter_around_the_mean_which_is_one():
    drawn = MPPI(double_integrators(), std=0.25).sample(MPPIState(torch.full((2, 1, 1), 3.0)), problem_of(9001))
    assert drawn.shape == (2, 9001, 1, 1)
    assert (drawn[:, 0] == 3.0).all()
    assert drawn[:, 1:].mean().item() == pytest.approx(3.0, abs=0.02)
    assert drawn[:, 1:].std().item() == pytest.approx(0.25 * 2.0, abs=0.02)


@pytest.mark.parametrize(("progress", "std"), [(0.0, 0.8), (0.5, 0.4), (1.0, 0.2)])
def test_a_pair_of_deviations_is_annealed_over_the_schedule(progress, std):
    problem = replace(problem_of(9001), progress=progress)
    drawn = MPPI(double_integrators(), std=(0.8, 0.2)).sample(MPPIState(torch.zeros(2, 1, 1)), problem)
    assert drawn[:, 1:].std().item() == pytest.approx(std * 2.0, rel=0.03)


def test_a_certainty_stop_watches_the_mean():
    planner, state = MPPI(double_integrators()), MPPIState(torch.full((2, 1, 1), 3.0))
    assert torch.equal(planner.centre(state), state.mean)


def test_the_mean_is_executed_not_the_best_candidate():
    """The cost prefers a rare value, 0.75, by little; the mean, near 0, misses it."""

    def cost(values, actions):
        return actions[..., 0].square() - 2.0 * ((actions[..., 0] - 0.75).abs() < 0.03)

    model = Walk()
    planner = MPPI(model, horizon=1, samples=1000, temperature=2.0)
    plan = planner.plan(at(0.0), DecodedObjective(cost, "state", model), generator=fresh())
    assert abs(plan.actions.item()) < 0.3
    assert plan.cost.item() == pytest.approx(plan.actions.item() ** 2)
    assert sum(model.sizes) == 1001


@pytest.mark.parametrize(("knots", "window", "order"), [(9, 5, 2), (7, 7, 3), (6, 3, 1), (8, 5, 0)])
def test_smoothing_equals_scipys_filter(knots, window, order):
    planner = MPPI(double_integrators(), smoothing=(window, order))
    values = torch.randn(1, 1, knots, 1, generator=fresh())
    scored = Scored(values, torch.zeros(1, 1))
    mean = planner.update(MPPIState(torch.zeros(1, knots, 1)), scored, problem_of(knots=knots)).mean
    expected = savgol_filter(values[0, 0, :, 0].double().numpy(), window, order, mode="interp")
    torch.testing.assert_close(mean[0, :, 0].double(), torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("knots", [1, 2, 4])
def test_smoothing_of_fewer_knots_than_the_window_keeps_polynomials(knots):
    planner = MPPI(double_integrators(), smoothing=(5, 1))
    line = torch.linspace(-1, 1, knots).view(1, 1, knots, 1)
    mean = planner.update(
        MPPIState(torch.zeros(1, knots, 1)), Scored(line, torch.zeros(1, 1)), problem_of(knots=knots)
    ).mean
    torch.testing.assert_close(mean, line[:, 0])


def test_more_iterations_find_a_better_plan():
    model, context = double_integrators(), context_of(torch.tensor([[1.0, -0.5, 0.2, 0.1]]))
    objective = GoalObjective(torch.zeros(1, 4), "mean")
    one, ten = (MPPI(model, iterations=i).plan(context, objective, generator=fresh()) for i in (1, 10))
    assert ten.cost < 0.9 * one.cost
    assert MPPI(model).iterations == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature_unit": "kelvin"}, "temperature_unit"),
        ({"std": (0.5, 0.0)}, "std"),
        ({"std": 0.0}, "std"),
        ({"control_cost": -1.0}, "control_cost"),
        ({"smoothing": (4, 2)}, "smoothing"),
        ({"smoothing": (3, 3)}, "smoothing"),
    ],
)
def test_numbers_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        MPPI(double_integrators(), **options)
