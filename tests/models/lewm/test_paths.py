"""Every path rolls out alike, follows the weights, and falls back where it cannot run."""

import copy
import pickle
import warnings

import pytest
import torch

from wmkit.contracts import Context
from wmkit.models import LeWM, LeWMConfig
from wmkit.models.lewm import paths
from wmkit.models.lewm.paths import RolloutPaths

_PREDICTORS = {"mlp": {"width": 24}, "transformer": {"depth": 2, "heads": 2, "head_size": 4, "mlp_size": 8}}


def _model(predictor: str = "mlp", history: int = 2, projector: bool = False, seed: int = 0) -> LeWM:
    torch.manual_seed(seed)
    config = LeWMConfig(
        image_size=16, latent_size=12, action_repeat=2, action_low=(-1, -2), action_high=(1, 2), seconds_per_step=0.1,
        history=history, predictor=predictor, predictor_options=_PREDICTORS[predictor], encoder="conv",
        projector={"hidden_size": 20} if projector else None,
    )  # fmt: skip
    model = LeWM(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.set_action_statistics([0.1, -0.2], [0.5, 1.5])
    return model


def _case(known: int = 2, batch: int = 2, count: int = 5, horizon: int = 4) -> tuple[Context, torch.Tensor]:
    torch.manual_seed(known)
    return Context(torch.randn(batch, known, 12), torch.randn(batch, known - 1, 4)), torch.randn(
        batch, count, horizon, 4
    )


@pytest.mark.parametrize("predictor", list(_PREDICTORS))
@pytest.mark.parametrize(("history", "known"), [(1, 1), (2, 1), (2, 2), (4, 3)])
@pytest.mark.parametrize("projector", [False, True])
def test_fast_equals_reference(predictor, history, known, projector):
    model = _model(predictor, history, projector)
    context, actions = _case(known)
    expected = model.reference_rollout(context, actions).latents
    model.rollout_path = "fast"
    torch.testing.assert_close(model.rollout(context, actions).latents, expected, rtol=1e-4, atol=1e-5)
    model.rollout_path = "reference"
    assert torch.equal(model.rollout(context, actions).latents, expected)


@pytest.mark.parametrize("predictor", list(_PREDICTORS))
def test_weights_that_change_are_followed(predictor):
    model = _model(predictor)
    context, actions = _case()
    before = model.rollout(context, actions).latents
    with torch.no_grad():
        next(model.predictor.parameters()).mul_(1.5)
    after = model.rollout(context, actions).latents
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model.reference_rollout(context, actions).latents, rtol=1e-4, atol=1e-5)
    model.load_state_dict(_model(predictor, seed=1).state_dict())
    expected = model.reference_rollout(context, actions).latents
    torch.testing.assert_close(model.rollout(context, actions).latents, expected, rtol=1e-4, atol=1e-5)


def test_unchanged_weights_are_kept(monkeypatch):
    model = _model()
    context, actions = _case()
    model.rollout(context, actions)
    monkeypatch.setattr(paths, "_load", lambda where: pytest.fail("made again"))
    model.rollout(context, actions)


def test_copies_roll_out_alone():
    model = _model("transformer")
    context, actions = _case()
    expected = model.rollout(context, actions).latents
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.rollout(context, actions).latents, expected)


def test_gradients_take_the_reference():
    model = _model("transformer")
    context, actions = _case()
    actions.requires_grad_()
    model.rollout(context, actions).latents.sum().backward()
    assert actions.grad is not None
    assert actions.grad.abs().sum() > 0


def test_unknown_path_is_refused():
    model = _model()
    model.rollout_path = "quick"
    with pytest.raises(ValueError, match="rollout_path is 'quick'; give one of auto, reference, fast, fused"):
        model.rollout(*_case())


class _Wrong:
    """A kernel that returns something else."""

    def __init__(self, *_):
        pass

    def __call__(self, latents, past, actions):
        return torch.zeros(*actions.shape[:3], latents.shape[-1])


def _find(found: RolloutPaths, model: LeWM, path: str):
    context, actions = _case()
    inputs = context.latents, context.actions, actions
    parts = "mlp", model.predictor, model.prediction_projector
    if path == "auto":
        return found._make("fused", *parts, None, model._imagine, inputs, wanted=False)
    return found.find(path, *parts, None, model._imagine, inputs)


def test_a_kernel_that_is_wrong_is_not_used(monkeypatch):
    monkeypatch.setattr(paths, "_check_device", lambda device: None)
    monkeypatch.setattr(paths, "_load", lambda where: _Wrong)
    found, model = RolloutPaths(), _model()
    with torch.no_grad(), pytest.warns(UserWarning, match="no fused rollout.*failed its self-check: relative error 1 "):
        assert _find(found, model, "auto") is None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _find(found, model, "auto") is None
    with torch.no_grad(), pytest.raises(ValueError, match="no fused rollout: it failed its self-check"):
        _find(found, model, "fused")


def test_a_machine_without_kernels_says_why(monkeypatch):
    monkeypatch.setattr(paths, "why_not", lambda device: "the GPU is too old")
    model = _model()
    model.rollout_path = "fused"
    with pytest.raises(ValueError, match="no fused rollout: the GPU is too old"):
        model.rollout(*_case())
