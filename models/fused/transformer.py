"""The rollout of `TransformerPredictor` as fused kernels: two slices and two sums a block, nothing on the host.

A block of the predictor is two *slices*, each one kernel from normalised tokens to what they add to the residual
stream: queries, keys, values, attention and output projection; and the MLP. What a slice computes in between stays on
the multiprocessor. A few hundred candidates are too few tiles for a large GPU, so a slice's heads, or hidden numbers,
are also divided, among up to 8 splits. Their partial sums meet in a small kernel of their own (`merge`), which adds
them to the residual stream and applies the next adaptive LayerNorm. To sum at the start of the next slice would save
the launch, but there each of S splits reads all S sums: at 300 candidates and S = 8 twice the bytes of the weights.

What is saved otherwise: all modulations are one matrix product before the loop; while the window still grows, keys and
values of earlier tokens are kept; the last MLP computes the last token alone; and where candidates fill the GPU, tokens
of the context are computed once a context. The projector's batch norm and the predictor's exit become one layer.

Sizes, for 192 numbers a token in bfloat16 on a Hopper GPU: 64 rows and one head of 64 at a time take 96 KiB of shared
memory in three stages; the MLP 169 KiB, 48 of them for each stage of 64 hidden numbers, weights in and out. An A100
takes 32 rows and two stages. Weights (19 MB) stay in the L2 cache, and every tile reads all of them, which bounds the
speed of small tiles; so tiles are as large as still occupy half the multiprocessors (`transformer_launch`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from ..lewm.transformer import ConditionalBlock, TransformerPredictor
from .support import Unsupported, guard, interpreted, why_not
from .tiles import matrix_type, wide
from .transformer_cost import cost_of
from .transformer_launch import MOST_SPLITS, Machine
from .transformer_weights import Block, FeedForward, packed_action_encoder, packed_projector, parts, vector

__all__ = ["FusedTransformer", "cost_of"]

_WIDEST = 512
_LARGEST_HEAD = 128
_LONGEST = 32
_CANDIDATES_AT_ONCE = 16384
"""Whose modulations, caches and sums take about 4 GB at the paper's size."""


class FusedTransformer:
    """Rolls out candidates that share a context; equals calling `TransformerPredictor.step` again and again.

    Args:
        predictor: whose weights are taken, as they are now, on their device.
        projector: applied to each prediction, in evaluation mode: an identity, or a linear layer, batch norm, GELU and
            linear layer.
        dtype: of the matrix products, float32 or bfloat16; None takes that of the weights. Sums, norms, softmax and
            the residual stream are in float32.

    Raises:
        Unsupported: another predictor or projector, another dtype, more than 512 numbers a token, heads over 128, a
            history over 32, or a device without fused kernels.
    """

    def __init__(self, predictor: nn.Module, projector: nn.Module, dtype: torch.dtype | None = None) -> None:
        if not isinstance(predictor, TransformerPredictor):
            raise Unsupported(f"no transformer: a predictor of type {type(predictor).__name__}")
        self.device = predictor.positions.device
        reason = why_not(self.device)
        if reason is not None:
            raise Unsupported(reason)
        from . import transformer_kernels

        self._kernels: Any = transformer_kernels
        self.dtype = matrix_type(predictor.positions, dtype)
        self._widen = self.device.type == "cpu" and interpreted()
        self._history, self._latent_size = predictor.positions.shape
        self._width = predictor.norm.normalized_shape[0]
        _check(predictor, self._width, self._history)
        self._machine = Machine.of(self.device, self.dtype)
        self._pack(predictor, projector)

    @torch.no_grad()
    def _pack(self, predictor: TransformerPredictor, projector: nn.Module) -> None:
        """Lay the weights out for the kernels."""
        blocks = [cast("ConditionalBlock", block) for block in predictor.blocks]
        self._blocks = [Block(block, self.dtype) for block in blocks]
        self._padded = sum(parts(self._width))
        self._actions = packed_action_encoder(predictor.action_encoder, blocks, self.dtype)
        entry, leave = predictor.entry, predictor.exit
        self._entry = entry.weight.to(torch.float32, copy=True) if isinstance(entry, nn.Linear) else None
        self._positions = predictor.positions.to(torch.float32, copy=True)
        if isinstance(entry, nn.Linear):
            self._positions = linear(predictor.positions.double(), entry.weight.double(), entry.bias.double()).float()
        self._norm = vector(predictor.norm.weight, predictor.norm.bias)
        self._norm_epsilon = predictor.norm.eps
        self._projector = packed_projector(projector, leave, self.dtype)
        self._exit = None
        if self._projector is None and isinstance(leave, nn.Linear):
            self._exit = leave.weight.to(torch.float32, copy=True), leave.bias.to(torch.float32, copy=True)

    @torch.no_grad()
    def __call__(self, latents: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Roll out every candidate.

        Args:
            latents: (B, T, D), oldest first, T at most the predictor's history.
            past: (B, T-1, A), normalised, between the latents.
            actions: (B, N, H, A), normalised.

        Returns:
            (B, N, H, D), in the dtype of `latents`.

        Raises:
            ValueError: more latents than the predictor looks back on.
        """
        if latents.shape[1] > self._history:
            raise ValueError(f"{latents.shape[1]} latents, but the predictor looks back on {self._history} at most")
        result = torch.empty(*actions.shape[:3], self._latent_size, dtype=latents.dtype, device=latents.device)
        with guard(self.device):
            for batch, part in _pieces(*actions.shape[:2]):
                if result[batch, part].numel():
                    rollout = _Rollout(self, latents[batch].float(), past[batch].float(), actions[batch, part].float())
                    result[batch, part] = rollout.run()
        return result


def _check(predictor: TransformerPredictor, width: int, history: int) -> None:
    """Raise Unsupported for sizes that no tile holds."""
    block = cast("ConditionalBlock", predictor.blocks[0]) if len(predictor.blocks) else None
    if block is None:
        raise Unsupported("a transformer without blocks")
    head_size = block.qkv.out_features // (3 * block.heads)
    widest = max(width, predictor.positions.shape[1])
    if widest > _WIDEST or head_size > _LARGEST_HEAD or history > _LONGEST:
        raise Unsupported(
            f"{widest} numbers a token, heads of {head_size}, a history of {history}: the kernels hold at most "
            f"{_WIDEST}, {_LARGEST_HEAD} and {_LONGEST}"
        )


def _pieces(batch: int, count: int) -> Iterator[tuple[slice, slice]]:
    """Divide contexts and their candidates into pieces whose modulations and caches fit the memory."""
    contexts = max(1, _CANDIDATES_AT_ONCE // max(1, count))
    for first in range(0, batch, contexts):
        for part in range(0, count, _CANDIDATES_AT_ONCE):
            yield slice(first, first + contexts), slice(part, part + _CANDIDATES_AT_ONCE)


@dataclass(frozen=True)
class _Window:
    """Tokens that one pass through the blocks computes.

    Attributes:
        candidates: sequences.
        count: N, candidates to a context.
        start: the window's first token.
        first: the first that is new; those before it are cached.
        end: one past the last.
        shared: cached tokens of the context.
        kept: cached tokens of each candidate.
        keeps: the new tokens' keys and values are kept.
        prefix: tokens of the context alone, for others to attend to.
    """

    candidates: int
    count: int
    start: int
    first: int
    end: int
    shared: int
    kept: int
    keeps: bool
    prefix: bool = False

    @property
    def length(self) -> int:
        """New tokens of a candidate."""
        return self.end - self.first


class _Rollout:
    """The rollout of some candidates; arguments as in `FusedTransformer.__call__`, float32."""

    def __init__(self, fused: FusedTransformer, latents: Tensor, past: Tensor, actions: Tensor) -> None:
        self.fused, self.kernels = fused, fused._kernels
        self.batch, self.known = latents.shape[:2]
        self.count, self.horizon = actions.shape[1:3]
        self.candidates = self.batch * self.count
        longest = min(fused._history, self.known + self.horizon - 1)
        self.shares = self.known > 1 and fused._machine.is_filled(self.candidates * longest)
        self.modulations = self._modulate(torch.cat([past.flatten(0, 1), actions.flatten(0, 2)]))
        self.out = latents.new_empty(self.candidates, self.horizon, fused._latent_size)
        entry = fused._entry
        self.known_tokens = latents.contiguous() if entry is None else linear(latents, entry)
        self.new_tokens = self.out if entry is None else self.out.new_empty(*self.out.shape[:2], fused._width)
        rows, padded = self.candidates * longest, fused._padded
        widest = max(padded, padded if fused._projector is None else sum(fused._projector.outputs))
        self.residual = latents.new_empty(rows, padded)
        self.last = latents.new_empty(self.candidates, padded)
        self.normed = latents.new_empty(rows, padded, dtype=fused.dtype)
        self.slab_size = rows * widest
        self.slabs = latents.new_empty(MOST_SPLITS, self.slab_size)
        self.own_cache = self._cache(self.candidates if self.known < fused._history and self.horizon > 1 else 0)
        self.shared_cache = self._cache(self.batch if self.shares else 0)

    def run(self) -> Tensor:
        """Return the predicted latents (B, N, H, D)."""
        for step in range(self.horizon):
            end = self.known + step
            start = max(0, end - self.fused._history)
            anew = step == 0 or start > 0
            shared = max(0, self.known - 1 - start) if self.shares else 0
            if anew and shared:
                self._advance(_Window(self.batch, 1, start, start, start + shared, 0, 0, keeps=True, prefix=True), -1)
            first = start + shared if anew else end - 1
            keeps = end < self.fused._history and step + 1 < self.horizon
            kept = first - start - shared
            self._advance(_Window(self.candidates, self.count, start, first, end, shared, kept, keeps), step)
        return self.out.unflatten(0, (self.batch, self.count))

    def _modulate(self, actions: Tensor) -> Tensor:
        """Return the modulations (rows, blocks * 6 * padded) of actions (rows, A)."""
        enter, leave, modulation = self.fused._actions
        dtype = self.fused.dtype
        condition = linear(silu(linear(actions, *enter)).to(dtype), *leave)
        return linear(silu(condition), *modulation)

    def _cache(self, candidates: int) -> list[Tensor]:
        """Return memory for each block's keys and values: (T, 2, candidates, heads * head_size)."""
        block, depth = self.fused._blocks[0], len(self.fused._blocks)
        inner = block.heads * block.head_size
        shape = (depth, self.fused._history, 2, candidates, inner) if candidates else (depth, 1)
        return list(self.normed.new_empty(shape))

    def _advance(self, window: _Window, step: int) -> None:
        """Pass a window through the blocks; predict the latent of `step` from its last token unless it is a prefix."""
        blocks = self.fused._blocks
        self._embed(window)
        residual, length = self.residual, window.length
        for index, block in enumerate(blocks):
            splits = self._attend(index, block, window)
            last = index == len(blocks) - 1
            if last and window.prefix:
                return
            target, after = (self.last, 1) if last and length > 1 else (residual, length)
            affine = block.mlp_affine, block.mlp_epsilons
            self._merge(window, (residual, target), (length, after), splits, block.out_bias, 6 * index + 2, affine)
            residual, length = target, after
            splits = self._feed_forward(block.feed_forward, window.candidates * length)
            if last:
                self._predict(window, residual, length, splits, block.feed_forward.bias, step)
                return
            affine = blocks[index + 1].attention_affine, blocks[index + 1].attention_epsilons
            sizes, place = (length, length), 6 * index + 5
            self._merge(window, (residual, residual), sizes, splits, block.feed_forward.bias, place, affine)

    def _predict(self, window: _Window, residual: Tensor, length: int, splits: int, bias: Tensor, step: int) -> None:
        """Apply the last norm, the exit and the projector to the last tokens, and keep the latents of `step`."""
        fused = self.fused
        gate, affine = 6 * len(fused._blocks) - 1, (fused._norm, (0.0, fused._norm_epsilon))
        buffers, sizes = (residual, self.last), (length, 1)
        if fused._projector is None:
            result = self.out if fused._exit is None else self.residual
            line, at = (self.horizon * fused._width, step * fused._width) if fused._exit is None else (fused._padded, 0)
            self._merge(window, buffers, sizes, splits, bias, gate, affine, (result, line, at))
            if fused._exit is not None:
                self.out[:, step] = linear(self.residual[: self.candidates, : fused._width], *fused._exit)
        else:
            self._merge(window, buffers, sizes, splits, bias, gate, affine, (self.normed, fused._padded, 0))
            splits = self._feed_forward(fused._projector, self.candidates)
            self._collect(fused._projector, splits, step)
        if fused._entry is not None:
            self.new_tokens[:, step] = linear(self.out[:, step], fused._entry)

    def _embed(self, window: _Window) -> None:
        """Launch `embed`."""
        fused, rows = self.fused, window.candidates * window.length
        block, lines = fused._blocks[0], fused._machine.lines
        self.kernels.embed[(-(-rows // lines),)](
            self.known_tokens, self.new_tokens, fused._positions, self.residual, self.modulations,
            block.attention_affine, self.normed, rows, window.count, self.known, window.first,
            window.first - window.start, self.horizon, self.batch * (self.known - 1), self.modulations.shape[1],
            *block.attention_epsilons, window=window.length, size=fused._width, padded=fused._padded,
            columns=wide(fused._padded), lines=lines, narrow=fused._machine.narrow, widen=fused._widen, num_warps=4,
        )  # fmt: skip

    def _merge(
        self,
        window: _Window,
        buffers: tuple[Tensor, Tensor],
        sizes: tuple[int, int],
        splits: int,
        bias: Tensor,
        gate: int,
        norm: tuple[Tensor, tuple[float, float]],
        goal: tuple[Tensor, int, int] | None = None,
    ) -> None:
        """Launch `merge`.

        Args:
            window: whose tokens these are.
            buffers: residual stream before and after.
            sizes: tokens of a candidate before and after.
            splits: slabs to sum.
            bias: added to them.
            gate: its number among the modulations.
            norm: the next norm's weights, and its epsilons.
            goal: where the last norm goes, with line and offset; None for another norm.
        """
        fused, rows = self.fused, window.candidates * sizes[1]
        lines = fused._machine.lines
        result, line, at = goal or (self.normed, fused._padded, 0)
        exact = result is not self.normed
        self.kernels.merge[(-(-rows // lines),)](
            *buffers, self.slabs, bias, self.modulations, norm[0], result, rows, window.count, self.known - 1,
            window.end - sizes[0], self.horizon, self.batch * (self.known - 1), self.modulations.shape[1],
            gate * fused._padded, (gate + 1) * fused._padded, self.slab_size, line, at, *norm[1], splits=splits,
            before=sizes[0], after=sizes[1], final=goal is not None, written=fused._width if exact else fused._padded,
            size=fused._width, padded=fused._padded, columns=wide(fused._padded), lines=lines,
            narrow=fused._machine.narrow and not exact, widen=fused._widen,
            num_warps=8 if fused.dtype == torch.float32 else 4,
        )  # fmt: skip

    def _attend(self, index: int, block: Block, window: _Window) -> int:
        """Launch `attend`; return how many slabs it writes."""
        fused = self.fused
        main, rest = parts(fused._width)
        tile = fused._machine.tile(window.candidates, window.length)
        tiles = -(-window.candidates // (tile // window.length))
        per_split, splits = fused._machine.divide(tiles, block.heads)
        panel = min(64 if fused._machine.narrow else 32, rest or main)
        inner = panel * (tile + 3 * block.head_size)
        fixed = block.head_size * (fused._padded + 3 * tile) + tile * tile
        own = self.shared_cache if window.prefix else self.own_cache
        self.kernels.attend[(tiles, splits)](
            self.normed, block.qkv, block.out, self.slabs, self.shared_cache[index], own[index], window.candidates,
            self.batch, window.count, block.heads, window.kept, self.slab_size, per_split=per_split,
            window=window.length, before=window.shared, kept=window.kept, keeps=window.keeps, tile=tile,
            padded=fused._padded, panel=panel, head_size=block.head_size, main=main, rest=rest,
            narrow=fused._machine.narrow, widen=fused._widen, **fused._machine.options(tile, inner, fixed),
        )  # fmt: skip
        return splits

    def _feed_forward(self, layers: FeedForward, rows: int) -> int:
        """Launch `feed_forward`; return how many slabs it writes."""
        fused = self.fused
        (main, rest), (out_main, out_rest) = layers.inputs, layers.outputs
        tile, chunk = fused._machine.row_tile(rows, max(main + rest, out_main + out_rest)), layers.chunk
        tiles = -(-rows // tile)
        per_split, splits = fused._machine.divide(tiles, layers.enter.shape[1] // chunk)
        stage = chunk * (main + rest + out_main + out_rest)
        self.kernels.feed_forward[(tiles, splits)](
            self.normed, layers.enter, layers.enter_bias, layers.leave, self.slabs, rows, self.slab_size,
            per_split=per_split, hidden=layers.enter.shape[1], chunk=chunk, tile=tile, main=main, rest=rest,
            out_main=out_main, out_rest=out_rest, narrow=fused._machine.narrow, widen=fused._widen,
            **fused._machine.options(tile, stage, tile * (main + rest + chunk)),
        )  # fmt: skip
        return splits

    def _collect(self, layers: FeedForward, splits: int, step: int) -> None:
        """Launch `collect`."""
        size, padded, lines = self.fused._latent_size, sum(layers.outputs), self.fused._machine.lines
        self.kernels.collect[(-(-self.candidates // lines),)](
            self.slabs, layers.bias, self.out, self.candidates, self.slab_size, self.horizon * size, step * size,
            splits=splits, size=size, padded=padded, columns=wide(padded), lines=lines, num_warps=4,
        )  # fmt: skip
