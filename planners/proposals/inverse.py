"""Candidates around what an inverse dynamics model would do."""

import torch
from torch import Tensor

from wmkit.contracts import Context, SupportsInverse, WorldModel
from wmkit.control.advance import extend

from ..limits import block_bounds
from .gaussian import scattered

__all__ = ["InverseDynamicsProposal"]


class InverseDynamicsProposal:
    """Walks to the goal with the model's goal-conditioned inverse dynamics, and scatters around that plan.

    The model is rolled forward one model step at a time; at step h of H the inverse dynamics is told that H - h steps
    remain. The first candidate is the walk itself.
    """

    def __init__(self, model: WorldModel, std: float = 0.2) -> None:
        """Create the proposal.

        Args:
            model: has `inverse` beside the contract of a world model.
            std: standard deviation of the candidates after the first, as a fraction of half the action range.

        Raises:
            ValueError: the model has no inverse dynamics.
        """
        if not isinstance(model, SupportsInverse):
            raise ValueError(f"{type(model).__name__} has no inverse(); train it with an inverse dynamics")
        self._model = model
        self._inverse = model.inverse
        self.std = std

    def propose(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        """Return n candidates (B, n, H, A), within the bounds.

        Raises:
            ValueError: the context has no goal.
        """
        low, high = block_bounds(self._model.spec, context.latents.device, context.latents.dtype)
        if context.goal is None:
            raise ValueError("InverseDynamicsProposal: the context has no goal; set one, or use another proposal")
        mean = self._walk(context, context.goal, horizon, low, high, generator)
        return scattered(mean, self.std * (high - low) / 2, n, low, high, generator)

    def _walk(
        self, context: Context, goal: Tensor, horizon: int, low: Tensor, high: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the actions (B, H, A) of the walk."""
        taken = []
        for step in range(horizon):
            latents = context.latents[:, -1]
            left = torch.full(latents.shape[:1], horizon - step, device=latents.device)
            action = self._inverse(latents, goal, left).to(low).clamp(low, high).unsqueeze(1)
            taken.append(action)
            if step + 1 < horizon:
                rollout = self._model.rollout(context, action.unsqueeze(1), generator)
                context = extend(context, action, rollout.latents[:, 0], self._model.spec.history)
        return torch.cat(taken, dim=1)
