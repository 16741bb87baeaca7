"""Evaluation that can be trusted: held-out pairs fixed by a hashed manifest, floors, intervals, decision times."""

from .agents import Agent, ExpertAgent, HoldAgent, ModelAgent, RandomAgent, ReplayAgent, Start
from .manifest import Manifest, Pair, load_manifest, save_manifest
from .protocols import PROTOCOLS, Protocol, draw_manifest, needs_motion
from .returns import ControllerAgent, Returns, data_returns, evaluate_returns
from .rewards import NamedReward, find_reward
from .runner import Outcomes, decision_times, evaluate
from .statistics import Comparison, bootstrap, compare, mcnemar, percentiles, wilson

__all__ = [
    "PROTOCOLS",
    "Agent",
    "Comparison",
    "ControllerAgent",
    "ExpertAgent",
    "HoldAgent",
    "Manifest",
    "ModelAgent",
    "NamedReward",
    "Outcomes",
    "Pair",
    "Protocol",
    "RandomAgent",
    "ReplayAgent",
    "Returns",
    "Start",
    "bootstrap",
    "compare",
    "data_returns",
    "decision_times",
    "draw_manifest",
    "evaluate",
    "evaluate_returns",
    "find_reward",
    "load_manifest",
    "mcnemar",
    "needs_motion",
    "percentiles",
    "save_manifest",
    "wilson",
]
