"""Whether plans keep a deadline: one environment at a time, with budgets of seconds.

    python benchmarks/deadlines.py pretrained:pusht-tiny --env pusht

Each row gives CEM far more to do than the deadline allows (`--samples` x `--iterations`), so that the budget decides.
The seconds are those of `Planner.plan`, the first decision left out; encoding comes before and is not in them.
"""

# pyright: reportMissingImports=false

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from wmkit.contracts import Context, Objective, Plan, PlanningBudget, WorldModel
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


@dataclass
class Recorded:
    """A planner that keeps what its plans took."""

    planner: CEM
    seconds: list[float] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)

    @property
    def model(self) -> WorldModel:
        """The planner's model."""
        return self.planner.model

    @property
    def horizon(self) -> int:
        """The planner's horizon."""
        return self.planner.horizon

    def plan(
        self,
        context: Context,
        objective: Objective,
        warm_start: torch.Tensor | None = None,
        budget: PlanningBudget | None = None,
        *,
        horizon: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Plan and keep the numbers."""
        plan = self.planner.plan(context, objective, warm_start, budget, horizon=horizon, generator=generator)
        self.seconds.append(plan.seconds)
        self.iterations.append(plan.iterations)
        return plan


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
            taken = 1000 * np.array(recorded.seconds[1:])
            row = {
                "late": float((taken > limit).mean()),
                "p50_ms": float(np.median(taken)),
                "p99_ms": float(np.quantile(taken, 0.99)),
                "max_ms": float(taken.max()),
                "decisions": len(taken),
                "mean_iterations": float(np.mean(recorded.iterations)),
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
