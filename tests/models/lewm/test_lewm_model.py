"""LeWM as a world model: what it computes, what it refuses, and that modes and gradients are what they should be."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.conformance import check_model
from wmkit.contracts import Context, SupportsInverse, WorldModel
from wmkit.errors import UserError
from wmkit.models.lewm import LeWM, LeWMConfig


def _pixels(*leading: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*leading, size, size, 3), dtype=np.uint8)


def _context(batch: int = 2, known: int = 2) -> Context:
    generator = torch.Generator().manual_seed(0)
    past = torch.rand(batch, known - 1, 4, generator=generator)
    return Context(torch.randn(batch, known, 12, generator=generator), past)


def _actions(batch: int = 2, count: int = 5, horizon: int = 4) -> torch.Tensor:
    return torch.rand(batch, count, horizon, 4, generator=torch.Generator().manual_seed(1))


def test_is_a_world_model(model):
    assert isinstance(model, WorldModel)
    assert model.spec == model.config.spec


def test_encode_equals_embedding_each_frame(model):
    pixels = _pixels(2, 3)
    latents = model.encode({"pixels": pixels, "state": "ignored"})
    model.eval()
    for row in range(2):
        for step in range(3):
            alone = model.embed(torch.from_numpy(pixels[row, step : step + 1]))[0]
            torch.testing.assert_close(latents[row, step], alone, rtol=1e-4, atol=1e-5)


def test_long_batches_are_encoded_in_pieces(model, monkeypatch):
    pixels = _pixels(3, 3)
    whole = model.encode({"pixels": pixels})
    monkeypatch.setattr("wmkit.models.lewm.model._FRAMES_AT_ONCE", 2)
    torch.testing.assert_close(model.encode({"pixels": torch.from_numpy(pixels)}), whole, rtol=1e-4, atol=1e-5)


def test_background_is_mapped_to_zero(build):
    model = build(background=(10.0, 20.0, 30.0), pixel_scale=(1.0, 2.0, 5.0))
    pixels = torch.zeros(1, 16, 16, 3, dtype=torch.uint8) + torch.tensor([10, 20, 30], dtype=torch.uint8)
    pixels[0, 3, 7] = torch.tensor([0, 24, 255])
    expected = torch.zeros(1, 3, 16, 16)
    expected[0, :, 3, 7] = torch.tensor([-10.0, 2.0, 45.0])
    assert torch.equal(model.preprocess(pixels), expected)


def test_inference_ignores_the_mode_and_restores_it(model):
    """Dropout and batch statistics would show: the same frames alone and together, twice."""
    pixels = _pixels(4, 1)
    first, again = model.encode({"pixels": pixels}), model.encode({"pixels": pixels[:1]})
    torch.testing.assert_close(first[:1], again, rtol=1e-4, atol=1e-5)
    rollouts = [model.rollout(_context(), _actions()).latents for _ in range(2)]
    assert torch.equal(*rollouts)
    assert all(module.training for module in model.modules())
    model.encoder.eval()
    model.encode({"pixels": pixels})
    assert model.training
    assert model.predictor.training
    assert not model.encoder.training
    model.eval()
    torch.testing.assert_close(model.rollout(_context(), _actions()).latents, rollouts[0])
    assert not model.training


def test_latents_can_train_a_predictor_afterwards(model):
    """Latents encoded once and kept are ordinary tensors to autograd."""
    latents = model.encode({"pixels": _pixels(4, 3)})
    assert not latents.requires_grad
    model.predict(latents, torch.zeros(4, 3, 4)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.predictor.parameters())


def test_gradients_reach_actions_that_ask_for_them(model):
    actions = _actions().requires_grad_()
    fast = model.rollout(_context(), _actions()).latents
    slow = model.rollout(_context(), actions).latents
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(slow[:, :, -1].square().sum(), actions)
    assert (gradient.abs().amax(dim=(0, 1, 3)) > 0).all()
    assert not fast.requires_grad


def test_prediction_sees_the_past_alone(model):
    model.eval()
    latents, actions = torch.randn(2, 3, 12), torch.rand(2, 3, 4)
    whole = model.predict(latents, actions)
    for length in (1, 2):
        torch.testing.assert_close(model.predict(latents[:, :length], actions[:, :length]), whole[:, :length])
    later = latents.clone()
    later[:, 2] += 1
    assert torch.equal(model.predict(later, actions)[:, :2], whole[:, :2])


def test_actions_are_normalised_by_the_statistics(model):
    """Shifted and stretched actions with statistics to match are the same actions."""
    before = model.rollout(_context(), _actions()).latents
    model.set_action_statistics([0.1 * 3 + 1, -0.3 * 3 + 1], [0.5 * 3, 0.9 * 3])
    context = Context(_context().latents, _context().actions * 3 + 1)
    torch.testing.assert_close(model.rollout(context, _actions() * 3 + 1).latents, before, rtol=1e-4, atol=1e-5)


def test_normalised_training_actions_have_unit_variance(model):
    blocks = torch.randn(5000, 2, 2, dtype=torch.float64) * torch.tensor([0.2, 1.3]) + torch.tensor([0.4, -0.7])
    model.set_action_statistics(blocks.mean((0, 1)), blocks.std((0, 1)))
    normal = model.normalize_actions(blocks.flatten(1))
    torch.testing.assert_close(normal.mean(0), torch.zeros(4), rtol=0, atol=0.06)
    torch.testing.assert_close(normal.std(0), torch.ones(4), rtol=0, atol=0.06)


_NUMBERS = st.floats(-3, 3, allow_nan=False, width=32)


@given(
    st.lists(_NUMBERS, min_size=4, max_size=4), st.tuples(_NUMBERS, _NUMBERS), st.sampled_from([0.0, 1e-9, 0.1, 2.0])
)
@settings(max_examples=50, deadline=None)
def test_normalising_is_undone_for_constant_columns_too(numbers, mean, std):
    model = _tiny()
    model.set_action_statistics(mean, [std, std])
    actions = torch.tensor(numbers)
    normal = model.normalize_actions(actions)
    assert (normal.abs() < 100).all()
    torch.testing.assert_close(model.denormalize_actions(normal), actions, rtol=1e-5, atol=1e-5)


def _tiny() -> LeWM:
    options = {"encoder_options": {"depth": 1, "heads": 1, "patch_size": 4}, "predictor_options": {"depth": 1}}
    sizes = {"image_size": 4, "latent_size": 4, "action_repeat": 2, "seconds_per_step": 1.0}
    bounds = {"action_low": (-1, -2), "action_high": (1, 2)}
    return LeWM(LeWMConfig(**sizes, **bounds, encoder="vit", predictor="transformer", **options))


def test_missing_statistics_raise():
    with pytest.raises(ValueError, match="no action statistics; call set_action_statistics"):
        _tiny().normalize_actions(torch.zeros(1, 4))


def test_statistics_travel_with_the_state():
    source, target = _tiny(), _tiny()
    source.set_action_statistics([0.5, 0.0], [2.0, 1.0])
    target.load_state_dict(source.state_dict())
    assert target.normalize_actions(torch.tensor([2.5, 1.0, 0.5, 0.0])).tolist() == [1.0, 1.0, 0.0, 0.0]
    target.load_state_dict(_tiny().state_dict())
    with pytest.raises(ValueError, match="no action statistics"):
        target.normalize_actions(torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("mean", "std"), [([0.0], [1.0]), ([0.0, float("nan")], [1.0, 1.0]), ([0.0, 0.0], [1.0, -1.0])]
)
def test_bad_statistics_are_refused(model, mean, std):
    with pytest.raises(ValueError, match="expected 2 finite numbers"):
        model.set_action_statistics(mean, std)


@pytest.mark.parametrize(
    ("observations", "text"),
    [
        ({"image": 0}, r"observations lack 'pixels'; found \['image'\]"),
        ({"pixels": _pixels(1, 1, size=8)}, r"'pixels' is \(1, 1, 8, 8, 3\) uint8; expected \(B, T, 16, 16, 3\) uint8"),
        ({"pixels": _pixels(1, 1).astype(np.float32)}, r"float32; expected .* uint8"),
        ({"pixels": _pixels(1)}, r"is \(1, 16, 16, 3\) uint8"),
        ({"pixels": _pixels(0, 1)}, r"is \(0, 1, 16, 16, 3\) uint8"),
    ],
)
def test_bad_observations_are_refused(model, observations, text):
    with pytest.raises(ValueError, match=text):
        model.encode(observations)


@pytest.mark.parametrize(
    ("context", "actions", "text"),
    [
        (_context(known=4), _actions(), r"context.latents are \(2, 4, 12\); expected \(B, 1 to 3, 12\)"),
        (Context(torch.zeros(2, 1, 11), torch.zeros(2, 0, 4)), _actions(), r"context.latents are \(2, 1, 11\)"),
        (Context(torch.zeros(2, 2, 12), torch.zeros(2, 2, 4)), _actions(), r"context.actions .* expected \(2, 1, 4\)"),
        (_context(), _actions(batch=1), r"actions are \(1, 5, 4, 4\); expected \(2, N, H, 4\)"),
        (_context(), torch.zeros(2, 5, 4, 3), r"actions are \(2, 5, 4, 3\)"),
    ],
)
def test_bad_rollouts_are_refused(model, context, actions, text):
    with pytest.raises(ValueError, match=text):
        model.rollout(context, actions)


def test_pending_actions_are_refused_unless_empty(model):
    context = _context()
    empty = Context(context.latents, context.actions, torch.zeros(2, 0, 4))
    assert model.rollout(empty, _actions()).latents.shape == (2, 5, 4, 12)
    with pytest.raises(ValueError, match="pending is not empty"):
        model.rollout(Context(context.latents, context.actions, torch.zeros(2, 1, 4)), _actions())


@pytest.mark.parametrize("name", ["latents", "actions"])
def test_nan_in_the_context_is_refused(model, name):
    context = _context()
    getattr(context, name)[1, 0, 2] = torch.nan
    with pytest.raises(ValueError, match=rf"context.{name} hold NaN"):
        model.rollout(context, _actions())


def test_a_bad_candidate_spoils_itself_alone(model):
    """A planner counts non-finite candidates; the others must stay what they were."""
    actions = _actions()
    expected = model.rollout(_context(), actions).latents
    actions[0, 2, 1, 0] = torch.nan
    found = model.rollout(_context(), actions).latents
    assert not found[0, 2, 1:].isfinite().any()
    found[0, 2, 1:] = expected[0, 2, 1:]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoder": "resnet"}, "unknown encoder 'resnet'; known: vit, conv"),
        ({"predictor": "rnn"}, "unknown predictor 'rnn'; known: transformer, mlp"),
        ({"predictor_options": {"depht": 2}}, "do not fit predictor 'transformer': .*depht"),
        ({"encoder_options": {"patch_size": 8, "heads": 3, "width": 6}, "projector": None}, "add a projector"),
    ],
)
def test_bad_parts_are_refused(small, change, text):
    with pytest.raises(UserError, match=text):
        LeWM(LeWMConfig(**(small | change)))


def test_inverse_is_in_environment_units_and_bounds(build):
    class Head(torch.nn.Module):
        def forward(self, latents, goals, steps):
            return (goals - latents)[..., :4] * steps[..., None]

    model = build(inverse={})
    model.inverse_head = Head()
    latents, goals = torch.zeros(3, 12), torch.zeros(3, 12)
    goals[1, :2], goals[2, :2] = 0.5, 100.0
    found = model.inverse(latents, goals, torch.tensor([1, 2, 1]))
    torch.testing.assert_close(found[0], torch.tensor([0.1, -0.3, 0.1, -0.3]))
    torch.testing.assert_close(found[1], torch.tensor([0.6, 0.6, 0.1, -0.3]))
    torch.testing.assert_close(found[2], torch.tensor([1.0, 2.0, 0.1, -0.3]))


def test_inverse_is_supported_with_a_head_alone(build):
    with_head = build(inverse={"width": 8})
    assert isinstance(with_head, SupportsInverse)
    assert not isinstance(build(), SupportsInverse)
    assert isinstance(with_head, WorldModel)
    latents = torch.randn(3, 12)
    twin = copy.deepcopy(with_head)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    found, zeroed = (each.inverse(latents, latents.flip(0), torch.ones(3)) for each in (with_head, twin))
    torch.testing.assert_close(zeroed, torch.tensor([0.1, -0.3, 0.1, -0.3]).expand(3, -1))
    assert not torch.allclose(found, zeroed)


@pytest.mark.parametrize("change", [{}, {"inverse": {}}, {"history": 1}, {"projector": None}])
def test_keeps_the_contract(build, change):
    check_model(build(**change))


def test_paper_size(small):
    """18,034,478 parameters: as many as stable-worldmodel 0.1.1 builds for the paper's settings."""
    paper = small | {"image_size": 224, "latent_size": 192, "action_repeat": 5, "projector": {"hidden_size": 2048}}
    with torch.device("meta"):
        model = LeWM(LeWMConfig(**(paper | {"encoder_options": {}, "predictor_options": {}})))
    assert sum(parameter.numel() for parameter in model.parameters()) == 18_034_478


def test_untrained_predictor_ignores_actions():
    """Zero-initialised gates: the prediction is the normalised latent, whatever the action."""
    model = _tiny().eval()
    model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
    latents = torch.randn(3, 2, 4)
    expected = torch.nn.functional.layer_norm(latents + model.predictor.positions[:2], (4,))
    torch.testing.assert_close(model.predict(latents, torch.randn(3, 2, 4)), expected)
