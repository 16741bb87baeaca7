"""Measure rates on this machine; without a name, list what can be measured.

For example:

    wmkit bench
    wmkit bench environments
    wmkit bench environments --seconds 2 --json
    wmkit bench control --load
    wmkit bench control runs/quickstart/model --env two-room --manifest MANIFEST --rate 20 --delay-ms 150

The comparisons with other packages, which need environments of their own, are in `benchmarks/` of the repository.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from wmkit.errors import UserError
from wmkit.provenance import provenance

__all__ = ["BENCHMARKS", "Bench", "run"]

_BATCH = 128
_EPISODE = 200


@dataclass(frozen=True)
class Bench:
    """What `wmkit bench` is asked for."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """What to measure; without it, what there is to measure is listed."""
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = "pretrained:pusht-tiny"
    """control: a model's folder, or pretrained:NAME."""
    seconds: float | None = None
    """Seconds a case is measured for, after a warm-up; by default 1, for control 60."""
    json: bool = False
    """Print one JSON object with the numbers and "provenance" instead of a table."""
    env: str = "pusht"
    """control: the environment."""
    protocol: str = "short"
    """control: how the pairs of start and goal were drawn, as in `wmkit eval`."""
    manifest: Path | None = None
    """control: file of the pairs; by default the model's own."""
    data: Path | None = None
    """control: data set whose held-out episodes give the pairs."""
    episodes: int = 100
    """control: pairs; they repeat while there is time."""
    rate: float = 20.0
    """control: environment actions a second."""
    load: bool = False
    """control: load every core half of the time with other processes."""
    delay_ms: float = 0.0
    """control: age of each observation when the controller gets it, rounded up to whole actions."""
    delay_aware: bool = True
    """control: whether actions in flight are accounted for; without, each observation is taken for the present."""
    replan_every: int | None = None
    """control: least number of actions between two plans; by default one model step."""
    worker: Literal["thread", "process"] = "thread"
    """control: where plans are made."""
    seed: int = 0
    """control: of the planner."""


def run(config: Bench) -> None:
    """Measure and print.

    Raises:
        UserError: there is no such benchmark, or `seconds` is not positive.
    """
    if config.seconds is not None and config.seconds <= 0:
        raise UserError(f"--seconds must be positive, not {config.seconds}")
    if config.name is None:
        print("\n".join(f"{name:<14}{text}" for name, (text, _) in BENCHMARKS.items()))
        return
    if config.name == "control":
        _control(config)
        return
    if config.name not in BENCHMARKS:
        raise UserError(f"unknown benchmark {config.name!r}; known: {', '.join(BENCHMARKS)}")
    rates = {}
    for case, step in BENCHMARKS[config.name][1]():
        rates[case] = _rate(step, config.seconds or 1.0)
        if not config.json:
            print(f"{case:<34}{rates[case]:>12,.0f} /s", flush=True)
    if config.json:
        print(json.dumps({"rates": rates, "provenance": provenance()}))


def _control(config: Bench) -> None:
    """Drive an environment in wall-clock time."""
    from dataclasses import fields

    from .bench_control import ControlBench
    from .bench_control import run as run_control

    given: dict[str, Any] = {field.name: getattr(config, field.name) for field in fields(ControlBench)}
    given["seconds"] = config.seconds or 60.0
    run_control(ControlBench(**given))


def _rate(step: Callable[[], int], seconds: float) -> float:
    """Return frames a second of `step`, which returns how many frames it made."""
    for duration in (seconds / 10, seconds):
        frames, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < duration or not frames:
            frames += step()
    return frames / elapsed


def _environments() -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield the environments' cases: name/observation/image size, batched or one at a time."""
    from ..envs.pusht import PushTEnv, PushTVectorEnv
    from ..envs.two_room import TwoRoomEnv, TwoRoomVectorEnv

    batched = {"num_envs": _BATCH, "autoreset_mode": "Disabled"}
    yield f"two-room/pixels/64/batch {_BATCH}", _stepper(TwoRoomVectorEnv(obs_type="pixels", image_size=64, **batched))
    yield "two-room/pixels/224", _stepper(TwoRoomEnv(obs_type="pixels", image_size=224))
    yield "pusht/state", _stepper(PushTEnv(obs_type="state"))
    for size in (64, 96, 224):
        yield f"pusht/pixels/{size}", _stepper(PushTEnv(obs_type="pixels", image_size=size))
    yield f"pusht/pixels/64/batch {_BATCH}", _stepper(PushTVectorEnv(obs_type="pixels", image_size=64, **batched))


def _stepper(env: Any) -> Callable[[], int]:
    """Return a function that steps an environment with random actions and counts the frames, resetting now and then."""
    actions = np.random.default_rng(0).uniform(-1, 1, (_EPISODE, *env.action_space.shape)).astype(np.float32)
    taken = 0

    def step() -> int:
        nonlocal taken
        if taken % _EPISODE == 0:
            env.reset(seed=taken)
        env.step(actions[taken % _EPISODE])
        taken += 1
        return getattr(env, "num_envs", 1)

    return step


BENCHMARKS: dict[str, tuple[str, Callable[[], Iterator[tuple[str, Callable[[], int]]]]]] = {
    "environments": ("frames a second of TwoRoom and PushT, one core", _environments),
    "control": (
        "deadlines, delays and success of a model that drives an environment in wall-clock time",
        lambda: iter(()),
    ),
}
"""Benchmark -> (summary, generator of (case, step function)); `control` has none, it runs by itself."""
