"""Whether plans keep a deadline: one environment at a time, with budgets of seconds.

    python benchmarks/deadlines.py pretrained:pusht-tiny --env pusht

Each row gives CEM far more to do than the deadline allows (`--samples` x `--iterations`), so that the budget decides.
The seconds are those of `Planner.plan`, the first decision left out; encoding comes before and is not in them.
"""

# pyright: reportMissingImports=false

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from recorded import Recorded

from wmkit.contracts import PlanningBudget
from wmkit.control.controller import Controller
from wmkit.data.recording import load_task
from wmkit.evaluation import ModelAgent, evaluate, suite
from wmkit.planners import CEM, GoalObjective, InverseDynamicsProposal
from wmkit.provenance import provenance
from wmkit.scripts.assembly import load_model, resolve_planning

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
    episodes: int = 50
    """Pairs, one after the other."""
    milliseconds: tuple[float, ...] = (5.0, 10.0, 20.0, 50.0)
    """Deadlines."""
    samples: int = 256
    """Candidates of an iteration, without a deadline."""
    iterations: int = 30
    """Refinements, without a deadline."""
    threads: int = 1
    """Of torch."""
    out: Path = _HERE / "results" / "deadlines.json"
    """JSON file of the result."""


def main(args: Args) -> None:
    """Run every deadline with both schedules, print and write the JSON."""
    torch.set_num_threads(args.threads)
    task = load_task(args.env)
    model, folder = load_model(args.model)
    planning = resolve_planning(model.metadata, {})
    manifest = suite.obtain(task, args.protocol, args.episodes, folder=folder).manifest
    rows: dict[str, Any] = {}
    for limit in args.milliseconds:
        for schedule in ("fit", "truncate"):
            planner = CEM(
                model,
                horizon=planning["horizon"],
                samples=args.samples,
                iterations=args.iterations,
                elites=args.samples // 8,
                std=planning["std"],
                proposal=InverseDynamicsProposal(model),
                schedule=schedule,
                budget=PlanningBudget(seconds=limit / 1000),
            )
            recorded = Recorded(planner)
            agent = ModelAgent(lambda batch, planner=recorded: Controller(planner, GoalObjective))
            solved = evaluate(task, manifest, agent, batch=1).success
            taken = 1000 * np.array([plan.seconds for plan in recorded.plans[1:]])
            row = {
                "late": float((taken > limit).mean()),
                "p50_ms": float(np.median(taken)),
                "p99_ms": float(np.quantile(taken, 0.99)),
                "max_ms": float(taken.max()),
                "decisions": len(taken),
                "mean_iterations": float(np.mean([plan.iterations for plan in recorded.plans])),
                "success": float(solved.mean()),
            }
            rows[f"{schedule} {limit:g} ms"] = row
            print(f"{schedule:<9}{limit:5g} ms: " + ", ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    settings = {name: value for name, value in asdict(args).items() if name != "out"}
    settings["model"] = Path(args.model).name
    result = {"settings": settings, "manifest": manifest.sha256, "rows": rows, "provenance": provenance()}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
