"""Candidates around a fixed mean."""

import torch
from torch import Tensor

from wmkit.contracts import Context, WorldModel

from ..limits import block_bounds
from ..noise import draw_normal

__all__ = ["GaussianProposal", "scattered"]


def scattered(mean: Tensor, std: Tensor, n: int, low: Tensor, high: Tensor, generator: torch.Generator) -> Tensor:
    """Return n candidates (B, n, H, A) around a mean plan (B, H, A), the mean itself first, within the bounds.

    All rows of B share the draw.

    Args:
        mean: (B, H, A), environment units.
        std: broadcastable to (A,), environment units.
        n: how many candidates.
        low: (A,), lower bounds.
        high: (A,), upper bounds.
        generator: source of all randomness.
    """
    noise = draw_normal((1, n - 1, *mean.shape[1:]), generator, mean)
    centre = mean.unsqueeze(1)
    return torch.cat([centre, centre + std * noise], dim=1).clamp(low, high)


class GaussianProposal:
    """Independent normal noise around a mean; the first candidate is the mean."""

    def __init__(self, model: WorldModel, std: float = 1.0, mean: Tensor | None = None) -> None:
        """Create the proposal.

        Args:
            model: gives the action bounds.
            std: standard deviation, as a fraction of half the action range.
            mean: (A,), the same for every model step, environment units; None for rest.
        """
        self._spec = model.spec
        self.std = std
        self.mean = mean

    def propose(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        """Return n candidates (B, n, H, A), within the bounds."""
        dtype = torch.promote_types(context.latents.dtype, torch.float32)
        low, high = block_bounds(self._spec, context.latents.device, dtype)
        mean = torch.zeros_like(low) if self.mean is None else self.mean.to(low)
        mean = mean.expand(context.batch, horizon, -1)
        return scattered(mean, self.std * (high - low) / 2, n, low, high, generator)
