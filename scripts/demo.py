"""A live window: a model's controller plays, and you interfere with mouse and keys, which the window explains.

    wmkit demo pusht
    wmkit demo push-cube
    wmkit demo two-room --model runs/quickstart/model
    wmkit demo pusht --headless --seconds 20 --record demo.gif --perturb teleport=1@5 --perturb weak-actuator=0.5@12

Drawn beside and into the scene are what the model imagines, its surprise against the calibrated threshold, the cost of
its plans and the time they take. The surprise needs a calibration in the model's folder (`wmkit calibrate`), the
imagined futures a readout (`wmkit inspect`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from wmkit.errors import UserError

if TYPE_CHECKING:
    from wmkit.control.controller import Controller
    from wmkit.monitor.surprise import SurpriseMonitor
    from wmkit.readout import Readout
    from wmkit.tasks import Task
    from wmkit.window.planning import ReactionSwitch
    from wmkit.window.play import Perturbation
    from wmkit.window.session import Session

__all__ = ["Demo", "make_session", "run"]

_SHIPPED = {"pusht": "pretrained:pusht-tiny", "push-cube": "pretrained:pushcube-tiny"}
"""The models that come with the package."""
_TRAINED = {"two-room": Path("runs/quickstart/model")}
"""Where the models are that a command of the package trains."""
_SHOWN = 8
"""Candidates whose imagined futures are drawn."""
_SHARE = 0.6
"""Share of a control step that a decision may take."""


@dataclass(frozen=True)
class Demo:
    """Options of `wmkit demo`."""

    env: tyro.conf.Positional[str]
    """Environment, pusht, push-cube or two-room."""
    model: str | None = None
    """Folder of a run or model, pretrained:NAME, or owner/name on the Hugging Face hub; by default the one that ships,
    or that `wmkit quickstart` made."""
    headless: bool = False
    """Draw without a display; needs --seconds."""
    seconds: float | None = None
    """End after so many seconds."""
    record: Path | None = None
    """File for a recording of the whole window, FILE.gif or FILE.mp4."""
    protocol: Literal["short", "long50", "long75", "full"] = "short"
    """Goal 25, 50 or 75 steps ahead, or the environment's own task."""
    planner: str | None = None
    """Registered planner to begin with, e.g. cem or mppi; by default what the model's folder says."""
    reaction: Literal["log", "replan", "slow down", "hold"] = "replan"
    """What the controller does when the alarm rises."""
    perturb: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What is to happen, NAME=STRENGTH@SECOND, e.g. teleport=1@5; strength 0 ends what lasts. Give it as often as you
    like."""
    rate: float | None = None
    """Control steps a second; by default the environment's, 10 for pusht and push-cube, 20 for two-room."""
    size: tuple[int, int] | None = None
    """Width and height of the window in pixels; by default 1080 620."""
    seed: int = 0
    """Seed of goals, planner and perturbations."""
    out: Path | None = None
    """File for the times in JSON."""


def run(config: Demo) -> None:
    """Open the window, or draw it without a display, until it is closed or the time is over.

    Raises:
        UserError: no display, pygame or playground, a model for another environment, or options that do not fit.
    """
    from wmkit.data.recording import load_task
    from wmkit.window import app

    _check(config)
    session = make_session(config)
    try:
        stats = app.run(
            session,
            _playground(load_task(config.env)),
            headless=config.headless,
            seconds=config.seconds,
            record=config.record,
            size=config.size,
        )
    finally:
        session.stop()
    print(_summary(session, stats))
    if config.out is not None:
        _save(config.out, session, stats)


def make_session(config: Demo) -> "Session":
    """Put model, controller, monitor and environment together; nothing runs yet.

    Raises:
        UserError: see `run`; of display and pygame it knows nothing.
    """
    import torch

    from wmkit.data.recording import load_task
    from wmkit.window.goals import Goals
    from wmkit.window.play import Play
    from wmkit.window.session import Session

    from ..envs.perturbations import PerturbedVectorEnv
    from .assembly import load_model, resolve_planning

    task, planned = load_task(config.env), [_perturbation(text) for text in config.perturb]
    playground = _playground(task)
    torch.set_num_threads(1)
    model, folder = load_model(_model_name(config))
    metadata = getattr(model, "metadata", {})
    _check_model(model, task, config)
    readout, monitor, hint = _extras(config, folder, model, task)
    settings = resolve_planning(metadata, {"planner": config.planner})
    rate = 1.0 / task.seconds_per_step if config.rate is None else config.rate
    reactions = None if monitor is None else _reactions(config.reaction)
    make = _maker(model, metadata, config.seed, _SHARE / rate, monitor, reactions)
    size = model.spec.observations["pixels"].shape[0]

    def env() -> Any:
        return task.make_vector(num_envs=1, obs_type="pixels", image_size=size, render_mode="rgb_array")

    perturbed = PerturbedVectorEnv(env(), task, seed=config.seed)
    _check_planned(planned, perturbed.names, task)
    play = Play(
        task,
        playground,
        make,
        perturbed,
        env(),
        Goals(task, folder, config.seed),
        planners=_planners(settings["planner"]),
        reactions=reactions,
        readout=readout,
        protocol=config.protocol,
        planned=planned,
        shrink=settings["shrink"],
        hint=hint,
        seed=config.seed,
    )
    return Session(play, rate)


def _check(config: Demo) -> None:
    """Raise UserError for options out of range."""
    for name in ("seconds", "rate"):
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} must be above 0, not {value:g}")
    if config.size is not None and min(config.size) < 200:
        raise UserError(f"--size must be 200 pixels or more each way, not {config.size[0]} {config.size[1]}")
    if config.headless and config.seconds is None:
        raise UserError("--headless has no window to close; say with --seconds when to end")


def _playground(task: "Task") -> Any:
    """Return what a person can do to a scene; raises UserError where there is nothing."""
    if task.playground is None:
        from wmkit import registry

        tasks = {name: registry.load("environments", name) for name in registry.names("environments")}
        known = ", ".join(name for name, other in tasks.items() if other.playground is not None)
        raise UserError(f"{task.name} has nothing to drag, so there is no window for it; those that have one: {known}")
    return task.playground()


def _model_name(config: Demo) -> str:
    """Return the model to play with; raises UserError where none was given and none is there."""
    if config.model is not None or config.env in _SHIPPED:
        return config.model or _SHIPPED[config.env]
    trained = _TRAINED.get(config.env)
    if trained is None:
        raise UserError(f"no model for {config.env} comes with the package; give one with --model")
    if not trained.is_dir():
        raise UserError(
            f"no model for {config.env} comes with the package; `wmkit quickstart` (or `make demo`) trains one into "
            f"{trained} in about three minutes, or give one with --model"
        )
    return str(trained)


def _check_model(model: Any, task: "Task", config: Demo) -> None:
    """Raise UserError for a model that cannot play in the environment."""
    from .assembly import check_task

    check_task(model, _model_name(config), task)
    if set(model.spec.observations) != {"pixels"}:
        raise UserError(
            f"{_model_name(config)} takes {', '.join(model.spec.observations)}; the window of {task.name} gives pixels"
        )


def _extras(
    config: Demo, folder: Path, model: Any, task: "Task"
) -> "tuple[Readout | None, SurpriseMonitor | None, str]":
    """Return the readout and the monitor that lie beside the model, and what to do about those that do not.

    Raises:
        UserError: they are damaged, or for another model, environment or action repeat.
    """
    from wmkit.monitor.surprise import SurpriseMonitor
    from wmkit.readout import Readout

    name, hints = config.model or _model_name(config), []
    readout = monitor = None
    if (folder / "surprise.json").exists():
        monitor = SurpriseMonitor.from_pretrained(folder, model, task=task.name)
    else:
        hints.append(f"surprise needs `wmkit calibrate {name} --data DIR --false-alarms 0.01`")
    if (folder / "readout.json").exists():
        readout = Readout.load(folder)
    else:
        hints.append(f"imagined futures need `wmkit inspect {name} --data DIR`")
    return readout, monitor, "; ".join(hints)


def _reactions(name: str) -> "ReactionSwitch":
    """Return the reactions to choose from, the named one first."""
    from wmkit.monitor.reactions import hold, log, replan, slow_down
    from wmkit.window.planning import ReactionSwitch

    return ReactionSwitch({"log": log(), "replan": replan(), "slow down": slow_down(), "hold": hold()}, name)


def _maker(
    model: Any,
    metadata: Mapping[str, Any],
    seed: int,
    seconds: float,
    monitor: "SurpriseMonitor | None",
    reactions: "ReactionSwitch | None",
) -> "Callable[[str], Controller]":
    """Return what makes a controller with the planner of a name, whose decisions fit into so many seconds."""
    from wmkit.contracts import PlanningBudget

    from .assembly import controller_maker, resolve_planning

    options: dict[str, Any] = {"budget": PlanningBudget(seconds=seconds)}
    if monitor is not None:
        options |= {"monitor": monitor, "reaction": reactions}

    def make(planner: str) -> "Controller":
        settings = resolve_planning(metadata, {"planner": planner})
        return controller_maker(model, settings, seed, candidates=_SHOWN, **options)(1)

    return make


def _planners(first: str) -> list[str]:
    """Return all registered planners, one of them first."""
    from wmkit import registry

    return [first, *(name for name in registry.names("planners") if name != first)]


def _perturbation(text: str) -> "Perturbation":
    """Read NAME=STRENGTH@SECOND."""
    from wmkit.window.play import Perturbation

    number = r"\d+\.?\d*|\.\d+"
    found = re.fullmatch(rf"([a-z-]+)=({number})@({number})", text)
    if found is None or float(found[2]) > 1:
        raise UserError(f"--perturb {text}: write NAME=STRENGTH@SECOND with a strength in [0, 1], e.g. teleport=1@5")
    return Perturbation(found[1], float(found[2]), float(found[3]))


def _check_planned(planned: "list[Perturbation]", known: Any, task: "Task") -> None:
    for one in planned:
        if one.name not in known:
            raise UserError(f"--perturb {one.name}: {task.name} knows {', '.join(known)}")


def _save(path: Path, session: "Session", stats: Any) -> None:
    """Write how long things took as JSON."""
    from wmkit.provenance import provenance
    from wmkit.training.records import write_json

    last = session.snapshot()
    decisions = {f"decision_ms_p{round(100 * q)}": session.decision_ms(q) for q in (0.5, 0.99)}
    facts = {name: getattr(last, name) for name in ("tick", "control_hz", "reached", "episodes")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**vars(stats), **facts, **decisions, "provenance": provenance()})


def _summary(session: "Session", stats: Any) -> str:
    """Return one line on what happened and how long things took."""
    last = session.snapshot()
    return (
        f"{last.tick} control steps at {last.control_hz:.1f} a second, {stats.frames} frames; "
        f"frame p50 {stats.frame_ms_p50:.1f} ms, p99 {stats.frame_ms_p99:.1f} ms; "
        f"decision p50 {session.decision_ms(0.5):.1f} ms, p99 {session.decision_ms(0.99):.1f} ms; "
        f"{last.reached} of {last.episodes} goals reached"
    )
