"""Plugins by name: "module:attribute" strings, loaded on first use.

Third parties add theirs with a Python entry point in the group "wmkit.<kind>", e.g. in pyproject.toml:

    [project.entry-points."wmkit.planners"]
    my-planner = "my_package.planner:MyPlanner"
"""

import difflib
import importlib
from importlib.metadata import entry_points
from typing import Any

from .errors import UserError

__all__ = ["KINDS", "load", "names", "register"]

_TARGETS: dict[str, dict[str, str]] = {
    "models": {
        "autoregressive": "wmkit.models.autoregressive:AutoregressiveDynamics",
        "diffusion": "wmkit.models.diffusion:DiffusionDynamics",
        "ensemble": "wmkit.models.ensemble:Ensemble",
        "lewm": "wmkit.models.lewm:LeWM",
        "simulator": "wmkit.models.simulator:SimulatorModel",
    },
    "proposals": {
        "diffusion-proposal": "wmkit.planners.proposals.diffusion:DiffusionProposal",
        "regression-proposal": "wmkit.planners.proposals.regression:RegressionProposal",
    },
    "values": {"terminal-value": "wmkit.planners.terminal_value:TerminalValue"},
    "presets": {
        "autoregressive-dynamics": "wmkit.models.diffusion.presets:AUTOREGRESSIVE",
        "diffusion-dynamics": "wmkit.models.diffusion.presets:DIFFUSION",
        "diffusion-proposal": "wmkit.planners.proposals.presets:DIFFUSION",
        "dmpc": "wmkit.diffusion.composite:DMPC",
        "dmpc-autoregressive-dynamics": "wmkit.models.diffusion.presets:PAPER_AUTOREGRESSIVE",
        "dmpc-diffusion-dynamics": "wmkit.models.diffusion.presets:PAPER_DIFFUSION",
        "dmpc-diffusion-proposal": "wmkit.planners.proposals.presets:PAPER_DIFFUSION",
        "dmpc-paper": "wmkit.diffusion.composite:PAPER_DMPC",
        "terminal-value": "wmkit.planners.value_training:TERMINAL_VALUE",
        "lewm": "wmkit.models.lewm.presets:LEWM",
        "lewm-cube": "wmkit.models.lewm.presets:CUBE",
        "lewm-tiny": "wmkit.models.lewm.presets:TINY",
        "lewm-micro": "wmkit.models.lewm.presets:MICRO",
        "lewm-rooms": "wmkit.models.lewm.presets:ROOMS",
        "regression-proposal": "wmkit.planners.proposals.presets:REGRESSION",
    },
    "planners": {
        "sample-score-rank": "wmkit.planners:SampleScoreRank",
        "cem": "wmkit.planners:CEM",
        "gradient": "wmkit.planners:GradientPlanner",
        "icem": "wmkit.planners:ICEM",
        "mppi": "wmkit.planners:MPPI",
        "predictive-sampling": "wmkit.planners:PredictiveSampling",
        "random-shooting": "wmkit.planners:RandomShooting",
    },
    "environments": {
        "two-room": "wmkit.envs.tasks:TWO_ROOM",
        "pusht": "wmkit.envs.tasks:PUSHT",
        "push-cube": "wmkit.envs.push_cube.task:PUSH_CUBE",
        "ogbench-cube": "wmkit.envs.ogbench.task:OGBENCH_CUBE",
        "walker": "wmkit.envs.walker.task:WALKER",
    },
}

KINDS = tuple(_TARGETS)
"""Kinds of plugins."""


def register(kind: str, name: str, target: str) -> None:
    """Add a plugin.

    Args:
        kind: one of `KINDS`.
        name: how users call it.
        target: "module:attribute".

    Raises:
        ValueError: the name is taken, or the target is not of that form.
    """
    if target.count(":") != 1:
        raise ValueError(f"target {target!r} of {kind} {name!r} must read 'module:attribute'")
    if name in _known(kind):
        raise ValueError(f"{kind} {name!r} is registered already; choose another name")
    _TARGETS[kind][name] = target


def names(kind: str) -> list[str]:
    """Return the known names of a kind, sorted."""
    return sorted(_known(kind))


def load(kind: str, name: str) -> Any:
    """Import and return a plugin.

    Raises:
        UserError: the name is unknown; the text lists the known ones.
    """
    known = _known(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"unknown name {name!r} among {kind}{hint}; known: {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _known(kind: str) -> dict[str, str]:
    """Return name -> target of the built-in, the registered and the installed plugins."""
    if kind not in _TARGETS:
        raise ValueError(f"unknown kind of plugin {kind!r}; known: {', '.join(sorted(_TARGETS))}")
    found = {point.name: point.value for point in entry_points(group=f"wmkit.{kind}")}
    return found | _TARGETS[kind]
