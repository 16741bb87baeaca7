"""Sources of candidate plans."""

from .gaussian import GaussianProposal
from .inverse import InverseDynamicsProposal
from .mixture import MixtureProposal

__all__ = ["GaussianProposal", "InverseDynamicsProposal", "MixtureProposal"]
