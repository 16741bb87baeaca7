"""SIGReg's characteristic functions and their gradient on a GPU: one pass over the projections each.

`wmkit.models.lewm.sigreg` computes the statistic; here are the two steps of it that touch all projections. Float32;
the sum over a group is made in a fixed order, so the same input gives the same output, bit for bit.
"""

import functools
import warnings
from typing import Any

import torch
from torch import Tensor

from .support import Unsupported, guard, why_not

__all__ = ["fits", "gradient", "power_sums"]

_ROWS, _COLUMNS, _WARPS = 128, 32, 8
_GRADIENT_ROWS, _GRADIENT_COLUMNS, _GRADIENT_WARPS = 32, 64, 4
_TOLERANCE = 2e-5
"""Largest error of a mean over the sample, and relative one of the gradient, that the self-check lets pass."""


def fits(projected: Tensor) -> bool:
    """Return whether the kernels take these projections, having passed their self-check on this device.

    A kernel that fails its self-check is never used, and one warning says so.

    Args:
        projected: (N, P) or (G, N, P).
    """
    if projected.device.type != "cuda" or projected.dtype != torch.float32 or projected.numel() == 0:
        return False
    return projected.dim() in (2, 3) and why_not(projected.device) is None and _checked(projected.device)


def power_sums(projected: Tensor, distance: float, knots: int) -> Tensor:
    """Sum exp(i k h x) over the sample for the knots k = 0 to knots - 1.

    Args:
        projected: (N, P) or (G, N, P), float32.
        distance: h, the distance of the knots.
        knots: K, 2 or more.

    Returns:
        (K, P) or (K, G, P), complex64.

    Raises:
        Unsupported: the projections are not float32, or no kernel runs on their device.
    """
    grouped, (groups, count, width) = _grouped(projected)
    from .sigreg_kernels import sums_kernel

    rows = min(_ROWS, max(16, 1 << (count - 1).bit_length()))
    splits = -(-count // rows)
    partial = projected.new_empty(splits, knots, groups, width, 2)
    kernel: Any = sums_kernel
    with guard(projected.device):
        kernel[(-(-width // _COLUMNS), splits, groups)](
            grouped,
            partial,
            count,
            width,
            groups * width,
            distance,
            KNOTS=knots,
            ROWS=rows,
            COLUMNS=_COLUMNS,
            num_warps=_WARPS,
        )
    sums = torch.view_as_complex(partial[0] if splits == 1 else partial.sum(0))
    sums[0] = count
    return sums if projected.dim() == 3 else sums[:, 0]


def gradient(coefficients: Tensor, projected: Tensor, distance: float, upstream: Tensor) -> Tensor:
    """Return the upstream gradient times the real part of sum_k c_k exp(i k h x), k from 1.

    Args:
        coefficients: c (K, P) or (K, G, P), complex64.
        projected: x (N, P) or (G, N, P), float32.
        distance: h, the distance of the knots.
        upstream: a scalar, float32, on the projections' device.

    Returns:
        As `projected`.

    Raises:
        Unsupported: see `power_sums`.
    """
    grouped, (groups, count, width) = _grouped(projected)
    from .sigreg_kernels import gradient_kernel

    result = torch.empty_like(grouped)
    kernel: Any = gradient_kernel
    grid = (-(-width // _GRADIENT_COLUMNS), -(-count // _GRADIENT_ROWS), groups)
    with guard(projected.device):
        kernel[grid](
            grouped,
            torch.view_as_real(coefficients.contiguous()),
            upstream.contiguous(),
            result,
            count,
            width,
            groups * width,
            distance,
            KNOTS=len(coefficients),
            ROWS=_GRADIENT_ROWS,
            COLUMNS=_GRADIENT_COLUMNS,
            num_warps=_GRADIENT_WARPS,
        )
    return result.view(projected.shape)


def _grouped(projected: Tensor) -> tuple[Tensor, torch.Size]:
    """Return contiguous projections (G, N, P) and their shape. Raises Unsupported for what no kernel takes."""
    reason = why_not(projected.device)
    if reason is None and projected.dtype != torch.float32:
        reason = f"the kernels of SIGReg take float32, not {projected.dtype}"
    if reason is not None:
        raise Unsupported(reason)
    grouped = projected.contiguous().view(-1, *projected.shape[-2:])
    return grouped, grouped.shape


@functools.cache
def _checked(device: torch.device) -> bool:
    """Compare both kernels with float64 on odd sizes, some latents far out; warn and return False where they differ."""
    try:
        errors = [_error(device, shape) for shape in ((300, 37), (3, 45, 70))]
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    else:
        if max(errors) < _TOLERANCE:
            return True
        problem = f"its self-check is off by {max(errors):.1e}"
    warnings.warn(f"the fused SIGReg is not used on {device}: {problem}", RuntimeWarning, stacklevel=3)
    return False


def _error(device: torch.device, shape: tuple[int, ...], knots: int = 17, distance: float = 3 / 16) -> float:
    """Return the larger of the errors of the sums (as means) and of the gradient (relative to its largest entry)."""
    generator = torch.Generator().manual_seed(0)
    projected = torch.randn(*shape, generator=generator).pow(3).to(device)
    powers = torch.arange(knots, dtype=torch.float64, device=device).view(-1, *([1] * len(shape)))
    units = torch.polar(torch.ones_like(powers * projected), powers * distance * projected.double())
    expected = units.sum(-2) / shape[-2]
    found = power_sums(projected, distance, knots) / shape[-2]
    slopes = (expected.unsqueeze(-2) * units)[1:].sum(0).real
    slope = gradient(expected.to(torch.complex64), projected, distance, projected.new_ones(()))
    errors = (found - expected).abs().max(), (slope - slopes).abs().max() / slopes.abs().max()
    return float(torch.stack([error.double() for error in errors]).nan_to_num(torch.inf).max())
