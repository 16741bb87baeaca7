"""How well draws stand for a distribution, and how far two sets of them lie apart."""

import torch
from torch import Tensor

__all__ = ["energy_score", "root_mean_square"]


def root_mean_square(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the length (M,) of values (M, ...), as the root mean square of their numbers, or of those of weight 1.

    Args:
        values: (M, ...).
        weights: 0 or 1, broadcastable to `values`; None counts all.
    """
    squares = values.flatten(1).square()
    if weights is None:
        return squares.mean(1).sqrt()
    counted = weights.to(values).expand_as(values).flatten(1)
    return ((squares * counted).sum(1) / counted.sum(1).clamp(min=1)).sqrt()


def energy_score(draws: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the energy score (M,) of draws, lower is better: mean |X - y| - mean |X - X'| / 2.

    A strictly proper score of distributions (Gneiting and Raftery, 2007), estimated without bias from different draws;
    |.| is `root_mean_square`, so that it does not grow with the number of steps.

    Args:
        draws: (M, N, ...), N at least 2 draws for each of M contexts.
        truth: (M, ...), what followed.
        weights: 0 or 1, (M, ...) broadcastable to `truth`: what counts.

    Raises:
        ValueError: fewer than two draws.
    """
    n = draws.shape[1]
    if n < 2:
        raise ValueError(f"the energy score needs 2 or more draws, not {n}")
    far = torch.stack([root_mean_square(draws[:, i] - truth, weights) for i in range(n)]).mean(0)
    apart = torch.stack(
        [root_mean_square(draws[:, i] - draws[:, j], weights) for i in range(n) for j in range(i)]
    ).mean(0)
    return far - apart / 2
