"""Serve hydrax's predictive sampling on dm_control's walker to `walker_speed.py`.

hydrax plans through MJX; it is in no package registry:

    pip install git+https://github.com/vincekurtz/hydrax

Its predictive sampling needs, beside jax[cpu] and mujoco-mjx, only flax and interpax. `hydrax/algs/__init__.py` also
imports its other planners and so evosax; where that is unwanted, let it import `PredictiveSampling` alone, as it did
for the results here. "describe" gives the Git blob of every file that plans, to be compared with hydrax's history.

The script reads one JSON request a line and answers each with one line:

    {"do": "describe"}                versions, solver options, seconds of compilation
    {"do": "plan", "states": PATH}    the seconds of one plan from each state of an .npz file, in turn;
                                      and those of all cores together ("cpu_seconds")

Arguments: XML file, samples, seconds of horizon, knots, order of the spline, standard deviation of the noise, target
speed, and whose options the physics has: "xml" for the XML's, "own" for those of hydrax's model of the same walker (one
iteration, 6 of the line search, no implicit damping, at most 5 contacts), "own_step" for those and its time step of
0.01 s besides. hydrax reads its spline and adds up the cost at each step of the physics; the cost is minus dm_control's
reward for walking. MJX computes in float32. JAX stays on the CPU unless JAX_PLATFORMS says otherwise.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

with contextlib.redirect_stdout(sys.stderr):
    import hydrax
    import jax
    import jax.numpy as jnp
    import mujoco
    import numpy as np
    from hydrax.algs.predictive_sampling import PredictiveSampling
    from hydrax.task_base import Task

_STAND_HEIGHT, _START_HEIGHT = 1.2, 1.3
_CONTROL_SECONDS = 0.025
_FILES = ("alg_base.py", "algs/predictive_sampling.py", "task_base.py", "risk.py", "utils/spline.py")


class Walker(Task):
    """dm_control's planar walker."""

    def __init__(self, model: mujoco.MjModel, speed: float) -> None:
        """Create the task for a target speed in metres per second."""
        super().__init__(model)
        self.speed = speed

    def running_cost(self, state: Any, control: Any) -> Any:
        """Return the negative of dm_control's reward."""
        height, angle, speed = state.qpos[0] + _START_HEIGHT, state.qpos[2], state.sensordata[0]
        below = jnp.clip((_STAND_HEIGHT - height) / (_STAND_HEIGHT / 2), 0)
        stand = (3 * jnp.exp(jnp.log(0.1) * below**2) + (1 + jnp.cos(angle)) / 2) / 4
        slow = (self.speed - speed) / (self.speed / 2)
        move = jnp.where(slow <= 0, 1.0, jnp.clip(1 - 0.5 * slow, 0))
        return -stand * (5 * move + 1) / 6

    def terminal_cost(self, state: Any) -> Any:
        """Return 0: the last step's reward is among the running ones."""
        return jnp.zeros(())


def load(xml: str, options: str) -> mujoco.MjModel:
    """Return the model with the options asked for."""
    spec = mujoco.MjSpec.from_file(xml)
    if options != "xml":
        spec.option.iterations, spec.option.ls_iterations = 1, 6
        spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_EULERDAMP)
        for name in ("max_contact_points", "max_geom_pairs"):
            spec.add_numeric(name=name, data=[5], size=1)
    if options == "own_step":
        spec.option.timestep = 0.01
    return spec.compile()


class Planner:
    """hydrax's controller, compiled as its simulations compile it."""

    def __init__(self, arguments: list[str]) -> None:
        """Build and compile it; one iteration a plan."""
        xml, samples, horizon, knots, order, std, speed, options = arguments
        self.model = load(xml, options)
        self.controller = PredictiveSampling(
            Walker(self.model, float(speed)),
            num_samples=int(samples),
            noise_level=float(std),
            plan_horizon=float(horizon),
            spline_type=order,  # type: ignore[arg-type]
            num_knots=int(knots),
            iterations=1,
        )
        self.data = self.controller.task.make_data()
        self.optimize = jax.jit(self.controller.optimize, donate_argnums=(1,))
        self.get_action = jax.jit(self.controller.get_action)
        start = time.perf_counter()
        self.follow(np.zeros((2, self.model.nq + self.model.nv)))
        self.compilation = time.perf_counter() - start

    def follow(self, states: np.ndarray) -> list[float]:
        """Plan from each state, warm started, the clock running a control step ahead each time."""
        parameters, seconds = self.controller.init_params(), []
        for number, state in enumerate(states):
            start = time.perf_counter()
            position, velocity = jnp.array(state[: self.model.nq]), jnp.array(state[self.model.nq :])
            now = jnp.array(number * _CONTROL_SECONDS)
            parameters, _ = self.optimize(self.data.replace(qpos=position, qvel=velocity, time=now), parameters)
            action = np.asarray(self.get_action(parameters, now[None]))
            seconds.append(time.perf_counter() - start)
            if not np.isfinite(action).all():
                raise FloatingPointError(f"hydrax's action is {action} at plan {number}")
        return seconds

    def plan(self, file: str) -> dict[str, Any]:
        """Plan from each state of a file."""
        cpu = time.process_time()
        seconds = self.follow(np.load(file)["states"])
        return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}

    def describe(self) -> dict[str, Any]:
        """Return versions and what the physics is solved with."""
        names = ("timestep", "integrator", "solver", "iterations", "ls_iterations", "tolerance", "disableflags")
        versions = {name: importlib.metadata.version(name) for name in ("mujoco-mjx", "mujoco", "jax", "interpax")}
        options = {name: float(getattr(self.model.opt, name)) for name in names}
        return versions | {"hydrax_blobs": _blobs()} | options | {"compilation_seconds": self.compilation}


def _blobs() -> dict[str, str]:
    """Return what `git hash-object` says of hydrax's files."""
    contents = {name: (Path(hydrax.ROOT) / name).read_bytes() for name in _FILES}
    return {name: hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() for name, data in contents.items()}


def main() -> None:
    """Answer requests until standard input ends."""
    with contextlib.redirect_stdout(sys.stderr):
        planner = Planner(sys.argv[1:])
    for line in sys.stdin:
        request = json.loads(line)
        answer = planner.describe() if request["do"] == "describe" else planner.plan(request["states"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
