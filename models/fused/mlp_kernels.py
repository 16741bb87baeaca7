"""The rollout of a residual MLP as one Triton kernel: every step of the horizon for a tile of candidates."""

import triton
import triton.language as tl

from .tile_kernels import clear, gelu, normed, product, project, read_vector, write_tile

__all__ = ["mlp_rollout"]


@triton.jit
def _write_inputs(
    lines, latent, action, change, before, flag, latent_size: tl.constexpr, block_size: tl.constexpr,
    looks_back: tl.constexpr, line_size: tl.constexpr,
):  # fmt: skip
    """Write what the first layer takes: latent and action, and where it looks back change, action before and flag."""
    line = tl.arange(0, latent.shape[0])[:, None]
    column = tl.arange(0, latent.shape[1])[None, :]
    number = tl.arange(0, action.shape[1])[None, :]
    target = lines + line * line_size
    tl.debug_barrier()
    tl.store(target + column, latent.to(lines.dtype.element_ty), mask=column < latent_size)
    tl.store(target + latent_size + number, action.to(lines.dtype.element_ty), mask=number < block_size)
    if looks_back:
        target += latent_size + block_size
        tl.store(target + column, change.to(lines.dtype.element_ty), mask=column < latent_size)
        tl.store(target + latent_size + number, before.to(lines.dtype.element_ty), mask=number < block_size)
        flags = tl.zeros([latent.shape[0], 1], dtype=tl.float32) + flag
        tl.store(target + latent_size + block_size, flags.to(lines.dtype.element_ty))
    tl.debug_barrier()


@triton.jit
def _residual_blocks(
    x, between, blocks, block_vectors, width: tl.constexpr, depth: tl.constexpr, epsilon: tl.constexpr,
    W: tl.constexpr, panel: tl.constexpr, widen: tl.constexpr,
):  # fmt: skip
    """Return a tile x (M, W) after the residual blocks; arguments as in `mlp_rollout`."""
    for layer in range(depth):
        vectors = block_vectors + layer * 4 * W
        weight = blocks + layer * 2 * W * W
        write_tile(between, normed(x, vectors, vectors + W, width, epsilon))
        inner = tl.zeros_like(x) + read_vector(vectors + 2 * W, x)
        inner = product(inner, between, weight, W, W, W, panel, widen)
        write_tile(between, gelu(inner))
        x += read_vector(vectors + 3 * W, x)
        x = product(x, between, weight + W * W, W, W, W, panel, widen)
    return x


@triton.jit(
    do_not_specialize=["rows", "count", "known", "horizon"],
    do_not_specialize_on_alignment=["latents", "past", "actions"],
)
def mlp_rollout(
    latents, past, actions, out, store, entry, entry_bias, blocks, block_vectors, last_norm, last, last_bias,
    up, up_bias, down, down_bias, rows, count, known, horizon,
    latent_size: tl.constexpr, block_size: tl.constexpr, width: tl.constexpr, depth: tl.constexpr,
    epsilon: tl.constexpr, looks_back: tl.constexpr, hidden: tl.constexpr, chunk: tl.constexpr,
    line_size: tl.constexpr, M: tl.constexpr, DP: tl.constexpr, AP: tl.constexpr, W: tl.constexpr,
    store_size: tl.constexpr, entry_panel: tl.constexpr, block_panel: tl.constexpr, last_panel: tl.constexpr,
    up_panel: tl.constexpr, down_panel: tl.constexpr, widen: tl.constexpr,
):  # fmt: skip
    """Roll out candidates program * M and the M - 1 after it.

    Latents, change and residual stream stay in registers in float32; what a product takes goes through `store`.

    Args:
        latents: (B, known, D).
        past: (B, known - 1, A), normalised.
        actions: (rows, horizon, A), normalised.
        out: (rows, horizon, D), written.
        store: (programs, store_size) operands: lines of `line_size` inputs, then of the widest layer's numbers.
        entry: (line_size, W), of latent, action, change, action before and the flag whether those are known.
        entry_bias: (W,).
        blocks: (depth, 2, W, W), weights of the residual blocks' two layers.
        block_vectors: (depth, 4, W), weight and bias of the norm, biases of the layers.
        last_norm: (2, W), weight and bias.
        last: (W, DP).
        last_bias: (DP,).
        up: (DP, hidden) of the projector, and so on; not read where `hidden` is 0.
        up_bias: (hidden,).
        down: (hidden, DP).
        down_bias: (DP,).
        rows: B * count.
        count: N, rows that share a context.
        known: T.
        horizon: H.
        latent_size: D.
        block_size: A.
        width: of the MLP; W without padding.
        depth: residual blocks.
        epsilon: of the norms.
        looks_back: whether the step before is an input.
        hidden: of the projector, padded; 0 without one.
        chunk: of the projector's hidden numbers.
        line_size: padded number of inputs.
        M: rows of a tile.
        DP: padded D.
        AP: padded A.
        W: padded width.
        store_size: operands in one program's store.
        entry_panel: inputs multiplied at a time, as those below.
        block_panel: in blocks.
        last_panel: in the last layer.
        up_panel: in the projector's first layer.
        down_panel: in its second layer.
        widen: see `product`.
    """
    program = tl.program_id(0).to(tl.int64)
    line = tl.arange(0, M)
    row = program * M + line
    valid = (row < rows)[:, None]
    context = row // count
    column = tl.arange(0, DP)[None, :]
    number = tl.arange(0, AP)[None, :]
    in_latent = column < latent_size
    in_action = number < block_size
    lines = store + program * store_size
    between = lines + M * line_size

    now = latents + (context * known + known - 1)[:, None] * latent_size + column
    latent = tl.load(now, mask=valid & in_latent, other=0.0).to(tl.float32)
    before = tl.zeros([M, AP], dtype=tl.float32)
    earlier = latent
    if looks_back:
        moved = (row < tl.where(known > 1, rows, 0))[:, None]
        earlier = tl.load(now - latent_size, mask=moved & in_latent, other=latent).to(tl.float32)
        done = past + (context * (known - 1) + known - 2)[:, None] * block_size + number
        before = tl.load(done, mask=moved & in_action, other=0.0).to(tl.float32)
    clear(lines, M, line_size)

    for step in range(horizon):
        place = (row * horizon + step)[:, None]
        action = tl.load(actions + place * block_size + number, mask=valid & in_action, other=0.0).to(tl.float32)
        flag = tl.where(known + step > 1, 1.0, 0.0)
        _write_inputs(
            lines, latent, action, latent - earlier, before, flag, latent_size, block_size, looks_back, line_size
        )
        x = tl.zeros([M, W], dtype=tl.float32)
        x += read_vector(entry_bias, x)
        x = product(x, lines, entry, line_size, line_size, W, entry_panel, widen)
        x = _residual_blocks(x, between, blocks, block_vectors, width, depth, epsilon, W, block_panel, widen)
        write_tile(between, gelu(normed(x, last_norm, last_norm + W, width, epsilon)))
        following = latent + read_vector(last_bias, latent)
        following = product(following, between, last, W, W, DP, last_panel, widen)
        if hidden > 0:
            following = project(
                following, between, up, up_bias, down, down_bias, hidden, chunk, up_panel, down_panel, widen
            )
        tl.store(out + place * latent_size + column, following, mask=valid & in_latent)
        earlier = latent
        latent = following
        before = action
