"""Goal-conditioned inverse dynamics: which actions lead from here to there in so many steps."""

import torch
from torch import Tensor, nn

from .mlp import ResidualMLP

__all__ = ["InverseDynamics"]


class InverseDynamics(nn.Module):
    """An MLP on the latent, the goal, their difference, and the model steps to go.

    Args:
        latent_size: D.
        block_size: A.
        width: of the MLP.
        depth: residual blocks.
        dropout: between 0 and 1.
        max_steps: largest number of steps told apart.
        history: T, not used.
        image_size: S, not used.
    """

    def __init__(
        self,
        *,
        latent_size: int,
        block_size: int,
        width: int = 512,
        depth: int = 2,
        dropout: float = 0.0,
        max_steps: int = 10,
        history: int = 1,
        image_size: int = 0,
    ) -> None:
        super().__init__()
        self.max_steps = max_steps
        self.mlp = ResidualMLP(3 * latent_size + 2, block_size, width, depth, dropout)

    def forward(self, latents: Tensor, goals: Tensor, steps: Tensor) -> Tensor:
        """Return action blocks (..., A), normalised, from latents and goals (..., D) and steps (...), at least 1."""
        left = steps.to(latents.dtype).clamp(1, self.max_steps).unsqueeze(-1)
        return self.mlp(torch.cat([latents, goals, goals - latents, left / self.max_steps, 1 / left], dim=-1))
