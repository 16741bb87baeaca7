"""A transformer over the steps of a plan, with full or causal attention.

Adaptive LayerNorm as in DiT (Peebles and Xie, 2023, arXiv 2212.09748), with one modulation for all blocks plus an
offset of each block's own, as in PixArt-alpha (Chen et al., 2023, arXiv 2310.00426).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["Block", "SequenceDenoiser", "level_embedding"]

_LEVEL_FREQUENCIES = 32


def level_embedding(levels: Tensor) -> Tensor:
    """Return sines and cosines (M, 64) of noise levels (M,) in [0, 1]."""
    steps = torch.arange(_LEVEL_FREQUENCIES, device=levels.device, dtype=torch.float32)
    angles = 1000.0 * levels.float()[:, None] * torch.exp(-math.log(10000.0) * steps / _LEVEL_FREQUENCIES)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


class Block(nn.Module):
    """Attention and an MLP, each behind a modulated LayerNorm and a gate that starts at 0.

    Args:
        width: W, size of a token.
        heads: attention heads.
        mlp_size: hidden size of the MLP.
        dropout: rate after attention and inside the MLP, in training alone.
    """

    def __init__(self, width: int, heads: int, mlp_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_size), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp_size, width))
        self.dropout = nn.Dropout(dropout)
        self.offset = nn.Parameter(torch.zeros(6 * width))

    def forward(
        self, tokens: Tensor, modulation: Tensor, causal: bool = False, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map tokens (M, L, W) to (M, L, W).

        Args:
            tokens: (M, L, W).
            modulation: (M, 1, 6W), or (M, L, 6W) for one of each token.
            causal: no token attends to later ones; only for `past` None or L = 1.
            past: keys and values (M, heads, P, W / heads) of earlier tokens, which all tokens attend to.

        Returns:
            The tokens, and the keys and values of all P + L tokens.
        """
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (modulation + self.offset).chunk(6, dim=-1)
        mixed, seen = self._attend(self.norms[0](tokens) * (1 + scale) + shift, causal, past)
        tokens = tokens + gate * self.dropout(mixed)
        return tokens + gate_mlp * self.mlp(self.norms[1](tokens) * (1 + scale_mlp) + shift_mlp), seen

    def _attend(
        self, tokens: Tensor, causal: bool, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        m, length, width = tokens.shape
        query, key, value = self.qkv(tokens).view(m, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=causal and past is None)
        return self.out(mixed.transpose(1, 2).reshape(m, length, width)), (key, value)


class SequenceDenoiser(nn.Module):
    """Predicts what a noisy sequence was before the noise, from the context and from conditions of each step.

    `patch` steps side by side make one token; one more token holds the context. All see all others, unless causal.

    Args:
        target_size: S, numbers of each step that are denoised.
        context_size: C, numbers of a context.
        horizon: F, the most steps.
        condition_size: E, numbers of each step that are given, e.g. the actions of a dynamics; 0 for none.
        patch: steps of a token.
        width: W, size of a token.
        depth: blocks.
        heads: attention heads.
        mlp_size: hidden size of the blocks' MLPs.
        dropout: in training alone.
        causal: tokens see themselves and those before them, the context first, instead of all.

    Raises:
        ValueError: the horizon is no multiple of the patch, or the width none of the heads.
    """

    def __init__(
        self,
        target_size: int,
        context_size: int,
        horizon: int,
        condition_size: int = 0,
        patch: int = 1,
        width: int = 96,
        depth: int = 3,
        heads: int = 4,
        mlp_size: int = 256,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if horizon % patch or width % heads:
            raise ValueError(f"horizon {horizon} must be a multiple of patch {patch}, width {width} of heads {heads}")
        self.patch, self.target_size, self.causal = patch, target_size, causal
        self.entry = nn.Linear(patch * (target_size + condition_size), width)
        self.context_entry = nn.Sequential(nn.Linear(context_size, width), nn.GELU(), nn.Linear(width, width))
        self.level_entry = nn.Sequential(nn.Linear(2 * _LEVEL_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Sequential(nn.SiLU(), _silent(width, 6 * width))
        self.positions = nn.Parameter(0.02 * torch.randn(1 + horizon // patch, width))
        self.blocks = nn.ModuleList(Block(width, heads, mlp_size, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.exit = _silent(width, patch * target_size)

    def forward(self, noisy: Tensor, levels: Tensor, context: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the network's prediction (M, H, S); what it stands for is the training's choice.

        Args:
            noisy: (M, H, S), H a multiple of the patch and at most F.
            levels: (M,), noise levels in [0, 1].
            context: (M, C).
            condition: (M, H, E), or None where E = 0.
        """
        m, h = noisy.shape[:2]
        given = noisy if condition is None else torch.cat([noisy, condition], dim=-1)
        seen = self.context_entry(context)
        modulation = self.modulation(self.level_entry(level_embedding(levels).to(noisy.dtype)) + seen)[:, None]
        steps = self.entry(given.reshape(m, h // self.patch, -1))
        tokens = torch.cat([seen[:, None], steps], dim=1) + self.positions[: 1 + h // self.patch]
        for block in self.blocks:
            tokens, _ = block(tokens, modulation, self.causal)
        return self.exit(self.norm(tokens[:, 1:])).reshape(m, h, self.target_size)


def _silent(inputs: int, outputs: int) -> nn.Linear:
    """Return a layer that puts out 0 before training."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
