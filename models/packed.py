"""Linear layers whose weights are laid out once for the CPU's vector units, for networks that only predict.

PyTorch's float32 `linear` goes to MKL, which leaves processors that are not Intel's at half their speed. oneDNN does
not, takes bfloat16 where the processor has it, and computes bias and GELU in the same pass. Its operations on weights
in its own layout are those that `torch.compile` emits on CPUs.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

__all__ = ["PackedLinear", "ProjectorLayers", "folded_batch_norm", "layers_of", "packed_projector"]

Activation = Literal["none", "gelu"]
ProjectorLayers = tuple[nn.Linear, nn.BatchNorm1d, nn.Linear]

_TYPES = (torch.float32, torch.bfloat16)


class PackedLinear:
    """x W^T + b, then an activation, without gradients.

    Weights on the CPU, in float32 or bfloat16, are copied into the layout of oneDNN; others stay as they are.

    Args:
        weight: (outputs, inputs).
        bias: (outputs,), or None.
        dtype: of the product; None takes that of the weight. Inputs are cast to it, outputs have it.
        activation: "gelu" is the exact one.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None, activation: Activation = "none"
    ) -> None:
        self.dtype = weight.dtype if dtype is None else dtype
        self._weight = weight.detach().to(self.dtype).contiguous()
        self._bias = None if bias is None else bias.detach().to(self.dtype).contiguous()
        self._activation = activation
        self._packed = _pack(self._weight)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        x = x.to(self.dtype)
        if self._packed is not None:
            return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, self._activation, [], "none")
        y = linear(x, self._weight, self._bias)
        return gelu(y) if self._activation == "gelu" else y


def folded_batch_norm(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return weight (outputs, inputs) and bias (outputs,) of a linear layer followed by a batch norm in evaluation.

    Raises:
        ValueError: the norm keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("the batch norm keeps no running statistics, so it is no linear layer in evaluation")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    start = 0.0 if bias is None else bias.double()
    moved = (start - norm.running_mean.double()) * scale
    if norm.bias is not None:
        moved = moved + norm.bias.double()
    return (weight.double() * scale[:, None]).to(weight.dtype), moved.to(weight.dtype)


def layers_of(projector: nn.Module) -> ProjectorLayers | None:
    """Return the layers with weights of a linear layer, batch norm, exact GELU and linear layer; None for all else."""
    match list(projector) if isinstance(projector, nn.Sequential) else []:
        case [nn.Linear() as first, nn.BatchNorm1d() as norm, nn.GELU(approximate="none"), nn.Linear() as last]:
            return first, norm, last
    return None


def packed_projector(projector: nn.Module, dtype: torch.dtype | None = None) -> Callable[[Tensor], Tensor]:
    """Return what an identity, or a linear layer, batch norm, GELU and linear layer, does in evaluation.

    Other modules are returned as they are.

    Args:
        projector: whose weights are taken.
        dtype: of the products; None takes that of the weights.
    """
    layers = layers_of(projector)
    if layers is None:
        return projector
    first, norm, second = layers
    inside = PackedLinear(*folded_batch_norm(first.weight, first.bias, norm), dtype, "gelu")
    outside = PackedLinear(second.weight, second.bias, dtype)
    return lambda predictions: outside(inside(predictions))


def _pack(weight: Tensor) -> Tensor | None:
    """Return the weight in oneDNN's layout; None where it has none for this weight."""
    usable = weight.device.type == "cpu" and weight.dtype in _TYPES and torch.backends.mkldnn.is_available()
    if not usable or not torch.backends.mkldnn.enabled:
        return None
    if weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        torch.ops.mkldnn._linear_pointwise(weight[:1], packed, None, "none", [], "none")
    except (AttributeError, RuntimeError):
        return None
    return packed
