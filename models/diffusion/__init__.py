"""Diffusion dynamics: the whole future at once."""

from ..sequence import SequenceConfig
from .dynamics import DiffusionDynamics

__all__ = ["DiffusionDynamics", "SequenceConfig"]
