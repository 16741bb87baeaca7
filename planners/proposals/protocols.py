"""What some proposals can do beside proposing."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from wmkit.contracts import Context, ModelSpec, Proposal

__all__ = ["SupportsCheck", "SupportsContinue", "SupportsRefine"]


@runtime_checkable
class SupportsCheck(Protocol):
    """A proposal that fits some models only."""

    def check(self, spec: ModelSpec) -> None:
        """Raise ValueError, in one line, where a model of this specification is none that the proposal is for."""
        ...


@runtime_checkable
class SupportsContinue(Protocol):
    """A proposal that can go on from many imagined futures at once."""

    def continued(self, context: Context, n: int, horizon: int, steps: int, generator: torch.Generator) -> Tensor:
        """Return one candidate (B * n, H, A) for each of B * n contexts, the n of a row side by side.

        `steps` is how many model steps remain to the goal, where there is one. The n draws are independent and the same
        for every row of B.
        """
        ...


@runtime_checkable
class SupportsRefine(Proposal, Protocol):
    """A proposal that can also vary a plan, staying as near to it as asked."""

    def refine(self, context: Context, actions: Tensor, n: int, strength: float, generator: torch.Generator) -> Tensor:
        """Return n variations (B, n, H, A) of plans (B, H, A), within the bounds.

        `strength` goes from just above 0, the plan itself, to 1, where it is forgotten.
        """
        ...
