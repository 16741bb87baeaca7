"""An exact rollout of `TransformerPredictor` for planning: the same numbers as step by step, with about half the work.

What is saved, for N candidates that share one context:

- A token whose latent and action are of the context is computed once, not N times.
- While the window still grows, keys and values of earlier tokens are kept: attention is causal. Once it slides, every
  token moves to another position and its hidden states change, so the window is computed anew; nothing can be kept.
- A condition depends on the action alone, so all shifts, scales and gates are computed once, before the loop.
- Only the last token's prediction is used, so the last block computes keys and values alone for the others.
- The first token of a window attends to itself alone: its attention is its value, and its query is not needed.

Tensors are time first, (T, B, N, width), so that a window is a slice; context tokens have N = 1 and broadcast.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

if TYPE_CHECKING:
    from .transformer import ConditionalBlock, TransformerPredictor

__all__ = ["imagine"]

_ROWS_AT_ONCE = {"cpu": 512, "cuda": 16384}
_Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of the window's tokens so far, each (B, N or 1, heads, head_size)."""


def imagine(
    predictor: "TransformerPredictor",
    latents: Tensor,
    past: Tensor,
    actions: Tensor,
    project: Callable[[Tensor], Tensor],
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Roll out candidates in pieces that fit the processor's caches; see `TransformerPredictor.imagine`."""
    layers = [_Layer(cast("ConditionalBlock", block), dtype) for block in predictor.blocks]
    rows = _ROWS_AT_ONCE.get(actions.device.type, 4096)
    pieces = []
    for first in range(0, len(latents), max(1, rows // actions.shape[1])):
        batch = slice(first, first + max(1, rows // actions.shape[1]))
        parts = [
            _Rollout(predictor, layers, latents[batch], past[batch], part, project, dtype).run()
            for part in actions[batch].split(rows, dim=1)
        ]
        pieces.append(torch.cat(parts, dim=1))
    return torch.cat(pieces)


class _Rollout:
    """The rollout of some candidates; arguments as in `imagine`."""

    def __init__(
        self,
        predictor: "TransformerPredictor",
        layers: "list[_Layer]",
        latents: Tensor,
        past: Tensor,
        actions: Tensor,
        project: Callable[[Tensor], Tensor],
        dtype: torch.dtype | None,
    ) -> None:
        self.predictor, self.layers, self.project, self.dtype = predictor, layers, project, dtype
        self.horizon = actions.shape[2]
        self.shared = past.shape[1]
        self.latents = list(latents.unsqueeze(2).unbind(1))
        conditions = [predictor.action_encoder(past.unsqueeze(2).movedim(1, 0))] if self.shared else []
        conditions.append(predictor.action_encoder(actions.movedim(2, 0)))
        self.modulations = [[layer.modulate(condition) for condition in conditions] for layer in layers]
        self.caches: list[_Cache] = [[] for _ in layers]

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
        with nullcontext() if self.dtype is None else torch.autocast(predicted.device.type, self.dtype):
            following = self.project(predicted.flatten(0, 1))
        return following.to(predicted.dtype).unflatten(0, predicted.shape[:2])

    def _broadcast(self, latents: list[Tensor], begin: int) -> Tensor:
        """Stack latents (B, 1 or N, D) of context or of candidates to (W, B, 1 or N, D)."""
        if begin < self.shared:
            return torch.stack(latents)
        count = self.modulations[0][-1][0].shape[2]
        return torch.stack([latent.expand(-1, count, -1) for latent in latents])

    def _modulation(self, layer: int, begin: int, stop: int) -> list[Tensor]:
        """Return the six modulations (W, B, 1 or N, width) of a layer for tokens `begin` to `stop`."""
        own = begin >= self.shared
        offset = self.shared if own else 0
        return [part[begin - offset : stop - offset] for part in self.modulations[layer][-1 if own else 0]]


class _Layer:
    """A `ConditionalBlock` with its weights in the type of the matrix products."""

    def __init__(self, block: "ConditionalBlock", dtype: torch.dtype | None) -> None:
        def typed(tensor: Tensor) -> Tensor:
            return tensor if dtype is None else tensor.to(dtype)

        self.heads = block.heads
        self.modulation = typed(block.modulation.weight), typed(block.modulation.bias)
        self.attention_affine = block.attention_affine.weight, block.attention_affine.bias
        self.mlp_affine = block.mlp_affine.weight, block.mlp_affine.bias
        inner = block.qkv.out_features // 3
        self.query = typed(block.qkv.weight[:inner] * (inner // self.heads) ** -0.5)
        self.key_value = typed(block.qkv.weight[inner:])
        self.attention_out = typed(block.attention_out.weight), typed(block.attention_out.bias)
        self.mlp_in = typed(block.mlp_in.weight), typed(block.mlp_in.bias)
        self.mlp_out = typed(block.mlp_out.weight), typed(block.mlp_out.bias)
        self.dtype = self.query.dtype

    def modulate(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Return 1 + scale, shift and gate of the attention, then of the MLP, each (T, B, N, width)."""
        parts = linear(torch.nn.functional.silu(condition).to(self.dtype), *self.modulation).to(condition.dtype)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts.chunk(6, dim=-1)
        return 1 + scale, shift, gate, 1 + mlp_scale, mlp_shift, mlp_gate

    def __call__(self, tokens: Tensor, modulation: list[Tensor], cache: _Cache, last: bool, final: bool) -> Tensor:
        """Add the tokens' keys and values to the cache and return the tokens after this block.

        Args:
            tokens: (W, B, N, width).
            modulation: six tensors of that shape.
            cache: of the window's earlier tokens; grows by W.
            last: this is the last block: return the last token alone, (1, B, N, width).
            final: these tokens end the window.
        """
        scale, shift, gate, mlp_scale, mlp_shift, mlp_gate = modulation
        normed = self._norm(tokens, scale, shift, *self.attention_affine)
        earlier = len(cache)
        key, value = linear(normed, self.key_value).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        cache.extend(zip(key.unbind(0), value.unbind(0), strict=True))
        if last and not final:
            return tokens
        skip = tokens.shape[0] - 1 if last else 0
        mixed = self._attend(normed, cache, earlier, skip)
        tokens = tokens[skip:] + gate[skip:] * linear(mixed, *self.attention_out)
        normed = self._norm(tokens, mlp_scale[skip:], mlp_shift[skip:], *self.mlp_affine)
        return tokens + mlp_gate[skip:] * linear(gelu(linear(normed, *self.mlp_in)), *self.mlp_out)

    def _attend(self, normed: Tensor, cache: _Cache, earlier: int, skip: int) -> Tensor:
        """Return what tokens skip..W-1 gather from the window up to themselves, (W - skip, B, N, heads * head_size)."""
        alone = earlier + skip == 0
        gathered = [cache[0][1]] if alone else []
        first = skip + 1 if alone else skip
        if first < len(normed):
            queries = linear(normed[first:], self.query).unflatten(-1, (self.heads, -1))
            for position, query in enumerate(queries, start=earlier + first + 1):
                gathered.append(_attention(query, cache[:position]))
        return torch.stack(gathered).flatten(-2)

    def _norm(self, tokens: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Normalise, modulate, normalise again."""
        size = tokens.shape[-1:]
        modulated = torch.addcmul(shift, layer_norm(tokens, size, eps=1e-6), scale)
        return layer_norm(modulated, size, weight, bias).to(self.dtype)


def _attention(query: Tensor, cache: _Cache) -> Tensor:
    """Attend from one token (B, N, heads, head_size), scaled already, to a window of a few."""
    scores = torch.stack([(query * key).sum(-1) for key, _ in cache], dim=-1)
    weights = scores.float().softmax(-1).to(query.dtype).unsqueeze(-1).unbind(-2)
    result = weights[0] * cache[0][1]
    for weight, (_, value) in zip(weights[1:], cache[1:], strict=True):
        result = torch.addcmul(result, weight, value)
    return result
