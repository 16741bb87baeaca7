"""Serve judo's predictive sampling on dm_control's walker to `walker_speed.py`.

It runs under a Python that has judo-rai 0.1.0, reads one JSON request a line and answers each with one line:

    {"do": "describe"}                versions, threads and solver options
    {"do": "plan", "states": PATH}    the seconds of one plan from each state of an .npz file, in turn;
                                      and those of all cores together ("cpu_seconds")

Arguments: XML file, samples, seconds of horizon, knots, order of the spline, standard deviation of the noise, target
speed, physics steps of one control step. judo reads its spline at every physics step, and gives every rollout a thread
and a copy of the model; the reward is the user's, here dm_control's for walking at the end of every control step.

judo downloads meshes for its own tasks unless their folder exists; the walker has none, so an empty one is made.
"""

import contextlib
import importlib.metadata
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from judo import MODEL_PATH
from judo.controller import Controller, ControllerConfig
from judo.optimizers.ps import PredictiveSampling, PredictiveSamplingConfig
from judo.tasks.base import Task, TaskConfig

_STAND_HEIGHT, _START_HEIGHT = 1.2, 1.3


@dataclass
class WalkerConfig(TaskConfig):
    """Target speed in metres per second, and physics steps of one control step."""

    speed: float = 1.0
    substeps: int = 10


class Walker(Task[WalkerConfig]):
    """dm_control's planar walker."""

    config_t = WalkerConfig

    def reward(self, states: Any, sensors: Any, controls: Any, system_metadata: Any = None) -> np.ndarray:
        """Return the sum of dm_control's rewards after each control step, (num_rollouts,)."""
        every = slice(self.config.substeps - 1, None, self.config.substeps)
        height, angle, speed = states[:, every, 0] + _START_HEIGHT, states[:, every, 2], sensors[:, every, 0]
        below = np.clip((_STAND_HEIGHT - height) / (_STAND_HEIGHT / 2), 0, None)
        standing = np.exp(np.log(0.1) * below**2)
        stand = (3 * standing + (1 + np.cos(angle)) / 2) / 4
        slow = (self.config.speed - speed) / (self.config.speed / 2)
        move = np.where(slow <= 0, 1.0, np.clip(1 - 0.5 * slow, 0, None))
        return (stand * (5 * move + 1) / 6).sum(-1)


def build(arguments: list[str]) -> Controller:
    """Return judo's controller; one iteration a plan."""
    (Path(MODEL_PATH) / "meshes").mkdir(exist_ok=True)
    xml, samples, horizon, knots, order, std, speed, substeps = arguments
    task = Walker(xml)
    task.config = WalkerConfig(float(speed), int(substeps))
    config = PredictiveSamplingConfig(num_rollouts=int(samples), num_nodes=int(knots), sigma=float(std))
    settings = ControllerConfig(horizon=float(horizon), spline_order=order, max_opt_iters=1)  # type: ignore[arg-type]
    return Controller(settings, task, PredictiveSampling(config, task.nu))


def plan(controller: Controller, file: str) -> dict[str, Any]:
    """Plan from each state, warm started, the clock running a control step ahead each time."""
    states = np.load(file)["states"]
    step = controller.task.dt * controller.task.config.substeps
    controller.reset()
    seconds, cpu = [], time.process_time()
    for number, state in enumerate(states):
        start = time.perf_counter()
        controller.current_state, controller.time = state, number * step
        controller.update_action()
        controller.action(controller.time)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}


def describe(controller: Controller) -> dict[str, Any]:
    """Return versions and what the physics is solved with."""
    option = controller.model.opt
    names = ("timestep", "integrator", "solver", "iterations", "tolerance", "cone", "disableflags")
    versions = {name: importlib.metadata.version(name) for name in ("judo-rai", "mujoco", "numpy", "scipy")}
    options = {name: float(getattr(option, name)) for name in names}
    return versions | options | {"threads": controller.rollout_backend.num_threads}


def main() -> None:
    """Answer requests until standard input ends."""
    with contextlib.redirect_stdout(sys.stderr):
        controller = build(sys.argv[1:])
    for line in sys.stdin:
        request = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            answer = describe(controller) if request["do"] == "describe" else plan(controller, request["states"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
