"""The fast rollout equals rolling out step by step with whole windows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.contracts import Context
from wmkit.models.lewm import LeWM, LeWMConfig


def _reference(model: LeWM, context: Context, actions: torch.Tensor) -> torch.Tensor:
    """Predict for each candidate alone, whole windows, nothing kept."""
    history = model.config.history
    rows = []
    for row in range(actions.shape[0]):
        for candidate in actions[row]:
            latents, blocks = list(context.latents[row]), [*context.actions[row], *candidate]
            for end in range(len(latents), len(blocks) + 1):
                start = max(0, end - history)
                window = torch.stack(latents[start:end])[None], torch.stack(blocks[start:end])[None]
                latents.append(model.predict(*window)[0, -1])
            rows.append(torch.stack(latents[context.latents.shape[1] :]))
    return torch.stack(rows).unflatten(0, actions.shape[:2])


def _case(known: int, batch: int = 2, count: int = 3, horizon: int = 6, size: int = 12) -> tuple[Context, torch.Tensor]:
    generator = torch.Generator().manual_seed(known)
    latents = torch.randn(batch, known, size, generator=generator)
    past = torch.rand(batch, known - 1, 4, generator=generator)
    return Context(latents, past), torch.rand(batch, count, horizon, 4, generator=generator)


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize(
    "change", [{}, {"projector": None}, {"history": 5}, {"history": 3, "predictor_options": {"width": 16}}]
)
def test_equals_the_reference(build, known, change):
    model = build(**change).eval()
    context, actions = _case(known)
    with torch.no_grad():
        expected = _reference(model, context, actions)
    torch.testing.assert_close(model.rollout(context, actions).latents, expected, rtol=1e-5, atol=1e-5)


def test_history_of_one(build):
    model = build(history=1).eval()
    context, actions = _case(1)
    with torch.no_grad():
        expected = _reference(model, context, actions)
    torch.testing.assert_close(model.rollout(context, actions).latents, expected, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_pieces_change_nothing(history, batch, count, horizon, rows):
    torch.manual_seed(0)
    options = {"depth": 2, "heads": 2, "head_size": 4, "mlp_size": 8}
    sizes = {"image_size": 4, "latent_size": 6, "action_repeat": 2, "seconds_per_step": 1.0, "history": history}
    parts = {"encoder": "vit", "encoder_options": {"depth": 1, "heads": 1, "patch_size": 4}, "predictor": "transformer"}
    model = LeWM(
        LeWMConfig(**sizes, **parts, predictor_options=options, action_low=(-1, -1), action_high=(1, 1))
    ).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
    context, actions = _case(1 + batch % history, batch, count, horizon, size=6)
    with torch.no_grad():
        expected = _reference(model, context, actions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wmkit.models.lewm.fast_rollout._ROWS_AT_ONCE", {"cpu": rows})
        torch.testing.assert_close(model.rollout(context, actions).latents, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_and_differs(model):
    context, actions = _case(2)
    exact = model.rollout(context, actions).latents
    model.rollout_dtype = torch.bfloat16
    rough = model.rollout(context, actions).latents
    assert rough.dtype == torch.float32
    error = (rough - exact).norm() / exact.norm()
    assert 1e-6 < error < 0.03


def test_other_precisions_of_the_model(build):
    context, actions = _case(2)
    exact = build().rollout(context, actions).latents
    double = build().double()
    context = Context(context.latents.double(), context.actions.double())
    torch.testing.assert_close(double.rollout(context, actions.double()).latents, exact.double(), rtol=1e-4, atol=1e-5)


def test_changed_weights_are_seen(model):
    """What is kept of the weights between rollouts is made anew once one of them changes."""
    context, actions = _case(1)
    before = model.rollout(context, actions).latents
    with torch.no_grad():
        model.predictor.blocks[1].mlp_in.weight.mul_(1.5)
    assert not torch.allclose(model.rollout(context, actions).latents, before, atol=1e-4)


def test_meta_device_makes_no_host_round_trip(build):
    """Any `.item()` or move to another device raises on the meta device."""
    model = build().to("meta")
    context, actions = _case(2)
    context = Context(context.latents.to("meta"), context.actions.to("meta"))
    assert model.rollout(context, actions.to("meta")).latents.shape == (2, 3, 6, 12)
