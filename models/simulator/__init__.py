"""True simulators as world models."""

from .model import SimulatorModel, StepFunction

__all__ = ["SimulatorModel", "StepFunction"]
