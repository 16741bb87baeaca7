"""Adam through the model, its restarts, and what happens where there are no gradients."""

from dataclasses import replace

import pytest
import torch
from integrators import double_integrators
from registered import Walk, at, fresh, problem_of

from wmkit.contracts import PlanningBudget, Rollout
from wmkit.planners import ActionCost, DecodedObjective, GoalObjective, GradientPlanner, Scored

NAN, INF = float("nan"), float("inf")


def scored_of(knots, costs, gradients):
    shape = (1, -1, 1, 1)
    return Scored(torch.tensor(knots).view(shape), torch.tensor(costs).view(1, -1), torch.tensor(gradients).view(shape))


def test_the_steps_are_torchs_adam():
    planner = GradientPlanner(double_integrators(), learning_rate=0.1, samples=2)
    target = torch.tensor([[0.7], [-0.4]])
    state = planner.start(problem_of(2))
    reference = state.knots[0, :, :, 0].clone().requires_grad_()
    adam = torch.optim.Adam([reference], lr=0.1 * 2.0, betas=(0.8, 0.9), eps=0.0)
    for _ in range(7):
        adam.zero_grad()
        ((reference - target) ** 2 * torch.tensor([[1.0], [5.0]])).sum().backward()
        knots = state.knots
        gradients = torch.stack([2 * (knots[0, 0] - 0.7), 10 * (knots[0, 1] + 0.4)])[None]
        state = planner.update(state, Scored(knots, torch.tensor([[1.0, 2.0]]), gradients), problem_of(2, progress=0.0))
        adam.step()
    torch.testing.assert_close(state.knots[0, :, :, 0], reference.detach())


def test_the_step_falls_to_a_tenth_at_the_end():
    planner = GradientPlanner(double_integrators(), learning_rate=0.1)
    moved = [
        planner.update(
            planner.start(problem_of(1)), scored_of([0.0], [1.0], [3.0]), problem_of(1, progress=progress)
        ).knots.item()
        for progress in (0.0, 0.5, 1.0)
    ]
    assert moved == pytest.approx([-0.2, -0.11, -0.02])


def test_restarts_scatter_around_the_guess_which_is_one_of_them():
    planner, problem = GradientPlanner(double_integrators(), std=0.25), problem_of(5001)
    knots = planner.start(replace(problem, initial=torch.full((2, 1, 1), 0.5))).knots
    assert knots.shape == (2, 5001, 1, 1)
    assert (knots[:, 0] == 0.5).all()
    assert knots[:, 1:].std().item() == pytest.approx(0.25 * 2.0, abs=0.02)


def test_restarts_leave_a_local_minimum():
    """Two wells, the deeper one away from the start."""

    def cost(values, actions):
        x = actions[..., 0]
        return (x + 0.1).square().minimum((x - 0.8).square() - 0.2)

    model = Walk()
    objective = DecodedObjective(cost, "state", model)
    alone, several = (GradientPlanner(model, horizon=1, samples=n).plan(at(0.0), objective) for n in (1, 16))
    assert alone.actions.item() == pytest.approx(-0.1, abs=0.02)
    assert several.actions.item() == pytest.approx(0.8, abs=0.02)


def test_the_best_candidate_ever_seen_is_the_plan():
    """A learning rate that jumps over the minimum: the last candidate is worse than the first."""
    costs = []

    def cost(values, actions):
        found = (actions[..., 0] - 0.1).square()
        costs.append(found.min().item())
        return found

    model = Walk()
    planner = GradientPlanner(model, horizon=1, samples=1, iterations=3, learning_rate=1.5)
    plan = planner.plan(at(0.0), DecodedObjective(cost, "state", model))
    assert plan.cost.item() == pytest.approx(min(costs))
    assert costs[-1] > 1.5 * min(costs), "otherwise this test proves nothing"


def test_fewer_candidates_keep_the_cheapest_restarts():
    planner = GradientPlanner(double_integrators(), learning_rate=0.1)
    state = planner.start(problem_of(4))
    scored = scored_of([1.0, -1.0, 0.5, 0.0], [4.0, 1.0, INF, 2.0], [1.0, -1.0, 1.0, 1.0])
    state = planner.update(state, scored, problem_of(4, progress=0.0))
    torch.testing.assert_close(planner.sample(state, problem_of(2)).flatten(), torch.tensor([-0.8, -0.2]))
    state = planner.update(state, scored_of([-0.8, -0.2], [2.0, 1.0], [-1.0, 1.0]), problem_of(2, progress=0.0))
    assert state.steps.tolist() == [[2.0, 2.0]]
    assert state.knots.flatten().tolist() == pytest.approx([-0.4, -0.6])


@pytest.mark.parametrize(("cost", "gradient"), [(3.0, NAN), (3.0, INF), (INF, 1.0), (INF, NAN)])
def test_what_is_not_finite_restarts_halfway_to_the_cheapest(cost, gradient):
    planner = GradientPlanner(double_integrators(), learning_rate=0.1)
    scored = scored_of([1.0, -1.0, 0.0], [cost, 2.0, 4.0], [gradient, 1.0, 1.0])
    state = planner.update(planner.start(problem_of(3)), scored, problem_of(3, progress=0.0))
    assert state.knots.flatten().tolist() == pytest.approx([-1.2, -0.2, 0.0])
    assert state.steps.tolist() == [[1.0, 1.0, 0.0]]
    assert torch.isfinite(torch.cat([state.mean, state.square])).all()


def test_a_region_without_gradients_does_not_stop_the_search():
    """The cost is a square root, whose gradient is not finite at rest, where the first restart begins."""

    def cost(values, actions):
        return (actions[..., 0].abs() * (1.0 - actions[..., 0]).abs()).sqrt() - actions[..., 0]

    model = Walk()
    plan = GradientPlanner(model, horizon=1).plan(at(0.0), DecodedObjective(cost, "state", model), generator=fresh())
    assert plan.actions.item() == pytest.approx(1.0, abs=0.02)


class Detached(Walk):
    """A model that cuts the graph."""

    def rollout(self, context, actions, generator=None):
        return super().rollout(context, actions.detach(), generator)


class DetachedWeights(Walk):
    """A model that cuts the graph, but has weights that ask for gradients."""

    def rollout(self, context, actions, generator=None):
        weight = torch.ones(1, requires_grad=True)
        return Rollout(super().rollout(context, actions.detach(), generator).latents * weight)


@pytest.mark.parametrize("model", [Detached(), DetachedWeights()], ids=lambda model: type(model).__name__)
def test_a_model_without_gradients_is_named(model):
    with pytest.raises(ValueError, match=f"{type(model).__name__} gives costs without gradients by the actions"):
        GradientPlanner(model).plan(at(0.0), GoalObjective(torch.ones(1, 1)))


def test_an_action_cost_does_not_hide_a_model_without_gradients():
    with pytest.raises(ValueError, match="without gradients"):
        GradientPlanner(Detached()).plan(at(0.0), GoalObjective(torch.ones(1, 1)) + ActionCost())


@pytest.mark.parametrize("limit", [None, 1])
def test_tensors_made_in_inference_mode_are_welcome(limit):
    with torch.inference_mode():
        context = at(0.0, 0.5)
    plan = GradientPlanner(Walk(), horizon=2).plan(
        context, GoalObjective(torch.ones(2, 1)), budget=PlanningBudget(bytes=limit)
    )
    assert plan.latents[:, -1, 0].tolist() == pytest.approx([1.0, 1.0], abs=1e-2)
    assert not plan.actions.requires_grad


@pytest.mark.parametrize("options", [{"learning_rate": 0.0}, {"std": 0.0}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GradientPlanner(double_integrators(), **options)
