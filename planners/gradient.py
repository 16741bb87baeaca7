"""Planning by gradient descent through the model."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from wmkit.contracts import WorldModel

from .base import SamplingPlanner
from .problem import Problem, Scored
from .settings import Shared

__all__ = ["GradientPlanner", "GradientState"]

_MEAN_DECAY, _SQUARE_DECAY = 0.8, 0.9
"""Adam's beta_1 and beta_2: shorter memories than in training, as a search takes tens of steps."""


@dataclass(frozen=True)
class GradientState:
    """Restarts of a descent, the cheapest first once they are scored.

    Attributes:
        knots: (B, N, M, E), environment units.
        mean: (B, N, M, E), running mean of the gradients.
        square: (B, N, M, E), running mean of the gradients' squares.
        steps: (B, N), steps taken, the restarts' own count.
    """

    knots: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor


class GradientPlanner(SamplingPlanner[GradientState]):
    """Descend the cost by Adam from several starts at once; the cheapest candidate ever seen is the plan.

    Needs a model and an objective whose costs have gradients by the actions. The guess that the search starts from is
    one of the restarts, so the plan is never worse than it under the model. With `decay` above 1 the most expensive
    restarts drop out. Adam is after Kingma and Ba (2015).
    """

    wants_gradients = True

    def __init__(
        self, model: WorldModel, *, learning_rate: float = 0.2, std: float = 0.5, **shared: Unpack[Shared]
    ) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            learning_rate: Adam's first step, as a fraction of half the action range; it falls in a straight line to a
                tenth of that in the last iteration.
            std: standard deviation of the restarts, as a fraction of half the action range.
            shared: see `SamplingPlanner`; samples, the number of restarts, is 16 unless given.

        Raises:
            ValueError: a number out of its range.
        """
        shared.setdefault("samples", 16)
        super().__init__(model, **shared)
        for name, value in (("learning_rate", learning_rate), ("std", std)):
            if not value > 0:
                raise ValueError(f"GradientPlanner: {name} is {value!r}; give a number above 0")
        self.learning_rate = learning_rate
        self.std = std

    def start(self, problem: Problem) -> GradientState:
        """Return the restarts, `problem.initial` first."""
        initial, noise = problem.initial.unsqueeze(1), problem.noise(problem.samples - 1)
        knots = torch.cat([initial, torch.addcmul(initial, self.std * problem.half_range, noise)], dim=1)
        nothing = torch.zeros_like(knots)
        return GradientState(knots, nothing, nothing, nothing[:, :, 0, 0])

    def sample(self, state: GradientState, problem: Problem) -> Tensor:
        """Return the cheapest restarts (B, N, M, E)."""
        return state.knots[:, : problem.samples]

    def update(self, state: GradientState, scored: Scored, problem: Problem) -> GradientState:
        """Take one step of Adam; a restart without finite cost or gradients goes halfway to the cheapest and anew."""
        if scored.gradients is None:
            raise ValueError("GradientPlanner.update needs the gradients of the costs; keep wants_gradients True")
        count = scored.costs.shape[1]
        finite = torch.isfinite(scored.gradients).flatten(2).all(dim=2) & torch.isfinite(scored.costs)
        usable = finite[:, :, None, None]
        gradients = torch.where(usable, scored.gradients, 0)
        mean = torch.where(usable, torch.lerp(gradients, state.mean[:, :count], _MEAN_DECAY), 0)
        square = torch.where(usable, torch.lerp(gradients.square(), state.square[:, :count], _SQUARE_DECAY), 0)
        steps = torch.where(finite, state.steps[:, :count] + 1, 0)
        costs = torch.where(finite, scored.costs, torch.inf)
        row = torch.arange(costs.shape[0], device=costs.device).unsqueeze(1)
        halfway = scored.parameters.lerp(scored.parameters[row, costs.argmin(dim=1, keepdim=True)], 0.5)
        moved = scored.parameters - self._rate(problem) * _direction(mean, square, steps)
        knots = torch.where(usable, moved, halfway)
        order = costs.argsort(dim=1, stable=True)
        return GradientState(*(field[row, order] for field in (knots, mean, square, steps)))

    def _rate(self, problem: Problem) -> Tensor:
        """Return the learning rate (E,), environment units."""
        return self.learning_rate * (1 - 0.9 * problem.progress) * problem.half_range


def _direction(mean: Tensor, square: Tensor, steps: Tensor) -> Tensor:
    """Return Adam's direction (B, N, M, E), each number about 1 in size, from its running means and steps (B, N)."""
    steps = steps.clamp(min=1)[:, :, None, None]
    size = (square / (1 - _SQUARE_DECAY**steps)).sqrt()
    return mean / (1 - _MEAN_DECAY**steps) / size.clamp(min=torch.finfo(size.dtype).tiny)
