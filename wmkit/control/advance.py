"""Move a context ahead through a model."""

from dataclasses import replace

import torch
from torch import Tensor

from ..contracts import Context, WorldModel

__all__ = ["advance", "extend"]


def extend(context: Context, actions: Tensor, latents: Tensor, history: int) -> Context:
    """Append model steps to a context's history.

    Args:
        context: T latents; its pending actions and goal are kept, and its last action renewed where it has one.
        actions: (B, S, A), executed or imagined after the last latent.
        latents: (B, S, D), what followed each of them.
        history: how many latents to keep, the newest.

    Returns:
        The context with min(T + S, history) latents.
    """
    joined = torch.cat([context.latents, latents], dim=1)
    between = torch.cat([context.actions, actions], dim=1)
    kept = min(joined.shape[1], history)
    last = context.last_action
    if last is not None and actions.shape[1]:
        last = actions[:, -1, -last.shape[-1] :]
    return Context(joined[:, -kept:], between[:, between.shape[1] - kept + 1 :], context.pending, context.goal, last)


def advance(model: WorldModel, context: Context, generator: torch.Generator | None = None) -> Context:
    """Roll the model through `context.pending`, so that a plan starts where the robot will be.

    Args:
        model: the model to imagine with; a stochastic one gives one draw.
        context: with pending actions (B, P, A), or none.
        generator: source of all randomness.

    Returns:
        A context without pending actions, with at most `model.spec.history` latents. The input where P = 0.
    """
    if context.pending is None:
        return context
    start = replace(context, pending=None)
    if context.pending.shape[1] == 0:
        return start
    start = replace(start, last_action=context.pending[:, -1, -model.spec.action_size :])
    rollout = model.rollout(start, context.pending.unsqueeze(1), generator)
    return extend(start, context.pending, rollout.latents[:, 0], model.spec.history)
