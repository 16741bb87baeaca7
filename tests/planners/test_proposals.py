"""Proposals: shapes, bounds, means, and the inverse dynamics' walk."""

from dataclasses import replace

import pytest
import torch
from integrators import double_integrators

from wmkit.linear_model import LinearModel
from wmkit.planners import (
    CEM,
    GaussianProposal,
    GoalObjective,
    InverseDynamicsProposal,
    MixtureProposal,
    ProposalPlanner,
)


def fresh():
    return torch.Generator().manual_seed(3)


def all_proposals(model):
    gaussian, inverse = GaussianProposal(model, std=2.0), InverseDynamicsProposal(model, std=2.0)
    return [gaussian, inverse, MixtureProposal([gaussian, inverse], [1, 2])]


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 7])
def test_shapes_bounds_and_generator(kind, n, model, context):
    proposal = all_proposals(model)[kind]
    drawn = proposal.propose(context, n, 4, fresh())
    assert drawn.shape == (3, n, 4, 2)
    assert drawn.abs().max() <= 2.0
    assert torch.equal(drawn, proposal.propose(context, n, 4, fresh()))
    one = torch.tensor([1])
    torch.testing.assert_close(drawn[1:2], proposal.propose(context.select(one), n, 4, fresh()))


def test_gaussian_scatters_around_its_mean(model, context):
    drawn = GaussianProposal(model, std=0.1, mean=torch.tensor([0.5, -0.5])).propose(context, 5000, 1, fresh())
    assert drawn[:, 0].flatten().tolist() == [0.5, -0.5] * 3
    assert drawn[0, 1:, 0].mean(0).tolist() == pytest.approx([0.5, -0.5], abs=0.02)
    assert drawn[0, 1:, 0].std(0).tolist() == pytest.approx([0.2, 0.2], abs=0.02)


def test_inverse_dynamics_walk_arrives_when_the_horizon_ends(context):
    point = LinearModel(torch.eye(4), torch.eye(4)[:2], action_repeat=2, bound=1.0)
    start = replace(context, actions=torch.zeros(3, 0, 4), goal=context.latents[:, 0] + torch.tensor([0.9, -0.6, 0, 0]))
    plan = ProposalPlanner(point, InverseDynamicsProposal(point), horizon=3).plan(start, GoalObjective(start.goal))
    torch.testing.assert_close(plan.latents[:, -1], start.goal)
    torch.testing.assert_close(plan.latents[:, 0], start.latents[:, 0] + torch.tensor([0.3, -0.2, 0, 0]))


def test_inverse_dynamics_is_told_the_steps_left(context):
    told = []

    class Told(LinearModel):
        def inverse(self, latents, goals, steps):
            told.append(steps.tolist())
            return super().inverse(latents, goals, steps)

    base = double_integrators()
    model = Told(base._transition, base._control, bound=2.0)
    InverseDynamicsProposal(model).propose(context, 1, 3, fresh())
    assert told == [[3, 3, 3], [2, 2, 2], [1, 1, 1]]


def test_search_improves_on_the_inverse_dynamics_alone(model, context):
    objective, proposal = GoalObjective(context.goal, "sum"), InverseDynamicsProposal(model)
    alone = ProposalPlanner(model, proposal).plan(context, objective)
    searched = CEM(model, samples=64, iterations=4, elites=8, proposal=proposal).plan(context, objective)
    assert (searched.cost < alone.cost).all()


def test_mixture_shares_candidates_out(model, context):
    first, second = GaussianProposal(model, 0.0, torch.ones(2)), GaussianProposal(model, 0.0, -torch.ones(2))
    drawn = MixtureProposal([first, second], [3, 1]).propose(context, 8, 1, fresh())
    assert drawn[0, :, 0, 0].tolist() == [1.0] * 6 + [-1.0] * 2
    assert MixtureProposal([first, second]).propose(context, 1, 1, fresh())[0, :, 0, 0].tolist() == [1.0]


def test_mistakes_are_named(model, context):
    with pytest.raises(ValueError, match="no goal"):
        InverseDynamicsProposal(model).propose(replace(context, goal=None), 1, 2, fresh())
    with pytest.raises(ValueError, match=r"object has no inverse\(\)"):
        InverseDynamicsProposal(object())
    with pytest.raises(ValueError, match="one positive weight for each"):
        MixtureProposal([GaussianProposal(model)], [0.0])
