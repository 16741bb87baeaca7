"""Limits on actions, and on how fast they may change."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from wmkit.contracts import ModelSpec

__all__ = ["block_bounds", "limit_rate", "numbers_on"]


def block_bounds(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return what `spec.bounds` does, each (A,), brought to the device once: do not write into them."""
    low, high = (tuple(bound) * spec.action_repeat for bound in (spec.action_low, spec.action_high))
    return _placed(low, device, dtype), _placed(high, device, dtype)


def numbers_on(values: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return numbers (n,), brought to the device once: do not write into them."""
    return _placed(tuple(values), device, dtype)


@cache
def _placed(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)


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
