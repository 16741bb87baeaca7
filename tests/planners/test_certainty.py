"""Rows leave the search once their first action has settled, and what they leave goes to the others."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integrators import context_of, double_integrators
from registered import NAMES, Walk, at, fresh, make

from wmkit.contracts import PlanningBudget
from wmkit.planners import CertaintyStop, GoalObjective, SamplingPlanner
from wmkit.planners.certainty import Watch


@dataclass(frozen=True)
class Step:
    position: torch.Tensor
    done: torch.Tensor


class Scripted(SamplingPlanner[Step]):
    """Its centre flips between -0.5 and 0.5 for as many iterations as the row's latent says, then stays."""

    def start(self, problem):
        lasts = problem.context.latents[:, -1, :1]
        return Step(lasts, torch.zeros_like(lasts))

    def sample(self, state, problem):
        self.rows = [*getattr(self, "rows", []), state.done.shape[0]]
        return problem.initial.unsqueeze(1).expand(-1, problem.samples, -1, -1)

    def update(self, state, scored, problem):
        return Step(state.position, state.done + 1)

    def centre(self, state):
        flips = torch.minimum(state.done, state.position)
        return (flips % 2 - 0.5).unsqueeze(1)


def scripted(lasts, iterations, **rule):
    planner = Scripted(Walk(), horizon=1, samples=2, iterations=iterations, certainty=CertaintyStop(**rule))
    return planner, planner.plan(at(*map(float, lasts)), GoalObjective(torch.zeros(len(lasts), 1)))


def test_rows_leave_when_they_have_settled():
    planner, plan = scripted([0, 3, 99], 8)
    assert plan.row_iterations.tolist() == [2, 4, 8]
    assert plan.certain.tolist() == [True, True, False]
    assert (plan.iterations, plan.stopped) == (8, "iterations")
    assert planner.rows == [3, 3, 2, 2, 1, 1, 1, 1], "rows that have left cost nothing more"


def test_a_longer_window_and_a_minimum_wait():
    assert scripted([0, 3], 9, window=4)[1].row_iterations.tolist() == [4, 6]
    assert scripted([0, 3], 9, min_iterations=5)[1].row_iterations.tolist() == [5, 5]


def test_all_certain_ends_the_search():
    plan = scripted([0, 1, 2], 9)[1]
    assert (plan.stopped, plan.iterations) == ("certain", 3)


def test_the_tolerance_is_a_fraction_of_the_range():
    """The flips are by 1 in a range of 2."""
    assert scripted([99], 6, tolerance=0.5)[1].row_iterations.tolist() == [2]
    assert scripted([99], 6, tolerance=0.49)[1].row_iterations.tolist() == [6]


def test_what_settled_rows_gave_up_goes_to_the_others():
    planner, plan = scripted([0, 99, 99], 6, max_iterations=9)
    assert plan.row_iterations.tolist() == [2, 8, 8]
    assert sum(planner.rows) == 18 == 3 * 6
    assert scripted([0, 0, 99], 6, max_iterations=9)[1].row_iterations.tolist() == [2, 2, 9]
    assert scripted([99, 99, 99], 6, max_iterations=9)[1].row_iterations.tolist() == [6, 6, 6]


@settings(deadline=None, max_examples=60)
@given(
    lasts=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    iterations=st.integers(1, 8),
    extra=st.integers(0, 10),
    window=st.integers(2, 4),
)
def test_rows_never_get_more_than_was_laid_out_for_all(lasts, iterations, extra, window):
    rule = {"window": window, "min_iterations": 1, "max_iterations": iterations + extra}
    planner, plan = scripted(lasts, iterations, **rule)
    assert sum(planner.rows) == plan.row_iterations.sum() <= len(lasts) * iterations
    assert plan.row_iterations.max() <= iterations + extra
    assert (plan.row_iterations >= 1).all()
    if not plan.certain.any():
        assert (plan.row_iterations == iterations).all()


@pytest.mark.parametrize(("limits", "most"), [({"rollouts": 13}, 6), ({"iterations": 6}, 6)])
def test_extra_iterations_keep_the_budget_of_each_row(limits, most):
    planner = Scripted(Walk(), horizon=1, samples=2, iterations=6, certainty=CertaintyStop(max_iterations=50))
    budget = PlanningBudget(**limits)
    plan = planner.plan(at(0.0, 0.0, 99.0), GoalObjective(torch.zeros(3, 1)), budget=budget)
    assert plan.row_iterations.tolist() == [2, 2, most]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random-shooting"])
def test_a_row_that_settles_leaves_with_the_plan_it_has_alone(name):
    """Rows at and away from the goal, so that they settle at different times."""
    model = double_integrators()
    states = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.5, -1.0, 1.0, 1.0], [0.1, 0.0, 0.0, 0.0], [-2.0, 2.0, 0.0, 0.0]])
    context, objective = context_of(states), GoalObjective(torch.zeros(4, 4), "sum")
    rule = CertaintyStop(window=3, tolerance=0.04)
    planner = make(name, model, horizon=4, samples=64, iterations=25, decay=1.02, certainty=rule)
    together = planner.plan(context, objective, generator=fresh())
    assert len(set(together.row_iterations.tolist())) > 1, "otherwise this test proves nothing"
    for row in range(4):
        index = torch.tensor([row])
        alone = planner.plan(context.select(index), objective.select(index), generator=fresh())
        torch.testing.assert_close(alone.actions[0], together.actions[row], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone.latents[0], together.latents[row], rtol=1e-4, atol=1e-4)
        assert alone.row_iterations.item() == together.row_iterations[row]
        assert alone.certain.item() == together.certain[row]


def test_a_watch_forgets_what_is_older_than_its_window():
    watch = Watch(CertaintyStop(window=2, tolerance=0.1), torch.tensor([2.0]))
    seen = [watch.settled(torch.tensor([[x]])).item() for x in (0.0, 1.0, 1.1, 1.3, 1.31)]
    assert seen == [False, False, True, True, True]


def test_every_number_of_the_first_action_must_settle():
    watch = Watch(CertaintyStop(), torch.tensor([2.0, 2.0]))
    watch.settled(torch.tensor([[0.0, 0.0], [0.0, 0.0]]))
    assert watch.settled(torch.tensor([[0.0, 0.5], [0.05, 0.0]])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"window": 1}, "window"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"min_iterations": 0}, "min_iterations"),
        ({"min_iterations": 5, "max_iterations": 4}, "max_iterations"),
    ],
)
def test_numbers_out_of_range_are_refused(rule, text):
    with pytest.raises(ValueError, match=text):
        CertaintyStop(**rule)
