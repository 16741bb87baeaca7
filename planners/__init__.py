"""Planners, the action proposals they may start from, and the objectives they minimise."""

from .base import SamplingPlanner
from .cem import CEM
from .certainty import CertaintyStop
from .objectives import (
    ActionCost,
    CompositeObjective,
    DecodedObjective,
    GoalObjective,
    RewardObjective,
    UncertaintyPenalty,
)
from .parametrisation import Hold, Parametrisation, Spline
from .problem import Problem, Scored
from .proposals import GaussianProposal, InverseDynamicsProposal, MixtureProposal
from .search_free import ProposalPlanner
from .settings import Shared

__all__ = [
    "CEM",
    "CertaintyStop",
    "ActionCost",
    "CompositeObjective",
    "DecodedObjective",
    "GaussianProposal",
    "GoalObjective",
    "Hold",
    "InverseDynamicsProposal",
    "MixtureProposal",
    "Parametrisation",
    "Problem",
    "ProposalPlanner",
    "RewardObjective",
    "SamplingPlanner",
    "Scored",
    "Shared",
    "Spline",
    "UncertaintyPenalty",
]
