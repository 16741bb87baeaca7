"""Noise that depends on the window alone, for training with the same noise in every epoch."""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["fixed_draws"]

_LEVELS = 1000


def fixed_draws(rows: Tensor, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Return levels (M,) and noise (M, *shape), float32: the same for the same row, always.

    Args:
        rows: (M,) int64, identities of the windows, at least 0.
        shape: of one window's noise.
        seed: of the whole collection of draws, at least 0.

    Returns:
        Levels, multiples of 1/1000 in (0, 1], and standard normal noise, on the device of `rows`.
    """
    levels = np.empty(len(rows), dtype=np.float32)
    noise = np.empty((len(rows), math.prod(shape)), dtype=np.float32)
    for i, row in enumerate(rows.tolist()):
        generator = np.random.Generator(np.random.Philox(key=[seed, row]))
        levels[i] = generator.integers(1, _LEVELS + 1) / _LEVELS
        noise[i] = generator.standard_normal(noise.shape[1], dtype=np.float32)
    return torch.from_numpy(levels).to(rows.device), torch.from_numpy(noise).view(-1, *shape).to(rows.device)
