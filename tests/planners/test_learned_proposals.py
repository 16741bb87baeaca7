"""Diffusion and regression proposals: what they offer, how they are led, and what they refuse."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from fork import DETOUR, STEPS, config_of, diffusion_proposal, fork_data, fresh, point, regression_proposal, towards

from wmkit.contracts import Context
from wmkit.data.latents import SequenceBatch
from wmkit.diffusion.process import DiffusionConfig, Sampling
from wmkit.errors import UserError
from wmkit.linear_model import LinearModel
from wmkit.planners import (
    CEM,
    MPPI,
    DiffusionProposal,
    GoalObjective,
    MixtureProposal,
    RegressionProposal,
    SteppedProposal,
)

SAMPLINGS = [
    Sampling("ddim", 4),
    Sampling("ddim", 4, eta=1.0),
    Sampling("ddpm", 5),
    Sampling("dpm-solver++", 4),
    Sampling("flow-heun", 3),
]

NAMES = ("diffusion", "regression", "stepped", "stepped regression")


@pytest.fixture(scope="module")
def learned():
    """A diffusion proposal that has learned the fork."""
    return diffusion_proposal(steps=400)


def all_proposals(sampling=None):
    """Return one proposal of each class, with random weights."""
    diffusion = diffusion_proposal()
    diffusion.sampling = sampling or diffusion.sampling
    regression = regression_proposal()
    stepped = [SteppedProposal(proposal, point()) for proposal in (diffusion, regression)]
    return {"diffusion": diffusion, "regression": regression, "stepped": stepped[0], "stepped regression": stepped[1]}


@pytest.mark.parametrize("name", NAMES)
def test_shapes_generator_and_batched_equals_looped(name):
    proposal, context = all_proposals()[name], towards(1.0, 0.5, 2.0)
    for n, horizon in ((1, 4), (5, 3)):
        drawn = proposal.propose(context, n, horizon, fresh())
        assert drawn.shape == (3, n, horizon, 2)
        assert torch.equal(drawn, proposal.propose(context, n, horizon, fresh()))
        for row in range(3):
            alone = proposal.propose(context.select(torch.tensor([row])), n, horizon, fresh())
            torch.testing.assert_close(drawn[row], alone[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(drawn[0, 1], drawn[0, 2]), "candidates are drawn apart"


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: f"{sampling.sampler} {sampling.eta:g}")
def test_batched_equals_looped_with_every_sampler(sampling):
    proposal, context, warm = all_proposals(sampling)["diffusion"], towards(1.0, 0.5), torch.zeros(2, 4, 2)
    for draw in (
        lambda part, rows: proposal.propose(part, 3, 4, fresh()),
        lambda part, rows: proposal.refine(part, warm[rows], 3, 0.5, fresh()),
    ):
        drawn, one = draw(context, [0, 1]), torch.tensor([1])
        torch.testing.assert_close(drawn[1:], draw(context.select(one), [1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bounds_hold_where_they_bind(name):
    proposal = all_proposals()[name]
    inner = getattr(proposal, "proposal", proposal)
    inner.features.action_std *= 20
    drawn = proposal.propose(towards(1.0), 16, 4, fresh())
    assert drawn.abs().max() == 1.0


def test_diffusion_keeps_both_ways_where_regression_gives_their_useless_mean(learned):
    context = towards(1.0, 2.0)
    first = learned.propose(context, 64, 4, fresh())
    detours = (first[..., 1] * DETOUR.sign()).mean(dim=-1)
    assert ((detours.abs() - 0.5).abs() < 0.2).float().mean() > 0.9, "nearly all candidates take one of the two ways"
    for row in range(2):
        assert 0.2 < (detours[row] > 0).float().mean() < 0.8, "both ways are offered"
    assert first[..., 0].mean(dim=(1, 2)).tolist() == pytest.approx([0.25, 0.5], abs=0.05), "the goal counts"
    cloned = regression_proposal(steps=200).propose(context, 1, 4, fresh())[:, 0]
    assert cloned[..., 1].abs().max() < 0.2
    assert cloned[..., 0].mean(dim=1).tolist() == pytest.approx([0.25, 0.5], abs=0.05)


def test_refining_goes_as_far_as_asked(learned):
    context = towards(1.0, 1.5)
    plan = learned.propose(context, 1, 4, fresh(1))[:, 0]
    moved = {
        strength: (learned.refine(context, plan, 64, strength, fresh()) - plan[:, None]).abs().mean()
        for strength in (0.1, 0.5, 1.0)
    }
    assert moved[0.1] < 0.1 < moved[1.0]
    assert moved[0.1] <= moved[0.5] < moved[1.0]
    forgotten, other = (learned.refine(context, each, 8, 1.0, fresh()) for each in (plan, -plan))
    torch.testing.assert_close(forgotten, other, rtol=1e-4, atol=1e-4)
    side = (learned.refine(context, plan, 64, 0.1, fresh())[..., 1] * DETOUR).sum(-1).sign()
    assert (side == (plan[..., 1] * DETOUR).sum(-1, keepdim=True).sign()).all(), "little noise keeps the way"


def test_a_shorter_plan_is_refined_as_it_is(learned):
    context, plan = towards(1.0), torch.tensor([[[0.3, 0.4], [0.2, -0.4]]])
    assert learned.refine(context, plan, 5, 0.3, fresh()).shape == (1, 5, 2, 2)


def test_waypoints_are_hit_and_others_are_not():
    proposal, context = diffusion_proposal(joint=True), towards(1.0, 0.5)
    whole, part = torch.tensor([[0.7, -0.2], [0.1, 0.9]]), torch.tensor([0.3])
    led = proposal.with_waypoints({2: (whole, None), 4: (part, (1,))})
    actions, latents = led.imagine(context, 6, 4, fresh())
    torch.testing.assert_close(latents[:, :, 1], whole[:, None].expand(-1, 6, -1))
    torch.testing.assert_close(latents[:, :, 3, 1], part.expand(2, 6))
    assert latents[:, :, 0].std() > 0.01
    free, unled = proposal.imagine(context, 6, 4, fresh())
    assert (unled[:, :, 1] - whole[:, None]).abs().max() > 0.1, "the original is left as it was"
    assert not torch.allclose(free, actions), "waypoints lead the actions"
    torch.testing.assert_close(led.propose(context, 6, 4, fresh()), actions)


def test_with_repeats_the_rest_of_a_plan_follows_the_waypoint_further():
    """Plans of any width go straight: half of the last step's x belongs at the second."""
    proposal = diffusion_proposal(steps=400, joint=True, features={"goal": False})
    context, far = Context(torch.zeros(2, 1, 2), torch.zeros(2, 0, 2)), torch.tensor([2.4])
    moved = {}
    for repeats in (1, 5):
        led = proposal.with_waypoints({STEPS: (far, (0,))}, repeats=repeats)
        _, latents = led.imagine(context, 64, STEPS, fresh())
        torch.testing.assert_close(latents[:, :, -1, 0], far.expand(2, 64))
        moved[repeats] = latents[:, :, 1, 0].mean().item()
    assert abs(moved[5] - 1.2) < 0.8 * abs(moved[1] - 1.2)


def test_batched_equals_looped_with_repeats():
    proposal, context, warm = diffusion_proposal(joint=True), towards(1.0, 0.5), torch.zeros(2, 4, 2)
    led = proposal.with_waypoints({2: (torch.tensor([0.3]), (1,))}, repeats=3)
    reached = proposal.with_waypoints({}, repeats=3)
    reached.inpaint_goal = True
    assert not proposal.inpaint_goal
    for each in (led, reached):
        for draw in (
            lambda part, rows, each=each: each.propose(part, 3, 4, fresh()),
            lambda part, rows, each=each: each.refine(part, warm[rows], 3, 0.5, fresh()),
        ):
            drawn, one = draw(context, [0, 1]), torch.tensor([1])
            torch.testing.assert_close(drawn[1:], draw(context.select(one), [1]), rtol=1e-4, atol=1e-5)
    once = proposal.with_waypoints({2: (torch.tensor([0.3]), (1,))})
    assert not torch.allclose(once.propose(context, 3, 4, fresh()), led.propose(context, 3, 4, fresh()))


def test_the_goal_is_put_at_the_last_step():
    proposal, context = diffusion_proposal(joint=True), towards(1.0, 0.5)
    proposal.inpaint_goal = True
    for horizon in (2, 4):
        _, latents = proposal.imagine(context, 3, horizon, fresh())
        torch.testing.assert_close(latents[:, :, -1], context.goal[:, None].expand(-1, 3, -1))
    proposal.inpaint_goal = False
    _, latents = proposal.imagine(context, 3, 4, fresh())
    assert not torch.allclose(latents[:, :, -1], context.goal[:, None].expand(-1, 3, -1), atol=0.05)


def test_a_joint_proposal_refines_too():
    proposal, plan = diffusion_proposal(joint=True), torch.full((2, 4, 2), 0.2)
    near = proposal.refine(towards(1.0, 0.5), plan, 3, 0.1, fresh())
    assert near.shape == (2, 3, 4, 2)
    one = torch.tensor([1])
    alone = proposal.refine(towards(1.0, 0.5).select(one), plan[one], 3, 0.1, fresh())
    torch.testing.assert_close(near[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_a_prefix_is_kept_and_the_rest_is_drawn(joint):
    proposal, context = diffusion_proposal(joint=joint), towards(1.0, 0.5)
    prefix = torch.tensor([[[0.1, 0.9], [-0.5, 0.3]], [[0.4, -0.4], [0.0, 1.0]]])
    drawn = proposal.with_prefix(prefix).propose(context, 5, 4, fresh())
    torch.testing.assert_close(drawn[:, :, :2], prefix[:, None].expand(-1, 5, -1, -1), rtol=1e-4, atol=1e-5)
    assert (drawn[:, 0, 2:] - drawn[:, 1, 2:]).abs().max() > 0.01
    assert not torch.allclose(drawn[:, :, 2:], proposal.propose(context, 5, 4, fresh())[:, :, 2:])


def test_steps_beyond_the_goal_do_not_count():
    """Actions after the goal are changed beyond recognition; the loss stays, while it moves with those before.

    The diffusion's network, which sees all of the noisy plan, puts out 0: its loss is then that of the targets alone.
    """
    for proposal in (diffusion_proposal(), regression_proposal()):
        if isinstance(proposal, DiffusionProposal):
            proposal.network.exit.requires_grad_(False).weight.zero_()
            proposal.network.exit.bias.zero_()
        data = fork_data(32)
        data = replace(data, steps=torch.full((32,), 2))
        after, before = data.actions.clone(), data.actions.clone()
        after[:, 2:] += 5
        before[:, :2] += 5
        losses = [
            proposal.training_loss(replace(data, actions=actions), fresh())[0].item()
            for actions in (data.actions, after, before)
        ]
        assert losses[1] == pytest.approx(losses[0])
        assert losses[2] > 2 * losses[0]


def test_fixed_noise_is_that_of_the_window():
    proposal, data = diffusion_proposal(joint=True), fork_data(16)
    losses = [
        proposal.training_loss(data, fresh(seed), fixed=fixed)[0].item() for fixed in (True, False) for seed in (1, 2)
    ]
    assert losses[0] == losses[1]
    assert losses[2] != losses[3]
    other = proposal.training_loss(replace(data, rows=data.rows + 100), fresh(), fixed=True)[0]
    assert other.item() != losses[0]


def test_a_history_may_still_be_short():
    proposal = diffusion_proposal(features={"history": 3, "goal": False})
    latents, actions = torch.randn(64, 7, 2, generator=fresh()), torch.randn(64, 6, 2, generator=fresh())
    proposal.features.fit(latents, actions)
    loss, _ = proposal.training_loss(SequenceBatch(latents, actions, None, None, torch.arange(64)), fresh())
    assert torch.isfinite(loss)
    for t in (1, 2, 3):
        context = Context(latents[:2, :t], actions[:2, : t - 1])
        assert proposal.propose(context, 2, 4, fresh()).shape == (2, 2, 4, 2)


@pytest.mark.parametrize("kind", ["ddpm", "flow"])
def test_saved_and_loaded_it_proposes_the_same(kind, tmp_path):
    proposal = diffusion_proposal(joint=True, kind=kind)
    proposal.sampling = Sampling("flow-heun", 3)
    proposal.metadata = {"data": {"name": "fork"}}
    proposal.save_pretrained(tmp_path / "p")
    loaded = DiffusionProposal.from_pretrained(tmp_path / "p")
    assert (loaded.config, loaded.sampling, loaded.metadata) == (proposal.config, proposal.sampling, proposal.metadata)
    assert torch.equal(*(each.propose(towards(1.0), 3, 4, fresh()) for each in (proposal, loaded)))
    regression = regression_proposal()
    regression.save_pretrained(tmp_path / "r")
    again = RegressionProposal.from_pretrained(tmp_path / "r")
    assert torch.equal(*(each.propose(towards(1.0), 1, 4, fresh()) for each in (regression, again)))
    with pytest.raises(UserError, match="not of a diffusion-proposal"):
        DiffusionProposal.from_pretrained(tmp_path / "r")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"action_low": (-1.0,) * 4, "action_high": (1.0,) * 4}, "block_size 2, and this one has 4"),
        ({"action_repeat": 2, "action_low": (-1.0,), "action_high": (1.0,)}, "action_repeat 1, and this one has 2"),
        ({"latent_size": 3}, "latent_size 2, and this one has 3"),
        ({"seconds_per_step": 0.2}, "seconds_per_step 0.1, and this one has 0.2"),
    ],
)
@pytest.mark.parametrize("wrap", ["plain", "mixture", "stepped"])
def test_another_kind_of_model_is_refused_in_one_line(options, text, wrap):
    proposal = diffusion_proposal()
    wrapped = {
        "plain": proposal,
        "mixture": MixtureProposal([proposal]),
        "stepped": SteppedProposal(proposal, point()),
    }[wrap]
    CEM(point(), horizon=4, proposal=wrapped)
    other = point()
    other._spec = replace(other.spec, **options)
    with pytest.raises(ValueError, match=text) as caught:
        CEM(other, horizon=4, proposal=wrapped)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("planner_class", [CEM, MPPI])
def test_the_same_proposal_seeds_other_planners(planner_class, learned):
    """A few wild iterations from rest do worse than the same from the proposal."""
    context, model = towards(2.0, 2.2), point()
    objective = GoalObjective(context.goal)
    options = {"horizon": 4, "samples": 16, "iterations": 1, "seed": 0} | (
        {"elites": 4} if planner_class is CEM else {}
    )
    plain = planner_class(model, **options).plan(context, objective, generator=fresh())
    seeded = planner_class(model, **options, proposal=learned, proposal_share=0.5)
    assert (seeded.plan(context, objective, generator=fresh()).cost < plain.cost).all()


def test_steps_that_remain_are_told_and_any_horizon_will_do():
    told = []

    class Told(RegressionProposal):
        def continued(self, context, n, horizon, steps, generator):
            told.append((context.batch, horizon, steps))
            return super().continued(context, n, horizon, steps, generator)

    proposal = Told(config_of({"width": 16}, features={"horizon": 1}), std=0.3)
    proposal.features.fitted += 1
    drawn = SteppedProposal(proposal, point()).propose(towards(1.0, 0.5), 3, 6, fresh())
    assert drawn.shape == (2, 3, 6, 2)
    assert told == [(6, 1, steps) for steps in (6, 5, 4, 3, 2, 1)]
    assert not torch.allclose(drawn[:, 1, 0], drawn[:, 1, 1]), "every step draws anew"


def test_mistakes_are_named():
    proposal, context = diffusion_proposal(), towards(1.0)
    with pytest.raises(ValueError, match="1 to 4 model steps, not 5"):
        proposal.propose(context, 1, 5, fresh())
    with pytest.raises(ValueError, match="no goal"):
        proposal.propose(replace(context, goal=None), 1, 4, fresh())
    with pytest.raises(ValueError, match="the context has 3 and 2"):
        proposal.propose(Context(torch.zeros(1, 1, 3), context.actions, goal=torch.zeros(1, 3)), 1, 4, fresh())
    with pytest.raises(ValueError, match="not joint"):
        proposal.with_waypoints({1: (torch.zeros(2), None)})
    with pytest.raises(ValueError, match="step of 1 to 4"):
        diffusion_proposal(joint=True).with_waypoints({5: (torch.zeros(2), None)})
    with pytest.raises(ValueError, match="repeats is 0; give 1 or more"):
        diffusion_proposal(joint=True).with_waypoints({1: (torch.zeros(2), None)}, repeats=0)
    with pytest.raises(ValueError, match="expected \\(B, at most 4, 2\\)"):
        proposal.with_prefix(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="strength is 0"):
        proposal.refine(context, torch.zeros(1, 4, 2), 1, 0, fresh())
    with pytest.raises(ValueError, match="schedule has"):
        proposal.sampling = Sampling("ddim", 101)
    with pytest.raises(ValueError, match="give a DiffusionConfig"):
        DiffusionProposal(config_of({}))
    with pytest.raises(ValueError, match="take DiffusionProposal"):
        RegressionProposal(config_of({}, DiffusionConfig()))
    with pytest.raises(ValueError, match=r"no continued\(\)"):
        SteppedProposal(object(), point())


def test_importing_the_planners_leaves_diffusers_alone():
    code = "import sys, wmkit.planners; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class _OnePlan:
    """A proposal that offers one plan, as a centre or as a draw."""

    def __init__(self, centred: bool) -> None:
        self.centred = centred

    def propose(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> torch.Tensor:
        return torch.full((context.batch, n, horizon, 1), 0.5)

    def continued(self, context: Context, n: int, horizon: int, steps: int, generator: torch.Generator) -> torch.Tensor:
        return torch.full((context.batch, horizon, 1), 0.5)


@pytest.mark.parametrize("wrap", ["plain", "mixture", "stepped", "stepped in a mixture"])
@pytest.mark.parametrize(("centred", "start"), [(True, 0.5), (False, -0.25)])
def test_draws_are_candidates_and_no_place_to_start_from(centred, start, wrap):
    seen = []

    class Watching(MPPI):
        def start(self, problem):
            seen.append(problem.initial.flatten()[0].item())
            return super().start(problem)

    model = LinearModel(torch.eye(1), torch.eye(1))
    plain, other = _OnePlan(centred), _OnePlan(not centred)
    proposal = {
        "plain": plain,
        "mixture": MixtureProposal([plain, other]),
        "stepped": SteppedProposal(plain, model),
        "stepped in a mixture": MixtureProposal([SteppedProposal(plain, model), other]),
    }[wrap]
    planner = Watching(model, horizon=2, samples=4, iterations=1, proposal=proposal, proposal_share=0.5)
    context = Context(torch.zeros(1, 1, 1), torch.zeros(1, 0, 1))
    planner.plan(context, GoalObjective(torch.zeros(1, 1)), warm_start=torch.full((1, 2, 1), -0.25))
    assert seen == [start]
    assert not DiffusionProposal.centred
