"""A rollout of `MLPPredictor` for planning: the same numbers as step by step, with less work and fewer operations.

The first layer is linear in its inputs, so what it makes of all actions is computed in one product before the loop, and
what it makes of the latents that candidates share once, not N times.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from ..packed import PackedLinear, packed_projector

if TYPE_CHECKING:
    from .mlp import MLPPredictor

__all__ = ["FastMLP"]


class FastMLP:
    """Rolls candidates out without gradients.

    Args:
        predictor: whose weights are taken, as they are now.
        projector: applied to each prediction, in evaluation mode.
        dtype: of the matrix products; None takes that of the weights.
    """

    def __init__(self, predictor: "MLPPredictor", projector: nn.Module, dtype: torch.dtype | None) -> None:
        entry, *blocks, norm, _, leave = cast("list[nn.Module]", list(predictor.mlp))
        entry, leave = cast("nn.Linear", entry), cast("nn.Linear", leave)
        size, actions = leave.out_features, predictor.block_size
        parts = [size, actions, size, actions, 1] if predictor.past else [size, actions]
        weights = entry.weight.detach().split(parts, dim=1)
        self._past = predictor.past
        self._known = weights[4][:, 0] if self._past else None
        self._latents = PackedLinear(torch.cat(weights[0::2][:2], dim=1) if self._past else weights[0], None, dtype)
        acting = torch.cat([weights[1], weights[3]], dim=1) if self._past else weights[1]
        self._actions = PackedLinear(acting, entry.bias, dtype)
        self._blocks = [_Block(cast("nn.Sequential", block.layers), dtype) for block in blocks]
        self._norm = cast("nn.LayerNorm", norm)
        self._leave = PackedLinear(leave.weight, leave.bias, dtype)
        self._project = packed_projector(projector, dtype)

    def __call__(self, latents: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Roll out latents (B, T, D), normalised past (B, T-1, A) and actions (B, N, H, A) to (B, N, H, D)."""
        horizon = actions.shape[2]
        latent = latents[:, -1:]
        before = latents[:, -2:-1] if self._past and latents.shape[1] > 1 else latent
        acting = self._acting(past, actions)
        imagined = []
        for step in range(horizon):
            seen = torch.cat([latent, latent - before], dim=-1) if self._past else latent
            hidden = acting[step] + self._latents(seen)
            for block in self._blocks:
                hidden = block(hidden)
            normed = layer_norm(hidden, hidden.shape[-1:], self._norm.weight, self._norm.bias, self._norm.eps)
            following = self._project(latent + self._leave(gelu(normed))).to(latents.dtype)
            before, latent = latent, following
            imagined.append(following)
        return torch.stack(imagined, dim=2)

    def _acting(self, past: Tensor, actions: Tensor) -> Tensor:
        """Return what the first layer makes of actions (B, N, H, A) and its bias, (H, B, N, width)."""
        blocks = actions.movedim(2, 0)
        if not self._past:
            return self._actions(blocks).to(actions.dtype)
        first = past[:, -1:].expand_as(actions[:, :, 0]) if past.shape[1] else torch.zeros_like(actions[:, :, 0])
        before = torch.cat([first.unsqueeze(0), blocks[:-1]])
        acting = self._actions(torch.cat([blocks, before], dim=-1)).to(actions.dtype)
        if self._known is not None:
            acting[0 if past.shape[1] else 1 :].add_(self._known)
        return acting


class _Block:
    """One residual block."""

    def __init__(self, layers: nn.Sequential, dtype: torch.dtype | None) -> None:
        norm, inside, _, _, outside = cast(
            "tuple[nn.LayerNorm, nn.Linear, nn.Module, nn.Module, nn.Linear]", tuple(layers)
        )
        self._norm = norm
        self._inside = PackedLinear(inside.weight, inside.bias, dtype, "gelu")
        self._outside = PackedLinear(outside.weight, outside.bias, dtype)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        normed = layer_norm(hidden, hidden.shape[-1:], self._norm.weight, self._norm.bias, self._norm.eps)
        return hidden + self._outside(self._inside(normed))
