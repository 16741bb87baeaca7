"""Samplers against Gaussian data: with the best denoiser, each of them must give the data's mean and covariance."""

from itertools import pairwise

import pytest
import torch
from gaussian import COVARIANCE, MEAN, denoiser, errors, white_noise
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.diffusion.process import Diffusion, DiffusionConfig, Known, Sampling

SAMPLERS = ("ddpm", "ddim", "dpm-solver++", "flow-euler", "flow-heun")
STEADY = SAMPLERS[1:]
CONFIGS = [
    DiffusionConfig(prediction=prediction, beta_schedule=schedule)
    for prediction in ("sample", "epsilon", "v_prediction")
    for schedule in ("squaredcos_cap_v2", "linear")
]
DDPM, FLOW = Diffusion(DiffusionConfig()), Diffusion(DiffusionConfig(kind="flow"))
EVERY = [(DDPM, name) for name in SAMPLERS] + [(FLOW, name) for name in SAMPLERS[3:]]


def _id(value):
    return value.config.kind if isinstance(value, Diffusion) else None


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.prediction}-{c.beta_schedule}")
@pytest.mark.parametrize("name", STEADY)
def test_steady_samplers_give_the_data(name, config):
    diffusion = Diffusion(config)
    found = diffusion.sample(denoiser(diffusion), white_noise(64), Sampling(name, 100))
    mean, covariance = errors(found)
    assert mean < 0.01
    assert covariance < 0.025


@pytest.mark.parametrize("name", STEADY[2:])
def test_a_flow_gives_the_data(name):
    mean, covariance = errors(FLOW.sample(denoiser(FLOW), white_noise(64), Sampling(name, 100)))
    assert mean < 1e-3
    assert covariance < 0.02


@pytest.mark.parametrize("sampling", [Sampling("ddpm", 200), Sampling("ddim", 200, eta=1.0)], ids=lambda s: s.sampler)
def test_samplers_with_fresh_noise_give_the_data(sampling):
    found = DDPM.sample(denoiser(DDPM), white_noise(8000), sampling, generator=_generator())
    mean, covariance = errors(found)
    assert mean < 0.04
    assert covariance < 0.04


@pytest.mark.parametrize(
    ("diffusion", "name", "order"),
    [
        (DDPM, "ddim", 1),
        (DDPM, "flow-euler", 1),
        (DDPM, "flow-heun", 2),
        (DDPM, "dpm-solver++", 2),
        (FLOW, "flow-euler", 1),
        (FLOW, "flow-heun", 2),
    ],
    ids=_id,
)
def test_error_falls_with_the_order_of_the_sampler(diffusion, name, order):
    few, many = (
        errors(diffusion.sample(denoiser(diffusion), white_noise(64), Sampling(name, steps)))[1] for steps in (10, 20)
    )
    assert few / many > 1.7**order


def test_as_many_steps_as_the_schedule_are_the_library_s_own():
    """All levels visited: then the table of the visited levels is the table of the library."""
    from diffusers import DDIMScheduler

    config = DiffusionConfig(train_steps=40)
    diffusion, noise = Diffusion(config), white_noise(8)
    scheduler = DDIMScheduler(40, beta_schedule=config.beta_schedule, prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(40)
    expected, network = noise, denoiser(diffusion)
    for t in scheduler.timesteps:
        expected = scheduler.step(network(expected, ((t + 1) / 40).expand(8)), t, expected).prev_sample
    torch.testing.assert_close(diffusion.sample(network, noise, Sampling("ddim", 40)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("diffusion", "name"), EVERY[1:], ids=_id)
def test_steady_samplers_are_functions_of_the_noise(diffusion, name):
    noise, network = white_noise(6), denoiser(diffusion)
    whole = diffusion.sample(network, noise, Sampling(name, 7))
    parts = [diffusion.sample(network, part, Sampling(name, 7), generator=_generator(5)) for part in noise.split(2)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=1e-6)
    assert (whole[0] - whole[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("diffusion", "name"), EVERY, ids=_id)
def test_gradients_reach_what_the_network_is_given(diffusion, name):
    """The network's answer moved by so much, the sample moves as its gradient says."""
    best, noise = denoiser(diffusion), white_noise(4)

    def total(push):
        found = diffusion.sample(
            lambda noisy, at: best(noisy, at) + push, noise, Sampling(name, 4), generator=_generator()
        )
        return found.sum()

    push = torch.zeros(2, requires_grad=True)
    (gradient,) = torch.autograd.grad(total(push), push)
    for i in range(2):
        step = 0.1 * torch.eye(2)[i]
        slope = (total(step) - total(-step)).item() / 0.2
        assert gradient[i].item() == pytest.approx(slope, rel=0.01, abs=0.01)


@pytest.mark.parametrize("sampling", [Sampling("ddpm", 7), Sampling("ddim", 7, eta=0.5)], ids=lambda s: s.sampler)
def test_fresh_noise_comes_from_the_generator(sampling):
    noise, network = white_noise(6), denoiser(DDPM)
    one, same, other = (DDPM.sample(network, noise, sampling, generator=_generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize(
    ("diffusion", "sampler"), [(DDPM, "ddim"), (DDPM, "flow-euler"), (FLOW, "flow-euler")], ids=_id
)
@pytest.mark.parametrize("steps", [1, 3, 10, 37])
def test_steps_between_levels_add_up_to_a_sample(diffusion, sampler, steps):
    network, noisy = denoiser(diffusion), white_noise(8)
    levels = diffusion.grid(Sampling(sampler, steps))
    expected = diffusion.sample(network, noisy, Sampling(sampler, steps))
    for high, low in pairwise(levels):
        noisy = diffusion.step_between(network(noisy, torch.full((8,), high)), noisy, torch.full((8,), high), low)
    torch.testing.assert_close(noisy, expected, atol=2e-4, rtol=1e-3)


def test_levels_are_those_that_the_network_is_called_at():
    for diffusion, name in EVERY:
        called, best = [], denoiser(diffusion)

        def network(noisy, levels, called=called, inner=best):
            called.append(levels[0].item())
            return inner(noisy, levels)

        diffusion.sample(network, white_noise(4), Sampling(name, 6), generator=_generator())
        grid = diffusion.grid(Sampling(name, 6))[:-1]
        expected = grid[:1] + [level for level in grid[1:] for _ in range(2)] if name == "flow-heun" else grid
        assert called == pytest.approx(expected, abs=1e-6)


@given(st.sampled_from(EVERY), st.integers(1, 50), st.sampled_from(["trailing", "leading"]))
@settings(max_examples=60, deadline=None)
def test_grid_falls_from_noise_to_0(which, steps, spacing):
    diffusion, name = which
    levels = diffusion.grid(Sampling(name, steps, spacing))
    assert len(levels) == steps + 1
    assert levels[-1] == 0
    assert all(high > low for high, low in pairwise(levels))
    if spacing == "trailing" or name.startswith("flow"):
        assert levels[0] == pytest.approx(1)
    elif steps > 1:
        assert levels[0] < 1


def test_leading_and_trailing_levels():
    assert DDPM.grid(Sampling("ddim", 4)) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert DDPM.grid(Sampling("ddim", 4, "leading")) == [0.751, 0.501, 0.251, 0.001, 0.0]
    assert DDPM.grid(Sampling("ddim", 3))[:2] == [1.0, 0.667]


def test_flow_levels_of_a_ddpm_table_are_even_in_its_flow():
    alpha, sigma = DDPM.coefficients(torch.tensor(DDPM.grid(Sampling("flow-euler", 9)), dtype=torch.float64))
    shares = sigma / (alpha + sigma)
    torch.testing.assert_close(-shares.diff(), shares[:1].expand(9) / 9, atol=1e-9, rtol=0)


@pytest.mark.parametrize("config", [*CONFIGS, DiffusionConfig(kind="flow")], ids=lambda c: f"{c.kind}-{c.prediction}")
def test_outputs_stand_for_the_clean_sequence(config):
    diffusion, generator = Diffusion(config), _generator()
    clean, noise = torch.randn(2, 5, 3, 2, generator=generator).double()
    levels = torch.tensor([0.001, 0.2, 0.37, 0.61234, 0.9], dtype=torch.float64)
    noisy = diffusion.corrupt(clean, noise, levels)
    torch.testing.assert_close(diffusion.to_clean(diffusion.target(clean, noise, levels), noisy, levels), clean)


def test_levels_say_how_noisy():
    clean, noise = torch.full((3, 1, 1), 3.0), torch.full((3, 1, 1), 5.0)
    assert FLOW.corrupt(clean, noise, torch.tensor([0.0, 0.25, 1.0])).flatten().tolist() == [3.0, 3.5, 5.0]
    found = DDPM.corrupt(clean, noise, torch.tensor([0.0, 0.001, 1.0])).flatten()
    assert found[0] == 3.0
    assert 3.0 < found[1] < 3.1
    assert found[2] == pytest.approx(5.0, abs=1e-3)


@given(st.integers(1, 1000))
@settings(max_examples=50, deadline=None)
def test_the_table_is_the_library_s(step):
    """Also where a level, a number in single precision, is not quite step / 1000."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    alpha, sigma = DDPM.coefficients(torch.tensor([step / 1000]))
    kept = scheduler.alphas_cumprod[step - 1].double()
    torch.testing.assert_close(alpha[0].double(), kept.sqrt(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sigma[0].double(), (1 - kept).sqrt(), rtol=1e-6, atol=0)


def test_levels_to_train_at():
    levels = DDPM.draw_levels(20000, _generator())
    assert levels.dtype == torch.float32
    assert len(levels.unique()) == 1000
    assert torch.equal(levels.unique(), torch.arange(1, 1001) / 1000)
    continuous = FLOW.draw_levels(20000, _generator())
    assert len(continuous.unique()) > 15000
    assert 0 < continuous.min() < 0.01
    assert 0.99 < continuous.max() <= 1
    assert torch.equal(continuous, FLOW.draw_levels(20000, _generator()))


@pytest.mark.parametrize(("diffusion", "name"), EVERY, ids=_id)
@pytest.mark.parametrize(("repeats", "low", "high"), [(1, 0.3, 0.7), (10, 0.7, 1.0)])
def test_known_entries_are_exact_and_the_rest_follows_them(diffusion, name, repeats, low, high):
    """The second column given, the first leans towards its conditional mean, and more so with repeats."""
    known = Known(torch.tensor([0.0, 1.0]), torch.tensor([False, True]), repeats)
    found = diffusion.sample(
        denoiser(diffusion), white_noise(1000), Sampling(name, 20), generator=_generator(), known=known
    )
    assert torch.equal(found[:, 0, 1], torch.ones(1000))
    wanted = COVARIANCE[0, 1] / COVARIANCE[1, 1] * (1 - MEAN[1])
    assert low < (found[:, 0, 0].mean() - MEAN[0]) / wanted < high


def test_known_entries_are_as_noisy_as_the_rest_at_every_level():
    noise, seen = white_noise(5), []
    known = Known(torch.full((5, 1, 2), 7.0), torch.tensor([True, False]))

    def network(noisy, levels):
        alpha, sigma = DDPM.coefficients(levels[:1])
        seen.append(noisy[..., 0] - alpha * 7 - sigma * noise[..., 0])
        return torch.zeros_like(noisy)

    DDPM.sample(network, noise, Sampling("ddpm", 5), generator=_generator(), known=known)
    assert len(seen) == 5
    assert torch.stack(seen).abs().max() < 1e-4


@pytest.mark.parametrize(("diffusion", "name"), EVERY, ids=_id)
def test_predicted_sequences_are_clipped(diffusion, name):
    bounds = (torch.tensor([0.5, -0.1]), torch.tensor([0.9, 0.1]))
    found = diffusion.sample(
        denoiser(diffusion), white_noise(200), Sampling(name, 10), generator=_generator(), clip=bounds
    )
    assert (found >= bounds[0] - 1e-5).all()
    assert (found <= bounds[1] + 1e-5).all()
    assert found.std(dim=0).min() > 0.01


@pytest.mark.parametrize(("diffusion", "name"), EVERY, ids=_id)
def test_beginning_part_of_the_way(diffusion, name):
    """The weaker, the nearer to the start; and as long as the noise is right, the data's own points stay the data's."""
    noise, network = white_noise(400), denoiser(diffusion)
    start = MEAN.float() + white_noise(400, seed=1) @ torch.linalg.cholesky(COVARIANCE).T.float()

    def run(strength, steps=40):
        sampling = Sampling(name, steps)
        return diffusion.sample(network, noise, sampling, generator=_generator(), start=start, strength=strength)

    fresh = diffusion.sample(network, noise, Sampling(name, 40), generator=_generator())
    assert torch.equal(run(1.0), fresh)
    distances = [(run(strength) - start).square().mean().item() for strength in (0.1, 0.4, 0.8)]
    assert distances[0] < 0.05
    assert distances == sorted(distances)
    assert distances[-1] < (fresh - start).square().mean()
    assert errors(run(0.4))[0] < 0.1
    assert errors(run(0.4))[1] < 0.15


@pytest.mark.parametrize(("strength", "calls"), [(0.001, 1), (0.3, 3), (0.31, 4), (0.95, 10), (1.0, 10)])
def test_strength_is_a_share_of_the_steps(strength, calls):
    levels = []

    def network(noisy, at):
        levels.append(round(at[0].item(), 6))
        return torch.zeros_like(noisy)

    DDPM.sample(network, white_noise(4), Sampling("ddim", 10), start=torch.zeros(4, 1, 2), strength=strength)
    assert levels == [i / 10 for i in range(calls, 0, -1)]


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan")])
def test_strengths_that_are_none(strength):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        DDPM.sample(denoiser(DDPM), white_noise(4), Sampling(), start=torch.zeros(4, 1, 2), strength=strength)


@pytest.mark.parametrize(
    ("sampling", "config", "text"),
    [
        (Sampling("dpm"), DiffusionConfig(), "unknown sampler 'dpm'; known: ddpm, ddim, dpm-solver"),
        (Sampling(spacing="even"), DiffusionConfig(), "unknown spacing 'even'"),
        (Sampling(steps=51), DiffusionConfig(train_steps=50), "51 sampling steps; .* the schedule has no more"),
        (Sampling("flow-heun", 51), DiffusionConfig(kind="flow", train_steps=50), "51 sampling steps"),
        (Sampling(steps=0), DiffusionConfig(), "0 sampling steps; take 1 to 1000"),
        (Sampling("ddim"), DiffusionConfig(kind="flow"), "cannot be sampled by ddim; take flow-euler or flow-heun"),
        (Sampling("ddpm", eta=0.5), DiffusionConfig(), "eta is of ddim alone"),
        (Sampling(eta=1.5), DiffusionConfig(), "eta 1.5"),
    ],
)
def test_samplings_that_do_not_fit_are_refused_in_one_line(sampling, config, text):
    with pytest.raises(ValueError, match=text) as error:
        Diffusion(config).sample(denoiser(Diffusion(config)), white_noise(4), sampling)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [{"kind": "vae"}, {"prediction": "x0"}, {"beta_schedule": "round"}, {"train_steps": 0}],
)
def test_configurations_that_are_none(change):
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        DiffusionConfig(**change)


def test_settings_survive_json():
    config = DiffusionConfig(kind="flow", train_steps=50)
    sampling = Sampling("flow-heun", 3, "leading")
    assert DiffusionConfig.from_dict(config.to_dict()) == config
    assert DiffusionConfig.from_dict(config.to_dict() | {"ema_decay": 0.9}) == config, "older ones have it"
    with pytest.raises(ValueError, match="DiffusionConfig has no ema; it has kind"):
        DiffusionConfig.from_dict({"ema": 0.9})
    assert Sampling.from_dict(sampling.to_dict()) == sampling
    with pytest.raises(ValueError, match="Sampling has no stride; it has sampler, steps"):
        Sampling.from_dict({"stride": 2})
