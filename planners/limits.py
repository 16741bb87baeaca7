"""Limits on how fast actions may change."""

import torch
from torch import Tensor

from wmkit.contracts import ModelSpec

__all__ = ["limit_rate"]


def limit_rate(actions: Tensor, last: Tensor | None, step: Tensor, spec: ModelSpec) -> Tensor:
    """Let each environment action differ from the one before by at most `step`; the later one gives way.

    Actions within the bounds stay within them. Gradients pass where the limit does not bind.

    Args:
        actions: (B, N, H, A), environment units.
        last: (B, E), the action executed before; None leaves the first action free.
        step: (E,), largest change between two environment steps.
        spec: tells the environment steps of a model step.
    """
    b, n, h, _ = actions.shape
    single = actions.reshape(b, n, h * spec.action_repeat, spec.action_size)
    before = single[:, :, 0] if last is None else last.unsqueeze(1).to(actions)
    limited = []
    for wanted in single.unbind(dim=2):
        before = torch.minimum(torch.maximum(wanted, before - step), before + step)
        limited.append(before)
    return torch.stack(limited, dim=2).reshape(actions.shape)
