"""Several proposals together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wmkit.contracts import Context, ModelSpec, Proposal

from .protocols import SupportsCheck

__all__ = ["MixtureProposal"]


class MixtureProposal:
    """Shares the candidates out among proposals; the first candidate is the first proposal's first."""

    def __init__(self, proposals: Sequence[Proposal], weights: Sequence[float] | None = None) -> None:
        """Create the mixture.

        Args:
            proposals: at least one.
            weights: share of each, positive, in any unit; None shares alike.

        Raises:
            ValueError: no proposal, or weights that do not fit.
        """
        weights = [1.0] * len(proposals) if weights is None else list(weights)
        if not proposals or len(weights) != len(proposals) or min(weights) <= 0:
            raise ValueError(
                f"MixtureProposal has {len(proposals)} proposals with weights {weights}; "
                "give at least one proposal and one positive weight for each"
            )
        self.proposals = list(proposals)
        self.weights = [weight / sum(weights) for weight in weights]

    @property
    def centred(self) -> bool:
        """Whether the first candidate is the plan to expect, as it is where it comes from."""
        return getattr(self.proposals[0], "centred", True)

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that one of the proposals is not for; see `SupportsCheck`."""
        for proposal in self.proposals:
            if isinstance(proposal, SupportsCheck):
                proposal.check(spec)

    def propose(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        """Return n candidates (B, n, H, A), those of one proposal together."""
        drawn = [
            proposal.propose(context, count, horizon, generator)
            for proposal, count in zip(self.proposals, self._counts(n), strict=True)
            if count > 0
        ]
        return torch.cat(drawn, dim=1)

    def _counts(self, n: int) -> list[int]:
        """Share n out: rounded down, and what remains to the first ones."""
        counts = [int(weight * n) for weight in self.weights]
        rest = n - sum(counts)
        return [count + (i < rest) for i, count in enumerate(counts)]
