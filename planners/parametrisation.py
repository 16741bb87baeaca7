"""Action parametrisations: what a planner searches over, and the actions it stands for.

Letters beside those of `wmkit.contracts`: **M** knots of a plan, **E** numbers of one environment action.
"""

from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor

from wmkit.contracts import Context, ModelSpec

__all__ = ["Hold", "Parametrisation"]


@runtime_checkable
class Parametrisation(Protocol):
    """A map from knots, each an environment action, to the actions of a plan."""

    def knots(self, spec: ModelSpec, horizon: int) -> int:
        """Return M for a plan of `horizon` model steps."""
        ...

    def actions(self, parameters: Tensor, context: Context, spec: ModelSpec, horizon: int) -> Tensor:
        """Map knots (B, N, M, E) to actions (B, N, H, A), differentiably; the planner clips the result to the bounds.

        `context` holds the actions executed before, for parametrisations that continue them.
        """
        ...

    def parameters(self, actions: Tensor, spec: ModelSpec) -> Tensor:
        """Return the knots (B, N, M, E) that come nearest to actions (B, N, H, A)."""
        ...


class Hold:
    """Holds each knot for some environment steps; the last knot is cut short where the horizon ends."""

    def __init__(self, steps: int = 1) -> None:
        """Create the parametrisation.

        Args:
            steps: environment steps that a knot is held for, at least 1; 1 leaves every action free.
        """
        if steps < 1:
            raise ValueError(f"Hold.steps is {steps!r}; give a number of environment steps of at least 1")
        self.steps = steps

    def knots(self, spec: ModelSpec, horizon: int) -> int:
        """Return M, the environment steps of the horizon over those of a knot, rounded up."""
        return -(-horizon * spec.action_repeat // self.steps)

    def actions(self, parameters: Tensor, context: Context, spec: ModelSpec, horizon: int) -> Tensor:
        """Repeat knots (B, N, M, E) into actions (B, N, H, A)."""
        b, n = parameters.shape[:2]
        if self.steps > 1:
            parameters = parameters.repeat_interleave(self.steps, dim=2)[:, :, : horizon * spec.action_repeat]
        return parameters.reshape(b, n, horizon, spec.block_size)

    def parameters(self, actions: Tensor, spec: ModelSpec) -> Tensor:
        """Return the mean (B, N, M, E) of the actions (B, N, H, A) that each knot is held for."""
        b, n, h, _ = actions.shape
        single = actions.reshape(b, n, h * spec.action_repeat, spec.action_size)
        if self.steps == 1:
            return single
        rows = single.flatten(0, 1).transpose(1, 2)
        means = F.avg_pool1d(rows, self.steps, ceil_mode=True, count_include_pad=False)
        return means.transpose(1, 2).reshape(b, n, -1, spec.action_size)
