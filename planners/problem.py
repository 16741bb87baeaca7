"""What a planner's *sample* and *update* see of one decision, and what it found so far."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from wmkit.contracts import Context, ModelSpec

from .noise import coloured, interpolated

__all__ = ["Best", "Problem", "Scored", "picked", "select_rows"]

State = TypeVar("State")


def select_rows(state: State, rows: Tensor) -> State:
    """Return a frozen dataclass whose tensors all have B first, for an index (R,) or a mask (B,) of rows.

    None stays None.
    """
    if state is None:
        return state
    values = {field.name: getattr(state, field.name)[rows] for field in fields(state)}  # type: ignore[arg-type]
    return replace(state, **values)  # type: ignore[type-var]


def picked(values: Tensor, index: Tensor) -> Tensor:
    """Return the candidates (B, K, ...) of values (B, N, ...) at an index (B, K)."""
    wide = index.view(*index.shape, *[1] * (values.ndim - 2))
    return values.gather(1, wide.expand(*index.shape, *values.shape[2:]))


@dataclass(frozen=True)
class Problem:
    """One iteration of one decision, for the rows that are still searched.

    Attributes:
        context: where to plan from, nothing pending.
        spec: of the model that is planned through.
        horizon: H of this plan.
        samples: N, candidates of this iteration.
        iterations: how many the decision was laid out for.
        progress: how far the schedule is, from 0 at the first iteration to 1 at the last.
        low: (E,), lower bounds of one environment action.
        high: (E,), upper bounds of one environment action.
        initial: (B, M, E), the knots to start from: the proposal's first, else the warm start, else rest.
        extra: (B, X, M, E), further candidates that the first iteration tries, X below N.
        noise_exponent: colour of the noise over the knots; 0 is white.
        noise_knots: places at which the noise is drawn, to go in straight lines between them; None draws it everywhere.
        generator: source of all randomness.
    """

    context: Context
    spec: ModelSpec
    horizon: int
    samples: int
    iterations: int
    progress: float
    low: Tensor
    high: Tensor
    initial: Tensor
    extra: Tensor
    noise_exponent: float
    noise_knots: int | None
    generator: torch.Generator

    @property
    def half_range(self) -> Tensor:
        """(E,), half the distance between the bounds."""
        return (self.high - self.low) / 2

    def noise(self, n: int) -> Tensor:
        """Draw normal knots (1, n, M, E) of variance 1, where no line is drawn between them, and the planner's colour.

        All rows of B share the draw, so that a batch plans each row as if it were alone.
        """
        _, m, e = self.initial.shape
        places = m if self.noise_knots is None else min(self.noise_knots, m)
        noise = coloured((1, n, places, e), self.noise_exponent, self.generator, self.initial)
        return noise if places == m else interpolated(noise, m)

    def select(self, rows: Tensor) -> "Problem":
        """Return the problem of the given rows of B, an index (R,) or a mask (B,)."""
        return replace(self, context=self.context.select(rows), initial=self.initial[rows], extra=self.extra[rows])


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
        non_finite: (B,), integer, costs that were not finite.
        candidates: (B, E, H, D), what the model imagined under the cheapest candidates of the last iteration, cheapest
            first; E is 0 where none are kept.
        candidate_costs: (B, E), theirs, +inf where there was none.
        candidate_actions: (B, E, H, A), theirs.
    """

    cost: Tensor
    actions: Tensor
    latents: Tensor
    non_finite: Tensor
    candidates: Tensor
    candidate_costs: Tensor
    candidate_actions: Tensor

    def merged(self, other: "Best") -> "Best":
        """Return the cheaper of the two, row by row, the sums of the counts, and the other's candidates, if any."""
        better = other.cost < self.cost
        wide = better[:, None, None]
        candidates, candidate_costs, candidate_actions = other._listed()
        if candidates.shape[1]:
            fresh = torch.isfinite(candidate_costs[:, :1])
            candidates = torch.where(fresh[:, :, None, None], candidates, self.candidates)
            candidate_costs = torch.where(fresh, candidate_costs, self.candidate_costs)
            candidate_actions = torch.where(fresh[:, :, None, None], candidate_actions, self.candidate_actions)
        return Best(
            torch.where(better, other.cost, self.cost),
            torch.where(wide, other.actions, self.actions),
            torch.where(wide, other.latents, self.latents),
            self.non_finite + other.non_finite,
            candidates,
            candidate_costs,
            candidate_actions,
        )

    def joined(self, other: "Best") -> "Best":
        """Return the same for two parts of one iteration, whose candidates are ranked together."""
        keep = self.candidates.shape[1]
        best = self.merged(other)
        if not keep:
            return best
        costs = torch.cat([self.candidate_costs, other.candidate_costs], dim=1)
        costs, index = costs.topk(keep, dim=1, largest=False)
        row = torch.arange(len(index), device=index.device).unsqueeze(1)
        latents = torch.cat([self.candidates, other.candidates], dim=1)[row, index]
        actions = torch.cat([self.candidate_actions, other.candidate_actions], dim=1)[row, index]
        return replace(best, candidates=latents, candidate_costs=costs, candidate_actions=actions)

    def shown(self, count: int) -> Tensor | None:
        """Return the cheapest candidates (B, count, H, D), the last usable one in place of those that are not.

        None where the count is 0; it is at most E.
        """
        if not count:
            return None
        last = torch.isfinite(self.candidate_costs).sum(dim=1, keepdim=True).sub(1).clamp(min=0)
        index = torch.minimum(torch.arange(count, device=last.device), last)
        return self.candidates[torch.arange(len(last), device=last.device).unsqueeze(1), index]

    def replaced(self, other: "Best") -> "Best":
        """Return the other, this one where the other's cost is not finite, and the sums of the counts."""
        usable = torch.isfinite(other.cost)
        cost = torch.where(usable, torch.full_like(self.cost, torch.inf), self.cost)
        merged = replace(self, cost=cost).merged(other)
        latents, costs, actions = self._listed()
        return replace(merged, candidates=latents, candidate_costs=costs, candidate_actions=actions)

    def _listed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is kept of the candidates: latents, costs, actions."""
        return self.candidates, self.candidate_costs, self.candidate_actions
