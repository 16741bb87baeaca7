"""Sample, score, rank: the ranking, and what becomes of the last plan."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fork import DETOUR, diffusion_proposal, fresh, point, towards

from wmkit.control import Controller
from wmkit.planners import DecodedObjective, GaussianProposal, GoalObjective, MixtureProposal, SampleScoreRank


class Listed:
    """Offers what it is given, and remembers what it was asked for."""

    def __init__(self, *values):
        self.values = torch.tensor(values)
        self.asked = []

    def propose(self, context, n, horizon, generator):
        self.asked.append((context.batch, n))
        repeated = self.values.repeat(-(-n // len(self.values)))[:n]
        return repeated[None, :, None, None].expand(context.batch, n, horizon, 2).clone()


class Refining(Listed):
    """Moves a plan by its strength."""

    def refine(self, context, actions, n, strength, generator):
        self.asked.append((n, strength))
        return actions[:, None].expand(-1, n, -1, -1) + strength


def score(candidates):
    """Return a candidate's cost by its first action: its distance from 0.3."""
    return DecodedObjective(lambda values, actions: (actions[..., 0] - 0.3).abs(), "state", point(), reduce="mean")


def test_the_cheapest_candidate_is_executed_and_all_were_drawn_once():
    proposal = Listed(-0.8, 0.9, 0.25, -0.1)
    plan = SampleScoreRank(point(), proposal=proposal, horizon=3, samples=8).plan(towards(1.0, 2.0), score(4))
    torch.testing.assert_close(plan.actions, torch.full((2, 3, 2), 0.25))
    assert plan.cost.tolist() == pytest.approx([0.05, 0.05], abs=1e-6)
    assert proposal.asked == [(2, 8)]
    assert plan.iterations == 1


def test_the_mean_of_the_best_few():
    proposal = Listed(-0.8, 0.2, 0.5, 0.9)
    plan = SampleScoreRank(point(), proposal=proposal, horizon=2, samples=4, top=2).plan(towards(1.0), score(4))
    torch.testing.assert_close(plan.actions, torch.full((1, 2, 2), 0.35))
    assert plan.cost.item() == pytest.approx(0.05, abs=1e-6)


def test_more_iterations_draw_more_candidates():
    proposal = Listed(-0.8)
    SampleScoreRank(point(), proposal=proposal, horizon=2, samples=4, iterations=3).plan(towards(1.0), score(4))
    assert proposal.asked == [(1, 4)] * 3


@pytest.mark.parametrize(
    ("mode", "asked", "actions"),
    [("none", [(1, 8)], -0.8), ("shift", [(1, 7)], 0.1), ("renoise", [(2, 0.15), (1, 5)], 0.25)],
)
def test_what_becomes_of_the_last_plan(mode, asked, actions):
    proposal, warm = Refining(-0.8), torch.full((1, 1, 2), 0.1)
    planner = SampleScoreRank(point(), proposal=proposal, horizon=3, samples=8, warm_start=mode, strength=0.15)
    plan = planner.plan(towards(1.0), score(8), warm)
    assert proposal.asked == asked
    torch.testing.assert_close(plan.actions, torch.full((1, 3, 2), actions))


def test_a_mixture_varies_with_the_proposal_that_can():
    model = point()
    refining = Refining(-0.8)
    mixture = MixtureProposal([GaussianProposal(model), refining])
    SampleScoreRank(model, proposal=mixture, horizon=2, samples=8).plan(towards(1.0), score(8), torch.zeros(1, 2, 2))
    assert refining.asked[0] == (2, 0.5)
    plain = SampleScoreRank(model, horizon=2, samples=8)
    assert plain.plan(towards(1.0), score(8), torch.zeros(1, 2, 2)).cost.item() <= 0.3 + 1e-6


@pytest.fixture(scope="module")
def learned():
    """A diffusion proposal that has learned the fork."""
    return diffusion_proposal(steps=250)


def test_the_objective_picks_the_way(learned):
    """The same proposal goes above or below, as the cost asks; no search between."""
    context = towards(1.0, 2.0)
    for side in (1.0, -1.0):
        objective = DecodedObjective(lambda values, actions, side=side: -side * values[..., 1], "state", point())
        plan = SampleScoreRank(point(), proposal=learned, horizon=4, samples=32).plan(context, objective)
        assert (side * (plan.actions[..., 1] * DETOUR).sum(-1) > 0.5).all()


@pytest.mark.parametrize("mode", ["none", "shift", "renoise"])
def test_decisions_of_a_controller_follow_each_other(learned, mode):
    model = point()
    planner = SampleScoreRank(model, proposal=learned, horizon=4, samples=24, warm_start=mode)
    controller = Controller(planner, GoalObjective)
    state = np.array([[0.0, 0.0], [0.5, -0.5]], dtype=np.float32)
    goal = state + np.array([[2.0, 0.0]], dtype=np.float32)
    controller.set_goal({"state": goal})
    for _ in range(4):
        state = state + controller.act({"state": state})
    assert (goal - state)[:, 0].max() < 1.1, "a quarter of what remains at every decision leaves 0.63 of 2"
    assert len(controller.decisions) == 4


def test_variations_of_the_last_plan_keep_its_way(learned):
    """Both ways are equally good; with the last plan at hand, the next one stays on its way."""
    model, context = point(), towards(1.0, 1.4)
    objective = GoalObjective(context.goal)
    planner = SampleScoreRank(model, proposal=learned, horizon=4, samples=4, renoise_share=0.75, strength=0.2)
    warm = learned.propose(context, 1, 4, fresh(5))[:, 0]
    plan = planner.plan(context, objective, warm, generator=fresh())
    way, before = ((each[..., 1] * DETOUR).sum(-1).sign() for each in (plan.actions, warm))
    assert torch.equal(way, before)
    stated = objective.cost(model.rollout(context, warm[:, None]), warm[:, None])[:, 0]
    assert (plan.cost <= stated + 1e-6).all()


def test_batched_equals_looped_with_a_learned_proposal(learned):
    context, warm = towards(1.0, 0.6, 2.0), torch.full((3, 4, 2), 0.1)
    planner = SampleScoreRank(point(), proposal=learned, horizon=4, samples=12)
    objective = GoalObjective(context.goal)
    whole = planner.plan(context, objective, warm, generator=fresh())
    for row in range(3):
        one = torch.tensor([row])
        alone = planner.plan(context.select(one), objective.select(one), warm[one], generator=fresh())
        torch.testing.assert_close(whole.actions[row], alone.actions[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"warm_start": "guess"}, "warm_start is 'guess'; give 'none', 'shift', 'renoise'"),
        ({"renoise_share": 1.0}, "renoise_share is 1.0"),
        ({"strength": 0.0}, "strength is 0.0"),
        ({"top": 65}, "top is 65"),
    ],
)
def test_mistakes_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        SampleScoreRank(point(), **options)


def test_a_missing_goal_is_named(learned):
    context = replace(towards(1.0), goal=None)
    with pytest.raises(ValueError, match="no goal"):
        SampleScoreRank(point(), proposal=learned, horizon=4).plan(context, score(1))
