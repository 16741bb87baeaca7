"""Latency and success with plans made ahead, beside planning on the spot.

    python benchmarks/speculation.py pretrained:pusht-tiny --env pusht
    wmkit quickstart --out runs/quickstart && python benchmarks/speculation.py runs/quickstart/model --env two-room \
        --protocol cross --data runs/quickstart/data

One environment at a time. `Controller` and `SpeculativeController` meet the same pairs with the same planner, settings
and seeds, calm and disturbed: with the probability `--chance` one random action replaces the commanded ones for a whole
model step, the same draws for both. An episode ends with its success or its budget. A decision's latency is what `act`
takes from the observation to the plan, encoding included; drafting happens between two calls and is reported apart.
With `--pace` one more row drafts in the thread, while each environment step lasts that many seconds.
"""

# pyright: reportMissingImports=false

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from wmkit.control import Controller, SpeculativeController
from wmkit.data.recording import load_task
from wmkit.evaluation import suite
from wmkit.evaluation.manifest import Manifest
from wmkit.evaluation.runner import reset_to
from wmkit.evaluation.statistics import compare, wilson
from wmkit.planners import GoalObjective
from wmkit.provenance import provenance
from wmkit.scripts.assembly import controller_maker, load_model, resolve_planning
from wmkit.tasks import Task

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Args:
    """What to run."""

    model: tyro.conf.Positional[str]
    """Folder of a model, or pretrained:NAME."""
    env: str
    """Environment."""
    protocol: str = "short"
    """Protocol of the pairs."""
    data: Path | None = None
    """Data set whose held-out episodes give the pairs, where the model's folder has none."""
    manifest: Path | None = None
    """File of pairs drawn before."""
    episodes: int = 200
    """Pairs."""
    drafts: tuple[int, ...] = (1, 4)
    """Outcomes planned for, a row each; 1 is the prediction alone."""
    spread: str = "errors"
    """Where they come from."""
    tolerance: float | None = None
    """Largest distance of a hit; by default the quantile of the recorded errors."""
    quantile: float = 0.75
    """Which."""
    execute: int | None = None
    """Model steps executed before planning anew; by default the model's own."""
    chance: float = 0.1
    """Probability of a disturbance in a model step."""
    pace: float = 0.0
    """Seconds of an environment step in the row that drafts in the background; 0 leaves the row out."""
    threads: int = 1
    """PyTorch's threads."""
    seed: int = 0
    """Seed of planners and disturbances."""
    out: Path | None = None
    """JSON file of the result; by default results/speculation_ENV.json."""


@dataclass
class Run:
    """What one controller did.

    Attributes:
        success: of each pair.
        kinds: of each decision: "first" of an episode, "hit", or "planned".
        speculating: seconds of each call of `speculate` that drafted.
    """

    success: list[bool] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    speculating: list[float] = field(default_factory=list)


def pushes(task: Task, manifest: Manifest, number: int, repeat: int, args: Args) -> dict[int, np.ndarray]:
    """Return the model steps of an episode that are disturbed, with the action (1, action_size) that replaces them."""
    dice = np.random.default_rng([args.seed, 77, number])
    steps = -(-manifest.pairs[number].budget // repeat)
    hit = dice.random(steps) < args.chance
    actions = dice.uniform(task.action_low, task.action_high, (steps, 1, len(task.action_low)))
    return {int(step): actions[step] for step in np.flatnonzero(hit)}


def episode(
    env: Any,
    task: Task,
    manifest: Manifest,
    number: int,
    controller: Controller,
    shrink: bool,
    pushed: Mapping[int, np.ndarray],
    pace: float,
    run: Run,
) -> None:
    """Run one episode and write down what happened."""
    pair, row = manifest.pairs[number], slice(number, number + 1)
    observation, info = reset_to(env, [pair], manifest.starts[row], manifest.goals[row], manifest.seed)
    steps = pair.goal_row - pair.start_row if shrink and pair.episode >= 0 else None
    controller.reset()
    controller.set_goal({"pixels": np.array(info["goal_pixels"])}, steps=steps)
    repeat, done = controller.model.spec.action_repeat, False
    for step in range(pair.budget):
        began, before = time.perf_counter(), _state(controller)
        action = controller.act({"pixels": observation["pixels"]})
        run.kinds += _kinds(before, _state(controller), step)
        if isinstance(controller, SpeculativeController) and not pace:
            start = time.perf_counter()
            run.speculating += [time.perf_counter() - start] if controller.speculate() else []
        time.sleep(max(0.0, pace - (time.perf_counter() - began)))
        observation, _, _, _, info = env.step(pushed.get(step // repeat, action).astype(np.float64))
        done = bool(task.success(np.array(info["state"]), manifest.goals[row], manifest.rule, False)[0])
        if done:
            break
    run.success.append(done)


def _state(controller: Controller) -> tuple[int, int]:
    """Return how many decisions there were, and how many of them hit."""
    hits = controller.counts.hits if isinstance(controller, SpeculativeController) else 0
    return len(controller.decisions), hits


def _kinds(before: tuple[int, int], after: tuple[int, int], step: int) -> list[str]:
    if after[0] == before[0]:
        return []
    return ["first" if step == 0 else "hit" if after[1] > before[1] else "planned"]


def run_all(
    args: Args, task: Task, manifest: Manifest, controller: Controller, planning: Mapping[str, Any], disturbed: bool
) -> Run:
    """Run every pair with one controller, which keeps what it recorded from episode to episode."""
    run, size = Run(), controller.model.spec.observations["pixels"].shape[0]
    background = isinstance(controller, SpeculativeController) and controller.background
    env = task.make_vector(num_envs=1, obs_type="pixels", image_size=size)
    try:
        for number in range(len(manifest.pairs)):
            repeat = controller.model.spec.action_repeat
            pushed = pushes(task, manifest, number, repeat, args) if disturbed else {}
            if controller.generator is not None:
                controller.generator.manual_seed(args.seed * 1_000_003 + number)
            pace = args.pace if background else 0.0
            episode(env, task, manifest, number, controller, planning["shrink"], pushed, pace, run)
    finally:
        env.close()
    return run


def makers(args: Args, model: Any, planning: Mapping[str, Any]) -> dict[str, Callable[[], Controller]]:
    """Return what makes the controllers, by row."""
    plain = controller_maker(model, planning, args.seed)

    def shared() -> dict[str, Any]:
        names = ("execute", "min_horizon", "warm_start")
        return {name: planning[name] for name in names} | {"generator": torch.Generator()}

    def objective(goal: torch.Tensor) -> GoalObjective:
        return GoalObjective(goal, reduce=planning["objective"])

    def speculative(drafts: int, background: bool) -> Controller:
        own: dict[str, Any] = {name: getattr(args, name) for name in ("spread", "tolerance", "quantile", "seed")}
        own |= {"drafts": drafts, "background": background}
        return SpeculativeController(plain(1).planner, objective, **own, **shared())

    rows: dict[str, Callable[[], Controller]] = {
        "controller": lambda: Controller(plain(1).planner, objective, **shared())
    }
    for drafts in args.drafts:
        rows[f"{drafts} drafts"] = lambda drafts=drafts: speculative(drafts, False)
    if args.pace:
        rows[f"{args.drafts[-1]} in the thread"] = lambda: speculative(args.drafts[-1], True)
    return rows


def describe(controller: Controller, run: Run) -> dict[str, Any]:
    """Return the numbers of one row, times in milliseconds; its first 3 decisions are a warm-up."""
    kinds, times = np.array(run.kinds[3:]), np.array(controller.decisions[3:])
    solved = sum(run.success)
    found: dict[str, Any] = {
        "success": solved / len(run.success),
        "interval": list(wilson(solved, len(run.success))),
        "decisions": len(times),
        "latency_ms": _quantiles(times),
        "latency_ms_by_kind": {str(kind): _quantiles(times[kinds == kind]) for kind in np.unique(kinds)},
    }
    if isinstance(controller, SpeculativeController):
        found |= asdict(controller.counts) | {"hit_rate": controller.counts.hit_rate}
        found["distance"] = {str(q): float(np.quantile(controller.distances, q)) for q in (0.1, 0.5, 0.9, 0.99)}
        found["drafting_ms"] = _quantiles(np.array(controller.drafting))
        found["speculating_ms"] = _quantiles(np.array(run.speculating))
    return found


def _quantiles(seconds: np.ndarray) -> dict[str, float]:
    numbers = {"p50": np.quantile(seconds, 0.5), "p99": np.quantile(seconds, 0.99)} if len(seconds) else {}
    return {"count": len(seconds), **{name: round(1e3 * float(value), 4) for name, value in numbers.items()}}


def condition(args: Args, task: Task, manifest: Manifest, model: Any, planning: dict[str, Any], name: str) -> dict:
    """Return the rows of one condition and their comparisons with the plain controller."""
    rows: dict[str, Any] = {}
    solved: dict[str, list[bool]] = {}
    for row, make in makers(args, model, planning).items():
        controller = make()
        run = run_all(args, task, manifest, controller, planning, name == "disturbed")
        rows[row], solved[row] = describe(controller, run), run.success
        if isinstance(controller, SpeculativeController):
            controller.close()
            versus = compare(solved["controller"], run.success)
            rows[row]["against_controller"] = asdict(versus) | {
                "speedup_p50": rows["controller"]["latency_ms"]["p50"] / rows[row]["latency_ms"]["p50"]
            }
        _show(name, row, rows[row])
    return rows


def _show(name: str, row: str, found: Mapping[str, Any]) -> None:
    latency, extra = found["latency_ms"], ""
    if "hit_rate" in found:
        extra = f"  hits {found['hit_rate']:.1%}  x{found['against_controller']['speedup_p50']:.1f}"
    print(
        f"{name:<10}{row:<16}success {found['success']:6.1%}  p50 {latency['p50']:6.2f} ms  "
        f"p99 {latency['p99']:6.2f} ms{extra}",
        flush=True,
    )


def encoding_ms(model: Any) -> dict[str, float]:
    """Time the encoding of one frame."""
    size = model.spec.observations["pixels"].shape[0]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 1, size, size, 3), dtype=np.uint8)
    times = []
    for _ in range(220):
        began = time.perf_counter()
        model.encode({"pixels": pixels})
        times.append(time.perf_counter() - began)
    return _quantiles(np.array(times[20:]))


def main(args: Args) -> None:
    """Run both conditions, print them, and write the JSON."""
    torch.set_num_threads(args.threads)
    task = load_task(args.env)
    model, folder = load_model(args.model)
    planning = resolve_planning(model.metadata, {"execute": args.execute})
    found = suite.obtain(task, args.protocol, args.episodes, data=args.data, path=args.manifest, folder=folder)
    manifest = replace(found.manifest, pairs=found.manifest.pairs[: args.episodes])
    result = {
        "settings": {**asdict(replace(args, data=None, manifest=None, out=None)), "model": Path(args.model).name},
        "planning": planning,
        "manifest": found.manifest.sha256,
        "encoding_ms": encoding_ms(model),
        "rows": {name: condition(args, task, manifest, model, planning, name) for name in ("calm", "disturbed")},
        "provenance": provenance(),
    }
    out = args.out or _HERE / "results" / f"speculation_{args.env}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
