"""Puts models, planners, objectives and proposals together for the commands; no command of its own."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit import registry
from wmkit.errors import UserError

if TYPE_CHECKING:
    from wmkit.contracts import WorldModel
    from wmkit.control.controller import Controller
    from wmkit.evaluation.agents import Agent
    from wmkit.tasks import Task

__all__ = ["PLANNING", "controller_maker", "load_model", "resolve_planning", "search_agent"]

PLANNING: dict[str, Any] = {
    "planner": "cem",
    "horizon": 5,
    "samples": 128,
    "iterations": 6,
    "elites": 16,
    "std": 1.0,
    "min_std": 0.05,
    "hold": 1,
    "objective": "last",
    "execute": 1,
    "min_horizon": 1,
    "shrink": True,
    "proposal": "gaussian",
    "proposal_share": 0.0,
    "warm_start": True,
}
"""Planner settings where neither the model's metadata ("planning") nor the command line says otherwise."""

_OF_PLANNER = ("horizon", "samples", "iterations", "elites", "std", "min_std", "hold", "proposal_share")


def load_model(name: str) -> tuple[Any, Path]:
    """Return a model and its folder.

    Args:
        name: a folder, pretrained:NAME, or owner/name on the Hugging Face hub.

    Raises:
        UserError: there is no such model, or its kind is not registered.
    """
    from ..models.lewm.pretrained import resolve

    folder = resolve(name)
    try:
        kind = str(json.loads((folder / "config.json").read_text())["format"]).removeprefix("wmkit.")
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder} is no model folder: it has no config.json that names a format") from None
    return registry.load("models", kind).from_pretrained(folder), folder


def resolve_planning(metadata: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the planner's settings: those given, else the model's own, else `PLANNING`.

    Args:
        metadata: of the model; its "planning" names settings.
        given: settings, None where not given; other names are left out.

    Raises:
        UserError: the model's metadata names an unknown setting.
    """
    own = dict(metadata.get("planning") or {})
    unknown = sorted(set(own) - set(PLANNING))
    if unknown:
        raise UserError(f"the model's planning settings name {', '.join(unknown)}; known: {', '.join(PLANNING)}")
    return PLANNING | own | {name: given[name] for name in PLANNING if given.get(name) is not None}


def controller_maker(model: "WorldModel", planning: Mapping[str, Any], seed: int = 0) -> "Callable[[int], Controller]":
    """Return what makes a controller for B environments, from settings like `PLANNING`.

    Raises:
        UserError: settings out of range, or a proposal that the model cannot give.
    """
    from wmkit.control.controller import Controller

    from ..planners import GoalObjective, InverseDynamicsProposal

    settings = PLANNING | dict(planning)
    planner_class = registry.load("planners", settings["planner"])

    def make(batch: int) -> Controller:
        proposal = InverseDynamicsProposal(model) if settings["proposal"] == "inverse" else None
        arguments = {name: settings[name] for name in _OF_PLANNER}
        return Controller(
            planner_class(model, proposal=proposal, seed=seed, **arguments),
            lambda goal: GoalObjective(goal, reduce=settings["objective"]),
            execute=settings["execute"],
            min_horizon=settings["min_horizon"],
            warm_start=settings["warm_start"],
        )

    try:
        make(1)
        if settings["proposal"] == "inverse":
            _try_inverse(model)
    except (TypeError, ValueError) as error:
        raise UserError(f"planner settings: {error}") from error
    return make


def _try_inverse(model: Any) -> None:
    """Call the model's inverse dynamics once; raises ValueError where it was trained without."""
    import torch

    device = next(model.parameters()).device
    latent = torch.zeros(1, model.spec.latent_size, device=device)
    model.inverse(latent, latent, torch.ones(1, dtype=torch.long, device=device))


def search_agent(task: "Task", rule: str, seed: int = 0) -> "Agent | None":
    """Return an agent that plans through the true simulator; None for environments without one.

    PushT's cost is the distance to the goal at the plan's end: agent, block and angle, each in tolerances of the `pose`
    rule. Under the `coverage` rule the agent hardly counts.
    """
    if task.name != "pusht":
        return None
    import numpy as np

    from wmkit.evaluation.agents import SearchAgent

    from ..envs.pusht import PushTSimulator
    from ..envs.pusht.geometry import ANGLE_TOLERANCE, POSITION_TOLERANCE

    def cost(states: Any, goals: Any) -> Any:
        difference = states[:, :, -1] - goals[:, None]
        block = np.linalg.norm(difference[..., 2:4], axis=-1) / POSITION_TOLERANCE
        angle = np.abs(np.angle(np.exp(1j * difference[..., 4]))) / ANGLE_TOLERANCE
        agent = np.linalg.norm(difference[..., :2], axis=-1) / POSITION_TOLERANCE
        return block + angle + (agent if rule == "pose" else 0.1 * agent)

    return SearchAgent(task, PushTSimulator().rollout, cost, seed)
