"""Parts of Triton kernels that fused rollouts of small networks are made of.

A *tile* is M candidates by some columns, in registers, float32. A *line store* is the same in global memory, in the
operands' dtype, owned by one program alone and small enough to stay in the L2 cache: a product reads its left side from
there. Between a program's writing and its reading again, and between reading and writing anew, stands a barrier.
"""

import triton
import triton.language as tl

__all__ = ["clear", "gelu", "normed", "product", "project", "read_vector", "write_tile"]


@triton.jit
def gelu(x):
    """Return the exact GELU, with erf."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def normed(x, weight, bias, size: tl.constexpr, epsilon: tl.constexpr):
    """Return the LayerNorm over the first `size` columns of a tile x (M, C); zero in the others.

    weight and bias point to C numbers, zero from `size` on.
    """
    column = tl.arange(0, x.shape[1])
    mean = tl.sum(x, axis=1) / size
    centred = tl.where(column[None, :] < size, x - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / size + epsilon)
    return centred * scale[:, None] * tl.load(weight + column)[None, :] + tl.load(bias + column)[None, :]


@triton.jit
def read_vector(vector, tile):
    """Return the C numbers at `vector`, as a row that broadcasts against a tile (M, C)."""
    return tl.load(vector + tl.arange(0, tile.shape[1]))[None, :]


@triton.jit
def write_tile(lines, tile):
    """Write a tile (M, C) into a line store of C columns; all earlier reads are done, and later ones see it."""
    line = tl.arange(0, tile.shape[0])
    column = tl.arange(0, tile.shape[1])
    tl.debug_barrier()
    tl.store(lines + line[:, None] * tile.shape[1] + column[None, :], tile.to(lines.dtype.element_ty))
    tl.debug_barrier()


@triton.jit
def clear(lines, M: tl.constexpr, line_size: tl.constexpr):
    """Fill a line store of M lines of `line_size`, a multiple of 16, with zeros; a barrier is left to the caller."""
    place = tl.arange(0, M)[:, None] * line_size + tl.arange(0, 16)[None, :]
    nothing = tl.zeros([M, 16], dtype=tl.float32).to(lines.dtype.element_ty)
    for first in range(0, line_size, 16):
        tl.store(lines + first + place, nothing)


@triton.jit
def product(
    tile, lines, weight, inputs: tl.constexpr, line_size: tl.constexpr, outputs: tl.constexpr, panel: tl.constexpr,
    widen: tl.constexpr,
):  # fmt: skip
    """Return tile + lines @ weight, accumulated in float32.

    Args:
        tile: (M, C), float32.
        lines: M rows of `inputs` operands, each `line_size` after the one before.
        weight: (inputs, C), rows `outputs` apart.
        inputs: a multiple of `panel`.
        line_size: at least `inputs`.
        outputs: at least C.
        panel: inputs multiplied at a time.
        widen: operands are widened to float32, which changes no product: Triton's interpreter cannot multiply bfloat16.
    """
    line = tl.arange(0, tile.shape[0])
    column = tl.arange(0, tile.shape[1])
    inner = tl.arange(0, panel)
    left = line[:, None] * line_size + inner[None, :]
    right = inner[:, None] * outputs + column[None, :]
    for first in range(0, inputs, panel):
        x = tl.load(lines + first + left)
        w = tl.load(weight + first * outputs + right)
        if widen:
            x = x.to(tl.float32)
            w = w.to(tl.float32)
        tile = tl.dot(x, w, tile, input_precision="tf32x3")
    return tile


@triton.jit
def project(
    tile, lines, up, up_bias, down, down_bias, hidden: tl.constexpr, chunk: tl.constexpr, up_panel: tl.constexpr,
    down_panel: tl.constexpr, widen: tl.constexpr,
):  # fmt: skip
    """Return down(GELU(up(tile))) of a tile (M, DP), a chunk of the hidden numbers at a time.

    Args:
        tile: (M, DP).
        lines: line store for M rows of DP and, after it, M rows of `chunk`.
        up: (DP, hidden).
        up_bias: (hidden,).
        down: (hidden, DP).
        down_bias: (DP,).
        hidden: a multiple of `chunk`.
        chunk: how many at a time.
        up_panel: inputs of `up` multiplied at a time.
        down_panel: inputs of `down` multiplied at a time.
        widen: see `product`.
    """
    size: tl.constexpr = tile.shape[1]
    between = lines + tile.shape[0] * size
    write_tile(lines, tile)
    result = tl.zeros_like(tile) + read_vector(down_bias, tile)
    for first in range(0, hidden, chunk):
        wide = tl.zeros([tile.shape[0], chunk], dtype=tl.float32)
        wide += read_vector(up_bias + first, wide)
        wide = product(wide, lines, up + first, size, size, hidden, up_panel, widen)
        write_tile(between, gelu(wide))
        result = product(result, between, down + first * size, chunk, chunk, size, down_panel, widen)
    return result
