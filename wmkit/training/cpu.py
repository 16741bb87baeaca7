"""Linear layers and attention that train faster on a CPU, without a change to the models that use them.

On some processors PyTorch's float32 matrix product (MKL) runs at less than half the speed of oneDNN's, which PyTorch
carries for convolutions; and its fused attention, made for long sequences, spends most of a small vision transformer's
backward pass in bfloat16. `FastCPU` stands in for both while a loss is computed: the same formulas in the same
precision, added up in another order. The backward pass follows by itself.
"""

import platform
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_weight
from torch.overrides import TorchFunctionMode

__all__ = ["FastCPU"]

_KNOWN = torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")
"""Whether oneDNN is there, on processors of the family that this was measured on, x86-64."""
_ROWS = 32
"""Smallest number of rows for which oneDNN is asked."""
_MANY_ROWS = 1024
"""Number of rows from which a weight's gradient is computed as that of a convolution."""
_LONGEST = 512
"""Longest sequence whose attention matrix is written out."""


class FastCPU(TorchFunctionMode):
    """A context in which `linear` and `scaled_dot_product_attention` on CPU tensors take the faster way.

    Linear layers in float32, outside of autocast; attention in float32 or bfloat16 without mask or dropout, for
    sequences of at most 512. Everything else, what needs no gradient, and what is being compiled goes its usual way.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace one of the two functions, or call `func`."""
        if torch.compiler.is_compiling():
            return func(*args, **(kwargs or {}))
        if func is functional.linear and _takes_linear(*args, **(kwargs or {})):
            return _linear(*args, **(kwargs or {}))
        if func is functional.scaled_dot_product_attention and not kwargs and _takes_attention(*args):
            return _Attention.apply(*args)
        return func(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what `torch.nn.functional.linear` returns."""
    return _Linear.apply(input, weight, bias)


def _takes_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Return whether oneDNN's product serves this layer."""
    return (
        input.dtype == weight.dtype == torch.float32
        and input.device.type == "cpu"
        and _KNOWN
        and weight.dim() == 2
        and input.dim() > 1
        and input.numel() >= _ROWS * weight.shape[1]
        and torch.is_grad_enabled()
        and (input.requires_grad or weight.requires_grad)
        and not torch.is_autocast_enabled("cpu")
    )


def _takes_attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> bool:
    """Return whether attention written out as two products serves."""
    return (
        not rest
        and query.device.type == "cpu"
        and query.dim() == 4
        and query.dtype == key.dtype == value.dtype
        and key.shape[:2] == query.shape[:2] == value.shape[:2]
        and max(query.shape[2], key.shape[2]) <= _LONGEST
        and query.dtype == (torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32)
        and torch.is_grad_enabled()
        and query.requires_grad
    )


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return left (..., I) times right (O, I) transposed, by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """Return the sum of left (..., O) times right (..., I) over all rows: (O, I).

    For many rows (M, L, ...) as the gradient of a convolution's weights, M images of L pixels, laid out channels last:
    oneDNN is quick at that.
    """
    if left.dim() != 3 or left.numel() < _MANY_ROWS * left.shape[-1]:
        return left.flatten(0, -2).t() @ right.flatten(0, -2)
    size = (left.shape[-1], right.shape[-1])
    images, targets = (rows.unsqueeze(2).permute(0, 3, 1, 2) for rows in (right, left))
    return conv2d_weight(images, [*size, 1, 1], targets).view(size)


class _Linear(torch.autograd.Function):
    """x (..., I), weight (O, I), bias (O,) or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return (..., O)."""
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return _product(x.contiguous(), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_x = _product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        to_weight = _outer(gradient, x.contiguous()) if ctx.needs_input_grad[1] else None
        to_bias = gradient.flatten(0, -2).sum(0) if ctx.biased and ctx.needs_input_grad[2] else None
        return to_x, to_weight, to_bias


class _Attention(torch.autograd.Function):
    """Softmax attention of query, key and value (M, heads, L, size); the softmax in float32."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return (M, heads, L, size)."""
        ctx.shape, ctx.scale = query.shape, query.shape[-1] ** -0.5
        q, k, v = (tensor.reshape(-1, *tensor.shape[2:]) for tensor in (query, key, value))
        with torch.autocast("cpu", enabled=False):
            scores = torch.bmm(q, k.mT).float().mul_(ctx.scale)
            shares = scores.softmax(-1).to(q.dtype)
            ctx.save_for_backward(q, k, v, shares)
            return torch.bmm(shares, v).unflatten(0, query.shape[:2])

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value."""
        q, k, v, shares = ctx.saved_tensors
        outer = gradient.reshape(-1, *gradient.shape[2:])
        to_shares = torch.bmm(outer, v.mT)
        to_scores = torch.ops.aten._softmax_backward_data(to_shares, shares, -1, shares.dtype).mul_(ctx.scale)
        gradients = torch.bmm(to_scores, k), torch.bmm(to_scores.mT, q), torch.bmm(shares.mT, outer)
        query, key, value = (each.unflatten(0, ctx.shape[:2]) for each in gradients)
        return query, key, value
