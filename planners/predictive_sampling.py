"""Predictive sampling."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from wmkit.contracts import WorldModel

from .base import SamplingPlanner
from .problem import Problem, Scored
from .settings import Shared

__all__ = ["PredictiveSampling", "PredictiveSamplingState"]


@dataclass(frozen=True)
class PredictiveSamplingState:
    """What candidates are scattered around.

    Attributes:
        nominal: (B, M, E), environment units.
    """

    nominal: Tensor


class PredictiveSampling(SamplingPlanner[PredictiveSamplingState]):
    """Scatter candidates around the nominal plan; the cheapest becomes the nominal.

    Meant for a fast control loop, where one iteration a decision improves the plan that the last decision left. The
    nominal is itself a candidate, so the plan is never worse than its start under the model. After Howell et al.
    (2022), "Predictive Sampling: Real-time Behaviour Synthesis with MuJoCo".
    """

    def __init__(
        self, model: WorldModel, *, std: float | tuple[float, float] = (0.05, 0.5), **shared: Unpack[Shared]
    ) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            std: standard deviation of the scatter, as a fraction of half the action range. A pair spreads the
                candidates' own deviations geometrically from the first to the second, to refine and explore at once.
            shared: see `SamplingPlanner`; iterations is 1 unless given.

        Raises:
            ValueError: a number out of its range.
        """
        shared.setdefault("iterations", 1)
        super().__init__(model, **shared)
        self.std = std
        self._scales = (std, std) if isinstance(std, (int, float)) else tuple(std)
        if len(self._scales) != 2 or not 0 < self._scales[0] <= self._scales[1]:
            raise ValueError(
                f"PredictiveSampling: std is {std!r}; give a number above 0, or a pair (low, high) of them"
            )

    def start(self, problem: Problem) -> PredictiveSamplingState:
        """Return `problem.initial` as the nominal."""
        return PredictiveSamplingState(problem.initial)

    def sample(self, state: PredictiveSamplingState, problem: Problem) -> Tensor:
        """Scatter candidates (B, N, M, E), the nominal first."""
        count = problem.samples - 1
        part = torch.linspace(0, 1, count, device=problem.low.device, dtype=problem.low.dtype)
        low, high = self._scales
        scale = (low * (high / low) ** part).view(1, count, 1, 1) * problem.half_range
        nominal = state.nominal.unsqueeze(1)
        return torch.cat([nominal, torch.addcmul(nominal, scale, problem.noise(count))], dim=1)

    def update(self, state: PredictiveSamplingState, scored: Scored, problem: Problem) -> PredictiveSamplingState:
        """Return the cheapest candidate as the nominal; a row without any finite cost keeps its own."""
        lowest, index = scored.costs.min(dim=1)
        best = scored.parameters[torch.arange(index.shape[0], device=index.device), index]
        return PredictiveSamplingState(torch.where(torch.isfinite(lowest)[:, None, None], best, state.nominal))

    def centre(self, state: PredictiveSamplingState) -> Tensor:
        """Return the nominal (B, M, E)."""
        return state.nominal
