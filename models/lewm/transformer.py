"""LeWM's predictor: a causal transformer over the last T latents, conditioned on actions through AdaLN.

Adaptive LayerNorm as in DiT (Peebles and Xie, 2023, arXiv 2212.09748): each action gives every block a shift, a scale
and a gate for its attention and its MLP; the gates start at 0, so an untrained predictor is its input's LayerNorm.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["ConditionalBlock", "TransformerPredictor"]


class TransformerPredictor(nn.Module):
    """Next latents from latents and the actions that follow them.

    The defaults are the paper's predictor: 10.9 M parameters at D = 192. Positions are learned and count from the
    oldest latent of the window.

    Args:
        latent_size: D.
        block_size: A.
        history: T, the longest window.
        image_size: S; not used.
        width: size of a token; None takes `latent_size`.
        depth: number of blocks.
        heads: attention heads.
        head_size: size of one head.
        mlp_size: hidden size of the blocks' MLPs.
        dropout: rate after attention and inside MLPs, in training alone.
        action_size: numbers that a block of actions is first mapped to, linearly.
    """

    def __init__(
        self,
        *,
        latent_size: int,
        block_size: int,
        history: int,
        image_size: int = 0,
        width: int | None = None,
        depth: int = 6,
        heads: int = 16,
        head_size: int = 64,
        mlp_size: int = 2048,
        dropout: float = 0.1,
        action_size: int = 10,
    ) -> None:
        super().__init__()
        width = width or latent_size
        same = width == latent_size
        self.history = history
        self.action_encoder = nn.Sequential(
            nn.Linear(block_size, action_size),
            nn.Linear(action_size, 4 * width),
            nn.SiLU(),
            nn.Linear(4 * width, width),
        )
        self.positions = nn.Parameter(torch.randn(history, latent_size))
        self.entry = nn.Identity() if same else nn.Linear(latent_size, width)
        self.blocks = nn.ModuleList(ConditionalBlock(width, heads, head_size, mlp_size, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.exit = nn.Identity() if same else nn.Linear(width, latent_size)

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the latent after each position, from that position and those before it.

        Args:
            latents: (M, T, D), T at most `history`.
            actions: (M, T, A), normalised; actions[:, t] follows latents[:, t].

        Returns:
            (M, T, D).

        Raises:
            ValueError: the window is longer than `history`.
        """
        length = latents.shape[1]
        if length > self.history:
            raise ValueError(f"{length} latents, but the predictor looks back on {self.history} at most")
        condition = self.action_encoder(actions)
        tokens = self.entry(latents + self.positions[:length])
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self.exit(self.norm(tokens))

    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the latent (M, D) after the last position of latents (M, T, D) and actions (M, T, A)."""
        return self(latents[:, -self.history :], actions[:, -self.history :])[:, -1]


class ConditionalBlock(nn.Module):
    """Causal self-attention and MLP, each modulated and gated by a condition.

    Args:
        width: size of a token and of its condition.
        heads: attention heads.
        head_size: size of one head.
        mlp_size: hidden size of the MLP.
        dropout: rate, in training alone.
    """

    def __init__(self, width: int, heads: int, head_size: int, mlp_size: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.modulation = nn.Linear(width, 6 * width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention_affine = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_size, bias=False)
        self.attention_out = nn.Linear(heads * head_size, width)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp_affine = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, mlp_size)
        self.mlp_out = nn.Linear(mlp_size, width)
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def modulate(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Map a condition (..., width) to shift, scale, gate of the attention, then of the MLP, each (..., width)."""
        return self.modulation(nn.functional.silu(condition)).chunk(6, dim=-1)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Map tokens (M, T, width) under a condition of the same shape to tokens of the same shape."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulate(condition)
        normed = self.attention_affine(self.attention_norm(tokens) * (1 + scale) + shift)
        query, key, value = self.qkv(normed).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        tokens = tokens + gate * self.drop(self.attention_out(mixed.transpose(1, 2).flatten(2)))
        normed = self.mlp_affine(self.mlp_norm(tokens) * (1 + mlp_scale) + mlp_shift)
        hidden = self.drop(nn.functional.gelu(self.mlp_in(normed)))
        return tokens + mlp_gate * self.drop(self.mlp_out(hidden))
