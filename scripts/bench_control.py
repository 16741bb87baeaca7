"""`wmkit bench control`: a model drives an environment in wall-clock time; what was late, lost, refused, and solved."""

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from wmkit.errors import UserError
from wmkit.provenance import provenance

from .assembly import check_task, controller_maker, load_model, resolve_planning

if TYPE_CHECKING:
    from wmkit.contracts import WorldModel
    from wmkit.control import Controller, RealTimeController
    from wmkit.evaluation import Manifest
    from wmkit.tasks import Task

__all__ = ["ControlBench", "Scene", "burning", "make_controller", "measure", "plain", "prepare", "run", "summary"]

_BURN = """
import os, time
parent = os.getppid()
while os.getppid() == parent:
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        pass
    time.sleep(0.05)
"""


@dataclass(frozen=True)
class ControlBench:
    """What `wmkit bench control` is asked for."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = "pretrained:pusht-tiny"
    """A model's folder, or pretrained:NAME."""
    env: str = "pusht"
    """The environment."""
    protocol: str = "short"
    """How the pairs of start and goal were drawn, as in `wmkit eval`."""
    manifest: Path | None = None
    """File of the pairs; by default the model's own."""
    data: Path | None = None
    """Data set whose held-out episodes give the pairs."""
    episodes: int = 100
    """Pairs; they repeat while there is time."""
    rate: float = 20.0
    """Environment actions a second."""
    seconds: float = 60.0
    """Seconds of wall-clock time, after a warm-up."""
    load: bool = False
    """Load every core half of the time with other processes."""
    delay_ms: float = 0.0
    """Age of each observation when the controller gets it, rounded up to whole actions."""
    delay_aware: bool = True
    """Whether actions in flight are accounted for; without, each observation is taken for the present."""
    replan_every: int | None = None
    """Least number of actions between two plans; by default one model step."""
    worker: Literal["thread", "process"] = "thread"
    """Where plans are made."""
    seed: int = 0
    """Of the planner."""
    json: bool = False
    """Print one JSON object with the numbers and "provenance" instead of a table."""


@dataclass(frozen=True)
class Scene:
    """What is driven, and by what.

    Attributes:
        task: the environment.
        model: of the controller.
        planning: resolved settings of the planner.
        manifest: the pairs.
        label: one line on where the pairs are from.
        image_size: pixels.
    """

    task: "Task"
    model: "WorldModel"
    planning: dict[str, Any]
    manifest: "Manifest"
    label: str
    image_size: int


def prepare(config: ControlBench) -> Scene:
    """Load a model and its pairs.

    Raises:
        UserError: they do not fit together; the text says what to do.
    """
    from wmkit.data.recording import load_task
    from wmkit.evaluation import suite

    task = load_task(config.env)
    model, folder = load_model(config.model)
    check_task(model, config.model, task)
    metadata = getattr(model, "metadata", {})
    pairs = suite.obtain(
        task,
        config.protocol,
        config.episodes,
        data=config.data,
        path=config.manifest,
        folder=folder,
        training=metadata.get("data"),
    )
    size = model.spec.observations["pixels"].shape[0]
    return Scene(task, model, resolve_planning(metadata, {}), pairs.manifest, pairs.label, size)


def make_controller(model: str, planning: dict[str, Any], seed: int) -> "Controller":
    """Return the controller of one robot, e.g. in a process of its own."""
    return controller_maker(load_model(model)[0], planning, seed)(1)


def measure(config: ControlBench, scene: Scene) -> dict[str, Any]:
    """Drive the environment in wall-clock time; return what `summary` says of it."""
    from wmkit.control import RealTimeController
    from wmkit.control.realtime_clock import SystemClock, quiet_interpreter
    from wmkit.evaluation.real_time import drive

    clock = SystemClock()
    control = RealTimeController(
        partial(make_controller, config.model, scene.planning, config.seed),
        rate_hz=config.rate,
        worker=config.worker,
        safe_action="zero",
        delay_aware=config.delay_aware,
        replan_every=config.replan_every,
        max_age=max(0.5, 2 * config.delay_ms / 1000),
        clock=clock,
    )
    blank = {key: np.zeros(spec.shape, spec.dtype) for key, spec in scene.model.spec.observations.items()}
    control.set_goal(blank)
    delay = math.ceil(config.delay_ms / 1000 * config.rate - 1e-6)
    with control, burning() if config.load else contextlib.nullcontext(), quiet_interpreter():
        driven = drive(
            scene.task,
            scene.manifest,
            control,
            clock,
            seconds=config.seconds,
            delay=delay,
            image_size=scene.image_size,
            shrink=scene.planning["shrink"],
        )
    return summary(driven, control)


def summary(driven: Any, control: "RealTimeController") -> dict[str, Any]:
    """Return what happened, as JSON can hold it."""
    from wmkit.evaluation import wilson

    episodes, solved = len(driven.success), int(driven.success.sum())
    counters = control.counters()
    return {
        "episodes": episodes,
        "solved": solved,
        "success": solved / episodes if episodes else None,
        "interval": wilson(solved, episodes) if episodes else None,
        "unsafe_actions": driven.unsafe,
        "miss_rate": counters.miss_rate,
        "counters": plain(asdict(counters)),
        "histogram": control.histogram().rows(),
        "error": control.error,
        "pairs": driven.pairs.tolist(),
        "first_success": driven.first_success.tolist(),
    }


def run(config: ControlBench) -> None:
    """Measure and print.

    Raises:
        UserError: options out of range, or a model, an environment and pairs that do not fit together.
    """
    for name in ("rate", "seconds", "episodes", "replan_every"):
        if getattr(config, name) is not None and not getattr(config, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be positive, not {getattr(config, name)}")
    if config.delay_ms < 0:
        raise UserError(f"--delay-ms must be 0 or more, not {config.delay_ms}")
    scene = prepare(config)
    found = measure(config, scene)
    if config.json:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
        pairs = {"manifest": scene.manifest.sha256, "rule": scene.manifest.rule, "from": scene.label}
        print(json.dumps({"control": found, "settings": settings, "pairs": pairs, "provenance": provenance()}))
        return
    print(_table(config, scene, found))


def _table(config: ControlBench, scene: Scene, found: dict[str, Any]) -> str:
    """Return the result as text."""
    counters = found["counters"]
    solved = f"{found['solved']} of {found['episodes']}"
    if found["episodes"]:
        low, high = found["interval"]
        solved += f", {found['success']:.0%} ({low:.0%} to {high:.0%}), rule {scene.manifest.rule}"
    loaded = ", other processes on every core half of the time" if config.load else ""
    late = f", observations {config.delay_ms:g} ms old" if config.delay_ms else ""
    lines = [
        f"{config.model} on {config.env} at {config.rate:g} Hz for {config.seconds:g} s{loaded}{late}",
        f"solved           {solved}",
        f"unsafe actions   {found['unsafe_actions']}",
        f"missed           {found['miss_rate']:.2%} of {counters['ticks'] - counters['waiting']} ticks with a plan: "
        f"{counters['late']} plans late, {counters['empty']} ticks without an action",
        f"safe actions     {counters['empty']} without an action, {counters['waiting']} before an episode's first plan",
        f"plans            {counters['plans']}, superseded {counters['superseded']}, failures {counters['failures']}, "
        f"restarts {counters['restarts']}",
        f"planning         p50 {_ms(counters['plan_p50'])}, p99 {_ms(counters['plan_p99'])}; "
        f"slowest of {counters['warm_up']} in the warm-up {_ms(counters['warm_up_longest'])}",
        f"tick jitter      p50 {_ms(counters['jitter_p50'])}, p99 {_ms(counters['jitter_p99'])}",
        f"refused          {', '.join(f'{n} {reason}' for reason, n in counters['refused'].items()) or 'none'}",
    ]
    most = max((number for *_, number in found["histogram"]), default=1)
    for low, high, number in found["histogram"]:
        lines.append(f"{low * 1e3:9.3g} to {high * 1e3:5.3g} ms {number:7d} {'#' * math.ceil(40 * number / most)}")
    return "\n".join(lines)


@contextlib.contextmanager
def burning() -> Iterator[None]:
    """Load every core half of the time, in turns of 50 ms, with processes that end with this one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = [subprocess.Popen([sys.executable, "-S", "-c", _BURN]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _ms(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds * 1e3:.3g} ms"


def plain(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return numbers as JSON can hold them: None for what is not a number."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in numbers.items()}
