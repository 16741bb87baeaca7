"""Sources of candidate plans."""

from .diffusion import DiffusionProposal
from .gaussian import GaussianProposal
from .inverse import InverseDynamicsProposal
from .learned import LearnedProposal, ProposalConfig
from .mixture import MixtureProposal
from .protocols import SupportsCheck, SupportsContinue, SupportsRefine
from .regression import RegressionProposal
from .stepped import SteppedProposal

__all__ = [
    "DiffusionProposal",
    "GaussianProposal",
    "InverseDynamicsProposal",
    "LearnedProposal",
    "MixtureProposal",
    "ProposalConfig",
    "RegressionProposal",
    "SteppedProposal",
    "SupportsCheck",
    "SupportsContinue",
    "SupportsRefine",
]
