"""The control loop: observation in, action out."""

from .advance import advance, extend
from .controller import Controller
from .realtime import RealTimeController
from .realtime_clock import ManualClock
from .realtime_counters import Counters, Status
from .realtime_worker import LockstepWorker
from .speculation import SpeculationCounts, SpeculativeController

__all__ = [
    "Controller",
    "Counters",
    "LockstepWorker",
    "ManualClock",
    "RealTimeController",
    "Status",
    "SpeculationCounts",
    "SpeculativeController",
    "advance",
    "extend",
]
