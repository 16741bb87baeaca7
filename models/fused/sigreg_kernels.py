"""The kernels of `sigreg.py`: empirical characteristic functions, and the gradient of what is computed from them.

With u = exp(i h x), h the distance of the knots, knot k needs the sum of u^k over the sample: one complex product more
than the knot before. Both kernels hold u and its power, or the polynomial, of a tile in registers; the projections are
read once in each, and nothing of their size times the number of knots exists. Complex numbers lie as (real, imaginary).
"""

import triton
import triton.language as tl

__all__ = ["gradient_kernel", "sums_kernel"]


@triton.jit
def sums_kernel(
    projected,
    sums,
    count,
    width,
    plane,
    distance,
    KNOTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Sum exp(i k h x) over a tile's rows, for the knots k = 1 to KNOTS - 1.

    Args:
        projected: (G, N, P) float32, contiguous.
        sums: (splits, KNOTS, G, P, 2) float32, contiguous; knot 0 is left alone.
        count: N.
        width: P.
        plane: G * P.
        distance: h, float32.
        KNOTS: number of knots.
        ROWS: rows of a tile; program axis 1 counts the splits of N into them.
        COLUMNS: columns of a tile; program axis 0 counts them, and program axis 2 the groups.
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.program_id(1).to(tl.int64)
    group = tl.program_id(2).to(tl.int64)
    rows = split * ROWS + tl.arange(0, ROWS)
    there = (rows[:, None] < count) & (columns[None, :] < width)
    angle = distance * tl.load(
        projected + (group * count + rows[:, None]) * width + columns[None, :], mask=there, other=0.0
    )
    cosine = tl.where(there, tl.cos(angle), 0.0)
    sine = tl.where(there, tl.sin(angle), 0.0)
    real = cosine
    imaginary = sine
    target = sums + 2 * ((split * KNOTS + 1) * plane + group * width + columns)
    for _ in range(1, KNOTS):
        tl.store(target, tl.sum(real, axis=0), mask=columns < width)
        tl.store(target + 1, tl.sum(imaginary, axis=0), mask=columns < width)
        following = real * cosine - imaginary * sine
        imaginary = real * sine + imaginary * cosine
        real = following
        target += 2 * plane


@triton.jit
def gradient_kernel(
    projected,
    coefficients,
    upstream,
    gradient,
    count,
    width,
    plane,
    distance,
    KNOTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write the upstream gradient times the real part of sum_k c_k exp(i k h x), by Horner's rule.

    Args:
        projected: (G, N, P) float32, contiguous.
        coefficients: (KNOTS, G, P, 2) float32, contiguous: c_k; knot 0 is not read.
        upstream: one float32.
        gradient: (G, N, P) float32, contiguous.
        count: N.
        width: P.
        plane: G * P.
        distance: h, float32.
        KNOTS: number of knots.
        ROWS: rows of a tile; program axis 1 counts them.
        COLUMNS: columns of a tile; program axis 0 counts them, and program axis 2 the groups.
    """
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    group = tl.program_id(2).to(tl.int64)
    rows = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = (rows[:, None] < count) & (columns[None, :] < width)
    offsets = (group * count + rows[:, None]) * width + columns[None, :]
    angle = distance * tl.load(projected + offsets, mask=there, other=0.0)
    cosine = tl.cos(angle)
    sine = tl.sin(angle)
    real = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    imaginary = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    source = coefficients + 2 * ((KNOTS - 1) * plane + group * width + columns)
    for _ in range(1, KNOTS):
        real += tl.load(source, mask=columns < width, other=0.0)[None, :]
        imaginary += tl.load(source + 1, mask=columns < width, other=0.0)[None, :]
        following = real * cosine - imaginary * sine
        imaginary = real * sine + imaginary * cosine
        real = following
        source -= 2 * plane
    tl.store(gradient + offsets, tl.load(upstream) * real, mask=there)
