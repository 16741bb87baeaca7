"""Every path rolls out alike, follows the weights, and falls back where it cannot run."""

import copy
import pickle
import warnings

import pytest
import torch

from wmkit.contracts import Context
from wmkit.models import LeWM, LeWMConfig
from wmkit.models.lewm import paths
from wmkit.models.lewm.fast_mlp import FastMLP

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
    """A kernel whose first launch is right, and any other is not."""

    def __init__(self, predictor, projector, dtype):
        self._right = FastMLP(predictor, projector, dtype)

    def __call__(self, latents, past, actions):
        result = self._right(latents, past, actions)
        result[-1, 5:] = 0
        return result


class _Broken:
    def __init__(self, *_):
        raise RuntimeError("out of resources:\nshared memory")


def _cuda(monkeypatch, kernel):
    """Let the machine look as if it had a GPU, with a kernel that stands for the MLP's."""
    monkeypatch.setattr(paths, "why_not", lambda device: None)
    monkeypatch.setattr(paths, "_order", lambda path, device: ["fused", "fast"] if path == "auto" else [path])
    load = paths._load
    monkeypatch.setattr(paths, "_load", lambda where: kernel if "fused" in where else load(where))


def test_a_kernel_that_is_right_is_used(monkeypatch):
    _cuda(monkeypatch, FastMLP)
    model = _model()
    context, actions = _case()
    expected = model.reference_rollout(context, actions).latents
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(model.rollout(context, actions).latents, expected, rtol=1e-4, atol=1e-5)
    assert model.rollout_kind == "fused"


def test_every_shape_is_checked_and_a_wrong_kernel_given_up_with_one_warning(monkeypatch):
    _cuda(monkeypatch, _Wrong)
    model = _model()
    model.rollout(*_case(count=5))
    assert model.rollout_kind == "fused"
    context, actions = _case(count=9)
    with pytest.warns(
        UserWarning, match="no fused rollout, so a slower one is used: it failed its self-check: relative"
    ):
        found = model.rollout(context, actions).latents
    torch.testing.assert_close(found, model.reference_rollout(context, actions).latents, rtol=1e-4, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.rollout(context, actions)
    assert model.rollout_kind == "fast"
    model.rollout_path = "fused"
    with pytest.raises(ValueError, match="no fused rollout: it failed its self-check"):
        model.rollout(context, actions)


def test_a_kernel_that_does_not_compile_is_one_line(monkeypatch):
    _cuda(monkeypatch, _Broken)
    model = _model()
    with pytest.warns(UserWarning, match="slower one is used: RuntimeError: out of resources: shared memory$"):
        model.rollout(*_case())
    assert model.rollout_kind == "fast"


def test_a_fast_rollout_that_cannot_be_had_is_told(monkeypatch):
    monkeypatch.setattr(paths, "_load", lambda where: _Broken)
    model = _model()
    with pytest.warns(UserWarning, match="no fast rollout, so a slower one is used"):
        model.rollout(*_case())
    assert model.rollout_kind == "reference"
    model.rollout_path = "fast"
    with pytest.raises(ValueError, match="no fast rollout: RuntimeError"):
        model.rollout(*_case())


def test_a_machine_without_kernels_says_why(monkeypatch):
    monkeypatch.setattr(paths, "why_not", lambda device: "the GPU is too old")
    model = _model()
    model.rollout_path = "fused"
    with pytest.raises(ValueError, match="no fused rollout: the GPU is too old"):
        model.rollout(*_case())
