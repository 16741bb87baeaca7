"""The cross-entropy method."""

from dataclasses import dataclass
from typing import Literal, Unpack

import torch
from torch import Tensor

from wmkit.contracts import WorldModel

from .base import SamplingPlanner
from .problem import Problem, Scored, picked
from .settings import Shared

__all__ = ["CEM", "CEMState"]

_FEWEST = 4
"""Elites that a short schedule keeps at least, so that their spread still means something."""


@dataclass(frozen=True)
class CEMState:
    """A normal distribution over knots.

    Attributes:
        mean: (B, M, E), environment units.
        std: (B, M, E), environment units.
    """

    mean: Tensor
    std: Tensor


class CEM(SamplingPlanner[CEMState]):
    """Cross-entropy method: draw from a normal distribution, refit it to the cheapest candidates, repeat.

    The current mean is one of the candidates of every iteration, so the plan is never worse than its start under the
    model. After Rubinstein (1999), with the defaults that world-model papers plan with.
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        elites: int = 30,
        std: float = 1.0,
        min_std: float = 0.05,
        momentum: float = 0.0,
        result: Literal["best", "mean"] = "best",
        **shared: Unpack[Shared],
    ) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            elites: candidates that the distribution is refitted to. A schedule of fewer iterations or candidates takes
                fewer of them, so that the whole of its iterations selects as strictly: with a fraction f of the
                candidates in I iterations, it is f ** (I / I') in I'.
            std: standard deviation to start with, as a fraction of half the action range.
            min_std: smallest standard deviation, as a fraction of half the action range.
            momentum: weight of the old mean and deviation in the new ones, in [0, 1).
            result: "best" executes the cheapest candidate seen and costs nothing more; "mean" executes the last mean
                for one more rollout, which suits stochastic models, whose cheapest candidate was partly lucky.
            shared: see `SamplingPlanner`.

        Raises:
            ValueError: a number out of its range.
        """
        super().__init__(model, **shared)
        if not 1 <= elites <= self.samples:
            raise ValueError(f"{type(self).__name__}: elites is {elites!r}; give 1 to samples = {self.samples}")
        if not 0 <= min_std <= std:
            raise ValueError(f"{type(self).__name__}: std is {std!r} and min_std {min_std!r}; give 0 <= min_std <= std")
        if not 0 <= momentum < 1:
            raise ValueError(f"{type(self).__name__}: momentum is {momentum!r}; give a number in [0, 1)")
        if result not in ("best", "mean"):
            raise ValueError(f"{type(self).__name__}: result is {result!r}; give 'best' or 'mean'")
        self.elites = elites
        self.std = std
        self.min_std = min_std
        self.momentum = momentum
        self.result = result

    def start(self, problem: Problem) -> CEMState:
        """Return the normal distribution around `problem.initial`."""
        return CEMState(problem.initial, (self.std * problem.half_range).expand_as(problem.initial))

    def sample(self, state: CEMState, problem: Problem) -> Tensor:
        """Draw candidates (B, N, M, E), the mean first."""
        mean, std = state.mean.unsqueeze(1), state.std.unsqueeze(1)
        return torch.cat([mean, torch.addcmul(mean, std, problem.noise(problem.samples - 1))], dim=1)

    def update(self, state: CEMState, scored: Scored, problem: Problem) -> CEMState:
        """Refit to the elites of finite cost; a row without any keeps its distribution."""
        count = self._elites_of(scored.costs.shape[1], problem.iterations)
        costs, index = scored.costs.topk(count, dim=1, largest=False, sorted=False)
        elites = picked(scored.parameters, index)
        weights = (costs < torch.inf).to(elites.dtype)[:, :, None, None]
        total = weights.sum(dim=1)
        mean = (weights * elites).sum(dim=1) / total
        std = ((weights * (elites - mean.unsqueeze(1)).square()).sum(dim=1) / total).sqrt()
        std = torch.maximum(std, self.min_std * problem.half_range)
        usable = total > 0
        return CEMState(self._moved(state.mean, mean, usable), self._moved(state.std, std, usable))

    def centre(self, state: CEMState) -> Tensor:
        """Return the mean (B, M, E)."""
        return state.mean

    @property
    def answers(self) -> bool:
        """Whether the planner was told to execute the mean."""
        return self.result == "mean"

    def answer(self, state: CEMState) -> Tensor | None:
        """Return the mean (B, M, E) where the planner was told to execute it."""
        return state.mean if self.result == "mean" else None

    def _elites_of(self, samples: int, iterations: int) -> int:
        """Return how many elites an iteration has in a schedule of so many iterations."""
        fraction = self.elites / self.samples
        if self.schedule == "fit" and iterations < self.iterations:
            fraction **= self.iterations / iterations
        return max(min(_FEWEST, self.elites, samples), round(fraction * samples))

    def _moved(self, old: Tensor, new: Tensor, usable: Tensor) -> Tensor:
        """Return the new value, mixed with the old by the momentum; the old where no elite was usable."""
        mixed = new if self.momentum == 0 else torch.lerp(new, old, self.momentum)
        return torch.where(usable, mixed, old)
