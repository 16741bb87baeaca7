"""How expected a plan is under a diffusion proposal: against closed forms, and against plans unlike the data."""

import math

import pytest
import torch
from fork import diffusion_proposal, fork_data, fresh, regression_proposal, towards

from wmkit.contracts import Context, SupportsLikelihood
from wmkit.diffusion.process import Diffusion, DiffusionConfig
from wmkit.planners import DiffusionProposal, MixtureProposal
from wmkit.planners.proposals import likelihood


def _optimal(diffusion, mean, std):
    """Return the optimal denoiser of independent normal numbers, in the terms of the process."""

    def denoise(noisy, levels, rows):
        alpha, sigma = (part.to(noisy).view(-1, 1, 1) for part in diffusion.coefficients(levels))
        gain = std**2 * alpha / (std**2 * alpha**2 + sigma**2)
        clean = mean + gain * (noisy - alpha * mean)
        return diffusion.target(clean, (noisy - alpha * clean) / sigma, levels)

    return denoise


@pytest.fixture(scope="module")
def learned():
    """A proposal that has learned the fork."""
    return diffusion_proposal(steps=250)


PROCESSES = (DiffusionConfig(), DiffusionConfig(kind="flow"), DiffusionConfig(beta_schedule="linear"))


@pytest.mark.parametrize("config", PROCESSES)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 0.6), (-0.3, 0.3)])
def test_normal_numbers_have_their_log_density(config, mean, std):
    diffusion = Diffusion(config)
    clean = mean + std * torch.randn(64, 5, 2, generator=fresh(1))
    found = likelihood.log_likelihood(diffusion, _optimal(diffusion, mean, std), clean, 5, fresh())
    density = torch.distributions.Normal(mean, std).log_prob(clean).sum(dim=(1, 2))
    wanted = (density + clean[0].numel() / 2 * math.log(2 * math.pi * math.e)) / 5
    assert torch.corrcoef(torch.stack([found, wanted]))[0, 1] > 0.99
    assert float((found - wanted).abs().mean()) < 0.25, "what is beyond the levels is left out"


def test_more_draws_come_nearer(monkeypatch):
    diffusion = Diffusion(DiffusionConfig())
    clean = 0.5 * torch.randn(64, 5, 2, generator=fresh(1))
    wanted = torch.distributions.Normal(0.0, 0.5).log_prob(clean).sum(dim=(1, 2)) / 5 + math.log(2 * math.pi * math.e)
    errors = []
    for pairs in (1, 32):
        monkeypatch.setattr(likelihood, "_PAIRS", pairs)
        found = likelihood.log_likelihood(diffusion, _optimal(diffusion, 0.0, 0.5), clean, 5, fresh())
        errors.append(float((found - wanted).abs().mean()))
    assert errors[1] < 0.8 * errors[0]
    assert errors[1] < 0.06


def test_levels_lie_evenly_in_the_log_of_the_signal_to_noise_ratio():
    for config in (DiffusionConfig(), DiffusionConfig(kind="flow"), DiffusionConfig(train_steps=100)):
        levels, ratios, weights = likelihood.quadrature(Diffusion(config))
        alpha, sigma = Diffusion(config).coefficients(levels)
        torch.testing.assert_close(ratios, (alpha / sigma).square(), rtol=1e-3, atol=1e-3)
        assert (levels.diff() < 0).all()
        assert float(weights.sum()) == pytest.approx(float((ratios[-1] / ratios[0]).log()), rel=1e-4)
        assert float(weights.sum()) == pytest.approx(9.0, abs=0.5)
    assert len(likelihood.quadrature(Diffusion(DiffusionConfig(train_steps=4)))[0]) <= 3


def test_data_are_more_expected_than_what_is_not(learned):
    data, rows = fork_data(m=64, seed=7), torch.randperm(64, generator=fresh())
    context = Context(data.latents[:, :1], data.actions[:, :0], goal=data.goal)
    usual = learned.log_likelihood(context, data.actions)
    unlike = {
        "random": 2 * torch.rand(data.actions.shape, generator=fresh()) - 1,
        "begun too late": data.actions.roll(1, dims=1),
        "straight, between the two ways": data.actions * torch.tensor([1.0, 0.0]),
        "towards another's goal": data.actions[rows],
    }
    for name, actions in unlike.items():
        found = learned.log_likelihood(context, actions)
        assert (usual > found).float().mean() > (0.8 if name == "towards another's goal" else 0.95), name
    drawn = learned.propose(context, 1, 4, fresh())[:, 0]
    assert learned.log_likelihood(context, drawn).median() > usual.quantile(0.1), "its own draws are expected"
    other_way = data.actions * torch.tensor([1.0, -1.0])
    assert abs(float((learned.log_likelihood(context, other_way) - usual).mean())) < 0.2 * float(usual.mean())


@pytest.mark.parametrize("horizon", [2, 4])
def test_the_same_call_gives_the_same_number_and_rows_are_on_their_own(learned, horizon):
    context, plans = towards(1.0, 0.5, 2.0), torch.rand(3, horizon, 2, generator=fresh())
    found = learned.log_likelihood(context, plans)
    assert found.shape == (3,)
    assert found.isfinite().all()
    assert torch.equal(found, learned.log_likelihood(context, plans))
    for row in range(3):
        alone = learned.log_likelihood(context.select(torch.tensor([row])), plans[row : row + 1])
        torch.testing.assert_close(alone[0], found[row], rtol=1e-3, atol=1e-3)
    other = learned.log_likelihood(context, plans, fresh(9))
    assert not torch.equal(found, other), "a generator of one's own decides the noise"
    assert torch.equal(other, learned.log_likelihood(context, plans, fresh(9)))


def test_a_shorter_plan_is_told_apart_too(learned):
    context, straight = towards(*[1.0] * 8), torch.tensor([0.5, 0.0]).expand(8, 2, 2)
    usual = learned.propose(towards(*[0.5] * 8), 1, 2, fresh())[:, 0]
    short = learned.log_likelihood(towards(*[0.5] * 8), usual)
    assert (short > learned.log_likelihood(context, -straight)).all()


def test_numbers_drawn_elsewhere_stay_as_they_are(learned):
    state = torch.get_rng_state()
    learned.log_likelihood(towards(1.0), torch.zeros(1, 2, 2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 4, 2), (2, 4, 3), (2, 4), (2, 1, 4, 2)])
def test_shapes_that_do_not_fit(learned, shape):
    with pytest.raises(ValueError, match=r"actions are .*; expected \(2, H, 2\)"):
        learned.log_likelihood(towards(1.0, 2.0), torch.zeros(shape))


def test_a_plan_that_is_too_long_or_without_a_goal(learned):
    with pytest.raises(ValueError, match="plans 1 to 4 model steps, not 5"):
        learned.log_likelihood(towards(1.0), torch.zeros(1, 5, 2))
    with pytest.raises(ValueError, match="has no goal"):
        learned.log_likelihood(Context(torch.zeros(1, 1, 2), torch.zeros(1, 0, 2)), torch.zeros(1, 4, 2))


def test_proposals_tell_whether_they_have_one(learned, tmp_path):
    assert isinstance(learned, SupportsLikelihood)
    for other in (diffusion_proposal(joint=True), regression_proposal(), MixtureProposal([learned])):
        assert not isinstance(other, SupportsLikelihood)
    learned.save_pretrained(tmp_path / "p")
    loaded = DiffusionProposal.from_pretrained(tmp_path / "p")
    context, plans = towards(1.0), torch.zeros(1, 4, 2)
    assert torch.equal(loaded.log_likelihood(context, plans), learned.log_likelihood(context, plans))


def test_a_copy_with_a_prefix_has_its_own(learned):
    twin = learned.with_prefix(torch.zeros(1, 2))
    assert twin.log_likelihood.__self__ is twin
    context, plans = towards(1.0), torch.full((1, 4, 2), 0.2)
    assert torch.equal(twin.log_likelihood(context, plans), learned.log_likelihood(context, plans))
