"""LeWM: a joint-embedding predictive world model."""

from .config import LeWMConfig
from .model import LeWM
from .sigreg import SIGReg

__all__ = ["LeWM", "LeWMConfig", "SIGReg"]
