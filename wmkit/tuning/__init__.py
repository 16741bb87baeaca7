"""Find how much search fits into a deadline on this machine, and which of what fits plans best."""

from .cost_model import CostModel, Probe, fit
from .trade import Measured, Setting, Trade, Way
from .tuner import Grid, Options, Workbench, tune
from .workbench import PlanningBench
from .ways import applied, ways

__all__ = [
    "CostModel",
    "Grid",
    "Measured",
    "Options",
    "PlanningBench",
    "Probe",
    "Setting",
    "Trade",
    "Way",
    "Workbench",
    "applied",
    "fit",
    "tune",
    "ways",
]
