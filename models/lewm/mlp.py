"""A residual MLP as predictor: small, quick, and good with one frame of history."""

import torch
from torch import Tensor, nn

__all__ = ["MLPPredictor", "ResidualMLP"]


class _Residual(nn.Module):
    """Pre-norm residual block of width W."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., W) to (..., W)."""
        return x + self.layers(x)


class ResidualMLP(nn.Sequential):
    """Linear to `width`, `depth` residual blocks, norm, linear to `outputs` that starts at zero."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, dropout: float = 0.0) -> None:
        last = nn.Linear(width, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        blocks = [_Residual(width, dropout) for _ in range(depth)]
        super().__init__(nn.Linear(inputs, width), *blocks, nn.LayerNorm(width), nn.GELU(), last)


class MLPPredictor(nn.Module):
    """Next latent = latent + MLP(latent, action block, and where known the step before).

    The step before carries velocity, which one frame cannot show. Its inputs are zero, and a flag says so, where the
    history is one latent long.

    Args:
        latent_size: D.
        block_size: A.
        history: 1, or 2 to use the step before.
        width: of the MLP.
        depth: residual blocks.
        dropout: between 0 and 1.
        image_size: S, not used.
    """

    def __init__(
        self,
        *,
        latent_size: int,
        block_size: int,
        history: int = 2,
        width: int = 512,
        depth: int = 2,
        dropout: float = 0.0,
        image_size: int = 0,
    ) -> None:
        super().__init__()
        self.past = history > 1
        self.block_size = block_size
        inputs = latent_size + block_size + (latent_size + block_size + 1 if self.past else 0)
        self.mlp = ResidualMLP(inputs, latent_size, width, depth, dropout)

    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the latent (..., D) after the last of latents (..., T, D) under the last of actions (..., T, A)."""
        latent, action = latents[..., -1, :], actions[..., -1, :]
        known = torch.zeros_like(latent[..., :1])
        if latents.shape[-2] < 2:
            return self.move(latent, action, torch.zeros_like(latent), torch.zeros_like(action), known)
        return self.move(latent, action, latent - latents[..., -2, :], actions[..., -2, :], known + 1)

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the next latent after every position: latents (..., T, D), actions (..., T, A) to (..., T, D)."""
        change = torch.diff(latents, dim=-2, prepend=latents[..., :1, :])
        before = torch.cat([torch.zeros_like(actions[..., :1, :]), actions[..., :-1, :]], dim=-2)
        known = torch.ones_like(latents[..., :1])
        known[..., 0, :] = 0
        return self.move(latents, actions, change, before, known)

    def move(self, latent: Tensor, action: Tensor, change: Tensor, before: Tensor, known: Tensor) -> Tensor:
        """Predict the next latent (..., D).

        Args:
            latent: (..., D), now.
            action: (..., A), from now on.
            change: (..., D), what the latent changed by in the step before.
            before: (..., A), the action of the step before.
            known: (..., 1), 1 where the step before is known, else 0.
        """
        if not self.past:
            return latent + self.mlp(torch.cat([latent, action], dim=-1))
        return latent + self.mlp(torch.cat([latent, action, change * known, before * known, known], dim=-1))
