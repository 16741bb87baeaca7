"""What a rollout of the transformer costs on any machine: the floor that its time is compared with."""

from typing import cast

import torch
from torch import nn

from ..lewm.transformer import ConditionalBlock, TransformerPredictor
from .tiles import Cost

__all__ = ["cost_of"]


def cost_of(
    predictor: TransformerPredictor,
    projector: nn.Module,
    batch: int,
    candidates: int,
    horizon: int,
    known: int,
    dtype: torch.dtype = torch.bfloat16,
) -> Cost:
    """Return what a rollout must do at the least: tokens of the context once, the last block's last token alone.

    Args:
        predictor: whose sizes are taken; its weights may be on the device "meta".
        projector: likewise.
        batch: B.
        candidates: N.
        horizon: H.
        known: T, latents of the context.
        dtype: of the matrix products.

    Returns:
        FLOPs of the products, and bytes of weights read once, of contexts and actions read, and of latents written.
    """
    block = cast("ConditionalBlock", predictor.blocks[0])
    depth, inner = len(predictor.blocks), block.attention_out.in_features
    keys = 2 * block.qkv.weight.numel() // 3
    attention = block.qkv.weight.numel() // 3 + block.attention_out.weight.numel()
    feed_forward = block.mlp_in.weight.numel() + block.mlp_out.weight.numel()
    ends = [part.weight.numel() for part in (predictor.entry, predictor.exit) if isinstance(part, nn.Linear)]
    ends += [layer.weight.numel() for layer in projector.children() if isinstance(layer, nn.Linear)]
    actions = sum(layer.weight.numel() for layer in predictor.action_encoder.children() if isinstance(layer, nn.Linear))
    actions += depth * block.modulation.weight.numel()
    shared, own, pairs = _tokens(predictor.history, known, horizon)
    own_work = depth * keys * own + (attention + feed_forward) * ((depth - 1) * own + horizon) + sum(ends) * horizon
    own_work += 2 * inner * depth * pairs + actions * horizon
    shared_work = (depth * keys + (depth - 1) * (attention + feed_forward)) * shared + actions * (known - 1)
    block_size = cast("nn.Linear", predictor.action_encoder[0]).in_features
    latent_size = predictor.positions.shape[1]
    weights = (depth * (keys + attention + feed_forward) + actions + sum(ends)) * dtype.itemsize
    numbers = candidates * horizon * (block_size + latent_size) + known * latent_size + (known - 1) * block_size
    return Cost(2 * batch * (candidates * own_work + shared_work), weights + 4 * batch * numbers)


def _tokens(history: int, known: int, horizon: int) -> tuple[int, int, int]:
    """Return tokens of a context, tokens of a candidate, and pairs of a candidate's token and one it attends to."""
    shared = own = pairs = 0
    for end in range(known, known + horizon):
        start = max(0, end - history)
        anew = end == known or start > 0
        prefix = max(0, known - 1 - start) if anew else 0
        first = start + prefix if anew else end - 1
        shared += prefix
        own += end - first
        pairs += sum(token - start + 1 for token in range(first, end))
    return shared, own, pairs
