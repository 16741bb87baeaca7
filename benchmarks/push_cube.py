"""PushCube on this machine: what its expert solves, and how many frames a second there are on one core.

    python benchmarks/push_cube.py
    python benchmarks/push_cube.py --scenes 100 --rounds 1 --out /tmp/push_cube.json

The expert meets as many drawn scenes in each of three settings: as they are, with noise on its actions, and with all
variations drawn. Strict success is half the tolerance over five steps on end. Then the pictures, of goals and of a
hundred episodes, that show nothing of the cube are counted, for each camera. The frames are of episodes that the
expert solved beforehand, so that the cube is touched as much as in data; a frame is a step and its pictures, "state" is
without pictures, and "physics" is the simulator that plans are searched with, on one thread. A unit of work is one
control step of one environment. Leave the machine alone while it runs.
"""

# pyright: reportMissingImports=false

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from wmkit.envs.push_cube import PushCubeEnv, PushCubeExpert, PushCubeSimulator, PushCubeVectorEnv, is_success
from wmkit.evaluation.statistics import wilson
from wmkit.provenance import provenance
from wmkit.timing import Timed, per_unit, stopwatch, take_turns

_HERE = Path(__file__).resolve().parent

SETTINGS: dict[str, dict[str, Any]] = {
    "as is": {},
    "action noise 0.2": {"noise": 0.2},
    "all variations drawn": {"randomise": "all"},
}
"""What the expert is tried in."""
_SIDE_BY_SIDE = 100
_CAMERAS = ("front", "side", "top")
_SETTLED = 5
"""Steps on end that strict success takes."""


@dataclass(frozen=True)
class Args:
    """What to run."""

    scenes: int = 500
    """Scenes that the expert meets in each setting."""
    max_steps: int = 150
    """Control steps that it has."""
    seconds: float = 2.0
    """Seconds that one turn of a case lasts."""
    rounds: int = 5
    """Turns of each case that are timed; one more before them is not."""
    batch: int = 32
    """Environments that are stepped together."""
    image_size: int = 64
    """Pixels of a side."""
    seed: int = 0
    """Of the scenes, the noise and the expert."""
    out: Path = _HERE / "results" / "push_cube.json"
    """JSON file of the result."""


@dataclass(frozen=True)
class Solved:
    """How the expert did on B scenes.

    Attributes:
        first: (B,), step of the first success, from 1; 0 where there was none.
        strict: (B,) bool.
        actions: (steps, B, 2), as executed.
    """

    first: np.ndarray
    strict: np.ndarray
    actions: np.ndarray


def solve(count: int, seed: int, steps: int, noise: float = 0.0, randomise: str | tuple[str, ...] = ()) -> Solved:
    """Let the expert act in drawn scenes, in all of them until the last is solved strictly."""
    env = PushCubeVectorEnv(count, obs_type="state", randomise=randomise, autoreset_mode="disabled")
    info, rng = env.reset(seed=seed)[1], np.random.default_rng(seed)
    goals, experts = info["goal_state"], [PushCubeExpert(seed + row) for row in range(count)]
    for expert, state, goal, variation in zip(experts, info["state"], goals, env.variations(), strict=True):
        expert.reset(state, goal, variation)
    first, settled, longest = np.zeros((3, count), int)
    taken = []
    for step in range(1, steps + 1):
        actions = np.stack([expert.act(state) for expert, state in zip(experts, info["state"], strict=True)])
        taken.append(np.clip(actions + noise * rng.standard_normal(actions.shape), -1, 1))
        info = env.step(taken[-1])[-1]
        first[(first == 0) & is_success(info["state"], goals)] = step
        settled = np.where(is_success(info["state"], goals, strict=True), settled + 1, 0)
        longest = np.maximum(longest, settled)
        if (longest >= _SETTLED).all():
            break
    env.close()
    return Solved(first, longest >= _SETTLED, np.stack(taken))


def expert(args: Args, **setting: Any) -> dict[str, Any]:
    """Return shares with intervals, and steps, of the expert in one setting."""
    sizes = [min(_SIDE_BY_SIDE, args.scenes - start) for start in range(0, args.scenes, _SIDE_BY_SIDE)]
    seeds = [args.seed + _SIDE_BY_SIDE * number for number in range(len(sizes))]
    parts = [solve(size, seed, args.max_steps, **setting) for size, seed in zip(sizes, seeds, strict=True)]
    first, strict = (np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "strict"))
    steps = np.quantile(first[first > 0], (0.5, 0.9, 0.99)).tolist() if first.any() else None
    return {
        "scenes": args.scenes,
        "success": _share(first > 0),
        "strict": _share(strict),
        "steps_p50_p90_p99": steps,
    }


def _share(hits: np.ndarray) -> dict[str, Any]:
    """Return a share with Wilson's 95 % interval."""
    return {"share": float(hits.mean()), "interval": wilson(int(hits.sum()), len(hits))}


def hidden(args: Args) -> dict[str, Any]:
    """Return for each camera the shares of goals' and of episodes' pictures in which no pixel is the cube's."""
    env = PushCubeVectorEnv(_SIDE_BY_SIDE, image_size=args.image_size, cameras=_CAMERAS, autoreset_mode="disabled")
    seen: dict[str, list[np.ndarray]] = {}
    for seed in range(args.seed, args.seed + args.scenes, _SIDE_BY_SIDE):
        info = env.reset(seed=seed)[1]
        for name in (name for name in info if name.startswith("goal_pixels")):
            seen.setdefault(name, []).append(_unseen(info[name]))
    env.reset(seed=args.seed)
    for action in solve(_SIDE_BY_SIDE, args.seed, args.max_steps).actions:
        for name, pixels in env.step(action)[0].items():
            seen.setdefault(name, []).append(_unseen(pixels))
    env.close()
    return {name: {"share": float(np.mean(values)), "pictures": int(np.size(values))} for name, values in seen.items()}


def _unseen(pixels: np.ndarray) -> np.ndarray:
    """Return whether pictures (B, S, S, 3) show nothing red, (B,) bool."""
    red = pixels[..., 0].astype(int) > pixels[..., 1].astype(int) + 60
    return np.logical_not(red.any(axis=(1, 2)))


def rates(args: Args) -> dict[str, Timed]:
    """Time all cases in turns; what is timed is the seconds of one step of all environments of a case."""
    actions = solve(args.batch, args.seed, args.max_steps).actions
    options: dict[str, Any] = {"image_size": args.image_size}
    contestants: dict[str, Callable[[], float]] = {}
    work: dict[str, float] = {}
    two = ("front", "side")
    for case, chosen in {
        "pixels": options,
        "two cameras": options | {"cameras": two},
        "state": {"obs_type": "state"},
    }.items():
        one, many = PushCubeEnv(**chosen), PushCubeVectorEnv(args.batch, autoreset_mode="disabled", **chosen)
        contestants[case] = per_unit(_stepper(one, args.seed, actions[:, 0]), args.seconds)
        contestants[f"{case}, batch {args.batch}"] = per_unit(_stepper(many, args.seed, actions), args.seconds)
        work |= {case: 1.0, f"{case}, batch {args.batch}": float(args.batch)}
    contestants["physics"] = _physics(args, actions)
    work["physics"] = float(actions.shape[0] * args.batch)
    return take_turns(contestants, args.rounds, work=work)


def _stepper(env: Any, seed: int, actions: np.ndarray) -> Callable[[int], float]:
    """Return a function that takes so many steps of recorded episodes, again and again, and returns their seconds."""
    steps = _endless(env, seed, actions)
    return lambda count: stopwatch(lambda: [next(steps) for _ in range(count)])()


def _endless(env: Any, seed: int, actions: np.ndarray) -> Iterator[None]:
    """Take one step at a time, for ever."""
    while True:
        env.reset(seed=seed)
        for action in actions:
            env.step(action)
            yield


def _physics(args: Args, actions: np.ndarray) -> Callable[[], float]:
    """Return a function that simulates the same episodes without any environment, and returns the seconds."""
    env, simulator = PushCubeVectorEnv(args.batch, obs_type="state"), PushCubeSimulator(threads=1)
    states = env.reset(seed=args.seed)[1]["state"]
    env.close()
    return stopwatch(lambda: simulator.rollout(states, actions.swapaxes(0, 1)[:, None]))


def main(args: Args) -> None:
    """Run everything on one core, print it and write the JSON."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    experts = {}
    for name, setting in SETTINGS.items():
        experts[name] = expert(args, **setting)
        parts = [f"{key} {100 * experts[name][key]['share']:.1f} %" for key in ("success", "strict")]
        print(f"expert, {name}: {', '.join(parts)} of {args.scenes}", flush=True)
    unseen = hidden(args)
    print("no cube in the picture: " + ", ".join(f"{name} {each['share']:.1%}" for name, each in unseen.items()))
    timed = rates(args)
    for case, found in timed.items():
        print(f"{case:<24}{found.rate:10,.0f} a second")
    result = {
        "settings": {name: value for name, value in asdict(args).items() if name != "out"},
        "expert": experts,
        "hidden": unseen,
        "rates": {case: found.to_json() for case, found in timed.items()},
        "provenance": provenance(),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
