"""How many iterations of how many candidates a budget allows, and that it is used."""

import time
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integrators import double_integrators
from registered import NAMES, Walk, at, fresh, make

from wmkit.contracts import PlanningBudget
from wmkit.planners import CEM, GoalObjective
from wmkit.planners.schedule import Pace, lay_out


def laid_out(samples, iterations, rollouts=None, *, style="fit", decay=1.0, reserved=0):
    """Return the schedule for one row, of whose pace nothing is known."""
    budget = PlanningBudget(rollouts=rollouts)
    return lay_out(samples, iterations, budget, style=style, decay=decay, reserved=reserved, rows=1, pace=Pace())


@settings(deadline=None, max_examples=150)
@given(
    samples=st.integers(1, 400),
    iterations=st.integers(1, 40),
    decay=st.floats(1.0, 4.0),
    rollouts=st.none() | st.integers(1, 5000),
    reserved=st.integers(0, 1),
    style=st.sampled_from(["fit", "truncate"]),
)
def test_no_schedule_is_above_its_limits(samples, iterations, decay, rollouts, reserved, style):
    counts = laid_out(samples, iterations, rollouts, decay=decay, reserved=reserved, style=style).counts
    assert 1 <= len(counts) <= iterations
    assert min(counts) >= 1
    assert list(counts) == sorted(counts, reverse=True)
    assert sum(counts) <= samples * iterations
    if rollouts is not None:
        assert sum(counts) <= max(1, rollouts - reserved)


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(20, 400), iterations=st.integers(1, 30), part=st.floats(0.01, 1.0))
def test_fitting_uses_the_rollouts_and_shrinks_both_alike(samples, iterations, part):
    rollouts = max(1, int(part * samples * iterations))
    counts = laid_out(samples, iterations, rollouts).counts
    full = sum(counts) > rollouts - len(counts)
    assert full or counts[0] == samples, "one candidate more would fit into each iteration"
    assert len(counts) == 1 or counts[0] / samples >= len(counts) / iterations * (1 - 1e-9)
    if len(counts) < iterations:
        more = len(counts) + 1
        assert min(samples, rollouts // more) / samples < more / iterations


@pytest.mark.parametrize(
    ("style", "rollouts", "expected"),
    [
        ("fit", 400, (100,) * 4),
        ("fit", 100, (50,) * 2),
        ("fit", 3, (3,)),
        ("truncate", 250, (100,) * 2),
        ("truncate", 60, (60,)),
        ("fit", 10**6, (100,) * 4),
    ],
)
def test_by_hand(style, rollouts, expected):
    assert laid_out(100, 4, rollouts, style=style).counts == expected


def test_decay_is_by_its_factor_with_the_same_sum():
    counts = laid_out(1000, 6, decay=1.25).counts
    assert sum(counts) == pytest.approx(6000, abs=6)
    for before, after in pairwise(counts):
        assert before / after == pytest.approx(1.25, rel=0.02)


def test_the_limit_that_binds_is_named():
    assert laid_out(100, 4).limit == "iterations"
    assert laid_out(100, 4, 300).limit == "rollouts"
    assert laid_out(100, 4, 401).limit == "iterations"


def test_progress_runs_from_0_to_1():
    schedule = laid_out(10, 5)
    assert [schedule.progress(i) for i in (0, 1, 4, 9)] == [0.0, 0.25, 1.0, 1.0]
    assert laid_out(10, 1).progress(0) == 0.0
    assert schedule.count(9) == 10


@pytest.mark.parametrize(("iterations", "expected"), [(4, 300), (2, 90), (1, 8)])
def test_fewer_iterations_select_as_strictly_as_the_whole(iterations, expected):
    """30 % in each of 4 iterations is 0.81 % over all: 9 % in each of 2, 0.81 % in 1."""
    planner = CEM(double_integrators(), samples=1000, iterations=4, elites=300)
    assert planner._elites_of(1000, iterations) == expected
    assert planner._elites_of(500, 4) == 150


class Slow(Walk):
    """Takes a millisecond of a clock of its own for every candidate, whatever the machine does."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def rollout(self, context, actions, generator=None):
        self.now += 0.001 * actions.shape[0] * actions.shape[1]
        return super().rollout(context, actions, generator)


@pytest.fixture
def slow(monkeypatch):
    model = Slow()
    monkeypatch.setattr(time, "perf_counter", lambda: model.now)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_after_one_decision_the_next_is_laid_out_to_fit_the_seconds(name, slow):
    planner = make(name, slow, horizon=2, samples=100, iterations=8)
    budget, objective = PlanningBudget(seconds=0.25), GoalObjective(torch.ones(1, 1))
    first = planner.plan(at(0.0), objective, budget=budget, generator=fresh())
    second = planner.plan(at(0.0), objective, budget=budget, generator=fresh())
    assert first.stopped == second.stopped == "seconds"
    assert second.seconds <= 0.25
    assert second.iterations > first.iterations, "fewer candidates make room for more iterations"
    for _ in range(4):
        slow.sizes.clear()
        assert planner.plan(at(0.0), objective, budget=budget, generator=fresh()).seconds <= 0.25
    assert sum(slow.sizes) > 0.6 * 250, "most of the time is used, once the pace is known better"


@pytest.mark.parametrize("name", NAMES)
def test_a_single_iteration_learns_its_pace_too(name, slow):
    planner = make(name, slow, horizon=2, samples=1000, iterations=1)
    budget, objective = PlanningBudget(seconds=0.25), GoalObjective(torch.ones(1, 1))
    seconds = [planner.plan(at(0.0), objective, budget=budget, generator=fresh()).seconds for _ in range(4)]
    assert seconds[0] >= 1.0
    assert 0.1 < seconds[-1] <= 0.25


def test_more_rows_get_fewer_candidates_each(slow):
    planner = make("cem", slow, horizon=2, samples=100, iterations=8)
    budget = PlanningBudget(seconds=0.25)
    for _ in range(3):
        planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), budget=budget)
    slow.sizes.clear()
    plan = planner.plan(at(0.0, 0.1, 0.2, 0.3), GoalObjective(torch.ones(4, 1)), budget=budget)
    assert plan.seconds <= 0.25
    assert 0 < sum(slow.sizes) <= 250 / 4


def test_pace_takes_half_of_an_iteration_as_fixed():
    pace = Pace()
    assert pace.affordable(1.0) == float("inf")
    pace.record(100.0, 0.1, 0.0)
    assert pace.affordable(0.2) == pytest.approx(200.0)
    assert pace.affordable(0.075) == pytest.approx(50.0)
    assert pace.affordable(0.05) == 0.0


def test_what_comes_before_the_iterations_is_taken_off_the_seconds():
    counts = {}
    for overhead in (0.0, 0.05):
        pace = Pace()
        pace.record(100.0, 0.1, overhead)
        options = {"style": "fit", "decay": 1.0, "reserved": 0, "rows": 1, "pace": pace}
        counts[overhead] = lay_out(100, 1, PlanningBudget(seconds=0.1), **options).counts
    assert counts == {0.0: (80,), 0.05: (1,)}


def test_another_horizon_is_laid_out_by_the_nearest_known_one(slow):
    planner = make("cem", slow, horizon=4, samples=100, iterations=8)
    budget = PlanningBudget(seconds=0.25)
    for _ in range(3):
        planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), budget=budget)
    slow.sizes.clear()
    plan = planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), budget=budget, horizon=2)
    assert plan.seconds <= 0.25
    assert 0 < sum(slow.sizes) < 800
