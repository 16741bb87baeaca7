"""Triton kernels for the rollout of a causal transformer with adaptive LayerNorm; `FusedTransformer` launches them.

*Rows* are tokens: those of one candidate are neighbours, oldest first. Rows of activations and columns of weights are
padded with zeros to a power of 2 (`main`) or the sum of two (`main + rest`), so that products need no masks and 192
columns are 128 + 64, not 256.

A block is two *slices*, attention and MLP, whose programs divide the rows among tiles, and the heads or the hidden
numbers among splits. Each split writes what it adds to the residual stream into a slab of its own; `merge` sums the
slabs in their order, so two rollouts agree bit for bit.

Arguments that several kernels share:

- rows: of what is written. candidates: B * N. count: N, candidates to a context. horizon: H. known: T, tokens of a
  context; shared: known - 1, the actions between them.
- first: the window's first token that is computed here.
- modulations: (context_rows + B * N * H, table_line), operands, with context_rows = B * shared: an action's shift,
  scale and gate of the attention, then of the MLP, each `padded` numbers, block after block.
- affine: (2, padded), float32, weight and bias of the second LayerNorm that comes next; affine_epsilon belongs to it,
  and epsilon to the first, which has no weights.
- normed: (rows, padded), operands, what a slice reads.
- slabs: (splits, rows, padded), float32, `slab_size` numbers apart.
- size: of a token, without padding. columns: a power of 2 that holds `padded`. lines: rows of a program.
- narrow: operands of products are bfloat16, not float32. widen: for Triton's interpreter, which cannot multiply
  bfloat16 and rounds to it wrongly: operands then are float32 numbers that bfloat16 can hold.
"""

import triton
import triton.language as tl

from .transformer_slice_kernels import attend, feed_forward, operand

__all__ = ["attend", "collect", "embed", "feed_forward", "merge"]


@triton.jit
def _standard(x, inside, size: tl.constexpr, epsilon):
    """Return x (R, C) less its mean, over its standard deviation; zero outside the first `size` columns."""
    mean = tl.sum(x, axis=1) / size
    centred = tl.where(inside, x - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / size
    return centred * (1.0 / tl.sqrt(variance + epsilon))[:, None]


@triton.jit
def _scaled(x, affine, padded: tl.constexpr):
    """Return x times affine[0] plus affine[1], each `padded` numbers."""
    column = tl.arange(0, x.shape[1])
    weight = tl.load(affine + column, mask=column < padded, other=0.0)
    bias = tl.load(affine + padded + column, mask=column < padded, other=0.0)
    return x * weight[None, :] + bias[None, :]


@triton.jit
def _adapted(
    x, inside, table, modulations, affine, epsilon, affine_epsilon, size: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    """Normalise x (R, C), modulate it, normalise it again; `table` (R,) says where each row's shift and scale are."""
    column = tl.arange(0, x.shape[1])
    place = modulations + table[:, None] + column[None, :]
    shift = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(place + padded, mask=inside, other=0.0).to(tl.float32)
    x = tl.where(inside, _standard(x, inside, size, epsilon) * (1.0 + scale) + shift, 0.0)
    return _scaled(_standard(x, inside, size, affine_epsilon), affine, padded)


@triton.jit
def _table(candidate, token, count, shared, context_rows, horizon, line):
    """Return where the modulations of a token are: those of the contexts' actions come first."""
    context = candidate // count * shared + token
    own = context_rows + candidate * horizon + token - shared
    return tl.where(token < shared, context, own).to(tl.int64) * line


@triton.jit(do_not_specialize=["first", "position"])
def embed(
    known_tokens, new_tokens, positions, residual, modulations, affine, normed,
    rows, count, known, first, position, horizon, context_rows, table_line, epsilon, affine_epsilon,
    window: tl.constexpr, size: tl.constexpr, padded: tl.constexpr, columns: tl.constexpr, lines: tl.constexpr,
    narrow: tl.constexpr, widen: tl.constexpr,
):  # fmt: skip
    """Put a window's tokens at the start of the residual stream, and normalise them for the first attention.

    What it alone takes, or takes otherwise:

    - known_tokens: (B, known, size), float32.
    - new_tokens: (B * N, horizon, size), float32; those of the window have been predicted.
    - positions: (T, size), float32.
    - residual: (rows, padded), float32, written, as is `normed`.
    - position: of token `first`.
    - window: tokens of a candidate.
    """
    row = tl.program_id(0) * lines + tl.arange(0, lines)
    column = tl.arange(0, columns)
    stored = (row < rows)[:, None] & (column < padded)[None, :]
    inside = (row < rows)[:, None] & (column < size)[None, :]
    candidate = row // window
    token = first + row % window
    context = (candidate // count * known + token)[:, None] * size + column[None, :]
    new = (candidate * horizon + token - known)[:, None] * size + column[None, :]
    x = tl.load(known_tokens + context, mask=inside & (token < known)[:, None], other=0.0)
    x += tl.load(new_tokens + new, mask=inside & (token >= known)[:, None], other=0.0)
    place = (position + row % window)[:, None] * size + column[None, :]
    x += tl.load(positions + place, mask=inside, other=0.0)
    tl.store(residual + row[:, None] * padded + column[None, :], x, mask=stored)
    table = _table(candidate, token, count, known - 1, context_rows, horizon, table_line)
    x = _adapted(x, inside, table, modulations, affine, epsilon, affine_epsilon, size, padded)
    tl.store(normed + row[:, None] * padded + column[None, :], operand(x, narrow, widen), mask=stored)


@triton.jit(do_not_specialize=["first"])
def merge(
    source, target, slabs, bias, modulations, affine, normed,
    rows, count, shared, first, horizon, context_rows, table_line, gate_at, next_at, slab_size, normed_line, normed_at,
    epsilon, affine_epsilon,
    splits: tl.constexpr, before: tl.constexpr, after: tl.constexpr, final: tl.constexpr, written: tl.constexpr,
    size: tl.constexpr, padded: tl.constexpr, columns: tl.constexpr, lines: tl.constexpr, narrow: tl.constexpr,
    widen: tl.constexpr,
):  # fmt: skip
    """Add the gated sum of the slabs to the residual stream, and normalise it for what comes next.

    What it alone takes, or takes otherwise:

    - source: residual stream (candidates * before, padded), float32.
    - target: the stream after (rows, padded); may be `source` where before = after.
    - slabs: with candidates * before rows.
    - bias: (padded,), float32, added to the sum.
    - normed: written from `normed_at` on, rows `normed_line` apart, the first `written` columns.
    - gate_at: where the gate is in a line of `modulations`.
    - next_at: where the next shift is.
    - before: tokens of a candidate so far, from `first` on.
    - after: how many of them, the latest, go on.
    - final: the next norm is the last, which is not adaptive.
    """
    row = tl.program_id(0) * lines + tl.arange(0, lines)
    column = tl.arange(0, columns)
    valid = (row < rows)[:, None]
    stored = valid & (column < padded)[None, :]
    inside = valid & (column < size)[None, :]
    candidate = row // after
    place = row % after + (before - after)
    at = (candidate * before + place)[:, None] * padded + column[None, :]
    total = tl.load(bias + column, mask=column < padded, other=0.0)[None, :]
    for split in tl.static_range(splits):  # pyright: ignore[reportGeneralTypeIssues]
        total += tl.load(slabs + split * slab_size + at, mask=stored, other=0.0)
    table = _table(candidate, first + place, count, shared, context_rows, horizon, table_line)
    gate = tl.load(modulations + table[:, None] + gate_at + column[None, :], mask=inside, other=0.0).to(tl.float32)
    x = tl.load(source + at, mask=stored, other=0.0) + gate * total
    tl.store(target + row[:, None] * padded + column[None, :], x, mask=stored)
    if final:
        x = _scaled(_standard(x, inside, size, affine_epsilon), affine, padded)
    else:
        x = _adapted(x, inside, table + next_at, modulations, affine, epsilon, affine_epsilon, size, padded)
    goal = normed + normed_at + row[:, None] * normed_line + column[None, :]
    tl.store(goal, operand(x, narrow, widen), mask=valid & (column < written)[None, :])


@triton.jit
def collect(
    slabs, bias, out, rows, slab_size, out_line, out_at,
    splits: tl.constexpr, size: tl.constexpr, padded: tl.constexpr, columns: tl.constexpr, lines: tl.constexpr,
):  # fmt: skip
    """Sum slabs and a bias (padded,) to rows of `size` numbers in `out`, from `out_at` on, `out_line` apart."""
    row = tl.program_id(0) * lines + tl.arange(0, lines)
    column = tl.arange(0, columns)
    inside = (row < rows)[:, None] & (column < size)[None, :]
    total = tl.load(bias + column, mask=column < size, other=0.0)[None, :]
    for split in tl.static_range(splits):  # pyright: ignore[reportGeneralTypeIssues]
        total += tl.load(slabs + split * slab_size + row[:, None] * padded + column[None, :], mask=inside, other=0.0)
    tl.store(out + out_at + row[:, None] * out_line + column[None, :], total, mask=inside)
