"""How far a fast rollout is from the exact one: per step, over the horizon, and in what a planner would choose."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Imagine", "Parity", "elite_agreement", "parity", "parity_of"]

Imagine = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Latents (B, T, D), past (B, T-1, A) and actions (B, N, H, A), both normalised -> latents (B, N, H, D)."""


@dataclass(frozen=True)
class Parity:
    """What two rollouts of the same candidates have in common.

    Attributes:
        step_error: of the first model step, the root mean square of the difference by that of the exact latents.
        horizon_error: the same of the last step of the rollout.
        agreement: share of the elites that both costs choose, in [0, 1]; the cost is the squared distance of the last
            latent from that of the first candidate.
    """

    step_error: float
    horizon_error: float
    agreement: float

    def within(self, limit: "Parity") -> bool:
        """Return whether the errors are at most those of a limit, and the agreement at least."""
        errors = self.step_error <= limit.step_error and self.horizon_error <= limit.horizon_error
        return errors and self.agreement >= limit.agreement

    def __str__(self) -> str:
        return (
            f"relative error {self.step_error:.2g} of one step and {self.horizon_error:.2g} over the horizon, "
            f"{self.agreement:.0%} of the elites in common"
        )


def parity(fast: Imagine, exact: Imagine, latents: Tensor, past: Tensor, actions: Tensor) -> Parity:
    """Compare two ways to roll out latents (B, T, D), past (B, T-1, A) and actions (B, N, H, A), normalised."""
    return parity_of(fast(latents, past, actions), exact(latents, past, actions))


def parity_of(found: Tensor, exact: Tensor) -> Parity:
    """Compare two rollouts (B, N, H, D) of the same candidates; the elites are a tenth of them, at least one."""
    wanted = exact[:, :, -1]
    goal = wanted[:, :1].double()
    costs, exact_costs = ((last.double() - goal).square().sum(-1) for last in (found[:, :, -1], wanted))
    agreement = elite_agreement(costs, exact_costs, max(1, exact.shape[1] // 10))
    return Parity(_relative(found[:, :, 0], exact[:, :, 0]), _relative(found[:, :, -1], wanted), agreement)


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
