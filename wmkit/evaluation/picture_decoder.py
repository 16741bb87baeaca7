"""Pictures of latents, for people to look at: a decoder trained after the fact on a model that is left as it is.

No plan, cost, score or monitor uses it. What it cannot draw may still be in the latent, and a sharp picture proves only
that the decoder has learned what scenes look like; beside imagined frames show the real latents decoded too.
"""

from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SIZE", "PictureDecoder"]

SIZE = 64
"""Pixels of a decoded picture along each side."""

_CHANNELS, _HIDDEN = (128, 64, 32, 16, 3), 512
_BATCH, _LEARNING_RATE = 48, 2e-3


class PictureDecoder(nn.Module):
    """Latents (..., D) to pictures: three linear layers, four transposed convolutions, and the mean picture added.

    Args:
        latent_size: D.
    """

    latent_mean: Tensor
    latent_std: Tensor
    mean: Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(latent_size, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU()]
        layers += [nn.Linear(_HIDDEN, 16 * _CHANNELS[0]), nn.Unflatten(1, (_CHANNELS[0], 4, 4))]
        for before, after in pairwise(_CHANNELS):
            layers += [nn.GELU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers)
        self.register_buffer("latent_mean", torch.zeros(latent_size))
        self.register_buffer("latent_std", torch.ones(latent_size))
        self.register_buffer("mean", torch.zeros(3, SIZE, SIZE))

    @classmethod
    def fit(cls, latents: Tensor, pixels: Tensor, steps: int = 2000, seed: int = 0) -> Self:
        """Train with a squared error on recorded frames.

        Args:
            latents: (F, D).
            pixels: (F, S, S, 3) uint8, the frames they were encoded from; brought to 64 x 64.
            steps: gradient steps of 48 frames; 2000 take about a minute on one core.
            seed: of the first weights and of the batches.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = cls(latents.shape[1])
        decoder.latent_mean.copy_(latents.mean(dim=0))
        decoder.latent_std.copy_(latents.std(dim=0).clamp(min=1e-6))
        decoder.mean.copy_(_target(pixels[:: max(1, len(pixels) // 512)]).mean(dim=0))
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps, pct_start=0.1)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            rows = torch.randint(len(latents), (_BATCH,), generator=generator)
            loss = functional.mse_loss(decoder(latents[rows]), _target(pixels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return decoder.requires_grad_(False)

    def forward(self, latents: Tensor) -> Tensor:
        """Return (F, 3, 64, 64), about in [0, 1], for latents (F, D)."""
        return self.mean + self.layers((latents - self.latent_mean) / self.latent_std)

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> Tensor:
        """Return (..., 64, 64, 3) uint8 for latents (..., D)."""
        flat = self(latents.reshape(-1, latents.shape[-1]).float())
        pictures = (flat.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return pictures.reshape(*latents.shape[:-1], SIZE, SIZE, 3)

    def error(self, latents: Tensor, pixels: Tensor) -> dict[str, float]:
        """Return the root mean squared error of pictures of latents (F, D) from pixels (F, S, S, 3), in grey levels.

        Returns:
            "decoder", and "mean" for always showing the mean picture.
        """
        truth, rows = _target(pixels), torch.arange(len(latents)).split(256)
        with torch.no_grad():
            squared = torch.cat([(self(latents[i]) - truth[i]).square().mean(dim=(1, 2, 3)) for i in rows])
        still = (self.mean - truth).square().mean()
        return {"decoder": 255 * float(squared.mean().sqrt()), "mean": 255 * float(still.sqrt())}


def _target(pixels: Tensor) -> Tensor:
    """Return (F, 3, 64, 64) in [0, 1] for frames (F, S, S, 3) uint8."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 255
    return scaled if scaled.shape[-1] == SIZE else functional.interpolate(scaled, (SIZE, SIZE), mode="area")
