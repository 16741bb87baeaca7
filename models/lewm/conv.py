"""A small strided convolutional encoder, quick on a CPU."""

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["ConvEncoder"]

_STRIDE = 16


class ConvEncoder(nn.Module):
    """Three strided convolutions with BatchNorm and ReLU, then an MLP without a norm on its output.

    Args:
        latent_size: D.
        image_size: S, pixels; a multiple of 16.
        block_size: A, not used.
        history: T, not used.
        channels: widths of the convolutions: 8 x 8 with stride 4, twice 4 x 4 with stride 2.
        hidden: width of the MLP's hidden layer.

    Raises:
        ValueError: the image's size is no multiple of 16, or `channels` are not three.
    """

    def __init__(
        self,
        *,
        latent_size: int,
        image_size: int,
        block_size: int = 0,
        history: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        if image_size % _STRIDE or len(channels) != 3:
            raise ValueError(f"ConvEncoder takes images of a multiple of 16 and 3 channels: {image_size}, {channels}")
        first, second, third = channels
        cells = (image_size // _STRIDE) ** 2
        self.layers = nn.Sequential(
            *_block(3, first, 8, 4),
            *_block(first, second, 4, 2),
            *_block(second, third, 4, 2),
            nn.Flatten(),
            nn.Linear(third * cells, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, latent_size),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images (M, 3, S, S) into (M, D)."""
        return self.layers(pixels)


def _block(inputs: int, outputs: int, size: int, stride: int) -> tuple[nn.Module, ...]:
    """Return a convolution that divides the image's side by `stride`, with BatchNorm and ReLU."""
    padding = (size - stride) // 2
    return (
        nn.Conv2d(inputs, outputs, size, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
