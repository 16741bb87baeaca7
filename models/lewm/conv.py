"""A small convolutional encoder with spatial moment pooling, quick on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ConvEncoder", "moments"]

_ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))


def _coordinates(size: int) -> Tensor:
    """Return the monomials x^i y^j of `_ORDERS` at the pixel centres of a square map on [-1, 1]: (size * size, 10)."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([(x**i * y**j).flatten() for i, j in _ORDERS], dim=1)


def moments(maps: Tensor, basis: Tensor, eps: float = 1e-3) -> Tensor:
    """Return mass, mean and central second and third moments of non-negative maps.

    Means are where a feature is, second moments its extent and axis, third moments its direction (a T's stem): together the
    planar pose of a blob, smooth in the pixels.

    Args:
        maps: (M, C, S, S), non-negative.
        basis: (S * S, 10), from `_coordinates`.
        eps: mass below which a map counts as empty; its moments fade to zero.

    Returns:
        (M, C, 10): mass, x, y, xx, xy, yy, xxx, xxy, xyy, yyy; coordinates on [-1, 1].
    """
    raw = maps.flatten(2).float() @ basis
    mass = raw[..., :1]
    x, y, xx, xy, yy, xxx, xxy, xyy, yyy = (raw[..., 1:] / (mass + eps)).unbind(-1)
    centred = (
        x,
        y,
        xx - x * x,
        xy - x * y,
        yy - y * y,
        xxx - 3 * x * xx + 2 * x**3,
        xxy - 2 * x * xy - y * xx + 2 * x * x * y,
        xyy - 2 * y * xy - x * yy + 2 * x * y * y,
        yyy - 3 * y * yy + 2 * y**3,
    )
    return torch.cat([mass / maps[0, 0].numel(), torch.stack(centred, dim=-1)], dim=-1)


class ConvEncoder(nn.Module):
    """Bias-free convolutions, then two read-outs: moments of the maps, and a grid of strided features.

    A background of zeros stays exactly zero through bias-free convolutions and ReLU, so moments see objects alone.

    Args:
        latent_size: D.
        image_size: S, pixels; a multiple of 16.
        channels: widths of the three convolutions: 8 x 8 with stride 4, 1 x 1, and the grid's 4 x 4 with stride 4.
        maps: C, maps whose moments are taken.
        hidden: width of the read-out.
        depth: hidden layers of the read-out; 0 makes it linear.
        moments: use the moment read-out.
        grid: use the strided read-out.
    """

    def __init__(
        self,
        *,
        latent_size: int,
        image_size: int,
        channels: tuple[int, int, int] = (32, 64, 32),
        maps: int = 32,
        hidden: int = 256,
        depth: int = 2,
        moments: bool = True,
        grid: bool = True,
        **_: int,
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.first = nn.Conv2d(3, first, 8, stride=4, padding=2, bias=False)
        self.second = nn.Conv2d(first, second, 1, bias=False)
        self.maps = nn.Conv2d(second, maps, 1, bias=False) if moments else None
        self.third = nn.Conv2d(second, third, 4, stride=4, bias=False) if grid else None
        self.register_buffer("basis", _coordinates(image_size // 4), persistent=False)
        cells = (image_size // 16) ** 2
        width = (maps * len(_ORDERS) if moments else 0) + (third * cells if grid else 0)
        self.norm = nn.BatchNorm1d(width)
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()]
            width = hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, latent_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pixels (M, 3, S, S), background zero, into (M, D)."""
        features = functional.relu(self.second(functional.relu(self.first(pixels))))
        parts = []
        if self.maps is not None:
            parts.append(moments(functional.relu(self.maps(features)), self.basis).flatten(1))
        if self.third is not None:
            parts.append(functional.relu(self.third(features)).flatten(1).float())
        return self.head(self.norm(torch.cat(parts, dim=1)))
