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
from .proposals import (
    DiffusionProposal,
    GaussianProposal,
    InverseDynamicsProposal,
    MixtureProposal,
    ProposalConfig,
    RegressionProposal,
    SteppedProposal,
    SupportsCheck,
    SupportsContinue,
    SupportsRefine,
)
from .sample_score_rank import SampleScoreRank
from .search_free import ProposalPlanner
from .settings import Shared
from .shooting import RandomShooting
from .terminal_value import TerminalValue

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "CertaintyStop",
    "ActionCost",
    "CompositeObjective",
    "DecodedObjective",
    "DiffusionProposal",
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
    "ProposalConfig",
    "RandomShooting",
    "RegressionProposal",
    "RewardObjective",
    "SampleScoreRank",
    "SamplingPlanner",
    "Scored",
    "Shared",
    "Spline",
    "TerminalValue",
    "SteppedProposal",
    "SupportsCheck",
    "SupportsContinue",
    "SupportsRefine",
    "UncertaintyPenalty",
]
