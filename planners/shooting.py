"""Random shooting."""

from typing import Unpack

import torch
from torch import Tensor

from wmkit.contracts import WorldModel

from .base import SamplingPlanner
from .problem import Problem, Scored
from .settings import Shared

__all__ = ["RandomShooting"]


class RandomShooting(SamplingPlanner[None]):
    """Draw candidates uniformly within the bounds and keep the cheapest: what every other planner has to beat.

    The guess that the search starts from is one of the candidates. Coloured noise makes neighbouring knots alike and
    leaves each knot uniform. More iterations only draw more candidates.
    """

    def __init__(self, model: WorldModel, **shared: Unpack[Shared]) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            shared: see `SamplingPlanner`; iterations is 1 unless given.

        Raises:
            ValueError: a number out of its range.
        """
        shared.setdefault("iterations", 1)
        super().__init__(model, **shared)

    def start(self, problem: Problem) -> None:
        """There is nothing to remember from one iteration to the next."""

    def sample(self, state: None, problem: Problem) -> Tensor:
        """Draw candidates (B, N, M, E), the guess that the search starts from first."""
        share = torch.special.ndtr(problem.noise(problem.samples - 1))
        drawn = torch.lerp(problem.low, problem.high, share)
        initial = problem.initial.unsqueeze(1)
        return torch.cat([initial, drawn.expand(initial.shape[0], -1, -1, -1)], dim=1)

    def update(self, state: None, scored: Scored, problem: Problem) -> None:
        """There is nothing to learn: the base keeps the cheapest candidate."""
