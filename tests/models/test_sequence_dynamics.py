"""What every dynamics over sequences keeps, and what a family of its own does is in its own test."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from wmkit import registry
from wmkit.conformance import check_model
from wmkit.contracts import Context, SupportsDecode, SupportsInverse
from wmkit.errors import UserError
from wmkit.models.lewm import LeWM, LeWMConfig
from wmkit.models.sequence import SequenceConfig

FAMILIES = ("autoregressive", "diffusion")


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _lewm() -> LeWM:
    torch.manual_seed(0)
    encoder = LeWM(
        LeWMConfig(
            image_size=16,
            latent_size=3,
            action_repeat=2,
            action_low=(-1.0, -1.0),
            action_high=(1.0, 1.0),
            seconds_per_step=0.2,
            encoder="vit",
            encoder_options={"patch_size": 8, "depth": 1, "heads": 3},
            predictor_options={},
            projector={"hidden_size": 8},
            inverse={},
        )
    )
    encoder.set_action_statistics([0.0, 0.0], [1.0, 1.0])
    return encoder.eval()


@pytest.fixture(params=FAMILIES)
def family(request):
    """Return the class of a dynamics over sequences."""
    return registry.load("models", request.param)


@pytest.fixture
def model(family, config, ready):
    """Return a small model of the family that can be rolled out."""
    return ready(family(config()))


def test_contract(model):
    check_model(model)


def test_contract_with_an_encoder(family, config, ready):
    model = ready(family(config(invariant=(), angles=()), _lewm()))
    check_model(model)
    assert isinstance(model, SupportsInverse)
    assert not isinstance(model, SupportsDecode)


@pytest.mark.parametrize("n", [1, 3, 12])
def test_batched_equals_looped(model, situation, n):
    context, actions = situation(3, n, 8)
    whole = model.rollout(context, actions, _seeded()).latents
    for row in range(3):
        for part in torch.arange(n).split(5):
            one = context.select(torch.tensor([row]))
            alone = model.rollout(one, actions[row : row + 1, part], _seeded()).latents
            torch.testing.assert_close(alone, whole[row : row + 1, part], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("t", [1, 2])
@pytest.mark.parametrize("horizon", [1, 3, 8, 13, 20])
def test_any_horizon(model, situation, horizon, t):
    context, actions = situation(2, 9, horizon, t)
    rollout = model.rollout(context, actions, _seeded())
    assert rollout.latents.shape == (2, 9, horizon, 3)
    assert rollout.latents.isfinite().all()
    assert rollout.quantities["state"] is rollout.latents


def test_beyond_the_horizon_it_goes_on_from_its_own_predictions(model, situation):
    context, actions = situation(2, 9, 13)
    whole = model.rollout(context, actions, _seeded()).latents
    generator = _seeded()
    first = model.rollout(context, actions[:, :, :8], generator).latents
    history = first[:, :, -2:].flatten(0, 1), actions[:, :, 7:8].flatten(0, 1)
    rest = model.rollout(Context(*history), actions[:, :, 8:].flatten(0, 1)[:, None], generator).latents
    torch.testing.assert_close(whole, torch.cat([first, rest.view(2, 9, 5, 3)], dim=2), rtol=1e-4, atol=1e-5)


def test_a_shifted_position_shifts_the_future_and_nothing_else(model, situation):
    context, actions = situation(2, 9, 13)
    shift = torch.tensor([40.0, 0.0, 0.0])
    here = model.rollout(context, actions, _seeded()).latents
    there = model.rollout(replace(context, latents=context.latents + shift), actions, _seeded()).latents
    torch.testing.assert_close(there - shift, here, rtol=1e-3, atol=1e-3)
    moved = replace(context, latents=context.latents + shift.roll(1))
    assert not torch.allclose(model.rollout(moved, actions, _seeded()).latents - shift.roll(1), here, atol=1e-2)


def test_the_past_matters_where_there_is_some(model, situation):
    context, actions = situation(2, 9, 8)
    other = replace(context, actions=-context.actions)
    assert not torch.allclose(*(model.rollout(c, actions, _seeded()).latents for c in (context, other)), atol=1e-4)


def test_untrained_statistics_are_named(family, config, situation):
    with pytest.raises(ValueError, match="normalisation statistics are missing"):
        family(config()).eval().rollout(*situation(1, 2, 8), _seeded())


def test_inference_mode(model, situation):
    context, actions = situation(2, 9, 10)
    usual = model.rollout(context, actions, _seeded()).latents
    with torch.inference_mode():
        torch.testing.assert_close(model.rollout(context, actions, _seeded()).latents, usual)


def test_training_goes_on_after_inference_mode(model, situation, windows):
    with torch.inference_mode():
        model.rollout(*situation(2, 9, 10), _seeded())
    model.train().training_loss(windows(4), _seeded())[0].backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_half_precision_is_near(model, situation):
    exact = model.rollout(*situation(3, 9, 8), _seeded()).latents
    model.rollout_dtype = torch.bfloat16
    rough = model.rollout(*situation(3, 9, 8), _seeded()).latents
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).abs().max()) < 0.1 * float(exact.std())


def test_a_copy_is_on_its_own(model):
    twin = copy.deepcopy(model)
    assert twin.decode.__self__ is twin
    assert {id(p) for p in twin.parameters()}.isdisjoint(id(p) for p in model.parameters())


def test_dropout_rests_in_rollouts_and_the_mode_stays(family, config, ready, situation):
    model = ready(family(config({"dropout": 0.5})))
    usual = model.rollout(*situation(2, 9, 8), _seeded()).latents
    again = model.train().rollout(*situation(2, 9, 8), _seeded()).latents
    torch.testing.assert_close(again, usual)
    assert all(part.training for part in model.modules())


def test_observations_in_float64(model):
    states = np.random.default_rng(0).normal(size=(2, 2, 3))
    latents = model.encode({"state": states})
    assert latents.dtype == torch.float32
    np.testing.assert_allclose(latents.numpy(), states, rtol=1e-6)


@pytest.mark.parametrize("states", [np.zeros((2, 3)), np.zeros((2, 1, 4)), np.zeros((2, 1, 3), dtype=int)])
def test_observations_that_do_not_fit(model, states):
    with pytest.raises(ValueError, match=r"observation 'state' is .* expected \(B, T, 3\)"):
        model.encode({"state": states})


def test_a_missing_observation_is_named(model):
    with pytest.raises(ValueError, match=r"lack 'state'; found \['pixels'\]"):
        model.encode({"pixels": np.zeros((1, 1, 3))})


@pytest.mark.parametrize("change", ["latents", "actions", "candidates", "pending"])
def test_rollouts_that_do_not_fit(model, situation, change):
    context, actions = situation(2, 3, 8)
    broken = {
        "latents": (replace(context, latents=torch.zeros(2, 3, 3), actions=torch.zeros(2, 2, 4)), actions),
        "actions": (replace(context, actions=torch.zeros(2, 0, 4)), actions),
        "candidates": (context, actions[..., :3]),
        "pending": (replace(context, pending=actions[:, 0]), actions),
    }
    with pytest.raises(ValueError, match=rf"{'actions' if change == 'candidates' else change}"):
        model.rollout(*broken[change])


def test_save_and_load(model, situation, tmp_path):
    model.metadata = {"data": {"fingerprint": "abc"}}
    model.save_pretrained(tmp_path / "model")
    loaded = type(model).from_pretrained(tmp_path / "model")
    assert (loaded.config, loaded.metadata, loaded.training) == (model.config, model.metadata, False)
    rollouts = (m.rollout(*situation(2, 9, 8), _seeded()).latents for m in (model, loaded))
    torch.testing.assert_close(*rollouts, rtol=0, atol=0)


def test_save_and_load_with_the_encoder(family, config, ready, tmp_path):
    model = ready(family(config(invariant=(), angles=()), _lewm()))
    assert not any("encoder." in name and "context" not in name for name in model.state_dict())
    model.save_pretrained(tmp_path / "model")
    loaded = family.from_pretrained(tmp_path / "model")
    pixels = {"pixels": np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8)}
    torch.testing.assert_close(loaded.encode(pixels), model.encode(pixels), rtol=0, atol=0)
    assert loaded.spec == model.spec


def test_another_family_is_refused(family, model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    (other,) = (name for name in FAMILIES if name != family.kind)
    with pytest.raises(UserError, match=f"not of a {other}"):
        registry.load("models", other).from_pretrained(tmp_path / "model")


def test_an_encoder_of_another_size_is_refused(family, config):
    with pytest.raises(ValueError, match="the encoder's latent_size is 3, the configuration's 5"):
        family(config(latent_size=5, invariant=(), angles=()), _lewm())


def test_configuration_round_trip(config):
    made = config()
    assert SequenceConfig.from_dict(made.to_dict()) == made


def test_configurations_that_do_not_fit(config):
    with pytest.raises(UserError, match="unknown network option layers; known: width"):
        config({"layers": 3})
    with pytest.raises(ValueError, match="2 numbers repeated 2 times do not make blocks of 6"):
        config(block_size=6)
    with pytest.raises(ValueError, match="no goal"):
        config(goal=True)


def test_fixed_losses_repeat_and_others_do_not(family, config, ready, windows):
    model, batch, generator = ready(family(config())), windows(16), _seeded()
    first, second = (model.training_loss(batch, generator, fixed=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    drawn = {float(model.training_loss(batch, generator)[0].detach()) for _ in range(20)}
    assert len(drawn) > 1
