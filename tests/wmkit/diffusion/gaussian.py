"""Gaussian data, of which the best denoiser is known in closed form."""

from collections.abc import Callable

import torch
from torch import Tensor

from wmkit.diffusion.process import Diffusion

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)


def denoiser(diffusion: Diffusion) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what a perfectly trained network puts out for sequences (M, H, 2) whose steps are drawn on their own."""

    def function(noisy: Tensor, levels: Tensor) -> Tensor:
        assert levels.shape == noisy.shape[:1]
        alpha, sigma = (x.view(-1, 1, 1) for x in diffusion.coefficients(levels.double()))
        noisy_covariance = alpha**2 * COVARIANCE + sigma**2 * torch.eye(2)
        gain = alpha * COVARIANCE @ torch.linalg.inv(noisy_covariance)
        clean = MEAN + (noisy.double() - alpha * MEAN) @ gain.mT
        return diffusion.target(clean, (noisy - alpha * clean) / sigma, levels.double()).float()

    return function


def white_noise(m: int, seed: int = 0) -> Tensor:
    """Return noise (M, 1, 2) whose mean is exactly 0 and whose covariance is exactly 1."""
    noise = torch.randn(m, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise - noise.mean(0)
    return torch.linalg.solve(torch.linalg.cholesky(torch.cov(noise.T)), noise.T).T.float()[:, None]


def errors(sequences: Tensor) -> tuple[float, float]:
    """Return the largest errors of the mean and of the covariance of samples (M, 1, 2)."""
    points = sequences[:, 0].double()
    return (points.mean(0) - MEAN).abs().max().item(), (torch.cov(points.T) - COVARIANCE).abs().max().item()
