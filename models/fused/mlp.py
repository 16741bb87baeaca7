"""The rollout of `MLPPredictor` as one kernel over the whole horizon."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..lewm.mlp import MLPPredictor
from .mlp_kernels import mlp_rollout
from .support import Unsupported, guard, interpreted
from .tiles import Cost, Projector, matrix_type, padded, panel, row_tile, stages, whole, wide

__all__ = ["FusedMLP", "cost_of"]

_WIDEST = 1024
_MOST_NUMBERS = {torch.float32: 8192, torch.bfloat16: 16384}
"""Of a tile of activations, so that two stay in the registers of 256 threads, beside the operands."""


class FusedMLP:
    """Rolls candidates out under a residual MLP, each program a tile of them over the whole horizon.

    Equal to stepping through `MLPPredictor.step`: the step before is an input where the predictor looks back, zero with
    the flag that says so for the first step after a context of one latent.

    Args:
        predictor: whose weights are taken, as they are now.
        projector: applied to each prediction, in evaluation mode: an identity, or a linear layer, batch norm, GELU and
            linear layer.
        dtype: of the matrix products, float32 or bfloat16; None takes that of the weights. All else is in float32.

    Raises:
        Unsupported: another predictor or projector, another dtype, or wider than 1024.
    """

    def __init__(self, predictor: nn.Module, projector: nn.Module, dtype: torch.dtype | None = None) -> None:
        if not isinstance(predictor, MLPPredictor):
            raise Unsupported(f"no MLP: a predictor of type {type(predictor).__name__}")
        first, middle, norm, last = _parts(predictor)
        self.dtype = matrix_type(first.weight, dtype)
        self._looks_back, self._block_size = predictor.past, predictor.block_size
        self._latent_size, self._width = last.out_features, last.in_features
        self._depth, self._epsilon = len(middle), norm.eps
        if max(self._width, self._latent_size) > _WIDEST:
            widest = max(self._width, self._latent_size)
            raise Unsupported(f"an MLP of width {widest}: the kernel holds at most {_WIDEST} numbers in registers")
        self._pack(first, middle, norm, last)
        self._projector = Projector(projector, self._latent_size, self.dtype, first.weight.device)

    def _pack(self, first: nn.Linear, middle: list["_Block"], norm: nn.LayerNorm, last: nn.Linear) -> None:
        """Lay the weights out for the kernel."""
        columns, size, dtype = wide(self._width), wide(self._latent_size), self.dtype
        self._line_size = whole(first.in_features, panel(columns, wide(first.in_features), dtype))
        self._entry = padded(first.weight.T, self._line_size, columns, dtype)
        self._entry_bias = padded(first.bias[None], 1, columns, torch.float32)
        weights = [padded(layer.weight.T, columns, columns, dtype) for block in middle for layer in block[1:]]
        vectors = [(part.weight, part.bias, into.bias, out.bias) for part, into, out in middle]
        self._blocks = torch.stack(weights) if middle else self._entry
        self._block_vectors = torch.stack([_rows(each, columns) for each in vectors]) if middle else self._entry_bias
        self._last_norm = _rows((norm.weight, norm.bias), columns)
        self._last = padded(last.weight.T, columns, size, dtype)
        self._last_bias = padded(last.bias[None], 1, size, torch.float32)

    def __call__(self, latents: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Roll out every candidate.

        Args:
            latents: (B, T, D), oldest first.
            past: (B, T-1, A), normalised, between the latents.
            actions: (B, N, H, A), normalised.

        Returns:
            (B, N, H, D), in the dtype of `latents`.
        """
        batch, count, horizon = actions.shape[:3]
        out = torch.empty(batch, count, horizon, self._latent_size, dtype=latents.dtype, device=latents.device)
        if out.numel() == 0:
            return out
        columns, size = wide(self._width), wide(self._latent_size)
        chunk = self._projector.chunk
        rows = row_tile(batch * count, max(columns, size, chunk), latents.device, _MOST_NUMBERS[self.dtype])
        programs = -(-batch * count // rows)
        store_size = rows * (self._line_size + max(columns, size + chunk))
        store = torch.empty(programs, store_size, dtype=self.dtype, device=latents.device)
        shapes = (columns, self._line_size), (columns, columns), (size, columns), (chunk, size), (size, chunk)
        panels = [panel(outputs, inputs, self.dtype, rows) for outputs, inputs in shapes]
        stage = max(each * (outputs + rows) for each, (outputs, _) in zip(panels, shapes, strict=True))
        kernel: Any = mlp_rollout
        with guard(latents.device):
            kernel[(programs,)](
                latents.contiguous(), past.contiguous(), actions.contiguous(), out, store,
                self._entry, self._entry_bias, self._blocks, self._block_vectors, self._last_norm, self._last,
                self._last_bias, self._projector.up, self._projector.up_bias, self._projector.down,
                self._projector.down_bias, batch * count, count, latents.shape[1], horizon,
                latent_size=self._latent_size, block_size=self._block_size, width=self._width, depth=self._depth,
                epsilon=self._epsilon, looks_back=self._looks_back, hidden=self._projector.hidden, chunk=chunk,
                line_size=self._line_size, M=rows, DP=size, AP=wide(self._block_size), W=columns, store_size=store_size,
                entry_panel=panels[0], block_panel=panels[1], last_panel=panels[2], up_panel=panels[3],
                down_panel=panels[4], widen=interpreted(), num_warps=8 if rows * columns >= 4096 else 4,
                num_stages=stages(stage * self.dtype.itemsize, latents.device),
            )  # fmt: skip
        return out


def cost_of(
    predictor: MLPPredictor,
    projector: nn.Module,
    dtype: torch.dtype,
    *,
    batch: int,
    candidates: int,
    horizon: int,
    known: int,
) -> Cost:
    """Return what one rollout must do.

    Args:
        predictor: the MLP.
        projector: of its predictions.
        dtype: of the matrix products; latents and actions are float32.
        batch: B.
        candidates: N.
        horizon: H.
        known: T.
    """
    layers = [layer for part in (predictor, projector) for layer in part.modules() if isinstance(layer, nn.Linear)]
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    latent_size, steps = _parts(predictor)[-1].out_features, batch * candidates * horizon
    numbers = (steps + batch * known) * latent_size + (steps + batch * (known - 1)) * predictor.block_size
    return Cost(2 * steps * weights, weights * dtype.itemsize + 4 * numbers)


_Block = tuple[nn.LayerNorm, nn.Linear, nn.Linear]
"""The parts of a residual block that have weights."""


def _parts(predictor: MLPPredictor) -> tuple[nn.Linear, list[_Block], nn.LayerNorm, nn.Linear]:
    """Return the first layer, the residual blocks, the last norm and the last layer."""
    first, *middle, norm, _, last = cast("list[Any]", list(predictor.mlp))
    return first, [(block.layers[0], block.layers[1], block.layers[4]) for block in middle], norm, last


def _rows(vectors: tuple[Tensor, ...], columns: int) -> Tensor:
    """Stack vectors to (number of them, columns), padded, in float32."""
    return padded(torch.stack(vectors), len(vectors), columns, torch.float32)
