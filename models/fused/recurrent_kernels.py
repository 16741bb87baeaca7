"""The rollout of stacked gated recurrent units as one Triton kernel: all steps for a tile of candidates."""

import triton
import triton.language as tl

from .tile_kernels import clear, product, project, read_vector

__all__ = ["gru_rollout"]


@triton.jit
def _gates(
    reset, update, third, lines, weight, inputs: tl.constexpr, line_size: tl.constexpr, W: tl.constexpr,
    panel: tl.constexpr, widen: tl.constexpr,
):  # fmt: skip
    """Add lines @ weight to the three gates (M, C) each; weight points into (3, inputs, W), otherwise as `product`."""
    line = tl.arange(0, reset.shape[0])
    column = tl.arange(0, reset.shape[1])
    inner = tl.arange(0, panel)
    left = line[:, None] * line_size + inner[None, :]
    right = inner[:, None] * W + column[None, :]
    for first in range(0, inputs, panel):
        x = tl.load(lines + first + left)
        rows = weight + first * W
        a = tl.load(rows + right)
        b = tl.load(rows + inputs * W + right)
        c = tl.load(rows + 2 * inputs * W + right)
        if widen:
            x = x.to(tl.float32)
            a = a.to(tl.float32)
            b = b.to(tl.float32)
            c = c.to(tl.float32)
        reset = tl.dot(x, a, reset, input_precision="tf32x3")
        update = tl.dot(x, b, update, input_precision="tf32x3")
        third = tl.dot(x, c, third, input_precision="tf32x3")
    return reset, update, third


@triton.jit
def _cell(
    lines, weight, hidden, following, state, recurrent, biases, inputs: tl.constexpr, line_size: tl.constexpr,
    M: tl.constexpr, C: tl.constexpr, W: tl.constexpr, panel: tl.constexpr, hidden_panel: tl.constexpr,
    widen: tl.constexpr,
):  # fmt: skip
    """Advance one layer's state by one step, C of its W columns at a time.

    Args:
        lines: M rows of `inputs` operands, `line_size` apart.
        weight: (3, inputs, W), for reset, update and new value.
        hidden: (M, W) operands, the state before.
        following: (M, W) operands, written: the state after.
        state: (M, W), float32, replaced.
        recurrent: (3, W, W).
        biases: (4, W), of reset, update, new value, and of what the new value recalls.
        inputs: a multiple of `panel`.
        line_size: at least `inputs`.
        M: rows of a tile.
        C: columns of a tile.
        W: a multiple of C.
        panel: inputs multiplied at a time.
        hidden_panel: hidden numbers multiplied at a time.
        widen: see `product`.
    """
    place = tl.arange(0, M)[:, None] * W + tl.arange(0, C)[None, :]
    for first in range(0, W, C):
        reset = tl.zeros([M, C], dtype=tl.float32)
        update = reset + read_vector(biases + W + first, reset)
        driven = reset + read_vector(biases + 2 * W + first, reset)
        recalled = reset + read_vector(biases + 3 * W + first, reset)
        reset += read_vector(biases + first, reset)
        reset, update, driven = _gates(reset, update, driven, lines, weight + first, inputs, line_size, W, panel, widen)
        reset, update, recalled = _gates(
            reset, update, recalled, hidden, recurrent + first, W, W, W, hidden_panel, widen
        )
        update = tl.sigmoid(update)
        value = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * (driven + tl.sigmoid(reset) * recalled)))
        value += update * (tl.load(state + first + place) - value)
        tl.debug_barrier()
        tl.store(state + first + place, value)
        tl.store(following + first + place, value.to(following.dtype.element_ty))
    tl.debug_barrier()


@triton.jit
def _advance(
    lines, entry, deeper, old, new, state, recurrent, biases, line_size: tl.constexpr, M: tl.constexpr,
    C: tl.constexpr, W: tl.constexpr, depth: tl.constexpr, entry_panel: tl.constexpr, hidden_panel: tl.constexpr,
    widen: tl.constexpr,
):  # fmt: skip
    """Advance the states of all layers by one step, from `old` operands (depth, M, W) to `new` ones; see `_cell`."""
    _cell(
        lines, entry, old, new, state, recurrent, biases, line_size, line_size, M, C, W, entry_panel, hidden_panel,
        widen,
    )  # fmt: skip
    for layer in range(1, depth):
        below = new + (layer - 1) * M * W
        _cell(
            below, deeper + (layer - 1) * 3 * W * W, old + layer * M * W, below + M * W, state + layer * M * W,
            recurrent + layer * 3 * W * W, biases + layer * 4 * W, W, W, M, C, W, hidden_panel, hidden_panel, widen,
        )  # fmt: skip


@triton.jit
def _action(past, actions, context, row, step, future, known, horizon, number, block_size: tl.constexpr, mask):
    """Return the actions (M, AP) that follow a step of the context or, in the future, of the candidates' plans."""
    if future < 0:
        places = past + (context * (known - 1) + step)[:, None] * block_size + number
    else:
        places = actions + (row * horizon + future)[:, None] * block_size + number
    return tl.load(places, mask=mask, other=0.0).to(tl.float32)


@triton.jit(
    do_not_specialize=["rows", "count", "known", "horizon"],
    do_not_specialize_on_alignment=["latents", "past", "actions"],
)
def gru_rollout(
    latents, past, actions, out, store, states, entry, deeper, recurrent, biases, last, last_bias,
    up, up_bias, down, down_bias, rows, count, known, horizon,
    latent_size: tl.constexpr, block_size: tl.constexpr, depth: tl.constexpr, hidden: tl.constexpr,
    chunk: tl.constexpr, line_size: tl.constexpr, M: tl.constexpr, DP: tl.constexpr, AP: tl.constexpr,
    W: tl.constexpr, C: tl.constexpr, store_size: tl.constexpr, entry_panel: tl.constexpr,
    hidden_panel: tl.constexpr, last_panel: tl.constexpr, up_panel: tl.constexpr, down_panel: tl.constexpr,
    widen: tl.constexpr,
):  # fmt: skip
    """Roll out candidates program * M and the M - 1 after it, reading their context first.

    Args:
        latents: (B, known, D).
        past: (B, known - 1, A), normalised.
        actions: (rows, horizon, A), normalised.
        out: (rows, horizon, D), written.
        store: (programs, store_size) operands: lines of `line_size` inputs, then the projector's lines, then twice the
            layers' states, of even and of odd steps.
        states: (programs, depth, M, W), float32, the layers' states.
        entry: (3, line_size, W), the first layer's weights for latent and action.
        deeper: (depth - 1, 3, W, W), the other layers' for the state below.
        recurrent: (depth, 3, W, W).
        biases: (depth, 4, W), see `_cell`.
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
        depth: layers.
        hidden: of the projector, padded; 0 without one.
        chunk: of the projector's hidden numbers.
        line_size: padded D + A.
        M: rows of a tile.
        DP: padded D.
        AP: padded A.
        W: padded width.
        C: columns of the state computed at a time.
        store_size: operands in one program's store.
        entry_panel: inputs multiplied at a time, as those below.
        hidden_panel: of states.
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
    memory = between + M * (DP + chunk)
    state = states + program * depth * M * W

    for layer in range(depth):
        clear(state + layer * M * W, M, W)
        clear(memory + layer * M * W, M, W)
    clear(lines, M, line_size)
    inputs = line[:, None] * line_size
    seen = latents + (context * known)[:, None] * latent_size + column
    latent = tl.load(seen, mask=valid & in_latent, other=0.0).to(tl.float32)
    for step in range(known - 1 + horizon):
        future = step - known + 1
        action = _action(
            past, actions, context, row, step, future, known, horizon, number, block_size, valid & in_action
        )
        tl.debug_barrier()
        tl.store(lines + inputs + column, latent.to(lines.dtype.element_ty), mask=in_latent)
        tl.store(lines + inputs + latent_size + number, action.to(lines.dtype.element_ty), mask=in_action)
        tl.debug_barrier()

        old = memory + (step % 2) * (depth * M * W)
        new = memory + (1 - step % 2) * (depth * M * W)
        _advance(
            lines, entry, deeper, old, new, state, recurrent, biases, line_size, M, C, W, depth, entry_panel,
            hidden_panel, widen,
        )  # fmt: skip
        if future < 0:
            latent = tl.load(seen + (step + 1) * latent_size, mask=valid & in_latent, other=0.0).to(tl.float32)
        else:
            latent += read_vector(last_bias, latent)
            latent = product(latent, new + (depth - 1) * M * W, last, W, W, DP, last_panel, widen)
            if hidden > 0:
                latent = project(
                    latent, between, up, up_bias, down, down_bias, hidden, chunk, up_panel, down_panel, widen
                )
            target = out + (row * horizon + future)[:, None] * latent_size + column
            tl.store(target, latent, mask=valid & in_latent)
