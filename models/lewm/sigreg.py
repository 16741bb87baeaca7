"""SIGReg: keeps latents from collapsing by pulling them towards an isotropic standard normal.

Sketched isotropic Gaussian regularisation (Balestriero and LeCun, 2025, arXiv 2511.08544): project the latents on
random directions and test each projection for normality with the statistic of Epps and Pulley (1983). For a sample
x_1..x_N with empirical characteristic function phi(t) = mean exp(i t x_n), it is

    N * integral over [-t_max, t_max] of |phi(t) - exp(-t^2/2)|^2 exp(-t^2/2) dt.

The integrand is even, so the integral is twice that over [0, t_max], by the trapezoidal rule on equidistant knots.

How it is computed: with u = exp(i h x), h the distance of the knots, the k-th knot needs the mean of u^k, one complex
product more than the knot before; the gradient is the real part of a polynomial in u, by Horner's rule. Memory is a few
complex arrays of the projections' size however many knots there are; fused kernels on a GPU do without even those.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wmkit.data.transfer import send

from ..fused import sigreg as fused

__all__ = ["SIGReg"]

_ELEMENTS_AT_ONCE = 1 << 17


class SIGReg(nn.Module):
    """The Epps-Pulley statistic averaged over random projections; 0 is a perfect standard normal.

    Float32 throughout (float64 for float64 latents), also under autocast.

    On several processes (`torch.distributed` initialised) the value is that of the joined batch on every process: they
    draw the same projections and add up their characteristic functions. Each process's gradient is the joined value's,
    times the number of processes, as DistributedDataParallel expects: its averaging over processes then gives
    exactly the gradient that one process has on the joined batch. Pass generators in the same state on all processes,
    or none.

    Args:
        num_projections: P, random directions of a call.
        knots: points of the quadrature on [0, t_max], both ends included.
        t_max: end of the integral.
        seed: of the projections where no generator is given: call number k draws from (seed, k). The number of calls is
            part of the module's state.

    Raises:
        ValueError: fewer than 2 knots, no projection, or t_max not above 0.
    """

    def __init__(self, num_projections: int = 1024, knots: int = 17, t_max: float = 3.0, seed: int = 0) -> None:
        super().__init__()
        if num_projections < 1 or knots < 2 or not t_max > 0:
            raise ValueError(
                f"SIGReg takes num_projections >= 1, knots >= 2, t_max > 0; found {num_projections}, {knots}, {t_max}"
            )
        self.num_projections = num_projections
        self.knots = knots
        self.t_max = t_max
        self.seed = seed
        self.calls = 0

    def forward(self, latents: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the statistic, a scalar of zero or more.

        Args:
            latents: (N, D), or (G, N, D) for the average of the statistics of G groups, e.g. of one episode each.
            generator: source of the projections; None draws them from the seed and the number of calls.

        Raises:
            ValueError: not two or three dimensions, no latents, or not floating point.
        """
        if latents.dim() not in (2, 3) or not latents.is_floating_point() or latents.numel() == 0:
            raise ValueError(
                f"latents are {tuple(latents.shape)} {latents.dtype}; expected floating point (N, D) or (G, N, D)"
            )
        with torch.autocast(latents.device.type, enabled=False):
            values = latents if latents.dtype == torch.float64 else latents.float()
            projected = values @ self._projections(values, generator)
            return _EppsPulley.apply(projected, self.knots, self.t_max)

    def _projections(self, latents: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw unit vectors (D, P)."""
        if generator is None:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.calls)
            self.calls += 1
        directions = torch.randn(latents.shape[-1], self.num_projections, generator=generator, device=generator.device)
        return nn.functional.normalize(send(directions, latents.device).to(latents.dtype), dim=0)

    def get_extra_state(self) -> dict[str, int]:
        """Return the number of calls, for `state_dict`."""
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take over the number of calls."""
        self.calls = int(state["calls"])

    def extra_repr(self) -> str:
        """Describe the settings."""
        return f"num_projections={self.num_projections}, knots={self.knots}, t_max={self.t_max}"


class _EppsPulley(torch.autograd.Function):
    """The mean statistic of projections (N, P) or (G, N, P)."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, knots: int, t_max: float) -> Tensor:
        """Return the scalar; keeps the projections and one complex number per knot and projection."""
        distance = t_max / (knots - 1)
        ctx.fused = fused.fits(projected)
        if ctx.fused:
            sums = fused.power_sums(projected, distance, knots)
        else:
            pieces = projected.split(_columns(projected), dim=-1)
            sums = torch.cat([_power_sums(_unit(piece, distance), knots) for piece in pieces], dim=-1)
        count = projected.shape[-2]
        processes = _processes()
        if processes > 1 and projected.dim() == 2:
            count = _add_up(sums, count)
        times = torch.linspace(0, t_max, knots, dtype=projected.dtype, device=projected.device)
        normal = torch.exp(-times.square() / 2)
        weights = 2 * distance * normal
        weights[0] /= 2
        weights[-1] /= 2
        ends = [-1] + [1] * (sums.dim() - 1)
        difference = sums / count - normal.view(ends)
        statistic = count * (weights.view(ends) * (difference.real.square() + difference.imag.square())).sum(0)
        groups = projected.shape[0] if projected.dim() == 3 else 1
        total = statistic.mean()
        if processes > 1 and projected.dim() == 3:
            total, groups = _average(total, groups)
        share = processes / (groups * projected.shape[-1])
        ctx.save_for_backward(projected, 2j * share * (weights * times).view(ends) * difference.conj())
        ctx.distance = distance
        return total

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, None, None]:
        """Return the gradient of the projections: Re of sum_k c_k u^k, c_k being what `forward` kept."""
        projected, coefficients = ctx.saved_tensors
        if ctx.fused:
            return fused.gradient(coefficients, projected, ctx.distance, gradients[0]), None, None
        width = _columns(projected)
        pairs = zip(projected.split(width, dim=-1), coefficients.split(width, dim=-1), strict=True)
        result = torch.cat([_polynomial(part, _unit(piece, ctx.distance)) for piece, part in pairs], dim=-1)
        return result.mul_(gradients[0]), None, None


def _columns(projected: Tensor) -> int:
    """Return how many projections to work on at once, so that they stay in a processor's cache."""
    if projected.device.type != "cpu":
        return projected.shape[-1]
    return max(16, _ELEMENTS_AT_ONCE * projected.shape[-1] // projected.numel())


def _unit(projected: Tensor, distance: float) -> Tensor:
    """Return exp(i * distance * projected)."""
    return torch.polar(torch.ones_like(projected), projected * distance)


def _polynomial(coefficients: Tensor, unit: Tensor) -> Tensor:
    """Return the real part of sum_k c_k unit^k for k >= 1; c (knots, P) or (knots, G, P), unit as in `_power_sums`."""
    rows = coefficients.unsqueeze(-2)
    result = rows[-1] * unit
    for row in rows[1:-1].flip(0):
        result.add_(row).mul_(unit)
    return result.real


def _power_sums(unit: Tensor, knots: int) -> Tensor:
    """Sum unit^k over the sample for k = 0..knots-1: (N, P) or (G, N, P) to (knots, P) or (knots, G, P)."""
    sums = [torch.full_like(unit.select(-2, 0), unit.shape[-2]), unit.sum(-2)]
    power = unit.clone()
    for _ in range(2, knots):
        sums.append(power.mul_(unit).sum(-2))
    return torch.stack(sums)


def _processes() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _add_up(sums: Tensor, count: int) -> int:
    """Add the sums up over the processes, in place, and return the joined batch's size."""
    sizes = torch.tensor([count], device=sums.device)
    dist.all_reduce(sizes)
    dist.all_reduce(torch.view_as_real(sums))
    return int(sizes)


def _average(mean: Tensor, groups: int) -> tuple[Tensor, int]:
    """Average the groups' mean over the groups of all processes; return it and the number of groups."""
    both = torch.stack([mean * groups, torch.full_like(mean, groups)])
    dist.all_reduce(both)
    return both[0] / both[1], int(both[1])
