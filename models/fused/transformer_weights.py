"""A transformer's weights for the fused kernels: contiguous, padded with zeros, layers folded where that is exact."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..lewm.transformer import ConditionalBlock
from ..packed import folded_batch_norm
from .support import Unsupported
from .tiles import padded, projector_layers, whole, wide

__all__ = [
    "Block",
    "FeedForward",
    "packed_action_encoder",
    "packed_projector",
    "parts",
    "vector",
]

_CHUNK_BYTES = 65536
"""Of the MLP's weights, in and out, that one iteration multiplies by."""

_Layer = tuple[Tensor, Tensor]


def parts(size: int) -> tuple[int, int]:
    """Return a power of 2 and another, or 0, at least 16 each, that together hold `size` numbers: 192 is (128, 64)."""
    main = max(16, 1 << (size.bit_length() - 1))
    rest = size - main
    if rest <= 0:
        return main, 0
    return (main, wide(rest)) if wide(rest) < main else (2 * main, 0)


def vector(weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return a LayerNorm's weight and bias as (2, padded), float32."""
    rows = torch.stack([weight, torch.zeros_like(weight) if bias is None else bias])
    return padded(rows, 2, sum(parts(len(weight))), torch.float32)


class FeedForward:
    """Linear, GELU, linear.

    Args:
        enter: weight (hidden, inputs) and bias (hidden,).
        leave: weight (outputs, hidden) and bias (outputs,).
        dtype: of the matrices.

    Attributes:
        inputs: the padded inputs' parts.
        outputs: the padded outputs' parts.
        chunk: hidden numbers at a time.
        enter: (inputs, hidden), padded to whole chunks.
        enter_bias: (hidden,), float32.
        leave: (hidden, outputs).
        bias: (outputs,), float32.
    """

    def __init__(self, enter: _Layer, leave: _Layer, dtype: torch.dtype) -> None:
        self.inputs, self.outputs = parts(enter[0].shape[1]), parts(leave[0].shape[0])
        rows, columns = sum(self.inputs), sum(self.outputs)
        self.chunk = 64
        while self.chunk > 16 and self.chunk * (rows + columns) * dtype.itemsize > _CHUNK_BYTES:
            self.chunk //= 2
        hidden = whole(len(enter[0]), self.chunk)
        self.enter = padded(enter[0].T, rows, hidden, dtype)
        self.enter_bias = padded(enter[1][None], 1, hidden, torch.float32)[0]
        self.leave = padded(leave[0].T, hidden, columns, dtype)
        self.bias = padded(leave[1][None], 1, columns, torch.float32)[0]


class Block:
    """A `ConditionalBlock`.

    Args:
        block: whose weights are taken.
        dtype: of the matrices.

    Attributes:
        heads: attention heads.
        head_size: padded size of one, a power of 2.
        qkv: (heads, 3, padded width, head_size); queries divided by the square root of a head's size.
        out: (heads, head_size, padded width).
        out_bias: (padded width,), float32.
        attention_affine: (2, padded width), float32.
        attention_epsilons: of the norm without weights and of the one with.
        mlp_affine: like that of the attention.
        mlp_epsilons: likewise.
        feed_forward: the MLP.
    """

    def __init__(self, block: ConditionalBlock, dtype: torch.dtype) -> None:
        width, heads = block.qkv.in_features, block.heads
        size = block.qkv.out_features // (3 * heads)
        columns = sum(parts(width))
        self.heads, self.head_size = heads, wide(size)
        weight = block.qkv.weight.detach().double().unflatten(0, (3, heads, size)).clone()
        weight[0] *= size**-0.5
        self.qkv = torch.zeros(heads, 3, columns, self.head_size, dtype=dtype, device=weight.device)
        self.qkv[:, :, :width, :size] = weight.permute(1, 0, 3, 2)
        self.out = torch.zeros(heads, self.head_size, columns, dtype=dtype, device=weight.device)
        self.out[:, :size, :width] = block.attention_out.weight.detach().unflatten(1, (heads, size)).permute(1, 2, 0)
        self.out_bias = padded(block.attention_out.bias[None], 1, columns, torch.float32)[0]
        self.attention_affine = vector(block.attention_affine.weight, block.attention_affine.bias)
        self.attention_epsilons = block.attention_norm.eps, block.attention_affine.eps
        self.mlp_affine = vector(block.mlp_affine.weight, block.mlp_affine.bias)
        self.mlp_epsilons = block.mlp_norm.eps, block.mlp_affine.eps
        self.feed_forward = FeedForward(_layer(block.mlp_in), _layer(block.mlp_out), dtype)


def _layer(linear: nn.Module) -> _Layer:
    """Return weight and bias, zero where there is none."""
    weight = cast("Tensor", linear.weight).detach()
    bias = weight.new_zeros(len(weight)) if linear.bias is None else cast("Tensor", linear.bias).detach()
    return weight, bias


def packed_action_encoder(
    encoder: nn.Module, blocks: Sequence[ConditionalBlock], dtype: torch.dtype
) -> tuple[_Layer, _Layer, _Layer]:
    """Return the layers from an action to all modulations: linear, SiLU, linear, SiLU, linear.

    Args:
        encoder: the predictor's; its first two layers have nothing between them and become one, in float32.
        blocks: whose modulations are stacked: (blocks * 6 * padded width) outputs.
        dtype: of the second and third layer.
    """
    first, second, _, third = encoder.children()
    (weight, bias), (outer, outer_bias) = _layer(first), _layer(second)
    enter, enter_bias = outer.double() @ weight.double(), outer.double() @ bias.double() + outer_bias.double()
    leave, leave_bias = _layer(third)
    width = len(leave)
    columns = sum(parts(width))
    weights = [padded(part, columns, width, dtype) for block in blocks for part in block.modulation.weight.chunk(6)]
    biases = [padded(part[None], 1, columns, dtype)[0] for block in blocks for part in block.modulation.bias.chunk(6)]
    return (
        (enter.float(), enter_bias.float()),
        (leave.to(dtype, copy=True), leave_bias.to(dtype, copy=True)),
        (torch.cat(weights), torch.cat(biases)),
    )


def packed_projector(projector: nn.Module, leave: nn.Module, dtype: torch.dtype) -> FeedForward | None:
    """Return the predictor's exit and the projector as one; None where the projector is an identity.

    Args:
        projector: see `tiles.projector_layers`.
        leave: the exit, an identity or a linear layer.
        dtype: of the matrices.

    Raises:
        Unsupported: see `tiles.projector_layers`, or its batch norm keeps no statistics.
    """
    layers = projector_layers(projector)
    if layers is None:
        return None
    first, norm, last = layers
    if norm.running_mean is None:
        raise Unsupported("the projector's batch norm keeps no running statistics")
    weight, bias = folded_batch_norm(first.weight.double(), first.bias, norm)
    weight, bias = weight.detach(), bias.detach()
    if isinstance(leave, nn.Linear):
        bias = bias + weight @ leave.bias.detach().double()
        weight = weight @ leave.weight.detach().double()
    return FeedForward((weight, bias), _layer(last), dtype)
