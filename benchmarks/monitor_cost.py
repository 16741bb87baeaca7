"""What the surprise monitor costs beside the control loop that it watches.

    python benchmarks/monitor_cost.py --calibration runs/monitor

A controller plays PushT, one environment, while the monitor is asked at the start of each model step, where the
controller encodes the picture and plans. Its time is put beside the control period and beside the decision.
"""

# pyright: reportMissingImports=false

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from wmkit import SurpriseMonitor
from wmkit.control.controller import Controller
from wmkit.data.recording import load_task
from wmkit.evaluation import suite
from wmkit.evaluation.runner import begin_pairs
from wmkit.provenance import provenance
from wmkit.scripts.assembly import controller_maker, load_model, resolve_planning

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Args:
    """What to time."""

    model: str = "pretrained:pusht-tiny"
    """Folder of the model, or pretrained:NAME."""
    env: str = "pusht"
    """Environment."""
    calibration: str | None = None
    """Folder of the calibration; by default the model's."""
    episodes: int = 20
    """Episodes, after two that are not timed."""
    threads: int = 1
    """Of torch."""
    out: Path = _HERE / "results" / "monitor_cost.json"
    """JSON file of the result."""


def played(args: Args) -> Controller:
    """Return a controller that has played all episodes, watched."""
    task = load_task(args.env)
    model, folder = load_model(args.model)
    planning = resolve_planning(getattr(model, "metadata", {}), {})
    made = controller_maker(model, planning, 0)(1)
    monitor = SurpriseMonitor.from_pretrained(args.calibration or folder, model, task=task.name)
    controller = Controller(made.planner, made._objective, execute=made.execute, monitor=monitor)
    pairs = suite.obtain(task, "short", args.episodes + 2, folder=folder).manifest
    size = next(iter(model.spec.observations.values())).shape[0]
    env = task.make_vector(num_envs=1, obs_type="pixels", image_size=size)
    for number in range(len(pairs.pairs)):
        if number == 2:
            controller.watch.seconds.clear()
            controller.decisions.clear()
        seen, start = begin_pairs(env, pairs, np.array([number]))
        controller.reset()
        controller.set_goal(dict(start.goal_observations), steps=25)
        for _ in range(pairs.pairs[number].budget):
            seen = env.step(controller.act(seen).astype(np.float64))[0]
    env.close()
    return controller


def main(args: Args) -> None:
    """Time, print and write."""
    torch.set_num_threads(args.threads)
    controller, task = played(args), load_task(args.env)
    watched, decided = (1e3 * np.array(x) for x in (controller.watch.seconds, controller.decisions))
    period = 1e3 * task.seconds_per_step
    found = {
        "monitor_ms": {"p50": float(np.median(watched)), "p99": float(np.quantile(watched, 0.99))},
        "decision_ms": {"p50": float(np.median(decided)), "p99": float(np.quantile(decided, 0.99))},
        "control_period_ms": period,
        "share_of_control_period": float(np.median(watched)) / period,
        "share_of_model_step": float(np.median(watched)) / (period * controller.model.spec.action_repeat),
        "share_of_decision": float(np.median(watched / decided)),
        "model_steps": len(watched),
    }
    print(json.dumps(found, indent=2))
    config = {name: str(value) for name, value in asdict(args).items() if name not in ("out", "calibration")}
    args.out.write_text(json.dumps({"result": found, "config": config, "provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
