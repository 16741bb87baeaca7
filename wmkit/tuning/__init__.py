"""Find how much search fits into a deadline on this machine, and which of what fits plans best."""

from .cost_model import CostModel, Probe, fit
from .options import Grid, Options, Workbench
from .problems import Problems, random_problems, recorded_problems, staged_problems
from .trade import Measured, Setting, Trade, Way
from .tuner import tune
from .ways import applied, ways
from .workbench import PlanningBench

__all__ = [
    "CostModel",
    "Grid",
    "Measured",
    "Options",
    "PlanningBench",
    "Probe",
    "Problems",
    "Setting",
    "Trade",
    "Way",
    "Workbench",
    "applied",
    "fit",
    "random_problems",
    "recorded_problems",
    "staged_problems",
    "tune",
    "ways",
]
