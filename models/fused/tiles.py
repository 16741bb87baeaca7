"""Sizes of tiles, and weights laid out for them: what the fused rollouts of small networks share outside their kernels.

A program owns a tile of candidates and streams all weights past it, once a step. Weights are (inputs, outputs), so that
a tile's rows are contiguous, and padded with zeros to whole tiles, so that no load of a weight needs a mask.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..packed import ProjectorLayers, folded_batch_norm, layers_of
from .support import Unsupported

__all__ = [
    "Cost",
    "Projector",
    "matrix_type",
    "padded",
    "panel",
    "projector_layers",
    "row_tile",
    "stages",
    "whole",
    "wide",
]

_PANEL_BYTES = 32768
"""Of the weights that one iteration of a product multiplies by: three of them fit the shared memory of an A100."""

_MOST_INPUTS = 128
"""Rows of a weight in one iteration, at most."""


@dataclass(frozen=True)
class Cost:
    """What a rollout must do, whatever the kernel.

    Attributes:
        flops: multiplications and additions of its matrix products.
        bytes: weights, contexts and actions read once from the device's memory, and predicted latents written.
    """

    flops: int
    bytes: int


def wide(size: int) -> int:
    """Return the smallest power of 2 that holds `size` columns and is at least 16, what matrix units take."""
    return max(16, 1 << (size - 1).bit_length())


def panel(columns: int, inputs: int, dtype: torch.dtype, rows: int = 16) -> int:
    """Return how many inputs one iteration of a product multiplies, a power of 2.

    Args:
        columns: outputs of the product.
        inputs: of the product, a multiple of the result.
        dtype: of the operands.
        rows: of the tile; the more, the fewer registers are left for operands.
    """
    fits = _PANEL_BYTES // (columns * dtype.itemsize)
    return max(16, min(min(fits, _MOST_INPUTS) * 16 // rows, inputs & -inputs))


def whole(size: int, tile: int) -> int:
    """Return `size` rounded up to a multiple of `tile`."""
    return -(-size // tile) * tile


def padded(matrix: Tensor, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Return a matrix (r, c) as (rows, columns), zeros after what there is."""
    result = torch.zeros(rows, columns, dtype=dtype, device=matrix.device)
    result[: matrix.shape[0], : matrix.shape[1]] = matrix.detach()
    return result


def matrix_type(weight: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """Return the dtype of the matrix products: `dtype`, or that of the weights where it is None.

    Raises:
        Unsupported: neither float32 nor bfloat16.
    """
    found = weight.dtype if dtype is None else dtype
    if found not in (torch.float32, torch.bfloat16):
        raise Unsupported(f"fused rollouts multiply in float32 or bfloat16, not {str(found).removeprefix('torch.')}")
    return found


def row_tile(rows: int, columns: int, device: torch.device, numbers: int = 16384) -> int:
    """Return how many candidates one program owns: 16 or 32.

    A program's time is that of streaming the weights, hardly that of its candidates: more than 16 only once every
    multiprocessor has a program, and only while a tile of activations stays in registers.

    Args:
        rows: candidates in all.
        columns: width of a tile of activations.
        device: where they are.
        numbers: what a tile may hold.
    """
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132
    size = 16
    while size < 32 and rows > size * processors and 2 * size * columns <= numbers:
        size *= 2
    return size


def stages(stage_bytes: int, device: torch.device) -> int:
    """Return for how many iterations operands are in flight: 1 to 4, as the shared memory of a multiprocessor allows.

    Args:
        stage_bytes: operands of one iteration.
        device: where the kernel runs.
    """
    shared = 232448
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        shared = getattr(properties, "shared_memory_per_block_optin", 101376)
    return max(1, min(4, (shared - 16384) // stage_bytes))


class Projector:
    """A projector of predictions with its batch norm folded: D to C to D, or nothing.

    Args:
        projector: an identity, or a linear layer, batch norm, GELU and linear layer; in evaluation.
        size: D.
        dtype: of the matrices.
        device: where to.

    Attributes:
        hidden: CP, the padded C; 0 for an identity.
        chunk: how many of the CP are computed at a time.
        up: (DP, CP), with DP the padded D.
        down: (CP, DP).
        up_bias: (CP,), float32.
        down_bias: (DP,), float32.

    Raises:
        Unsupported: another module.
    """

    def __init__(self, projector: nn.Module, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.hidden, self.chunk = 0, 16
        columns = wide(size)
        self.up = self.down = torch.zeros(1, dtype=dtype, device=device)
        self.up_bias = self.down_bias = torch.zeros(1, dtype=torch.float32, device=device)
        layers = projector_layers(projector)
        if layers is None:
            return
        first, norm, last = layers
        weight, bias = folded_batch_norm(first.weight.double(), first.bias, norm)
        self.chunk = min(512, wide(len(weight)))
        self.hidden = hidden = whole(len(weight), self.chunk)
        self.up = padded(weight.T, columns, hidden, dtype)
        self.up_bias = padded(bias[None], 1, hidden, torch.float32)[0]
        self.down = padded(last.weight.T, hidden, columns, dtype)
        last_bias = torch.zeros(1, 1, device=device) if last.bias is None else last.bias[None]
        self.down_bias = padded(last_bias, 1, columns, torch.float32)[0]


def projector_layers(projector: nn.Module) -> ProjectorLayers | None:
    """Return the layers with weights of a projector; None for an identity.

    Raises:
        Unsupported: it is neither an identity nor a linear layer, batch norm, GELU and linear layer.
    """
    found = layers_of(projector)
    if found is None and not isinstance(projector, nn.Identity):
        name = type(projector).__name__
        raise Unsupported(f"no kernel for a projector of type {name}: only Linear-BatchNorm-GELU-Linear")
    return found
