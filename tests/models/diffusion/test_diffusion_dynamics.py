"""The diffusion dynamics."""

import pytest
import torch

from wmkit.diffusion.process import DiffusionConfig, Sampling
from wmkit.models.diffusion import DiffusionDynamics, dynamics


@pytest.fixture
def model(config, ready) -> DiffusionDynamics:
    """Return a small model."""
    return ready(DiffusionDynamics(config()))


def _rolled(model, situation, seed=0):
    return model.rollout(*situation, torch.Generator().manual_seed(seed))


def test_shared_contexts_change_nothing(model, situation, monkeypatch):
    fast = _rolled(model, situation(3, 9, 8)).latents
    monkeypatch.setattr(dynamics, "_FEW", 1000)
    torch.testing.assert_close(fast, _rolled(model, situation(3, 9, 8)).latents, rtol=1e-4, atol=1e-5)


def test_shared_noise_makes_equal_candidates_equal(model, situation):
    context, actions = situation(2, 9, 8)
    same = actions[:, :1].expand(-1, 9, -1, -1)
    together = _rolled(model, (context, same)).latents
    torch.testing.assert_close(together, together[:, :1].expand(-1, 9, -1, -1), rtol=1e-4, atol=1e-5)
    model.shared_noise = False
    apart = _rolled(model, (context, same)).latents
    assert (apart.std(dim=1) > 1e-4).all()


def test_the_seed_decides(model, situation):
    first, again, other = (_rolled(model, situation(2, 9, 8), seed).latents for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_steps_beyond_a_short_plan_do_not_change_its_patches(model, situation):
    context, actions = situation(2, 9, 6)
    padded = torch.cat([actions, actions[:, :, -1:].expand(-1, -1, 2, -1)], dim=2)
    short, long = (_rolled(model, (context, a)).latents for a in (actions, padded))
    torch.testing.assert_close(short, long[:, :, :6], rtol=1e-4, atol=1e-5)


def test_uncertainty_is_the_spread_of_the_draws(model, situation):
    context, actions = situation(2, 9, 13)
    assert _rolled(model, (context, actions)).uncertainty is None
    model.uncertainty_draws = 3
    rollout = _rolled(model, (context, actions))
    assert rollout.uncertainty.shape == (2, 9, 13)
    assert (rollout.uncertainty > 0).all()
    first = model.rollout(context, actions[:, :, :8], torch.Generator().manual_seed(0))
    torch.testing.assert_close(rollout.latents[:, :, :8], first.latents)


def test_sampling_is_chosen_after_training_and_kept(model, situation, tmp_path):
    before = _rolled(model, situation(2, 9, 8)).latents
    model.sampling = Sampling(sampler="dpm-solver++", steps=5)
    after = _rolled(model, situation(2, 9, 8)).latents
    assert not torch.allclose(before, after)
    model.save_pretrained(tmp_path / "model")
    loaded = DiffusionDynamics.from_pretrained(tmp_path / "model")
    assert loaded.sampling == model.sampling
    torch.testing.assert_close(_rolled(loaded, situation(2, 9, 8)).latents, after, rtol=0, atol=0)


def test_sampling_that_does_not_fit_is_refused(model):
    with pytest.raises(ValueError, match="1000"):
        model.sampling = Sampling(steps=1001)
    assert model.sampling.steps == 3


def test_a_process_is_needed(config):
    made = config()
    object.__setattr__(made, "diffusion", None)
    with pytest.raises(ValueError, match="no diffusion process"):
        DiffusionDynamics(made)


def test_training_cuts_some_horizons(config):
    model, generator = DiffusionDynamics(config()), torch.Generator().manual_seed(0)
    lengths = [model._length(generator, torch.device("cpu")) for _ in range(200)]
    assert set(lengths) == {4, 8}
    assert 120 < lengths.count(8) < 195


@pytest.mark.parametrize(
    ("process", "sampling"),
    [(DiffusionConfig(), Sampling(steps=4)), (DiffusionConfig(kind="flow"), Sampling(sampler="flow-heun", steps=4))],
)
def test_it_learns_a_linear_system(config, trained, process, sampling):
    made = config(angles=(), sampling=sampling)
    object.__setattr__(made, "diffusion", process)
    assert trained(DiffusionDynamics(made), 250) < 0.15


@pytest.mark.parametrize(("causal", "count"), [(True, 1), (True, 9), (False, 9)])
def test_causal_attention_hides_later_actions(config, ready, situation, causal, count):
    model = ready(DiffusionDynamics(config({"causal": causal})))
    context, actions = situation(2, count, 8)
    changed = actions.clone()
    changed[:, :, 4:] = -changed[:, :, 4:]
    before, after = (_rolled(model, (context, a)).latents for a in (actions, changed))
    same = torch.allclose(before[:, :, :4], after[:, :, :4], rtol=1e-4, atol=1e-5)
    assert same == causal
    assert not torch.allclose(before[:, :, 4:], after[:, :, 4:], rtol=1e-4, atol=1e-5)
