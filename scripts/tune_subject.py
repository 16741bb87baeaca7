"""What is tuned to a deadline: a model, its planner's settings, and problems; no command of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit.errors import UserError

from .assembly import controller_maker, resolve_planning, with_defaults

if TYPE_CHECKING:
    from wmkit.contracts import Objective
    from wmkit.tasks import Task
    from wmkit.tuning import Problems, Setting

    from .bench_plan import PlanBench
    from .bench_tune import TuneOptions
    from .parts import Parts

__all__ = ["Subject", "chosen", "flags", "read_subject"]

_PLAN_AHEAD = 5
"""Model steps to the goals of recorded problems, where the planner says no horizon."""


@dataclass(frozen=True)
class Subject:
    """What is tuned.

    Attributes:
        name: of the model, without where it lies.
        model: on its device.
        folder: of the model; None for the paper's LeWM and checkpoints of its authors.
        env: name of the environment; None where none is known.
        planning: resolved settings of the planner, its own defaults included.
        cost: the objective, where it needs no goals.
        problems: makes what is planned.
    """

    name: str
    model: Any
    folder: Path | None
    env: str | None
    planning: dict[str, Any]
    cost: "Objective | None"
    problems: "Callable[[], Problems]"

    @property
    def horizon(self) -> int:
        """Model steps of a plan."""
        return self.planning["horizon"] or _PLAN_AHEAD


def read_subject(config: "PlanBench") -> Subject:
    """Load what is to be tuned.

    Raises:
        UserError: there is no such model, or options that do not fit it.
    """
    from wmkit.data.recording import load_task

    from .plan_scene import is_checkpoint

    parts = _parts(config)
    options, model = config.tuning, parts.dynamics
    trained = parts.metadata.get("task")
    env = options.env or trained
    if trained not in (None, env):
        raise UserError(f"{config.model} was trained on the task {trained}, not {env}; leave --env out")
    task = None if env is None else load_task(env)
    given = {"horizon": config.horizon}
    if hasattr(model, "to"):
        model.to(config.device)
    cost = None
    if task is None or task.has_goals:
        if options.reward is not None:
            raise UserError(f"--reward: for environments without goals; {env or 'give --env, which'} has goals")
        planning = resolve_planning(parts.metadata, given)
    else:
        planning, cost = _for_reward(config, parts, task)
    if config.elites is not None:
        planning |= {"elites": config.elites, "samples": config.samples or planning["samples"]}
    planning = with_defaults(planning, controller_maker(model, planning, options.seed, cost)(1).planner)
    name = Path(config.model).name if config.model else "LeWM at paper size, random weights"
    folder = parts.folder if config.model and not is_checkpoint(Path(config.model)) else None
    if folder is not None and not (folder / "config.json").is_file():
        folder = folder / "dynamics"

    def problems() -> "Problems":
        return _problems(model, task, options, planning["horizon"] or _PLAN_AHEAD, folder, cost is None)

    return Subject(name, model, folder, env, planning, cost, problems)


def _parts(config: "PlanBench") -> "Parts":
    """Load a run, a model, or LeWM's own checkpoint; without a name, make the paper's LeWM."""
    from ..models.lewm.presets import LEWM
    from .parts import Parts, load_run
    from .plan_scene import is_checkpoint, paper_model, read_model

    folder = None if config.model is None else Path(config.model)
    if folder is not None and not is_checkpoint(folder):
        if config.action_repeat is not None:
            raise UserError(f"--action-repeat: {folder} is no checkpoint of LeWM's authors; leave it out")
        return load_run(str(config.model))
    model = paper_model() if folder is None else read_model(str(folder), config.action_repeat)
    model.metadata = {"planning": dict(LEWM.planning)} | dict(model.metadata)
    return Parts(model, None, None, folder or Path())


def _for_reward(config: "PlanBench", parts: "Parts", task: "Task") -> "tuple[dict[str, Any], Objective]":
    """Return the planner's settings and the objective, as `wmkit eval` has them for a reward."""
    from wmkit.evaluation.rewards import find_reward

    from . import eval_returns
    from .eval import Eval

    options = config.tuning
    evaluated = Eval(str(config.model), task.name, reward=options.reward, horizon=config.horizon)
    cost, _ = eval_returns.cost_of(evaluated, parts, find_reward(task, options.reward))
    return eval_returns.planning_of(evaluated, parts), cost


def _problems(
    model: Any, task: "Task | None", options: "TuneOptions", ahead: int, folder: Path | None, goals: bool
) -> "Problems":
    """Return the problems: of a data set, of a manifest, of the environment, or at random."""
    from wmkit.data.episodes import EpisodeStore
    from wmkit.evaluation import suite
    from wmkit.tuning import random_problems, recorded_problems, staged_problems

    spec, count, seed = model.spec, options.problems, options.seed
    if options.data is not None:
        return recorded_problems(spec, EpisodeStore.open(options.data), count, ahead, goals=goals, seed=seed)
    if task is None or not {"pixels", "state"} >= set(spec.observations):
        if options.manifest is not None:
            raise UserError("--manifest: the model does not say what environment it is of; give --env")
        return random_problems(spec, count, goals=goals, seed=seed)
    if not goals:
        return staged_problems(spec, task, None, count, seed)
    training = getattr(model, "metadata", {}).get("data")
    shipped = folder is not None and suite.shipped_manifest(folder, task, options.protocol).exists()
    protocol = options.protocol if shipped or options.manifest is not None else "full"
    pairs = suite.obtain(task, protocol, count, seed=seed, path=options.manifest, folder=folder, training=training)
    return staged_problems(spec, task, pairs.manifest, count)


def chosen(planning: Mapping[str, Any], setting: "Setting") -> dict[str, Any]:
    """Return the planner's settings that a choice decides; elites stay the same share of the candidates."""
    found: dict[str, Any] = {"samples": setting.samples, "iterations": setting.iterations}
    if planning.get("elites") is not None:
        share = planning["elites"] / planning["samples"]
        found["elites"] = max(min(4, setting.samples), min(setting.samples, round(share * setting.samples)))
    if setting.way.path is not None:
        found["rollout_path"] = setting.way.path
    if setting.way.path is not None or setting.way.dtype != "float32":
        found["rollout_dtype"] = setting.way.dtype
    return found


def flags(planning: Mapping[str, Any], setting: "Setting") -> list[str]:
    """Return the options of `wmkit eval` that plan with a setting."""
    found = chosen(planning, setting)
    return [word for name, value in found.items() for word in (f"--{name.replace('_', '-')}", str(value))]
