"""The settings that all sampling planners share, for the signatures of those that add their own."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from wmkit.contracts import PlanningBudget, Proposal

from .certainty import CertaintyStop
from .parametrisation import Parametrisation

__all__ = ["Shared"]


class Shared(TypedDict, total=False):
    """Keyword arguments of `SamplingPlanner`, which describes them."""

    horizon: int
    samples: int
    iterations: int
    parametrisation: Parametrisation | None
    noise_exponent: float
    noise_knots: int | None
    max_rate: float | Sequence[float] | None
    proposal: Proposal | None
    proposal_share: float
    decay: float
    certainty: CertaintyStop | None
    schedule: Literal["fit", "truncate"]
    budget: PlanningBudget | None
    candidates: int
    rescore: int
    graph: bool
    seed: int
