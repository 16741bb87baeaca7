"""Random numbers over the knots of a plan."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["coloured", "draw_normal", "interpolated"]


def draw_normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard normal numbers on the generator's device and bring them to the device and dtype of `like`."""
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def coloured(shape: tuple[int, int, int, int], exponent: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw normal numbers (B, N, M, E) of variance 1 whose power over the M knots falls as 1 / frequency^exponent.

    0 is white noise, 1 pink, 2 red. A sequence of twice the length is drawn and its first half taken, so that the end
    of a plan is not tied to its beginning; frequencies below the lowest of that sequence have the lowest one's power.
    After Timmer and König (1995), as proposed for planning by Pinneri et al. (2020).

    Args:
        shape: (B, N, M, E).
        exponent: 0 or more.
        generator: source of the numbers.
        like: gives device and dtype.
    """
    if exponent == 0 or 0 in shape:
        return draw_normal(shape, generator, like)
    b, n, m, e = shape
    white = draw_normal((b, n, 2 * m, e), generator, like)
    spectrum = torch.fft.rfft(white, dim=2) * _gain(m, exponent, like.dtype, like.device)
    return torch.fft.irfft(spectrum, n=2 * m, dim=2)[:, :, :m]


def interpolated(noise: Tensor, knots: int) -> Tensor:
    """Draw straight lines through noise (1, N, K, E), from the first of M knots to the last: (1, N, M, E)."""
    if noise.shape[1] == 0:
        return noise.new_zeros(1, 0, knots, noise.shape[3])
    lines = F.interpolate(noise[0].transpose(1, 2), size=knots, mode="linear", align_corners=True)
    return lines.transpose(1, 2).unsqueeze(0)


@cache
def _gain(m: int, exponent: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the factor (F, 1) of each frequency of a sequence of 2 m numbers, which keeps their variance at 1."""
    with torch.inference_mode(False):
        frequencies = torch.fft.rfftfreq(2 * m, device=device, dtype=dtype)
        frequencies[0] = frequencies[1]
        gain = frequencies ** (-exponent / 2)
        power = (2 * gain.square().sum() - gain[0].square() - gain[-1].square()) / (2 * m)
        return (gain / power.sqrt()).unsqueeze(-1)
