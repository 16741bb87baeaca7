"""Coloured noise: variance, spectrum, and what must not depend on the colour."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registered import Walk, at, fresh, make, problem_of

from wmkit.planners import GoalObjective
from wmkit.planners.noise import coloured, draw_normal

LIKE = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("knots", [1, 2, 5, 32])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_every_knot_has_mean_0_and_variance_1(exponent, knots):
    drawn = coloured((1, 20000, knots, 2), exponent, fresh(), LIKE)
    assert drawn.shape == (1, 20000, knots, 2)
    assert drawn.mean(dim=(0, 1)).abs().max() < 0.03
    assert (drawn.var(dim=(0, 1)) - 1).abs().max() < 0.05


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_power_falls_with_the_frequency(exponent):
    """The slope of the periodogram on logarithmic axes, away from both ends, where the window leaks."""
    knots = 512
    drawn = coloured((1, 500, knots, 1), exponent, fresh(), LIKE)[0, :, :, 0] * torch.hann_window(knots)
    power = torch.fft.rfft(drawn, dim=1).abs().square().mean(dim=0)[4 : knots // 8]
    frequency = torch.arange(4, knots // 8, dtype=torch.float64).log()
    centred = frequency - frequency.mean()
    slope = (centred * power.log()).sum() / centred.square().sum()
    assert slope.item() == pytest.approx(-exponent, abs=0.1)


def test_white_noise_is_plain_normal_noise():
    assert torch.equal(coloured((1, 4, 3, 2), 0.0, fresh(), LIKE), draw_normal((1, 4, 3, 2), fresh(), LIKE))


def test_candidates_and_numbers_of_an_action_are_independent():
    drawn = coloured((1, 4000, 4, 2), 2.0, fresh(), LIKE)[0]
    assert abs((drawn[:, :, 0] * drawn[:, :, 1]).mean().item()) < 0.05
    assert abs((drawn[1:] * drawn[:-1]).mean().item()) < 0.05
    assert (drawn[:, 1:] * drawn[:, :-1]).mean().item() > 0.5, "neighbouring knots are alike"


def test_the_end_of_a_plan_is_not_tied_to_its_beginning():
    """A circular sequence would make the last knot as alike to the first as its neighbour is."""
    drawn = coloured((1, 20000, 16, 1), 2.0, fresh(), LIKE)[0, :, :, 0]
    neighbour = (drawn[:, 0] * drawn[:, 1]).mean()
    assert (drawn[:, 0] * drawn[:, -1]).mean() < neighbour - 0.5


@settings(deadline=None)
@given(n=st.integers(0, 3), knots=st.integers(1, 4), exponent=st.sampled_from([0.0, 1.0, 2.0]))
def test_any_number_of_candidates_and_knots_is_finite(n, knots, exponent):
    drawn = coloured((1, n, knots, 2), exponent, fresh(), torch.zeros(1))
    assert drawn.shape == (1, n, knots, 2)
    assert drawn.dtype == torch.float32
    assert all(math.isfinite(x) for x in drawn.flatten().tolist())


@pytest.mark.parametrize("count", [0, 3])
def test_noise_knots_are_joined_by_straight_lines(count):
    problem = replace(problem_of(4), initial=torch.zeros(2, 9, 2), noise_knots=3)
    noise = problem.noise(count)
    assert noise.shape == (1, count, 9, 2)
    for part in (noise[:, :, :5], noise[:, :, 4:]):
        torch.testing.assert_close(part.diff(dim=2, n=2), torch.zeros(1, count, 3, 2), atol=1e-5, rtol=0)
    assert count == 0 or noise.diff(dim=2, n=2).abs().max() > 0.01


def test_noise_knots_change_a_jagged_plan_smoothly():
    jagged = torch.tensor([0.5, -0.5] * 4).view(1, 8, 1)
    planner = make("predictive-sampling", Walk(), horizon=8, samples=9, std=0.1, noise_knots=2)
    plan = planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), jagged)
    change = (plan.actions - jagged).flatten()
    assert change.abs().max() > 0.01
    torch.testing.assert_close(change.diff(n=2), torch.zeros(6), atol=1e-5, rtol=0)
