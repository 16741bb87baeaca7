"""Puts models, planners, objectives and proposals together for the commands; no command of its own."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from wmkit import registry
from wmkit.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from wmkit.contracts import Objective, WorldModel
    from wmkit.control.controller import Controller
    from wmkit.tasks import Task

__all__ = ["PLANNING", "check_task", "controller_maker", "device_of", "load_model", "resolve_planning", "with_defaults"]

PLANNING: dict[str, Any] = {
    "planner": "cem",
    "horizon": 5,
    "samples": 128,
    "iterations": 6,
    "elites": 16,
    "std": 1.0,
    "min_std": 0.05,
    "noise_exponent": None,
    "decay": None,
    "temperature": None,
    "max_rate": None,
    "certainty": None,
    "hold": 1,
    "knots": None,
    "spline": "cubic",
    "objective": "last",
    "action_cost": 0.0,
    "execute": 1,
    "min_horizon": 1,
    "renew": None,
    "shrink": True,
    "proposal": "gaussian",
    "proposal_share": 0.0,
    "sampler": None,
    "sampling_steps": None,
    "warm_start": True,
    "rescore": None,
    "rollout_path": None,
    "rollout_dtype": None,
}
"""Planner settings where neither the model's metadata ("planning") nor the command line says otherwise.

None is the planner's own default, which is off for knots, max_rate, certainty and rescore. hold is in environment
steps, or "block" for a model step; knots are those of a spline, in place of hold; certainty is a `CertaintyStop`'s
tolerance; proposal is what `wmkit.scripts.proposals` reads; sampler and sampling_steps are of diffusion models, None as
saved; rollout_path and rollout_dtype ("float32" or "bfloat16") are of models that have a choice, None as it is.
"""

_OF_METHOD = ("samples", "iterations", "elites", "std", "min_std", "noise_exponent", "decay", "temperature")
"""Settings that were chosen for one planner and mean little to another."""

_OF_PLANNER = (
    *_OF_METHOD, "horizon", "max_rate", "certainty", "hold", "knots", "spline", "proposal", "proposal_share", "rescore"
)  # fmt: skip
"""Settings that a planner may or may not take."""

_KEYWORDS: dict[str, str] = dict.fromkeys(("hold", "knots", "spline"), "parametrisation")
"""The planners' keywords for settings that are called otherwise."""


def device_of(name: str) -> str:
    """Return the device to compute on.

    Args:
        name: "auto" for a GPU where there is one, else "cpu", "cuda" or "cuda:1".

    Raises:
        UserError: there is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; give auto, cpu or cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: no CUDA GPU is at hand; give --device cpu")
    return name


def load_model(name: str, device: str = "cpu") -> tuple[Any, Path]:
    """Return a model and its folder.

    Args:
        name: a folder, pretrained:NAME, or owner/name on the Hugging Face hub.
        device: where the model is to be.

    Raises:
        UserError: there is no such model, or its kind is not registered.
    """
    from wmkit.model_folder import kind_of, resolve

    folder = resolve(name)
    kind = kind_of(folder)
    return registry.load("models", kind).from_pretrained(folder, device), folder


def check_task(model: "WorldModel", name: str, task: "Task") -> None:
    """Raise UserError where a model, called by its name, was trained on another task or acts in another way."""
    trained_on = getattr(model, "metadata", {}).get("task", task.name)
    if trained_on != task.name:
        raise UserError(f"{name} was trained on {trained_on}, not on {task.name}; give another model")
    if model.spec.action_size != len(task.action_low):
        raise UserError(f"{name} acts by {model.spec.action_size} numbers, {task.name} takes {len(task.action_low)}")


def resolve_planning(metadata: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the planner's settings: those given, else the model's own, else `PLANNING`.

    A planner other than the model's own starts from its own defaults (None) in what only the method decides.

    Args:
        metadata: of the model; its "planning" names settings.
        given: settings, None where not given; other names are left out.

    Raises:
        UserError: the model's metadata names an unknown setting, or one was given that the planner does not take.
    """
    own = dict(metadata.get("planning") or {})
    unknown = sorted(set(own) - set(PLANNING))
    if unknown:
        raise UserError(f"the model's planning settings name {', '.join(unknown)}; known: {', '.join(PLANNING)}")
    chosen = {name: given[name] for name in PLANNING if given.get(name) is not None}
    settings = PLANNING | own
    if chosen.get("planner", settings["planner"]) != settings["planner"]:
        settings |= dict.fromkeys(_OF_METHOD)
    if "hold" in chosen:
        settings["knots"] = None
    settings |= chosen
    _check_given(settings, chosen)
    return settings


def _check_given(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """Raise UserError for settings that were given and change nothing."""
    taken = _taken(registry.load("planners", settings["planner"]))
    unused = [name for name in chosen if name in _OF_PLANNER and name not in taken]
    if unused:
        raise UserError(f"planner {settings['planner']!r} takes no {', '.join(unused)}; it takes {', '.join(taken)}")
    if "knots" in chosen and "hold" in chosen:
        raise UserError("give hold or knots, not both: a plan has one parametrisation")
    if "spline" in chosen and settings["knots"] is None:
        raise UserError("spline says how a plan goes from knot to knot; give their number with knots")


def _taken(planner_class: Callable[..., Any]) -> list[str]:
    """Return the settings that a planner takes."""
    keywords = _keywords(planner_class)
    return [name for name in _OF_PLANNER if _KEYWORDS.get(name, name) in keywords]


def _keywords(planner_class: Callable[..., Any]) -> set[str]:
    """Return a planner's keywords, by its signature and that of its `**shared: Unpack[Shared]`."""
    keywords: set[str] = set()
    for name, parameter in inspect.signature(planner_class).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            keywords.update(*(getattr(shared, "__annotations__", ()) for shared in get_args(parameter.annotation)))
        else:
            keywords.add(name)
    return keywords


def controller_maker(
    model: "WorldModel",
    planning: Mapping[str, Any],
    seed: int = 0,
    cost: "Objective | None" = None,
    *,
    candidates: int = 0,
    **options: Any,
) -> "Callable[[int], Controller]":
    """Return what makes a controller for B environments, from settings like `PLANNING`.

    Settings that the planner does not take are left out.

    Args:
        model: what to plan through.
        planning: the settings.
        seed: of the planner.
        cost: what to minimise, where it is not the distance to a goal.
        candidates: how many a plan shows, see `SamplingPlanner`.
        options: further arguments of `Controller`, e.g. its monitor.

    Raises:
        UserError: settings out of range, or a proposal that the model cannot give.
    """
    from wmkit.control.controller import Controller

    from ..planners import ActionCost, GoalObjective
    from .proposals import check_sampling, make_proposal, set_sampling, try_proposal

    settings = PLANNING | dict(planning)
    planner_class = registry.load("planners", settings["planner"])
    own = {"seed": seed, "candidates": candidates}

    def objective(goal: "Tensor") -> "Objective":
        distance = GoalObjective(goal, reduce=settings["objective"])
        return distance + settings["action_cost"] * ActionCost() if settings["action_cost"] else distance

    def make(batch: int) -> Controller:
        return Controller(
            planner_class(model, **_arguments(model, planner_class, settings | own | {"proposal": proposal})),
            objective if cost is None else cost,
            execute=settings["execute"],
            min_horizon=settings["min_horizon"],
            renew=(settings["renew"] or None) if settings["shrink"] else None,
            warm_start=settings["warm_start"],
            **options,
        )

    try:
        set_sampling(model, settings)
        _set_rollout(model, settings)
        proposal = make_proposal(settings["proposal"], model, settings)
        check_sampling(settings, model, proposal)
        if proposal is not None:
            try_proposal(proposal, model, settings["horizon"] or 1)
        make(1)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"planner settings: {error}") from error
    return make


def _set_rollout(model: Any, settings: Mapping[str, Any]) -> None:
    """Let the model compute its rollouts as the settings say; None leaves it as it is.

    Raises:
        UserError: the model has no choice, or not this one.
    """
    import torch

    from ..models.lewm.paths import RolloutPath

    known = {"rollout_path": get_args(RolloutPath), "rollout_dtype": ("float32", "bfloat16")}
    for name, values in known.items():
        asked = settings[name]
        if asked is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if asked not in values:
            raise UserError(f"{option} is {asked!r}; give one of {', '.join(values)}")
        if not hasattr(model, name):
            raise UserError(f"{option} is not for {type(model).__name__}, which rolls out in one way; leave it out")
        value = {"float32": None, "bfloat16": torch.bfloat16}.get(asked, asked)
        setattr(model, name, value)


def _arguments(model: "WorldModel", planner_class: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the planner's keyword arguments, those that are not None and that it takes."""
    from ..planners import CertaintyStop, Hold, Spline

    values = {name: value for name, value in settings.items() if name in ("seed", "candidates", *_OF_PLANNER)}
    hold = model.spec.action_repeat if settings["hold"] == "block" else settings["hold"]
    knots = settings["knots"]
    values["parametrisation"] = Hold(hold) if knots is None else Spline(knots, settings["spline"])
    if settings["certainty"] is not None:
        values["certainty"] = CertaintyStop(tolerance=settings["certainty"])
    keywords = _keywords(planner_class)
    return {name: value for name, value in values.items() if name in keywords and value is not None}


def with_defaults(planning: Mapping[str, Any], planner: Any) -> dict[str, Any]:
    """Return the settings with the planner's own defaults in place of None, where it tells them."""
    return {name: getattr(planner, name, None) if value is None else value for name, value in planning.items()}
