"""The rollout of `GRUPredictor` as one kernel over context and horizon."""

from typing import Any

import torch
from torch import Tensor, nn

from ..lewm.gru import GRUPredictor
from .recurrent_kernels import gru_rollout
from .support import Unsupported, guard, interpreted
from .tiles import Cost, Projector, matrix_type, padded, panel, row_tile, stages, wide

__all__ = ["FusedGRU", "cost_of"]

_WIDEST = 1024
_FEWEST = 16
"""Candidates of a program in float32, whose larger tiles would spill."""
_STATE_NUMBERS = 4096
"""Of a state that a program computes at a time; four such tiles, of the gates, stay in its registers."""


class FusedGRU:
    """Rolls candidates out under stacked GRUs, each program a tile of them, from an empty memory to the last step.

    Equal to calling `GRUPredictor.step` on ever longer sequences. The states stay in memory that one program alone
    touches, small enough for the L2 cache, so their width is not limited by the registers.

    Args:
        predictor: whose weights are taken, as they are now.
        projector: applied to each prediction, in evaluation mode: an identity, or a linear layer, batch norm, GELU and
            linear layer.
        dtype: of the matrix products, float32 or bfloat16; None takes that of the weights. All else, the states
            included, is in float32.

    Raises:
        Unsupported: another predictor or projector, or another dtype.
    """

    def __init__(self, predictor: nn.Module, projector: nn.Module, dtype: torch.dtype | None = None) -> None:
        if not isinstance(predictor, GRUPredictor):
            raise Unsupported(f"no GRU: a predictor of type {type(predictor).__name__}")
        gru, last = predictor.gru, predictor.last
        self.dtype = matrix_type(last.weight, dtype)
        self._latent_size, self._block_size = last.out_features, gru.input_size - last.out_features
        self._width, self._depth = gru.hidden_size, gru.num_layers
        if self._latent_size > _WIDEST:
            raise Unsupported(
                f"latents of {self._latent_size} numbers: the kernel holds at most {_WIDEST} in registers"
            )
        self._pack(gru, last)
        self._projector = Projector(projector, self._latent_size, self.dtype, last.weight.device)

    def _pack(self, gru: nn.GRU, last: nn.Linear) -> None:
        """Lay the weights out for the kernel."""
        columns, size, layers = wide(self._width), wide(self._latent_size), range(self._depth)
        named = dict(gru.named_parameters())
        self._line_size = wide(gru.input_size)
        self._entry = self._gates(named["weight_ih_l0"], self._line_size)
        deeper = [self._gates(named[f"weight_ih_l{layer}"], columns) for layer in layers[1:]]
        self._deeper = torch.stack(deeper) if deeper else self._entry
        self._recurrent = torch.stack([self._gates(named[f"weight_hh_l{layer}"], columns) for layer in layers])
        biases = [(named[f"bias_ih_l{layer}"], named[f"bias_hh_l{layer}"]) for layer in layers]
        self._biases = torch.stack([self._joined(*pair) for pair in biases])
        self._last = padded(last.weight.T, columns, size, self.dtype)
        self._last_bias = padded(last.bias[None], 1, size, torch.float32)

    def _gates(self, weight: Tensor, inputs: int) -> Tensor:
        """Return a weight (3 * width, i) as (3, inputs, padded width)."""
        parts = weight.detach().unflatten(0, (3, -1)).unbind(0)
        return torch.stack([padded(part.T, inputs, wide(self._width), self.dtype) for part in parts])

    def _joined(self, driven: Tensor, recalled: Tensor) -> Tensor:
        """Return two biases (3 * width,) as (4, padded width): those that only ever add up are added."""
        (reset, update, new), (other_reset, other_update, recall) = driven.chunk(3), recalled.chunk(3)
        return padded(
            torch.stack([reset + other_reset, update + other_update, new, recall]), 4, wide(self._width), torch.float32
        )

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
        device = latents.device
        out = torch.empty(batch, count, horizon, self._latent_size, dtype=latents.dtype, device=device)
        if out.numel() == 0:
            return out
        columns, size, chunk = wide(self._width), wide(self._latent_size), self._projector.chunk
        rows = _FEWEST if self.dtype == torch.float32 else row_tile(batch * count, size + chunk, device)
        tile = min(columns, _STATE_NUMBERS // rows)
        programs = -(-batch * count // rows)
        store_size = rows * (self._line_size + size + chunk + 2 * self._depth * columns)
        store = torch.empty(programs, store_size, dtype=self.dtype, device=device)
        states = torch.empty(programs, self._depth, rows, columns, dtype=torch.float32, device=device)
        shapes = (4 * tile, self._line_size), (4 * tile, columns), (size, columns), (chunk, size), (size, chunk)
        panels = [panel(outputs, inputs, self.dtype) for outputs, inputs in shapes]
        stage = max(each * (outputs + rows) for each, (outputs, _) in zip(panels, shapes, strict=True))
        kernel: Any = gru_rollout
        with guard(latents.device):
            kernel[(programs,)](
                latents.contiguous(), past.contiguous(), actions.contiguous(), out, store, states,
                self._entry, self._deeper, self._recurrent, self._biases, self._last, self._last_bias,
                self._projector.up, self._projector.up_bias, self._projector.down, self._projector.down_bias,
                batch * count, count, latents.shape[1], horizon,
                latent_size=self._latent_size, block_size=self._block_size, depth=self._depth,
                hidden=self._projector.hidden, chunk=chunk, line_size=self._line_size, M=rows, DP=size,
                AP=wide(self._block_size), W=columns, C=tile, store_size=store_size, entry_panel=panels[0],
                hidden_panel=panels[1], last_panel=panels[2], up_panel=panels[3], down_panel=panels[4],
                widen=interpreted(), num_warps=8 if rows * tile >= 2048 else 4,
                num_stages=stages(stage * self.dtype.itemsize, device),
            )  # fmt: skip
        return out


def cost_of(
    predictor: GRUPredictor,
    projector: nn.Module,
    dtype: torch.dtype,
    *,
    batch: int,
    candidates: int,
    horizon: int,
    known: int,
) -> Cost:
    """Return what one rollout must do, a context being read once and not once a candidate.

    Args:
        predictor: the GRU.
        projector: of its predictions.
        dtype: of the matrix products; latents and actions are float32.
        batch: B.
        candidates: N.
        horizon: H.
        known: T.
    """
    named = dict(predictor.gru.named_parameters())
    recurrent = sum(weight.numel() for name, weight in named.items() if name.startswith("weight"))
    heads = [predictor.last, *(layer for layer in projector.modules() if isinstance(layer, nn.Linear))]
    weights = recurrent + sum(layer.in_features * layer.out_features for layer in heads)
    steps, shared, latent_size = batch * candidates * horizon, batch * (known - 1), predictor.last.out_features
    numbers = (steps + shared) * predictor.gru.input_size + batch * latent_size
    return Cost(2 * (steps * weights + shared * recurrent), weights * dtype.itemsize + 4 * numbers)
