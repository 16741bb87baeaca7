"""A linear model and contexts for it, for the planners' tests."""

import torch
from torch import Tensor

from wmkit.contracts import Context
from wmkit.linear_model import LinearModel


def double_integrators(repeat: int = 1, history: int = 1) -> LinearModel:
    """Return z' = z A + u B with a step of 0.3 seconds."""
    step = 0.3
    transition = torch.eye(4)
    transition[2, 0] = transition[3, 1] = step
    control = torch.tensor([[step**2 / 2, 0, step, 0], [0, step**2 / 2, 0, step]])
    return LinearModel(transition, control, action_repeat=repeat, history=history, bound=2.0)


def context_of(states: Tensor, size: int = 2) -> Context:
    """Return the context of states (B, D)."""
    return Context(states[:, None], torch.zeros(len(states), 0, size), None, torch.zeros_like(states))
