"""The terms of LeWM's training losses, on latents and normalised actions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmkit.data.transfer import send

__all__ = ["contrast_loss", "inverse_loss", "rollout_loss", "transform_actions", "transform_pixels", "views_of"]

_VIEWS = {"none": (0,), "flip": (0, 2), "dihedral": tuple(range(8))}
"""Symmetries as bits: 1 flips x, 2 flips y, 4 swaps x and y afterwards."""


def views_of(name: str) -> tuple[int, ...]:
    """Return the symmetries "none", "flip" (of y) or "dihedral" as codes for `transform_pixels`.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in _VIEWS:
        raise ValueError(f"unknown views {name!r}; known: {', '.join(_VIEWS)}")
    return _VIEWS[name]


def transform_pixels(pixels: Tensor, view: int) -> Tensor:
    """Return images (..., S, S, 3), rows y and columns x, under a symmetry."""
    pixels = pixels.flip(-2) if view & 1 else pixels
    pixels = pixels.flip(-3) if view & 2 else pixels
    return pixels.transpose(-3, -2) if view & 4 else pixels


def transform_actions(actions: Tensor, views: Tensor) -> Tensor:
    """Return planar actions (n, ..., A), pairs of x and y, each row under its symmetry (n,)."""
    shape = (len(actions),) + (1,) * (actions.dim() - 1)
    pairs = actions.unflatten(-1, (-1, 2))
    flip_x, flip_y = (1 - 2 * ((views >> bit) & 1).view(shape) for bit in (0, 1))
    pairs = torch.stack([pairs[..., 0] * flip_x, pairs[..., 1] * flip_y], dim=-1)
    swap = ((views >> 2) & 1).bool().view(*shape, 1)
    return torch.where(swap, pairs.flip(-1), pairs).flatten(-2)


def rollout_loss(
    step: Callable[[Tensor, Tensor], Tensor], latents: Tensor, actions: Tensor, past: int, history: int
) -> tuple[Tensor, Tensor]:
    """Return the mean squared error of a rollout over all steps, with gradients to the targets, and the rollout.

    Args:
        step: latents (n, T, D), normalised actions (n, T, A) -> the next latent (n, D).
        latents: (n, past + K, D), encoded.
        actions: (n, past + K - 1, A), between them.
        past: latents that the rollout is given.
        history: T, the most latents that `step` looks back on.
    """
    imagined = list(latents[:, :past].unbind(1))
    for now in range(past, latents.shape[1]):
        begin = max(0, now - history)
        imagined.append(step(torch.stack(imagined[begin:now], dim=1), actions[:, begin:now]).float())
    rollout = torch.stack(imagined[past:], dim=1)
    return functional.mse_loss(rollout, latents[:, past:]), rollout


def inverse_loss(head: nn.Module, latents: Tensor, actions: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Return the error of the first action block between two latents of a window, 1 to `reach` steps apart.

    Args:
        head: (latents (n, D), goals (n, D), steps (n,)) -> normalised actions (n, A).
        latents: (n, T, D), T above `reach`.
        actions: (n, T-1, A), normalised.
        reach: the most steps between the two.
        generator: source of the pairs.
    """
    count, frames = latents.shape[:2]
    steps = torch.randint(1, reach + 1, (count,), generator=generator)
    start = (torch.rand(count, generator=generator) * (frames - steps)).long()
    steps, start = send(torch.stack([steps, start]), latents.device)
    rows = torch.arange(count, device=latents.device)
    found = head(latents[rows, start], latents[rows, start + steps], steps)
    return functional.mse_loss(found.float(), actions[rows, start])


def contrast_loss(latents: Tensor, group: int, temperature: float, generator: torch.Generator) -> Tensor:
    """Return InfoNCE between latents of one window against the group's other windows, by squared distance.

    Latents that follow each other soon are drawn together, others apart, so that distance grows with the time between
    (van den Oord et al. 2018; with a distance as score, as in contrastive reinforcement learning, Eysenbach 2022).

    Args:
        latents: (n, T, D).
        group: windows of one group, which stand next to each other; n is a multiple.
        temperature: mean squared difference per dimension that counts as one nat.
        generator: source of the pairs' offsets.
    """
    count, frames = latents.shape[:2]
    offset = send(torch.randint(1, frames, (count,), generator=generator), latents.device)
    first, second = latents[:, 0], latents[torch.arange(count, device=latents.device), offset]
    first, second = first.unflatten(0, (-1, group)), second.unflatten(0, (-1, group))
    scores = -(first.unsqueeze(2) - second.unsqueeze(1)).square().mean(dim=-1) / temperature
    labels = torch.arange(group, device=latents.device).expand(len(scores), group)
    return functional.cross_entropy(scores.flatten(0, 1), labels.flatten())
