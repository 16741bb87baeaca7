"""Sample, score, rank: D-MPC's planner."""

from dataclasses import dataclass
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor

from wmkit.contracts import Context, Proposal, WorldModel

from .base import SamplingPlanner, fitted
from .problem import Problem, Scored
from .proposals.gaussian import GaussianProposal
from .proposals.mixture import MixtureProposal
from .proposals.protocols import SupportsRefine
from .settings import Shared

__all__ = ["SampleScoreRank", "SampleScoreRankState", "WarmStart"]

WarmStart = Literal["none", "shift", "renoise"]
"""What becomes of the last plan: nothing; one more candidate; or that, and candidates that are variations of it."""


@dataclass(frozen=True)
class SampleScoreRankState:
    """The cheapest candidates so far.

    Attributes:
        knots: (B, R, M, E), environment units.
        costs: (B, R).
    """

    knots: Tensor
    costs: Tensor


class SampleScoreRank(SamplingPlanner[SampleScoreRankState | None]):
    """Draw all candidates from a proposal, roll them out, execute the cheapest; nothing is refined.

    As good as its proposal: one that was learned offers what the data would do, and the ranking picks what the
    objective asks for, which may change at every decision. A warm start, the last plan moved ahead, is the first
    candidate; a share of the others are variations of it. After Zhou et al. (2024, arXiv 2410.05364).
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        warm_start: WarmStart = "renoise",
        renoise_share: float = 0.25,
        strength: float = 0.5,
        top: int = 1,
        **shared: Unpack[Shared],
    ) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            warm_start: what becomes of the last plan. "renoise" needs a proposal with `refine`, e.g. a
                `DiffusionProposal` (alone, or in a mixture), and is "shift" with others.
            renoise_share: fraction of the candidates that are variations of the last plan, in [0, 1).
            strength: how far these go, above 0, where they stay the last plan, to 1, where they forget it.
            top: the plan is the mean of so many cheapest candidates; more than 1 suits proposals of one mode only.
            shared: see `SamplingPlanner`; 64 samples and 1 iteration unless given, more iterations only draw more
                candidates. The proposal draws all candidates, so that `proposal_share` and the noise settings are
                without effect; None is a `GaussianProposal`.

        Raises:
            ValueError: a number out of its range.
        """
        shared.setdefault("samples", 64)
        shared.setdefault("iterations", 1)
        self.source: Proposal = shared.get("proposal") or GaussianProposal(model)
        shared["proposal"] = self.source
        super().__init__(model, **shared)
        self.warm_start: WarmStart = warm_start
        self.renoise_share = renoise_share
        self.strength = strength
        self.top = top
        if warm_start not in get_args(WarmStart):
            known = ", ".join(map(repr, get_args(WarmStart)))
            raise ValueError(f"SampleScoreRank: warm_start is {warm_start!r}; give {known}")
        if not 0 <= renoise_share < 1:
            raise ValueError(f"SampleScoreRank: renoise_share is {renoise_share!r}; give a fraction in [0, 1)")
        if not 0 < strength <= 1:
            raise ValueError(f"SampleScoreRank: strength is {strength!r}; give a number above 0, at most 1")
        if not 1 <= top <= self.samples:
            raise ValueError(f"SampleScoreRank: top is {top!r}; give 1 to the number of samples, {self.samples}")

    @property
    def answers(self) -> bool:
        """Whether the plan is a mean, which is rolled out once more."""
        return self.top > 1

    def start(self, problem: Problem) -> None:
        """Return nothing: there is no candidate yet."""

    def sample(self, state: SampleScoreRankState | None, problem: Problem) -> Tensor:
        """Return the candidates (B, N, M, E): those of the guesses at first, new draws of the proposal after that."""
        if state is None:
            return torch.cat([problem.initial.unsqueeze(1), problem.extra], dim=1)[:, : problem.samples]
        drawn = self.source.propose(problem.context, problem.samples, problem.horizon, problem.generator)
        return self.parametrisation.parameters(drawn.to(problem.initial), problem.spec)

    def update(self, state: SampleScoreRankState | None, scored: Scored, problem: Problem) -> SampleScoreRankState:
        """Return the `top` cheapest candidates so far."""
        knots, costs = scored.parameters, scored.costs
        if state is not None:
            knots, costs = torch.cat([state.knots, knots], dim=1), torch.cat([state.costs, costs], dim=1)
        costs, index = costs.topk(min(self.top, costs.shape[1]), dim=1, largest=False)
        row = torch.arange(len(index), device=index.device).unsqueeze(1)
        return SampleScoreRankState(knots[row, index], costs)

    def answer(self, state: SampleScoreRankState | None) -> Tensor | None:
        """Return the mean knots (B, M, E) of the cheapest candidates with a finite cost."""
        if state is None:
            return None
        weights = torch.isfinite(state.costs).to(state.knots)[..., None, None]
        return (state.knots * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

    def _guesses(
        self,
        context: Context,
        warm_start: Tensor | None,
        horizon: int,
        samples: int,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return all candidates (B, N, H, A) of the first iteration: last plan, its variations, new draws."""
        found = []
        if warm_start is not None and self.warm_start != "none":
            last = fitted(warm_start, horizon)
            varied = int(self.renoise_share * samples) if self.warm_start == "renoise" else 0
            found.append(last.unsqueeze(1))
            refining = _refining(self.source)
            if varied and refining is not None:
                found.append(refining.refine(context, last, varied, self.strength, generator))
        fresh = samples - sum(part.shape[1] for part in found)
        if fresh:
            found.append(self.source.propose(context, fresh, horizon, generator))
        return torch.cat([part.to(context.latents.device, dtype) for part in found], dim=1)


def _refining(proposal: Proposal) -> SupportsRefine | None:
    """Return the proposal, or the first of a mixture, that can vary plans; None where none can."""
    members = proposal.proposals if isinstance(proposal, MixtureProposal) else [proposal]
    return next((member for member in members if isinstance(member, SupportsRefine)), None)
