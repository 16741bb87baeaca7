"""What delays cost, and what accounting for them saves: one model on the same pairs, timed and untimed.

    python benchmarks/real_time.py pretrained:pusht-tiny --env pusht
    python benchmarks/real_time.py runs/quickstart/model --env two-room --protocol cross --data runs/quickstart/data

In lock step, where each plan takes as long as told and nothing depends on the machine:

- untimed: the world stands still while the controller plans, as in `wmkit eval`
- real time: a plan takes `--plan-ms`, the robot goes on meanwhile
- delayed, aware: each observation is `--delay-ms` old besides, and the controller accounts for what is in flight
- delayed, naive: the same, but each observation is taken for the present

Then, for `--seconds` of wall-clock time, `wmkit bench control --load`; 0 leaves it out. Leave the machine alone.
"""

# pyright: reportMissingImports=false

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from wmkit.control import LockstepWorker, ManualClock, RealTimeController
from wmkit.evaluation import ModelAgent, compare, evaluate, wilson
from wmkit.evaluation.real_time import drive
from wmkit.provenance import provenance
from wmkit.scripts.assembly import controller_maker
from wmkit.scripts.bench_control import ControlBench, Scene, measure, plain, prepare

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class RealTime:
    """Options of this benchmark."""

    model: tyro.conf.Positional[str] = "pretrained:pusht-tiny"
    """A model's folder, or pretrained:NAME."""
    env: str = "pusht"
    """The environment."""
    protocol: str = "short"
    """How the pairs were drawn."""
    manifest: Path | None = None
    """File of the pairs; by default the model's own."""
    data: Path | None = None
    """Data set whose held-out episodes give the pairs."""
    episodes: int = 200
    """Pairs."""
    rate: float = 20.0
    """Environment actions a second."""
    plan_ms: float = 40.0
    """Time that each plan takes in lock step."""
    delay_ms: float = 150.0
    """Added age of the observations."""
    replan_every: int | None = None
    """Least number of actions between two plans; by default one model step."""
    seconds: float = 600.0
    """Wall-clock time of the run under load; 0 for none."""
    worker: Literal["thread", "process"] = "thread"
    """Where plans are made in wall-clock time."""
    seed: int = 0
    """Of the planner."""
    out: Path | None = None
    """File of the result; by default results/real_time/ENV-PROTOCOL.json beside this program."""


def main(config: RealTime) -> None:
    """Run all, print a line for each, write the JSON."""
    torch.set_num_threads(1)
    shared = {name: getattr(config, name) for name in ("model", "env", "protocol", "manifest", "data", "episodes")}
    bench = ControlBench(
        **shared,
        rate=config.rate,
        seconds=config.seconds,
        load=True,
        replan_every=config.replan_every,
        worker=config.worker,
        seed=config.seed,
    )
    scene = prepare(bench)
    solved = {"untimed": untimed(scene, config.seed)}
    report("untimed", solved["untimed"])
    runs: dict[str, Any] = {}
    for name, delay, aware in (
        ("real time", 0.0, True),
        ("aware", config.delay_ms, True),
        ("naive", config.delay_ms, False),
    ):
        solved[name], runs[name] = lock_step(scene, config, delay, aware)
        report(name, solved[name])
    result: dict[str, Any] = {
        "provenance": provenance(),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()},
        "planning": scene.planning,
        "pairs": {"manifest": scene.manifest.sha256, "rule": scene.manifest.rule, "from": scene.label},
        "lock_step": {name: _row(found) | {"counters": runs.get(name)} for name, found in solved.items()},
        "paired": {
            f"{first} against {second}": asdict(compare(solved[first].tolist(), solved[second].tolist()))
            for first, second in (("real time", "untimed"), ("aware", "untimed"), ("aware", "naive"))
        },
    }
    if config.seconds:
        result["wall_clock"] = measure(bench, scene)
        result["wall_clock"]["untimed_on_its_pairs"] = float(solved["untimed"][result["wall_clock"]["pairs"]].mean())
        print(f"wall clock: {result['wall_clock']['success']}, missed {result['wall_clock']['miss_rate']:.2%}")
    out = config.out or _HERE / "results" / "real_time" / f"{config.env}-{config.protocol}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def untimed(scene: Scene, seed: int) -> np.ndarray:
    """Return which pairs (P,) the controller solves when the world waits for it."""
    agent = ModelAgent(controller_maker(scene.model, scene.planning, seed), shrink=scene.planning["shrink"])
    return evaluate(scene.task, scene.manifest, agent, image_size=scene.image_size).success


def lock_step(scene: Scene, config: RealTime, delay_ms: float, aware: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """Return which pairs (P,) are solved in simulated real time, and the counters."""
    clock = ManualClock()
    control = RealTimeController(
        controller_maker(scene.model, scene.planning, config.seed)(1),
        rate_hz=config.rate,
        worker=lambda desk: LockstepWorker(desk, clock, config.plan_ms / 1000),
        safe_action="zero",
        delay_aware=aware,
        replan_every=config.replan_every,
        max_age=max(0.5, 2 * delay_ms / 1000),
        warm_up=0,
        clock=clock,
    )
    delay = math.ceil(delay_ms / 1000 * config.rate - 1e-6)
    with control:
        driven = drive(
            scene.task,
            scene.manifest,
            control,
            clock,
            delay=delay,
            image_size=scene.image_size,
            shrink=scene.planning["shrink"],
        )
    return driven.success, plain(asdict(control.counters())) | {"unsafe_actions": driven.unsafe}


def report(name: str, solved: np.ndarray) -> None:
    """Print one line."""
    low, high = wilson(int(solved.sum()), len(solved))
    print(f"{name:12} {solved.mean():6.1%} ({low:.0%} to {high:.0%})", flush=True)


def _row(solved: np.ndarray) -> dict[str, Any]:
    return {
        "solved": int(solved.sum()),
        "episodes": len(solved),
        "interval": wilson(int(solved.sum()), len(solved)),
        "by_pair": solved.tolist(),
    }


if __name__ == "__main__":
    main(tyro.cli(RealTime, description=__doc__))
