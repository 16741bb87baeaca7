"""A plain vision transformer (Dosovitskiy et al., 2021, arXiv 2010.11929): pre-norm, learned positions, CLS token."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

__all__ = ["VisionTransformer"]


class VisionTransformer(nn.Module):
    """Images to one vector each, read from the CLS token after the last LayerNorm.

    The defaults are ViT-tiny with 14-pixel patches: 5.5 M parameters at 224 pixels.

    Args:
        image_size: S, pixels; a multiple of `patch_size`.
        latent_size: D; the default of `width`.
        block_size: A; not used.
        history: T; not used.
        patch_size: side of one patch, pixels.
        width: size of a token and of the output; None takes `latent_size`.
        depth: number of blocks.
        heads: attention heads; they divide `width`.
        mlp_size: hidden size of the blocks' MLPs; None takes 4 * width.
        norm_eps: added to the variance in each LayerNorm.

    Raises:
        ValueError: sizes that do not divide.
    """

    def __init__(
        self,
        *,
        image_size: int,
        latent_size: int,
        block_size: int = 0,
        history: int = 0,
        patch_size: int = 14,
        width: int | None = None,
        depth: int = 12,
        heads: int = 3,
        mlp_size: int | None = None,
        norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        width = width or latent_size
        if image_size % patch_size or width % heads:
            raise ValueError(
                f"patch_size {patch_size} must divide image_size {image_size}, and heads {heads} the width {width}"
            )
        self.output_size = width
        self.patches = nn.Conv2d(3, width, patch_size, patch_size)
        self.cls = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, (image_size // patch_size) ** 2 + 1, width))
        self.blocks = nn.ModuleList(_Block(width, heads, mlp_size or 4 * width, norm_eps) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.cls, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised images (M, 3, S, S) to (M, width)."""
        patches = self.patches(pixels).flatten(2).mT
        tokens = torch.cat([self.cls.expand(len(pixels), -1, -1), patches], dim=1) + self.positions
        *blocks, last = self.blocks
        for block in blocks:
            tokens = block(tokens)
        return self.norm(last(tokens, 1)[:, 0])


class _Block(nn.Module):
    """Self-attention and MLP, each on a normalised input and added to it."""

    def __init__(self, width: int, heads: int, mlp_size: int, norm_eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, eps=norm_eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_size), nn.GELU(), nn.Linear(mlp_size, width))

    def forward(self, tokens: Tensor, wanted: int | None = None) -> Tensor:
        """Map tokens (M, L, width) to tokens of the same shape, or to the first `wanted` of them alone."""
        normed = self.attention_norm(tokens)
        if wanted is None:
            query, key, value = self._heads(normed, self.qkv.weight, self.qkv.bias, 3)
        else:
            width, bias = tokens.shape[-1], self.qkv.bias
            first, rest = (None, None) if bias is None else (bias[:width], bias[width:])
            (query,) = self._heads(normed[:, :wanted], self.qkv.weight[:width], first, 1)
            key, value = self._heads(normed, self.qkv.weight[width:], rest, 2)
            tokens = tokens[:, :wanted]
        mixed = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.attention_out(mixed)
        return tokens + self.mlp(self.mlp_norm(tokens))

    def _heads(self, normed: Tensor, weight: Tensor, bias: Tensor | None, parts: int) -> tuple[Tensor, ...]:
        """Project (M, L, width) to `parts` tensors (M, heads, L, size)."""
        projected = linear(normed, weight, bias).unflatten(-1, (parts, self.heads, -1))
        return projected.permute(2, 0, 3, 1, 4).unbind()


def _initialise(module: nn.Module) -> None:
    """Draw weights from a truncated normal of 0.02, biases 0."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
