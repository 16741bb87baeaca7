"""How far a fast rollout is from the exact one: per step, over the horizon, and in what a planner would choose."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Imagine", "Parity", "elite_agreement", "parity"]

Imagine = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Latents (B, T, D), past (B, T-1, A) and actions (B, N, H, A), both normalised -> latents (B, N, H, D)."""


@dataclass(frozen=True)
class Parity:
    """What two rollouts of the same candidates have in common.

    Attributes:
        step_error: of one model step, the root mean square of the difference by that of the exact latents.
        horizon_error: the same of the last step of the rollout.
        agreement: share of the elites that both costs choose, in [0, 1]; the cost is the squared distance of the last
            latent from that of the first candidate.
    """

    step_error: float
    horizon_error: float
    agreement: float


def parity(fast: Imagine, exact: Imagine, latents: Tensor, past: Tensor, actions: Tensor) -> Parity:
    """Compare two rollouts on contexts latents (B, T, D), past (B, T-1, A) and actions (B, N, H, A), normalised.

    The elites are the tenth of the candidates, at least one.
    """
    once = actions[:, :, :1]
    step = _relative(fast(latents, past, once), exact(latents, past, once))
    found, wanted = fast(latents, past, actions)[:, :, -1], exact(latents, past, actions)[:, :, -1]
    goal = wanted[:, :1]
    costs, exact_costs = ((last.double() - goal).square().sum(-1) for last in (found, wanted))
    agreement = elite_agreement(costs, exact_costs, max(1, actions.shape[1] // 10))
    return Parity(step, _relative(found, wanted), agreement)


def elite_agreement(costs: Tensor, exact: Tensor, elites: int) -> float:
    """Return the share of the cheapest `elites` of N candidates that both costs (B, N) choose.

    Candidates whose exact cost equals the costliest elite's count as chosen.
    """
    chosen = torch.where(costs.isfinite(), costs, torch.inf).topk(elites, dim=1, largest=False).indices
    limit = exact.topk(elites, dim=1, largest=False).values.amax(dim=1, keepdim=True)
    return float((exact.gather(1, chosen) <= limit).double().mean())


def _relative(found: Tensor, exact: Tensor) -> float:
    """Return the relative root mean square error; infinity where anything is not finite."""
    error = (found.double() - exact.double()).square().mean().sqrt() / exact.double().square().mean().sqrt()
    return float(error) if bool(error.isfinite()) else float("inf")
