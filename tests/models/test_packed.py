"""Packed linear layers equal plain ones, in every dtype and shape."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from wmkit.models.packed import PackedLinear, folded_batch_norm, packed_projector

_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", list(_TOLERANCE))
@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize("shape", [(7,), (1, 7), (2, 3, 5, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_linear(dtype, activation, shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(7, 9, bias=bias).double()
    x = torch.randn(shape, dtype=torch.float64)
    expected = layer(x) if activation == "none" else functional.gelu(layer(x))
    found = PackedLinear(layer.weight, layer.bias, dtype, activation)(x.float())
    assert found.dtype == dtype
    assert not found.requires_grad
    tolerance = _TOLERANCE[dtype] if dtype != torch.float64 else 1e-6  # the input was cast to float32
    torch.testing.assert_close(found.double(), expected.detach(), rtol=tolerance, atol=tolerance)


def test_weights_are_copied():
    layer = nn.Linear(3, 2)
    packed = PackedLinear(layer.weight, layer.bias)
    x = torch.randn(4, 3)
    before = packed(x).clone()
    with torch.no_grad():
        layer.weight.add_(1)
    torch.testing.assert_close(packed(x), before)


def _projector() -> nn.Sequential:
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(11)
    norm.running_mean, norm.running_var = torch.randn(11), torch.rand(11) + 0.1
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(nn.Linear(5, 11), norm, nn.GELU(), nn.Linear(11, 5)).eval()


def test_batch_norm_is_folded():
    projector, x = _projector(), torch.randn(6, 5)
    weight, bias = folded_batch_norm(projector[0].weight, projector[0].bias, projector[1])
    torch.testing.assert_close(functional.linear(x, weight, bias), projector[:2](x), rtol=1e-5, atol=1e-5)


def test_batch_norm_without_statistics_is_refused():
    with pytest.raises(ValueError, match="no running statistics"):
        folded_batch_norm(torch.eye(3), None, nn.BatchNorm1d(3, track_running_stats=False))


def test_projector():
    projector, x = _projector(), torch.randn(2, 3, 5)
    expected = projector(x.flatten(0, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(packed_projector(projector)(x), expected, rtol=1e-5, atol=1e-5)
    projector[2] = nn.GELU(approximate="tanh")
    for other in (nn.Identity(), projector):
        assert packed_projector(other) is other
