"""Blocks of `wmkit.diffusion.network` for many candidates of one context: the same numbers with less work.

All candidates of a context share the modulation, so shifts, scales and gates become part of the weights, once for each
context and noise level: `gate * (W ((1 + scale) * x + shift) + b)` is one matrix product with a bias. What remains
between the products are two LayerNorms, the attention and the GELU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from wmkit.diffusion.network import Block

__all__ = ["FoldedBlock", "KeyValues"]


class KeyValues:
    """Keys and values of the tokens so far, in memory that is laid out once.

    Args:
        rows: M.
        heads: attention heads.
        length: most tokens.
        size: of a head.
        like: tensor whose device and dtype are taken.
    """

    def __init__(self, rows: int, heads: int, length: int, size: int, like: Tensor) -> None:
        self._memory = like.new_empty(2, rows, heads, length, size)
        self._length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of new tokens, (M, heads, L, size), and return all."""
        start, self._length = self._length, self._length + keys.shape[2]
        self._memory[0, :, :, start : self._length] = keys
        self._memory[1, :, :, start : self._length] = values
        return self._memory[0, :, :, : self._length], self._memory[1, :, :, : self._length]


class FoldedBlock:
    """A block in evaluation mode with the modulation of B contexts folded into its weights.

    Args:
        block: the block.
        modulation: (B, 6W).
        dtype: of the matrix products; None takes that of the weights. Sums and attention keep the weights' dtype.
    """

    def __init__(self, block: Block, modulation: Tensor, dtype: torch.dtype | None = None) -> None:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (modulation + block.offset)[:, None].chunk(6, dim=-1)
        grow, _, _, shrink = block.mlp
        self._heads = block.heads
        self._qkv = _folded_in(block.qkv, shift, scale, dtype)
        self._out = _folded_out(block.out, gate, dtype)
        self._grow = _folded_in(grow, shift_mlp, scale_mlp, dtype)
        self._shrink = _folded_out(shrink, gate_mlp, dtype)

    def __call__(self, tokens: Tensor, length: int, causal: bool = False, past: KeyValues | None = None) -> Tensor:
        """Map tokens (B, N * L, W) of N sequences of L = `length` tokens to (B, N * L, W).

        Args:
            tokens: those of one candidate are neighbours.
            length: L.
            causal: no token attends to later ones; only for `past` None or empty, or L = 1.
            past: earlier tokens of the B * N sequences, which all tokens attend to; theirs are added.
        """
        tokens = _product(self._attend(tokens, length, causal, past), self._out, tokens)
        hidden = gelu(_product(layer_norm(tokens, tokens.shape[-1:]), self._grow))
        return _product(hidden, self._shrink, tokens)

    def _attend(self, tokens: Tensor, length: int, causal: bool, past: KeyValues | None) -> Tensor:
        qkv = _product(layer_norm(tokens, tokens.shape[-1:]), self._qkv)
        query, key, value = qkv.view(-1, length, 3, self._heads, tokens.shape[-1] // self._heads).permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = past.append(key, value)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=causal and length > 1)
        return mixed.transpose(1, 2).reshape(tokens.shape)


_Layer = tuple[Tensor, Tensor]
"""Bias (B, 1, O) and weight (B, I, O)."""


def _folded_in(layer: Any, shift: Tensor, scale: Tensor, dtype: torch.dtype | None) -> _Layer:
    """Return a linear layer behind shift and scale (B, 1, I)."""
    weight = layer.weight.T
    return shift @ weight + layer.bias, ((1 + scale).transpose(1, 2) * weight).to(dtype or weight.dtype)


def _folded_out(layer: Any, gate: Tensor, dtype: torch.dtype | None) -> _Layer:
    """Return a linear layer before a gate (B, 1, O)."""
    return gate * layer.bias, (gate * layer.weight.T).to(dtype or gate.dtype)


def _product(values: Tensor, layer: _Layer, rest: Tensor | None = None) -> Tensor:
    """Return `layer` of values (B, M, I), plus `rest` (B, M, O)."""
    bias, weight = layer
    added = bias if rest is None else rest + bias
    if weight.dtype == values.dtype:
        return torch.baddbmm(added, values, weight)
    return added + torch.bmm(values.to(weight.dtype), weight)
