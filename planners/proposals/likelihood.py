"""How expected a plan is under a denoiser: its errors at several noise levels, added up to a log-likelihood.

The variational bound of denoising diffusion (Ho et al., 2020, arXiv 2006.11239) is an integral of the denoiser's error
over the log signal-to-noise ratio (Kingma et al., 2021, arXiv 2107.00630), and equals the log-likelihood where the
denoiser is optimal (Kong et al., 2023, arXiv 2302.03792):

    log p(x) = log normaliser + 1/2 * integral of (d s / (1 + s) - |noise - predicted noise|^2) d log s

over all signal-to-noise ratios s, for x of d numbers, with the expectation over the noise and the normaliser
-d/2 log(2 pi e), the mean log-likelihood of standard normal numbers, whose optimal denoiser's mean squared error is the
first term. Drawn noise has an energy |noise|^2 of its own instead of d; the first term is taken as it comes out for
standard normal numbers under that very noise, so that both terms share its luck.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wmkit.diffusion.process import Diffusion

from ..noise import draw_normal

__all__ = ["log_likelihood", "quadrature"]

_LEVELS = 8
"""Noise levels of an estimate."""
_PAIRS = 2
"""Pairs of opposite draws of noise at each level."""
_LOG_RATIOS = (-4.0, 5.0)
"""Log signal-to-noise ratios between which the integral is taken."""


def quadrature(diffusion: Diffusion, count: int = _LEVELS) -> tuple[Tensor, Tensor, Tensor]:
    """Return levels, their signal-to-noise ratios, and their weights in an integral over its log, each (L,) float32.

    Levels are those of the training's table that are nearest to even steps, so that L may be less than `count`.

    Args:
        diffusion: the process.
        count: levels asked for, at least 2.
    """
    n = diffusion.config.train_steps
    levels = torch.arange(1, n, dtype=torch.float64) / n
    alpha, sigma = diffusion.coefficients(levels)
    logs = 2 * (alpha / sigma).log()
    wanted = torch.linspace(*_LOG_RATIOS, count, dtype=torch.float64)
    chosen = (logs - wanted[:, None]).abs().argmin(dim=1).unique(sorted=True).flip(0)
    logs = logs[chosen]
    gaps = logs.diff()
    weights = (torch.nn.functional.pad(gaps, (1, 0)) + torch.nn.functional.pad(gaps, (0, 1))) / 2
    return levels[chosen].float(), logs.exp().float(), weights.float()


def log_likelihood(
    diffusion: Diffusion,
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor],
    clean: Tensor,
    counted: int,
    generator: torch.Generator,
) -> Tensor:
    """Return (M,), the module's integral over the levels of `quadrature`, divided by the steps that count.

    Args:
        diffusion: the process.
        denoise: from noisy sequences (R, F, S), their levels (R,) and the row of `clean` (R,) that each is of, to the
            network's output.
        clean: (M, F, S), normalised.
        counted: steps whose errors count, from the first.
        generator: source of the noise, the same for all M.
    """
    levels, ratios, weights = (part.to(clean) for part in quadrature(diffusion))
    m, count = len(clean), len(levels)
    half = draw_normal((count, _PAIRS, *clean.shape[1:]), generator, clean)
    noise = torch.cat([half, -half], dim=1).flatten(0, 1)
    at, rows = levels.repeat_interleave(2 * _PAIRS).repeat(m), torch.arange(m, device=clean.device)
    rows = rows.repeat_interleave(len(noise))
    noisy = diffusion.corrupt(clean[rows], noise.repeat(m, 1, 1), at)
    predicted = diffusion.to_clean(denoise(noisy, at, rows), noisy, at)
    errors = (predicted - clean[rows])[:, :counted].square().sum(dim=(1, 2)).view(m, count, -1).mean(dim=2)
    energy = noise[:, :counted].square().sum(dim=(1, 2)).view(count, -1).mean(dim=1)
    share, size = ratios / (1 + ratios), counted * clean.shape[-1]
    expected = share * (share * energy + (1 - share) * size)
    return 0.5 * (weights * (expected - ratios * errors)).sum(dim=1) / counted
