"""What the shared base owns: warm start, chunks, non-finite costs, budget, pending actions, gradients."""

import time
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.contracts import Context, PlanningBudget, Rollout
from wmkit.control.advance import advance
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, GoalObjective, SamplingPlanner


class Walk(LinearModel):
    """One number, moved by the action; counts what it rolls out."""

    def __init__(self, **options):
        super().__init__(torch.eye(1), torch.eye(1), **options)
        self.sizes = []

    def rollout(self, context, actions, generator=None):
        self.sizes.append(actions.shape[1])
        return super().rollout(context, actions, generator)


class Diverging(Walk):
    """NaN where the sum of the actions would be best, above 0.5."""

    def rollout(self, context, actions, generator=None):
        rollout = super().rollout(context, actions, generator)
        return Rollout(torch.where(rollout.latents > 0.5, torch.nan, rollout.latents))


def at(*states, goal=None):
    return Context(torch.tensor(states).view(-1, 1, 1), torch.zeros(len(states), 0, 1), None, goal)


def fresh():
    return torch.Generator().manual_seed(7)


def test_a_diverged_rollout_never_wins():
    planner = CEM(Diverging(), horizon=2, samples=64, iterations=4, elites=8)
    plan = planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)))
    assert torch.isfinite(plan.latents).all()
    assert 0.3 < plan.latents[0, -1, 0] <= 0.5
    assert 0 < plan.non_finite < 64 * 4


def test_nothing_finite_names_model_and_row():
    with pytest.raises(ValueError, match="Diverging gave no candidate of row 1 a finite cost"):
        CEM(Diverging(), horizon=1).plan(at(0.0, 9.0), GoalObjective(torch.ones(2, 1)))


def test_minus_infinity_does_not_win():
    class Lucky(GoalObjective):
        def cost(self, rollout, actions):
            cost = super().cost(rollout, actions)
            return torch.where(rollout.latents[:, :, -1, 0] < 0, -torch.inf, cost)

    plan = CEM(Walk(), horizon=1, samples=32, elites=4).plan(at(0.0), Lucky(torch.ones(1, 1)))
    assert torch.isfinite(plan.cost).all()
    assert plan.actions.item() > 0.9


@settings(max_examples=15, deadline=None)
@given(limit=st.integers(1, 3000), rows=st.integers(1, 3))
def test_chunks_change_nothing_and_keep_the_limit(limit, rows):
    model = Walk()
    planner = CEM(model, horizon=3, samples=40, iterations=3, elites=5)
    objective, context = GoalObjective(torch.ones(rows, 1), "sum"), at(*[0.1 * row for row in range(rows)])
    whole = planner.plan(context, objective, generator=fresh())
    model.sizes.clear()
    chunked = planner.plan(context, objective, budget=PlanningBudget(bytes=limit), generator=fresh())
    assert torch.equal(whole.actions, chunked.actions)
    assert torch.equal(whole.latents, chunked.latents)
    assert sum(model.sizes) == 40 * 3
    candidate = rows * 3 * (1 + 1) * 4
    assert max(model.sizes) * candidate <= max(limit, candidate)


def test_a_warm_start_helps_a_short_search(model, context):
    objective = GoalObjective(torch.zeros(3, 4), "sum")
    long = CEM(model, horizon=8).plan(context, objective)
    short = CEM(model, horizon=8, samples=10, iterations=1, elites=2)
    cold, warm = short.plan(context, objective), short.plan(context, objective, long.actions)
    assert (warm.cost <= long.cost + 1e-6).all()
    assert (warm.cost < 0.9 * cold.cost).all()


def test_a_warm_start_is_continued_with_its_last_step():
    planner = CEM(Walk(), horizon=4, samples=1, iterations=1, elites=1)
    plan = planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), torch.tensor([[[0.1], [0.2]]]))
    assert plan.actions.flatten().tolist() == pytest.approx([0.1, 0.2, 0.2, 0.2])


def test_the_horizon_of_a_call_wins_over_the_planners():
    planner = CEM(Walk(), horizon=5, samples=16, elites=4)
    for horizon in (1, 3, 9):
        plan = planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), torch.zeros(1, 5, 1), horizon=horizon)
        assert plan.actions.shape == plan.latents.shape == (1, horizon, 1)


@pytest.mark.parametrize(("result", "iterations"), [("best", 7), ("mean", 6)])
def test_seconds_are_kept_and_the_plan_is_valid(monkeypatch, result, iterations):
    clock = [0.0]

    class Slow(Walk):
        def rollout(self, context, actions, generator=None):
            clock[0] += 0.02
            return super().rollout(context, actions, generator)

    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: clock[0])
        plan = CEM(Slow(), iterations=100, result=result).plan(
            at(0.0), GoalObjective(torch.ones(1, 1)), budget=PlanningBudget(seconds=0.15)
        )
    assert (plan.stopped, plan.iterations) == ("seconds", iterations)
    assert plan.seconds == pytest.approx(0.14)
    assert torch.isfinite(plan.cost).all()


@pytest.mark.parametrize("result", ["best", "mean"])
@pytest.mark.parametrize(
    ("limit", "iterations", "stopped"), [(1, 1, "rollouts"), (25, 3, "rollouts"), (1000, 5, "iterations")]
)
def test_rollouts_are_kept(result, limit, iterations, stopped):
    model = Walk()
    planner = CEM(model, samples=10, iterations=5, elites=3, result=result)
    plan = planner.plan(at(0.0), GoalObjective(torch.ones(1, 1)), budget=PlanningBudget(rollouts=limit))
    assert sum(model.sizes) <= limit
    assert (plan.iterations, plan.stopped) == (iterations, stopped)


def test_iterations_are_kept():
    plan = CEM(Walk()).plan(at(0.0), GoalObjective(torch.ones(1, 1)), budget=PlanningBudget(iterations=2))
    assert (plan.iterations, plan.stopped) == (2, "iterations")


def test_pending_actions_are_executed_before_the_plan():
    model = Walk(history=2)
    planner, objective = CEM(model, horizon=1, samples=200, elites=10), GoalObjective(torch.ones(1, 1))
    context = replace(at(0.0), pending=torch.tensor([[[0.4], [0.3]]]))
    plan = planner.plan(context, objective)
    assert plan.actions.item() == pytest.approx(0.3, abs=0.01)
    ahead = advance(model, context)
    assert ahead.latents.flatten().tolist() == pytest.approx([0.4, 0.7])
    assert ahead.actions.flatten().tolist() == pytest.approx([0.3])
    assert ahead.pending is None


def test_the_planners_own_generator_repeats_with_its_seed():
    def two(seed):
        planner = CEM(Walk(), samples=8, iterations=1, elites=2, seed=seed)
        return [planner.plan(at(0.0), GoalObjective(torch.ones(1, 1))).actions for _ in range(2)]

    assert torch.equal(torch.cat(two(1)), torch.cat(two(1)))
    assert not torch.equal(two(1)[0], two(2)[0])
    assert not torch.equal(*two(1))


def test_half_precision_latents_plan_within_the_bounds():
    class Half(Walk):
        def rollout(self, context, actions, generator=None):
            assert actions.dtype == context.latents.dtype == torch.bfloat16
            return super().rollout(context, actions, generator)

    context = Context(torch.zeros(1, 1, 1).bfloat16(), torch.zeros(1, 0, 1).bfloat16())
    plan = CEM(Half(), horizon=1).plan(context, GoalObjective(torch.full((1, 1), 5.0).bfloat16()))
    assert plan.actions.item() == 1.0


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("latents", torch.zeros(1, 2, 1), r"context.latents has shape \(1, 2, 1\)"),
        ("latents", torch.zeros(1, 1, 3), "D = 1"),
        ("actions", torch.zeros(1, 1, 1), r"context.actions has shape .* expected \(1, 0, 1\)"),
        ("goal", torch.zeros(2, 1), "context.goal has shape"),
        ("pending", torch.zeros(1, 1, 2), "context.pending has shape"),
    ],
)
def test_shapes_that_do_not_fit_are_named(field, value, text):
    context = replace(at(0.0), **{field: value})
    with pytest.raises(ValueError, match=text):
        CEM(Walk()).plan(context, GoalObjective(torch.ones(1, 1)))


def test_an_objective_of_the_wrong_shape_is_named():
    class Wrong(GoalObjective):
        def cost(self, rollout, actions):
            return super().cost(rollout, actions)[0]

    with pytest.raises(ValueError, match=r"Wrong.cost gave shape \(300,\); expected \(B, N\) = \(1, 300\)"):
        CEM(Walk()).plan(at(0.0), Wrong(torch.ones(1, 1)))


@dataclass(frozen=True)
class Position:
    knots: torch.Tensor


class Descent(SamplingPlanner[Position]):
    """Steepest descent: the base hands out the gradients of the costs, in chunks too."""

    wants_gradients = True

    def start(self, problem):
        return Position(problem.initial.unsqueeze(1) + 0.1 * problem.noise(problem.samples))

    def sample(self, state, problem):
        return state.knots

    def update(self, state, scored, problem):
        return Position(scored.parameters - 0.1 * scored.gradients)


@pytest.mark.parametrize("limit", [None, 1])
def test_a_planner_may_descend_the_gradient(limit):
    with torch.inference_mode():
        context = at(0.0, 0.5)
    planner = Descent(Walk(), horizon=2, samples=3, iterations=40)
    plan = planner.plan(context, GoalObjective(torch.ones(2, 1)), budget=PlanningBudget(bytes=limit))
    assert plan.latents[:, -1, 0].tolist() == pytest.approx([1.0, 1.0], abs=1e-3)
    assert not plan.actions.requires_grad
