"""What a planner's *sample* and *update* see of one decision, and what it found so far."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wmkit.contracts import Context, ModelSpec

__all__ = ["Best", "Problem", "Scored", "draw_normal"]


def draw_normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard normal numbers on the generator's device and bring them to the device and dtype of `like`."""
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


@dataclass(frozen=True)
class Problem:
    """One decision, the same for all its iterations.

    Attributes:
        context: where to plan from, nothing pending.
        spec: of the model that is planned through.
        horizon: H of this plan.
        samples: N, candidates of one iteration.
        iterations: how many there will be, unless time runs out.
        low: (E,), lower bounds of one environment action.
        high: (E,), upper bounds of one environment action.
        initial: (B, M, E), the knots to start from: the proposal's first, else the warm start, else rest.
        extra: (B, X, M, E), further candidates that the first iteration tries, X below N.
        generator: source of all randomness.
    """

    context: Context
    spec: ModelSpec
    horizon: int
    samples: int
    iterations: int
    low: Tensor
    high: Tensor
    initial: Tensor
    extra: Tensor
    generator: torch.Generator

    @property
    def half_range(self) -> Tensor:
        """(E,), half the distance between the bounds."""
        return (self.high - self.low) / 2

    def noise(self, n: int) -> Tensor:
        """Draw standard normal knots (1, n, M, E).

        All rows of B share the draw, so that a batch plans each row as if it were alone.
        """
        return draw_normal((1, n, *self.initial.shape[1:]), self.generator, self.initial)


@dataclass(frozen=True)
class Scored:
    """Candidates and what they cost.

    Attributes:
        parameters: (B, N, M, E), the knots, within the bounds.
        costs: (B, N), +inf where the cost was not finite.
        gradients: (B, N, M, E), of the costs by the knots, for planners that ask for them; else None.
    """

    parameters: Tensor
    costs: Tensor
    gradients: Tensor | None = None


@dataclass(frozen=True)
class Best:
    """The best candidate so far.

    Attributes:
        cost: (B,), +inf while no candidate had a finite cost.
        actions: (B, H, A), within the bounds.
        latents: (B, H, D), what the model imagined.
        non_finite: (), integer, costs that were not finite.
    """

    cost: Tensor
    actions: Tensor
    latents: Tensor
    non_finite: Tensor

    def merged(self, other: "Best") -> "Best":
        """Return the cheaper of the two, row by row, and the sum of the counts."""
        better = other.cost < self.cost
        wide = better[:, None, None]
        return Best(
            torch.where(better, other.cost, self.cost),
            torch.where(wide, other.actions, self.actions),
            torch.where(wide, other.latents, self.latents),
            self.non_finite + other.non_finite,
        )

    def replaced(self, other: "Best") -> "Best":
        """Return the other, this one where the other's cost is not finite, and the sum of the counts."""
        usable = torch.isfinite(other.cost)
        cost = torch.where(usable, torch.full_like(self.cost, torch.inf), self.cost)
        return Best(cost, self.actions, self.latents, self.non_finite).merged(other)
