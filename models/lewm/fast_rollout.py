"""An exact rollout of `TransformerPredictor` for planning: the same numbers as step by step, with about half the work.

What is saved, for N candidates that share one context:

- A token whose latent and action are of the context is computed once, not N times.
- While the window still grows, keys and values of earlier tokens are kept: attention is causal. Once it slides, every
  token moves to another position and its hidden states change, so the window is computed anew; nothing can be kept.
- A condition depends on the action alone, so all shifts, scales and gates are computed once, before the loop.
- Only the last token's prediction is used, so the last block computes keys and values alone for the others.
- The first token of a window attends to itself alone: its attention is its value, and its query is not needed.
- Weights are laid out once for the CPU's vector units, and the projector's batch norm is part of its first layer.

Tensors are time first, (T, B, N, width), so that a window is a slice; context tokens have N = 1 and broadcast.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from ..packed import PackedLinear, packed_projector

if TYPE_CHECKING:
    from .transformer import ConditionalBlock, TransformerPredictor

__all__ = ["FastTransformer"]

_ROWS_AT_ONCE = {"cpu": 160, "cuda": 16384}
_Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of the window's tokens so far, each (B, N or 1, heads, head_size)."""


class FastTransformer:
    """Rolls candidates out in pieces that fit the processor's caches, without gradients.

    Args:
        predictor: whose weights are taken, as they are now.
        projector: applied to each prediction, in evaluation mode.
        dtype: of the matrix products; None takes that of the weights.
    """

    def __init__(self, predictor: "TransformerPredictor", projector: nn.Module, dtype: torch.dtype | None) -> None:
        self.predictor = predictor
        self.layers = [_Layer(cast("ConditionalBlock", block), dtype) for block in predictor.blocks]
        self.project = packed_projector(projector, dtype)
        first, second, _, third = cast("list[nn.Linear]", list(predictor.action_encoder))
        weight, bias = second.weight @ first.weight, second.weight @ first.bias + second.bias
        self._actions = PackedLinear(weight, bias, dtype), PackedLinear(third.weight, third.bias, dtype)

    def condition(self, actions: Tensor) -> Tensor:
        """Return SiLU of the actions' embedding (..., width), which is all that the modulations see of it."""
        inside, outside = self._actions
        return silu(outside(silu(inside(actions))))

    def __call__(self, latents: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Roll out latents (B, T, D), normalised past (B, T-1, A) and actions (B, N, H, A) to (B, N, H, D)."""
        rows = _ROWS_AT_ONCE.get(actions.device.type, 4096)
        count = actions.shape[1]
        together = max(1, rows // count)
        each = -(-count // -(-count // rows))
        pieces = []
        for first in range(0, len(latents), together):
            batch = slice(first, first + together)
            parts = [_Rollout(self, latents[batch], past[batch], part).run() for part in actions[batch].split(each, 1)]
            pieces.append(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


class _Rollout:
    """The rollout of some candidates; arguments as in `FastTransformer`."""

    def __init__(self, network: FastTransformer, latents: Tensor, past: Tensor, actions: Tensor) -> None:
        self.predictor, self.layers, self.project = network.predictor, network.layers, network.project
        self.count, self.horizon = actions.shape[1:3]
        self.shared = past.shape[1]
        self.latents = list(latents.unsqueeze(2).unbind(1))
        conditions = [network.condition(past.unsqueeze(2).movedim(1, 0))] if self.shared else []
        conditions.append(network.condition(actions.movedim(2, 0)))
        self.modulations = [[layer.modulate(each, actions.dtype) for each in conditions] for layer in self.layers]
        self.caches: list[_Cache] = [[] for _ in self.layers]

    def run(self) -> Tensor:
        """Return the predicted latents (B, N, H, D)."""
        known, window = len(self.latents), self.predictor.history
        for end in range(known, known + self.horizon):
            start = max(0, end - window)
            slides = end == known or start > 0
            self.latents.append(self._predict(start, start if slides else end - 1, end))
        return torch.stack(self.latents[known:], dim=2)

    def _predict(self, start: int, first: int, end: int) -> Tensor:
        """Predict the latent (B, N, D) after token end-1 of a window from `start`, tokens from `first` on being new."""
        if first == start:
            self.caches = [[] for _ in self.layers]
        divide = max(first, min(end, self.shared))
        groups = []
        for begin, stop in ((first, divide), (divide, end)):
            if begin < stop:
                positions = self.predictor.positions[begin - start : stop - start, None, None]
                tokens = self._broadcast(self.latents[begin:stop], begin) + positions
                groups.append((self.predictor.entry(tokens), begin, stop))
        for index, (layer, cache) in enumerate(zip(self.layers, self.caches, strict=True)):
            last = index == len(self.layers) - 1
            groups = [
                (layer(tokens, self._modulation(index, begin, stop), cache, last, stop == end), begin, stop)
                for tokens, begin, stop in groups
            ]
        predicted = self.predictor.exit(self.predictor.norm(groups[-1][0][-1]))
        return self.project(predicted).to(predicted.dtype)

    def _broadcast(self, latents: list[Tensor], begin: int) -> Tensor:
        """Stack latents (B, 1 or N, D) of context or of candidates to (W, B, 1 or N, D)."""
        if begin < self.shared:
            return torch.stack(latents)
        return torch.stack([latent.expand(-1, self.count, -1) for latent in latents])

    def _modulation(self, layer: int, begin: int, stop: int) -> Tensor:
        """Return the modulations (W, B, 1 or N, 6 width) of a layer for tokens `begin` to `stop`."""
        own = begin >= self.shared
        offset = self.shared if own else 0
        return self.modulations[layer][-1 if own else 0][begin - offset : stop - offset]


class _Layer:
    """A `ConditionalBlock` with its weights in the type of the matrix products."""

    def __init__(self, block: "ConditionalBlock", dtype: torch.dtype | None) -> None:
        self.heads = block.heads
        self.attention_affine = block.attention_affine.weight, block.attention_affine.bias
        self.mlp_affine = block.mlp_affine.weight, block.mlp_affine.bias
        inner = block.qkv.out_features // 3
        query, key_value = block.qkv.weight[:inner], block.qkv.weight[inner:]
        self.modulation = PackedLinear(block.modulation.weight, block.modulation.bias, dtype)
        self.query = PackedLinear(query * (inner // self.heads) ** -0.5, None, dtype)
        self.key_value = PackedLinear(key_value, None, dtype)
        self.attention_out = PackedLinear(block.attention_out.weight, block.attention_out.bias, dtype)
        self.mlp_in = PackedLinear(block.mlp_in.weight, block.mlp_in.bias, dtype, "gelu")
        self.mlp_out = PackedLinear(block.mlp_out.weight, block.mlp_out.bias, dtype)

    def modulate(self, condition: Tensor, dtype: torch.dtype) -> Tensor:
        """Return shift, 1 + scale and gate of the attention, then of the MLP, (T, B, N, 6 width)."""
        parts = self.modulation(condition).to(dtype).unflatten(-1, (6, -1))
        parts[..., 1::3, :].add_(1)
        return parts.flatten(-2)

    def __call__(self, tokens: Tensor, modulation: Tensor, cache: _Cache, last: bool, final: bool) -> Tensor:
        """Add the tokens' keys and values to the cache and return the tokens after this block.

        Args:
            tokens: (W, B, N, width).
            modulation: (W, B, N, 6 width).
            cache: of the window's earlier tokens; grows by W.
            last: this is the last block: return the last token alone, (1, B, N, width).
            final: these tokens end the window.
        """
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.chunk(6, dim=-1)
        normed = _norm(tokens, scale, shift, *self.attention_affine)
        earlier = len(cache)
        key, value = self.key_value(normed).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        cache.extend(zip(key.unbind(0), value.unbind(0), strict=True))
        if last and not final:
            return tokens
        skip = tokens.shape[0] - 1 if last else 0
        mixed = self._attend(normed, cache, earlier, skip)
        tokens = torch.addcmul(tokens[skip:], gate[skip:], self.attention_out(mixed).to(tokens.dtype))
        normed = _norm(tokens, mlp_scale[skip:], mlp_shift[skip:], *self.mlp_affine)
        return torch.addcmul(tokens, mlp_gate[skip:], self.mlp_out(self.mlp_in(normed)).to(tokens.dtype))

    def _attend(self, normed: Tensor, cache: _Cache, earlier: int, skip: int) -> Tensor:
        """Return what tokens skip..W-1 gather from the window up to themselves, (W - skip, B, N, heads * head_size)."""
        alone = earlier + skip == 0
        gathered = [cache[0][1]] if alone else []
        first = skip + 1 if alone else skip
        if first < len(normed):
            queries = self.query(normed[first:]).unflatten(-1, (self.heads, -1))
            for position, query in enumerate(queries, start=earlier + first + 1):
                gathered.append(_attention(query, cache[:position]))
        return (gathered[0].unsqueeze(0) if len(gathered) == 1 else torch.stack(gathered)).flatten(-2)


def _norm(tokens: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise, modulate, normalise again."""
    size = tokens.shape[-1:]
    modulated = torch.addcmul(shift, layer_norm(tokens, size, eps=1e-6), scale)
    return layer_norm(modulated, size, weight, bias)


def _attention(query: Tensor, cache: _Cache) -> Tensor:
    """Attend from one token (B, N, heads, head_size), scaled already, to a window of a few."""
    scores = torch.stack([(query * key).sum(-1) for key, _ in cache])
    weights = scores.float().softmax(0).to(query.dtype).unsqueeze(-1)
    result = weights[0] * cache[0][1]
    for weight, (_, value) in zip(weights[1:], cache[1:], strict=True):
        result = torch.addcmul(result, weight, value)
    return result
