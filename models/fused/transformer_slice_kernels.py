"""Triton kernels of the transformer's two slices, where the work is; `transformer_kernels` says what arguments mean."""

import triton
import triton.language as tl

from .tile_kernels import gelu

__all__ = ["attend", "feed_forward", "operand"]


@triton.jit
def operand(x, narrow: tl.constexpr, widen: tl.constexpr):
    """Return float32 numbers rounded to operands of a product."""
    if narrow:
        if widen:
            bits = x.to(tl.uint32, bitcast=True)
            bits += 0x7FFF + ((bits >> 16) & 1)
            x = ((bits >> 16) << 16).to(tl.float32, bitcast=True)
        else:
            x = x.to(tl.bfloat16)
    return x


@triton.jit
def _weights(pointers, widen: tl.constexpr):
    """Load operands that need no mask."""
    w = tl.load(pointers)
    if widen:
        w = w.to(tl.float32)
    return w


@triton.jit
def _activations(pointers, valid, widen: tl.constexpr):
    """Load rows of operands; zeros where a row is not valid."""
    x = tl.load(pointers, mask=valid[:, None], other=0.0)
    if widen:
        x = x.to(tl.float32)
    return x


@triton.jit
def _attention_to_cached(
    query, highest, total, mixed, keys, valid, token_line, value_at, tokens: tl.constexpr,
):  # fmt: skip
    """Let queries (R, E) also attend to one cached token after another, softmax kept up to date.

    Args:
        query: (R, E), float32.
        highest: (R,), the highest score so far.
        total: (R,), sum of exp(score - highest) so far.
        mixed: (R, E), sum of exp(score - highest) times value so far.
        keys: pointers (R, E) to the first token's keys.
        valid: (R,).
        token_line: from one token's to the next one's.
        value_at: from a key to its value.
        tokens: how many.
    """
    for token in tl.static_range(tokens):  # pyright: ignore[reportGeneralTypeIssues]
        key = tl.load(keys + token * token_line, mask=valid[:, None], other=0.0).to(tl.float32)
        value = tl.load(keys + token * token_line + value_at, mask=valid[:, None], other=0.0).to(tl.float32)
        score = tl.sum(query * key, axis=1)
        peak = tl.maximum(highest, score)
        old = tl.exp(highest - peak)
        new = tl.exp(score - peak)
        mixed = mixed * old[:, None] + new[:, None] * value
        total = total * old + new
        highest = peak
    return highest, total, mixed


@triton.jit
def _projected(
    normed, qkv, row, valid, tile: tl.constexpr, padded: tl.constexpr, panel: tl.constexpr, head_size: tl.constexpr,
    widen: tl.constexpr,
):  # fmt: skip
    """Return a head's queries, keys and values (tile, head_size), float32, its weights being (3, padded, head_size)."""
    inner = tl.arange(0, panel)
    at = inner[:, None] * head_size + tl.arange(0, head_size)[None, :]
    query = tl.zeros([tile, head_size], dtype=tl.float32)
    key = tl.zeros([tile, head_size], dtype=tl.float32)
    value = tl.zeros([tile, head_size], dtype=tl.float32)
    for start in range(0, padded, panel):
        x = _activations(normed + row[:, None] * padded + start + inner[None, :], valid, widen)
        w = qkv + start * head_size + at
        query = tl.dot(x, _weights(w, widen), query, input_precision="tf32x3")
        key = tl.dot(x, _weights(w + padded * head_size, widen), key, input_precision="tf32x3")
        value = tl.dot(x, _weights(w + 2 * padded * head_size, widen), value, input_precision="tf32x3")
    return query, key, value


@triton.jit
def _attention_in_tile(
    query, key, value, window: tl.constexpr, tile: tl.constexpr, narrow: tl.constexpr, widen: tl.constexpr
):
    """Let tokens attend to those of their own candidate up to themselves; `_attention_to_cached` says what is returned.

    Scores are the product of all the tile's queries and keys, with a mask that leaves each candidate its own: for 64
    rows a fifth of the projections' work, and no rows are wasted on padding windows to powers of 2. Values that are no
    numbers are left out, or 0 times NaN would spread one candidate's to its neighbours; their scores are NaN anyway.
    """
    if window == 1:
        wide = operand(query, narrow, widen).to(tl.float32)
        highest = tl.sum(wide * operand(key, narrow, widen).to(tl.float32), axis=1)
        total = tl.full([tile], 1.0, dtype=tl.float32)
        mixed = operand(value, narrow, widen).to(tl.float32)
    else:
        index = tl.arange(0, tile)
        own = (index[:, None] // window == index[None, :] // window) & (index[:, None] >= index[None, :])
        keys = tl.trans(operand(key, narrow, widen))
        score = tl.dot(operand(query, narrow, widen), keys, input_precision="tf32x3")
        score = tl.where(own, score, float("-inf"))
        highest = tl.max(score, axis=1)
        share = tl.exp(score - highest[:, None])
        total = tl.sum(share, axis=1)
        values = operand(tl.where(value == value, value, 0.0), narrow, widen)
        mixed = tl.dot(operand(share, narrow, widen), values, input_precision="tf32x3")
    return highest, total, mixed


@triton.jit(do_not_specialize=["new_at"])
def attend(
    normed, qkv, out, slabs, shared_cache, own_cache,
    candidates, contexts, count, heads, new_at, slab_size, per_split: tl.constexpr,
    window: tl.constexpr, before: tl.constexpr, kept: tl.constexpr, keeps: tl.constexpr, tile: tl.constexpr,
    padded: tl.constexpr, panel: tl.constexpr, head_size: tl.constexpr, main: tl.constexpr, rest: tl.constexpr,
    narrow: tl.constexpr, widen: tl.constexpr,
):  # fmt: skip
    """Causal attention of a tile of candidates, some of the heads, through their part of the output projection.

    What it alone takes, or takes otherwise:

    - normed: with candidates * window rows, as have the slabs, which are written.
    - qkv: (heads, 3, padded, head_size), operands; queries scaled already.
    - out: (heads, head_size, padded), operands.
    - shared_cache: (T, 2, contexts, heads * head_size), operands: keys and values of the contexts' tokens.
    - own_cache: (T, 2, candidates, heads * head_size), likewise of each candidate's; written where `keeps`.
    - contexts: B.
    - per_split: heads of a split.
    - new_at: where in `own_cache` the new tokens go.
    - window: new tokens of a candidate.
    - before: tokens of `shared_cache` before the new ones.
    - kept: tokens of `own_cache` between those and the new ones.
    - keeps: keys and values are kept.
    - tile: rows of a program.
    - panel: inputs multiplied at a time; divides `padded`.
    - head_size: padded size of a head, a power of 2.
    """
    per_tile: tl.constexpr = tile // window
    index = tl.arange(0, tile)
    candidate = tl.program_id(0) * per_tile + index // window
    valid = (index < per_tile * window) & (candidate < candidates)
    row = tl.program_id(0) * per_tile * window + index
    column = tl.arange(0, head_size)
    line = heads * head_size
    split = tl.program_id(1)
    result = tl.zeros([tile, main], dtype=tl.float32)
    if rest:
        result_rest = tl.zeros([tile, rest], dtype=tl.float32)
    for number in range(per_split):
        head = split * per_split + number
        weights = qkv + head * 3 * padded * head_size
        query, key, value = _projected(normed, weights, row, valid, tile, padded, panel, head_size, widen)
        highest, total, mixed = _attention_in_tile(query, key, value, window, tile, narrow, widen)
        query = operand(query, narrow, widen).to(tl.float32)
        lane = head * head_size + column[None, :]
        if keeps:
            slot = (new_at + index % window) * 2 * candidates + candidate
            goal = own_cache + slot[:, None] * line + lane
            tl.store(goal, operand(key, narrow, widen), mask=valid[:, None])
            tl.store(goal + candidates * line, operand(value, narrow, widen), mask=valid[:, None])
        if before:
            keys = shared_cache + (candidate // count)[:, None] * line + lane
            highest, total, mixed = _attention_to_cached(
                query, highest, total, mixed, keys, valid, 2 * contexts * line, contexts * line, before
            )
        if kept:
            keys = own_cache + candidate[:, None] * line + lane
            highest, total, mixed = _attention_to_cached(
                query, highest, total, mixed, keys, valid, 2 * candidates * line, candidates * line, kept
            )
        gathered = operand(mixed / total[:, None], narrow, widen)
        down = out + (head * head_size + column)[:, None] * padded
        result = tl.dot(gathered, _weights(down + tl.arange(0, main)[None, :], widen), result, input_precision="tf32x3")
        if rest:
            w = _weights(down + main + tl.arange(0, rest)[None, :], widen)
            result_rest = tl.dot(gathered, w, result_rest, input_precision="tf32x3")
    place = slabs + split * slab_size + row[:, None] * padded
    tl.store(place + tl.arange(0, main)[None, :], result, mask=valid[:, None])
    if rest:
        tl.store(place + main + tl.arange(0, rest)[None, :], result_rest, mask=valid[:, None])


@triton.jit
def feed_forward(
    normed, enter, enter_bias, leave, slabs, rows, slab_size, per_split: tl.constexpr,
    hidden: tl.constexpr, chunk: tl.constexpr, tile: tl.constexpr, main: tl.constexpr, rest: tl.constexpr,
    out_main: tl.constexpr, out_rest: tl.constexpr, narrow: tl.constexpr, widen: tl.constexpr,
):  # fmt: skip
    """Linear, exact GELU, linear for a tile of rows and some of the hidden numbers; the last bias is left to others.

    What it alone takes, or takes otherwise:

    - normed: with main + rest columns.
    - enter: (main + rest, hidden), operands.
    - enter_bias: (hidden,), float32.
    - leave: (hidden, out_main + out_rest), operands.
    - slabs: with out_main + out_rest columns, written.
    - per_split: chunks of a split.
    - hidden: a multiple of `chunk`.
    - chunk: hidden numbers at a time.
    - tile: rows of a program.
    """
    row = tl.program_id(0) * tile + tl.arange(0, tile)
    valid = row < rows
    split = tl.program_id(1)
    lane = tl.arange(0, chunk)
    inner = tl.arange(0, main)
    column = tl.arange(0, out_main)
    x = _activations(normed + row[:, None] * (main + rest) + inner[None, :], valid, widen)
    result = tl.zeros([tile, out_main], dtype=tl.float32)
    if rest:
        inner_rest = main + tl.arange(0, rest)
        x_rest = _activations(normed + row[:, None] * (main + rest) + inner_rest[None, :], valid, widen)
    if out_rest:
        column_rest = out_main + tl.arange(0, out_rest)
        result_rest = tl.zeros([tile, out_rest], dtype=tl.float32)
    for number in range(per_split):
        at = (split * per_split + number) * chunk + lane
        wide = tl.dot(x, _weights(enter + inner[:, None] * hidden + at[None, :], widen), input_precision="tf32x3")
        if rest:
            w = _weights(enter + inner_rest[:, None] * hidden + at[None, :], widen)
            wide = tl.dot(x_rest, w, wide, input_precision="tf32x3")
        wide = operand(gelu(wide + tl.load(enter_bias + at)[None, :]), narrow, widen)
        w = leave + at[:, None] * (out_main + out_rest)
        result = tl.dot(wide, _weights(w + column[None, :], widen), result, input_precision="tf32x3")
        if out_rest:
            result_rest = tl.dot(wide, _weights(w + column_rest[None, :], widen), result_rest, input_precision="tf32x3")
    goal = slabs + split * slab_size + row[:, None] * (out_main + out_rest)
    tl.store(goal + column[None, :], result, mask=valid[:, None])
    if out_rest:
        tl.store(goal + column_rest[None, :], result_rest, mask=valid[:, None])
