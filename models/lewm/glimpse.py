"""An encoder for scenes of a few coloured objects: where each colour is, and what it looks like around there."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GlimpseEncoder"]

_CHANGED = 12.0 / 255
"""Difference to the empty scene, as a share of the full range, above which a pixel belongs to an object."""
_EMPTY = 0.1
_IMAGES_AT_ONCE = 64
"""Images that are described at once on a CPU, so that they stay in its cache."""
_ORDERS = 4
_GLOBAL = 3


class GlimpseEncoder(nn.Module):
    """Colour maps, their centres, and Gaussian-windowed moments around the centres, read out by an MLP.

    `fit` looks at the data once: the median of the episodes' first images is the empty scene, and pixels equal to it
    count as background; the other colours are whitened and clustered with spherical k-means, which makes each filter
    answer to one colour of object and hardly to others (Coates & Ng, "Learning feature representations with k-means",
    2012). From each map come its mass and centre, and a glimpse: products of Hermite polynomials up to the third degree
    under a Gaussian window at the centre, which tell the object's orientation whatever its place and whatever goes on
    elsewhere. Everything but the empty scene is trained on from there.

    For a camera that stands still, and objects that differ in colour.

    Args:
        latent_size: D.
        image_size: S, pixels; a multiple of `pool`.
        colors: C, colour filters.
        pool: side of the squares of pixels that are averaged first.
        window: standard deviation of the glimpse, as a share of half the image's width.
        hidden: width of the read-out.
        depth: hidden layers of the read-out; 0 makes it linear.
        block_size: A, not used.
        history: T, not used.
    """

    def __init__(
        self,
        *,
        latent_size: int,
        image_size: int,
        colors: int = 4,
        pool: int = 2,
        window: float = 0.25,
        hidden: int = 256,
        depth: int = 1,
        block_size: int = 0,
        history: int = 1,
    ) -> None:
        super().__init__()
        self.pool, self.window, self.colors = pool, window, colors
        self.scene: Tensor
        self.axis: Tensor
        self.register_buffer("scene", torch.zeros(3, image_size, image_size))
        self.register_buffer("axis", (torch.arange(image_size // pool) + 0.5) / (image_size // pool) * 2 - 1, False)
        self.filters = nn.Parameter(functional.normalize(torch.randn(colors, 3), dim=1))
        width = colors * (_GLOBAL + _ORDERS**2)
        self.norm = nn.BatchNorm1d(width)
        layers: list[nn.Module] = []
        for _layer in range(depth):
            layers += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()]
            width = hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, latent_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images (M, 3, S, S), background colour zero and full range 1 or more, into (M, D)."""
        with torch.autocast(pixels.device.type, enabled=False):
            pieces = pixels.split(_IMAGES_AT_ONCE if pixels.device.type == "cpu" else max(1, len(pixels)))
            described = [self._describe(self.mask(piece.float().contiguous())) for piece in pieces]
            return self.head(self.norm(torch.cat(described).flatten(1)))

    def mask(self, pixels: Tensor) -> Tensor:
        """Return images (M, 3, S, S) with zero wherever they equal the empty scene."""
        changed = (pixels - self.scene).abs_().amax(dim=1, keepdim=True) > _CHANGED
        return pixels * changed

    @torch.no_grad()
    def fit(self, starts: Tensor, pixels: Tensor, generator: torch.Generator) -> None:
        """Set the empty scene and the colour filters.

        Args:
            starts: (M, 3, S, S), first images of episodes, in which the objects lie anywhere.
            pixels: (M, 3, S, S), a sample of all images.
            generator: source of the first cluster.
        """
        self.scene.copy_(starts.median(dim=0).values)
        colors = self.mask(pixels).permute(0, 2, 3, 1).flatten(0, 2)
        colors = colors[colors.abs().amax(dim=1) > 0]
        values, vectors = torch.linalg.eigh(colors.mT @ colors / len(colors))
        whitening = (vectors * values.clamp(min=1e-4 * values.max()).rsqrt()) @ vectors.mT
        size = colors.norm(dim=1)
        solid = colors[size > 0.6 * size.max()] @ whitening
        self.filters.copy_(_cluster(functional.normalize(solid, dim=1), self.colors, generator) @ whitening)

    def _describe(self, images: Tensor) -> Tensor:
        """Return mass, centre and glimpse of each colour: (M, C, 19) from masked images (M, 3, S, S)."""
        pooled = functional.avg_pool2d(images, self.pool)
        maps = functional.relu(torch.einsum("mkyx,ck->mcyx", pooled, self.filters))
        mass = maps.sum(dim=(2, 3)) + _EMPTY
        x = (maps.sum(dim=2) * self.axis).sum(dim=-1) / mass
        y = (maps.sum(dim=3) * self.axis).sum(dim=-1) / mass
        across, down = self._basis(torch.stack([x, y]))
        glimpse = down.mT @ maps @ across / mass[..., None, None]
        return torch.cat([torch.stack([mass / maps[0, 0].numel(), x, y], dim=-1), glimpse.flatten(2)], dim=-1)

    def _basis(self, center: Tensor) -> Tensor:
        """Return Hermite polynomials under the Gaussian window at centres (..., C): (..., C, S / pool, 4)."""
        d = (self.axis - center[..., None]) / self.window
        gauss = torch.exp(-0.5 * d * d)
        return torch.stack([gauss, gauss * d, gauss * (d * d - 1), gauss * (d**3 - 3 * d)], dim=-1)


def _cluster(points: Tensor, count: int, generator: torch.Generator, rounds: int = 20) -> Tensor:
    """Return `count` unit vectors by spherical k-means on unit vectors (M, 3), begun far from each other."""
    centers = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centers) < count:
        farthest = (points @ centers.mT).amax(dim=1).argmin()
        centers = torch.cat([centers, points[farthest][None]])
    for _ in range(rounds):
        nearest = (points @ centers.mT).argmax(dim=1)
        sums = torch.zeros_like(centers).index_add(0, nearest, points)
        empty = sums.norm(dim=1, keepdim=True) == 0
        centers = functional.normalize(torch.where(empty, centers, sums), dim=1)
    return centers
