"""Evaluation that can be trusted: held-out pairs fixed by a hashed manifest, floors, intervals, decision times."""

from .agents import Agent, ExpertAgent, HoldAgent, ModelAgent, RandomAgent, ReplayAgent, Start
from .manifest import Manifest, Pair, load_manifest, save_manifest
from .protocols import PROTOCOLS, Protocol, draw_manifest, needs_motion
from .runner import Outcomes, decision_times, evaluate
from .statistics import Comparison, compare, mcnemar, percentiles, wilson

__all__ = [
    "PROTOCOLS",
    "Agent",
    "Comparison",
    "ExpertAgent",
    "HoldAgent",
    "Manifest",
    "ModelAgent",
    "Outcomes",
    "Pair",
    "Protocol",
    "RandomAgent",
    "ReplayAgent",
    "Start",
    "compare",
    "decision_times",
    "draw_manifest",
    "evaluate",
    "load_manifest",
    "mcnemar",
    "needs_motion",
    "percentiles",
    "save_manifest",
    "wilson",
]
