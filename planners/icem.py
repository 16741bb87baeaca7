"""The improved cross-entropy method."""

from dataclasses import dataclass
from typing import Literal, Unpack

import torch
from torch import Tensor

from wmkit.contracts import WorldModel

from .cem import CEM, CEMState
from .problem import Problem, Scored, picked
from .settings import Shared

__all__ = ["ICEM", "ICEMState"]


@dataclass(frozen=True)
class ICEMState(CEMState):
    """A normal distribution over knots, and elites that the next iteration tries again.

    Attributes:
        kept: (B, K, M, E), K elites, environment units; none before the first iteration.
    """

    kept: Tensor


class ICEM(CEM):
    """Cross-entropy method for few candidates: coloured noise, kept elites, fewer candidates in later iterations.

    The mean is a candidate of the first iteration, where it is the guess to start from, and of the last; in between it
    would only narrow the distribution. After Pinneri et al. (2020), "Sample-efficient Cross-Entropy Method for
    Real-time Planning". Between decisions a warm start carries the plan over, not the elites.
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        elites: int = 30,
        keep: float = 0.3,
        std: float = 0.5,
        min_std: float = 0.05,
        momentum: float = 0.1,
        result: Literal["best", "mean"] = "best",
        **shared: Unpack[Shared],
    ) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            elites: see `CEM`.
            keep: fraction of the elites that the next iteration tries again, in [0, 1]; they count as its candidates.
            std: see `CEM`.
            min_std: see `CEM`.
            momentum: see `CEM`.
            result: see `CEM`.
            shared: see `SamplingPlanner`; iterations is 10, noise_exponent 2 and decay 1.25 unless given.

        Raises:
            ValueError: a number out of its range.
        """
        shared.setdefault("iterations", 10)
        shared.setdefault("noise_exponent", 2.0)
        shared.setdefault("decay", 1.25)
        super().__init__(model, elites=elites, std=std, min_std=min_std, momentum=momentum, result=result, **shared)
        if not 0 <= keep <= 1:
            raise ValueError(f"ICEM: keep is {keep!r}; give a fraction in [0, 1]")
        self.keep = keep

    def start(self, problem: Problem) -> ICEMState:
        """Return the normal distribution around `problem.initial`, and no elites."""
        state = super().start(problem)
        return ICEMState(state.mean, state.std, state.mean.unsqueeze(1)[:, :0])

    def sample(self, state: ICEMState, problem: Problem) -> Tensor:  # type: ignore[override]
        """Draw candidates (B, N, M, E); the mean comes first where it is one, the kept elites last."""
        mean, std = state.mean.unsqueeze(1), state.std.unsqueeze(1)
        first = mean if problem.progress in (0.0, 1.0) else mean[:, :0]
        kept = state.kept[:, : problem.samples - first.shape[1]]
        fresh = problem.noise(problem.samples - first.shape[1] - kept.shape[1])
        return torch.cat([first, torch.addcmul(mean, std, fresh), kept], dim=1)

    def update(self, state: ICEMState, scored: Scored, problem: Problem) -> ICEMState:  # type: ignore[override]
        """Refit to the elites of finite cost and keep some; the mean stands for those that are not finite."""
        fitted = super().update(state, scored, problem)
        count = round(self.keep * self._elites_of(scored.costs.shape[1], problem.iterations))
        costs, index = scored.costs.topk(count, dim=1, largest=False)
        finite = (costs < torch.inf)[:, :, None, None]
        kept = torch.where(finite, picked(scored.parameters, index), fitted.mean.unsqueeze(1))
        return ICEMState(fitted.mean, fitted.std, kept)
