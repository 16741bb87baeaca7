"""The vision transformer's last block computes only what is read from it."""

import torch
from torch import nn

from wmkit.models.lewm.vit import VisionTransformer


def test_the_last_block_gives_the_first_token_that_the_whole_block_gives():
    torch.manual_seed(0)
    encoder = VisionTransformer(image_size=16, latent_size=12, patch_size=4, depth=2, heads=3).double()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    tokens = torch.randn(5, 17, 12, dtype=torch.float64, requires_grad=True)
    block = encoder.blocks[-1]
    whole, first = block(tokens)[:, :1], block(tokens, 1)
    assert first.shape == (5, 1, 12)
    torch.testing.assert_close(first, whole)
    gradients = [torch.autograd.grad(each.square().sum(), [tokens, *block.parameters()]) for each in (whole, first)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_output_is_that_of_plain_blocks():
    torch.manual_seed(0)
    encoder = VisionTransformer(image_size=8, latent_size=12, patch_size=4, depth=3, heads=3)
    pixels = torch.randn(2, 3, 8, 8)
    tokens = torch.cat([encoder.cls.expand(2, -1, -1), encoder.patches(pixels).flatten(2).mT], dim=1)
    tokens = tokens + encoder.positions
    for block in encoder.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(encoder(pixels), encoder.norm(tokens)[:, 0], rtol=1e-5, atol=1e-6)
