"""Returns of planning through the walker's true simulator: stand, walk and run, in simulated time.

    python benchmarks/walker_returns.py

Every control step is planned from the state as it is, by MPPI that scatters smooth changes around the last plan; the
environment waits meanwhile. The planner's physics may take longer steps than the environment's. Episodes start in
dm-control's random poses and last 1000 steps of reward up to 1. They run side by side, one planner for all.
"""

# pyright: reportMissingImports=false

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from wmkit.control.controller import Controller
from wmkit.data.recording import load_task
from wmkit.envs.walker import make_model
from wmkit.models import SimulatorModel
from wmkit.planners import MPPI, RewardObjective
from wmkit.provenance import provenance

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Args:
    """What to run."""

    tasks: tuple[str, ...] = ("stand", "walk", "run")
    """Rewards, by name."""
    samples: tuple[int, ...] = (64, 64, 128)
    """Candidates of an iteration, for each task."""
    iterations: tuple[int, ...] = (1, 1, 2)
    """Refinements of a plan, for each task."""
    episodes: int = 10
    """Of each task, side by side."""
    steps: int = 1000
    """Control steps of an episode."""
    horizon: tuple[int, ...] = (32, 32, 20)
    """Control steps of a plan, 0.025 s each, for each task."""
    knots: int = 5
    """Of the straight lines that each candidate changes the last plan by."""
    std: float = 1.0
    """Of the change in the first iteration, as a fraction of half the action range."""
    last_std: float = 0.5
    """The same in the last iteration, where there are several."""
    temperature: float = 0.1
    """As a fraction of the standard deviation of the candidates' costs."""
    timestep: float = 0.005
    """Of the planner's physics, in seconds; the environment's is 0.0025 always."""
    seed: int = 0
    """Of the first poses and of the planner."""
    out: Path = _HERE / "results" / "walker_returns.json"
    """JSON file of the result."""


def episodes(args: Args, name: str, samples: int, iterations: int, horizon: int) -> dict[str, Any]:
    """Run the episodes of one task; return their returns and what a step took."""
    task = load_task("walker")
    physics = make_model()
    physics.opt.timestep = args.timestep
    model = SimulatorModel.from_mujoco(physics, control_seconds=task.seconds_per_step)
    planner = MPPI(
        model,
        horizon=horizon,
        samples=samples,
        iterations=iterations,
        std=(args.std, args.last_std),
        temperature=args.temperature,
        noise_knots=args.knots,
        seed=args.seed,
    )
    controller = Controller(planner, RewardObjective(task.rewards[name], "state"))
    env = task.make_vector(num_envs=args.episodes, obs_type="state", task=name)
    observations, _ = env.reset(seed=args.seed)
    rewards, began, planning = np.zeros((args.steps, args.episodes)), time.perf_counter(), 0.0
    for step in range(args.steps):
        start = time.perf_counter()
        actions = controller.act(observations)
        planning += time.perf_counter() - start
        observations, rewards[step], *_ = env.step(actions)
        if (step + 1) % 100 == 0:
            done = rewards[: step + 1].mean()
            print(f"{name:<6}{step + 1:5} steps: {done:.3f} so far, {time.perf_counter() - began:.0f} s", flush=True)
    env.close()
    returns = rewards.sum(axis=0)
    scale = 1000 / args.steps
    return {
        "samples": samples,
        "iterations": iterations,
        "horizon": horizon,
        "returns": (scale * returns).round(1).tolist(),
        "mean": float(scale * returns.mean()),
        "standard_error": float(scale * returns.std(ddof=1) / np.sqrt(args.episodes)) if args.episodes > 1 else None,
        "after_100_steps": (rewards[100:].mean(axis=0)).round(3).tolist() if args.steps > 100 else None,
        "by_hundred_steps": rewards.reshape(-1, min(100, args.steps), args.episodes)
        .mean(axis=(1, 2))
        .round(3)
        .tolist(),
        "plan_ms_of_one_episode": 1000 * planning / args.steps / args.episodes,
    }


def main(args: Args) -> None:
    """Run the tasks, print them and write the JSON."""
    if not len(args.tasks) == len(args.samples) == len(args.iterations) == len(args.horizon):
        raise SystemExit("give one number of samples, of iterations and of steps of a plan for each task")
    each = zip(args.tasks, args.samples, args.iterations, args.horizon, strict=True)
    tasks = {name: episodes(args, name, *numbers) for name, *numbers in each}
    for name, found in tasks.items():
        print(f"{name:<6}{found['mean']:8.1f} of 1000, {found['plan_ms_of_one_episode']:.1f} ms a plan")
    settings = {name: value for name, value in asdict(args).items() if name != "out"}
    args.out.write_text(json.dumps({"settings": settings, "tasks": tasks, "provenance": provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
