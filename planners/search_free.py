"""Planning without a search."""

from torch import Tensor

from wmkit.contracts import Proposal, WorldModel

from .base import SamplingPlanner
from .problem import Problem, Scored

__all__ = ["ProposalPlanner"]


class ProposalPlanner(SamplingPlanner[None]):
    """Executes a proposal's first candidate; with `InverseDynamicsProposal`, the inverse dynamics alone."""

    def __init__(self, model: WorldModel, proposal: Proposal, horizon: int = 5, seed: int = 0) -> None:
        """Create a planner.

        Args:
            model: imagines the plan once, for its cost and latents.
            proposal: decides.
            horizon: H, model steps of a plan.
            seed: of the generator for decisions that bring none of their own.
        """
        super().__init__(model, horizon=horizon, samples=1, iterations=1, proposal=proposal, seed=seed)

    def start(self, problem: Problem) -> None:
        """Return nothing: there is no state."""

    def sample(self, state: None, problem: Problem) -> Tensor:
        """Return the proposal's first candidate as knots (B, 1, M, E)."""
        return problem.initial.unsqueeze(1)

    def update(self, state: None, scored: Scored, problem: Problem) -> None:
        """Return nothing: there is no state."""
