"""Time predictive sampling through MuJoCo on dm_control's walker, beside judo's and hydrax's.

    python benchmarks/walker_speed.py --judo-python JUDO/bin/python --hydrax-python HYDRAX/bin/python

The peers live in environments of their own:

    python3 -m venv JUDO && JUDO/bin/pip install judo-rai==0.1.0
    python3 -m venv HYDRAX && HYDRAX/bin/pip install mujoco-mjx==3.17.0 mujoco==3.17.0 'jax[cpu]'
    HYDRAX/bin/pip install git+https://github.com/vincekurtz/hydrax

One plan is 64 candidates of 0.5 s, that is 20 control steps of 10 physics steps, through a spline of 5 knots, one
iteration, warm started; the reward is dm_control's for walking, once a control step (hydrax: once a physics step).
Everyone plans from the same states in the same order: those of a walk that wmkit plans beforehand. They take turns; the
first is not counted.

"physics" is MuJoCo's own rollout of as many candidates with nothing around it, on all cores: no planner that simulates
the same steps with the same library gets below it. hydrax plans through MJX, on the CPU as everyone here, and comes
three times: with the XML's physics options; with those of hydrax's own model of this walker; and with those and its
time step, four times the XML's. Compilation is left out. Leave the machine alone while it runs.
"""

# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

import mujoco
import numpy as np
import torch
import tyro
from dm_control import suite
from mujoco.rollout import Rollout as Physics
from torch import Tensor

from wmkit.contracts import Context, Objective, Rollout
from wmkit.models import SimulatorModel
from wmkit.planners import PredictiveSampling, Spline
from wmkit.provenance import provenance

_HERE = Path(__file__).resolve().parent
_XML = Path(suite.__file__).parent / "walker.xml"
_STAND_HEIGHT, _START_HEIGHT = 1.2, 1.3
_CONTROL_SECONDS, _SUBSTEPS = 0.025, 10
_HYDRAX = {"hydrax": "xml", "hydrax, its own options": "own", "hydrax, and its time step": "own_step"}

Contestant = Callable[[Path], dict[str, Any]]
"""From an .npz file with "states" (steps, S): plan from each in turn, and return the "seconds" of each plan and the
"cpu_seconds" of all, on all cores together."""


@dataclass(frozen=True)
class Args:
    """What to time.

    Attributes:
        judo_python: Python of the environment with judo; without it, judo is left out.
        hydrax_python: Python of the environment with hydrax; without it, hydrax is left out.
        samples: candidates of one plan.
        horizon: control steps of one plan.
        knots: of the spline.
        order: of the spline.
        std: standard deviation of the noise on the knots, in units of the controls.
        speed: that the walker shall have, metres per second; 8 is dm_control's run.
        steps: control steps planned in one turn.
        exact_steps: control steps that hydrax with the XML's options plans in one turn; it takes seconds for each.
        rounds: turns of each that are counted.
        out: JSON file of the result.
    """

    judo_python: Path | None = None
    hydrax_python: Path | None = None
    samples: int = 64
    horizon: int = 20
    knots: int = 5
    order: Literal["zero", "linear", "cubic"] = "cubic"
    std: float = 0.3
    speed: float = 1.0
    steps: int = 80
    exact_steps: int = 3
    rounds: int = 5
    out: Path = _HERE / "results" / "walker_speed.json"


class Peer:
    """Another package's planner in a process of its own, a JSON request and answer a line."""

    def __init__(self, python: Path, script: str, *arguments: object) -> None:
        """Start the process."""
        command = [str(python), "-W", "ignore", str(_HERE / "peers" / script), *map(str, arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def ask(self, **request: str) -> dict[str, Any]:
        """Send a request and return the answer, past whatever else the peer prints.

        Raises:
            RuntimeError: the process ended.
        """
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the peer's process has no pipes")
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the peer ended with code {self.process.wait()}; run {self.process.args} to see why")

    def plan(self, states: Path) -> dict[str, Any]:
        """Plan from each state of a file."""
        return self.ask(do="plan", states=str(states))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


class WalkReward:
    """dm_control's reward for walking or running after each control step, summed; the cost is its negative."""

    def __init__(self, speed: float) -> None:
        """Create the objective for a target speed in metres per second."""
        self._speed = speed

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the negative reward (B, N), from the state and the sensor of the centre of mass's velocity."""
        state, speed = rollout.quantities["state"], rollout.quantities["sensors"][..., 0]
        below = ((_STAND_HEIGHT - _START_HEIGHT - state[..., 0]) / (_STAND_HEIGHT / 2)).clamp(min=0)
        stand = (3 * torch.exp(np.log(0.1) * below.square()) + (1 + torch.cos(state[..., 2])) / 2) / 4
        slow = (self._speed - speed) / (self._speed / 2)
        move = torch.where(slow <= 0, 1.0, (1 - 0.5 * slow).clamp(min=0))
        return -(stand * (5 * move + 1) / 6).sum(dim=-1)

    def select(self, rows: Tensor) -> Objective:
        """Return itself: it is the same for every row."""
        return self


class Wmkit:
    """wmkit's predictive sampling."""

    def __init__(self, args: Args, mj_model: mujoco.MjModel) -> None:
        """Build the planner."""
        self.model = SimulatorModel.from_mujoco(mj_model, control_seconds=_CONTROL_SECONDS)
        self.planner = PredictiveSampling(
            self.model,
            samples=args.samples,
            horizon=args.horizon,
            iterations=1,
            parametrisation=Spline(args.knots, args.order),
            std=args.std,
        )
        self.objective = WalkReward(args.speed)

    def plan(self, states: Path) -> dict[str, Any]:
        """Plan from each state of a file."""
        seconds, cpu, warm = [], time.process_time(), None
        for state in np.load(states)["states"]:
            began = time.perf_counter()
            warm = self.decide(state, warm)
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}

    def decide(self, state: np.ndarray, warm: Tensor | None) -> Tensor:
        """Return the plan (1, H, A) shifted by the step that is executed: the next warm start."""
        latents = self.model.encode({"state": torch.from_numpy(state)[None, None]})
        context = Context(latents, latents.new_zeros(1, 0, self.model.spec.block_size))
        plan = self.planner.plan(context, self.objective, warm)
        self.first = plan.actions[0, 0]
        return plan.shifted(1)

    def walk(self, mj_model: mujoco.MjModel, steps: int) -> tuple[np.ndarray, float]:
        """Return the states (steps, S) of a walk from standing, and its mean speed in metres per second."""
        data, warm, states = mujoco.MjData(mj_model), None, []
        for _ in range(steps):
            states.append(np.concatenate([data.qpos, data.qvel]))
            warm = self.decide(states[-1], warm)
            data.ctrl[:] = self.first.numpy()
            mujoco.mj_step(mj_model, data, nstep=_SUBSTEPS)
        return np.array(states), float(data.qpos[1] / data.time)


class BarePhysics:
    """MuJoCo's rollout of random candidates, and nothing else."""

    def __init__(self, args: Args, mj_model: mujoco.MjModel) -> None:
        """Start as many threads as there are cores."""
        threads = len(os.sched_getaffinity(0))
        self.model, self.pool = mj_model, Physics(nthread=threads)
        self.data = [mujoco.MjData(mj_model) for _ in range(threads)]
        controls = np.random.default_rng(0).uniform(-1, 1, (args.samples, args.horizon, mj_model.nu))
        self.controls = controls.repeat(_SUBSTEPS, axis=1)

    def plan(self, states: Path) -> dict[str, Any]:
        """Roll out from each state of a file."""
        seconds, cpu = [], time.process_time()
        for state in np.load(states)["states"]:
            began = time.perf_counter()
            start = np.tile(np.concatenate([[0.0], state]), (len(self.controls), 1))
            self.pool.rollout(self.model, self.data, start, self.controls)
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}


def peers(args: Args, stack: ExitStack) -> dict[str, Peer]:
    """Start the peers that there are environments for."""
    found = {}
    seconds = args.horizon * _CONTROL_SECONDS
    settings = (_XML, args.samples, seconds, args.knots, args.order, args.std, args.speed)
    if args.judo_python is not None:
        found["judo"] = stack.enter_context(Peer(args.judo_python, "judo_walker.py", *settings, _SUBSTEPS))
    if args.hydrax_python is not None:
        for name, options in _HYDRAX.items():
            found[name] = stack.enter_context(Peer(args.hydrax_python, "hydrax_walker.py", *settings, options))
    return found


def measure(
    contestants: dict[str, Contestant], states: dict[str, Path], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Return what each contestant answered in each counted turn."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, plan in contestants.items():
            answer = plan(states[name])
            if turn:
                answers[name].append(answer)
                print(f"{name:25} {1000 * statistics.median(answer['seconds']):8.2f} ms a plan", flush=True)
    return answers


def summarise(answers: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return, by contestant, medians over all plans, and how many times faster wmkit is.

    Processor time is that of all cores; other work on the machine hardly changes it.
    """
    medians = {name: statistics.median(chain(*(turn["seconds"] for turn in turns))) for name, turns in answers.items()}
    cpu = {
        name: statistics.median(turn["cpu_seconds"] / len(turn["seconds"]) for turn in turns)
        for name, turns in answers.items()
    }
    return {
        name: {
            "plans_per_second": 1 / medians[name],
            "milliseconds": 1000 * medians[name],
            "plans_per_second_by_turn": [1 / statistics.median(turn["seconds"]) for turn in turns],
            "wmkit_times_faster": medians[name] / medians["wmkit"],
            "cpu_milliseconds": 1000 * cpu[name],
            "wmkit_times_faster_by_cpu": cpu[name] / cpu["wmkit"],
        }
        for name, turns in answers.items()
    }


def main(args: Args) -> None:
    """Walk, let everyone plan along the walk, print and write the result."""
    torch.set_num_threads(1)
    mj_model = mujoco.MjModel.from_xml_path(str(_XML))
    ours = Wmkit(args, mj_model)
    result: dict[str, Any] = {"machine": provenance() | {"mujoco": mujoco.__version__}}
    result["settings"] = {name: str(value) for name, value in asdict(args).items()}
    with ExitStack() as stack:
        others = peers(args, stack)
        result["peers"] = {name: peer.ask(do="describe") for name, peer in others.items()}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        walked, result["walk_metres_per_second"] = ours.walk(mj_model, args.steps)
        np.savez(folder / "all.npz", states=walked)
        np.savez(folder / "few.npz", states=walked[:: -(-args.steps // args.exact_steps)])
        contestants: dict[str, Contestant] = {"wmkit": ours.plan, "physics": BarePhysics(args, mj_model).plan}
        contestants |= {name: peer.plan for name, peer in others.items()}
        states = {name: folder / ("few.npz" if name == "hydrax" else "all.npz") for name in contestants}
        result["plans"] = summarise(measure(contestants, states, args.rounds))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, plan in result["plans"].items():
        wall, cpu = plan["wmkit_times_faster"], plan["wmkit_times_faster_by_cpu"]
        rate = plan["plans_per_second"]
        print(f"{name:25} {rate:7.2f} plans a second; wmkit is {wall:.2f} times as fast, {cpu:.2f} by processor time")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
