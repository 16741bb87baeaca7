"""Planners, the action proposals they may start from, and the objectives they minimise."""

from .base import SamplingPlanner
from .cem import CEM
from .certainty import CertaintyStop
from .gradient import GradientPlanner
from .icem import ICEM
from .mppi import MPPI
from .objectives import (
    ActionCost,
    CompositeObjective,
    DecodedObjective,
    GoalObjective,
    RewardObjective,
    UncertaintyPenalty,
)
from .parametrisation import Hold, Parametrisation, Spline
from .predictive_sampling import PredictiveSampling
from .problem import Problem, Scored
from .proposals import GaussianProposal, InverseDynamicsProposal, MixtureProposal
from .search_free import ProposalPlanner
from .settings import Shared
from .shooting import RandomShooting

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "CertaintyStop",
    "ActionCost",
    "CompositeObjective",
    "DecodedObjective",
    "GaussianProposal",
    "GoalObjective",
    "GradientPlanner",
    "Hold",
    "InverseDynamicsProposal",
    "MixtureProposal",
    "Parametrisation",
    "PredictiveSampling",
    "Problem",
    "ProposalPlanner",
    "RandomShooting",
    "RewardObjective",
    "SamplingPlanner",
    "Scored",
    "Shared",
    "Spline",
    "UncertaintyPenalty",
]
