"""Success against the iterations spent: fixed counts, the certainty stop, and schedules laid out from a budget.

    python benchmarks/budgets.py pretrained:pusht-tiny --env pusht
    wmkit quickstart --out runs/quickstart && python benchmarks/budgets.py runs/quickstart/model --env two-room

Every row plans the same pairs from the same seeds with the model's own settings but for what its name says:

- "fixed I": I iterations, always.
- "certain t": up to `--longest` iterations; a row leaves once its first model step has moved by at most the fraction t
  of its range between two iterations.
- "shared t, I": the same, but a batch may spend I iterations a row on average, and what settled rows give up goes to
  the others, up to `--longest`.
- "fit R", "truncate R": R rollouts a decision, laid out beforehand or cut short, from `--longest` iterations.
"""

# pyright: reportMissingImports=false

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from recorded import Recorded

from wmkit.contracts import Plan, PlanningBudget
from wmkit.control.controller import Controller
from wmkit.data.recording import load_task
from wmkit.evaluation import ModelAgent, evaluate, suite
from wmkit.evaluation.statistics import wilson
from wmkit.planners import CEM, CertaintyStop, GoalObjective, Hold, InverseDynamicsProposal
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
    data: Path | None = None
    """Data set whose held-out episodes give the pairs, where the model's folder has none."""
    manifest: Path | None = None
    """File of pairs drawn before."""
    episodes: int = 200
    """Pairs."""
    seeds: int = 3
    """Runs of each row, with planner seeds 0, 1, ..."""
    longest: int = 12
    """Most iterations of a decision."""
    proposal: str | None = None
    """"inverse" or "gaussian"; by default the model's own."""
    fixed: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    """Iteration counts."""
    tolerances: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    """Of the certainty stop."""
    shared: tuple[int, ...] = (2, 3, 4)
    """Mean iterations of a batch that shares them."""
    rollouts: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Budgets of a decision."""
    out: Path | None = None
    """JSON file of the result; by default results/budgets_ENV.json."""


def variants(args: Args) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each row and the planner's keywords that make it."""
    for count in args.fixed:
        yield f"fixed {count}", {"iterations": count}
    for tolerance in args.tolerances:
        yield f"certain {tolerance}", {"iterations": args.longest, "certainty": CertaintyStop(tolerance=tolerance)}
    for count in args.shared:
        for tolerance in args.tolerances[1::2]:
            certainty = CertaintyStop(tolerance=tolerance, max_iterations=args.longest)
            yield f"shared {tolerance}, {count}", {"iterations": count, "certainty": certainty}
    for rollouts in args.rollouts:
        for schedule in ("fit", "truncate"):
            budget = PlanningBudget(rollouts=rollouts)
            yield f"{schedule} {rollouts}", {"iterations": args.longest, "schedule": schedule, "budget": budget}


def agent_of(
    model: Any, planning: Mapping[str, Any], keywords: Mapping[str, Any], seed: int
) -> tuple[ModelAgent, list[Recorded]]:
    """Return an agent of the model's own settings with the planner's keywords, and its planners as they are made."""
    made: list[Recorded] = []
    own = {name: planning[name] for name in ("horizon", "samples", "elites", "std", "min_std", "proposal_share")}
    hold = model.spec.action_repeat if planning["hold"] == "block" else planning["hold"]

    def make(batch: int) -> Controller:
        proposal = InverseDynamicsProposal(model) if planning["proposal"] == "inverse" else None
        keyed = own | {"parametrisation": Hold(hold), "proposal": proposal, "seed": seed} | dict(keywords)
        made.append(Recorded(CEM(model, **keyed)))
        return Controller(
            made[-1],
            lambda goal: GoalObjective(goal, reduce=planning["objective"]),
            execute=planning["execute"],
            min_horizon=planning["min_horizon"],
            warm_start=planning["warm_start"],
        )

    return ModelAgent(make, shrink=planning["shrink"]), made


def main(args: Args) -> None:
    """Run every row, print it, and write the JSON."""
    task = load_task(args.env)
    model, folder = load_model(args.model)
    planning = resolve_planning(model.metadata, {"proposal": args.proposal})
    pairs = suite.obtain(task, args.protocol, args.episodes, data=args.data, path=args.manifest, folder=folder)
    rows = {}
    for name, keywords in variants(args):
        solved, iterations, began = [], [], time.perf_counter()
        for seed in range(args.seeds):
            agent, made = agent_of(model, planning, keywords, seed)
            solved.append(evaluate(task, pairs.manifest, agent, image_size=_image_size(model)).success)
            iterations += [count for planner in made for plan in planner.plans for count in _counts(plan)]
        hits, total = int(np.sum(solved)), int(np.size(solved))
        rows[name] = {
            "mean_iterations": float(np.mean(iterations)),
            "success": hits / total,
            "interval": list(wilson(hits, total)),
            "by_seed": [int(one.sum()) for one in solved],
            "episodes": total,
            "seconds": time.perf_counter() - began,
        }
        row = rows[name]
        print(f"{name:<18}{row['mean_iterations']:6.2f} iterations {row['success']:7.1%} {row['by_seed']}", flush=True)
    settings = {**asdict(replace(args, data=None, manifest=None, out=None)), "model": Path(args.model).name}
    result = {
        "settings": settings,
        "planning": planning,
        "manifest": pairs.manifest.sha256,
        "rows": rows,
        "provenance": provenance(),
    }
    out = args.out or _HERE / "results" / f"budgets_{args.env}.json"
    out.write_text(json.dumps(result, indent=1, default=str) + "\n")


def _counts(plan: Plan) -> list[int]:
    """Return the iterations of each row of a plan."""
    return [] if plan.row_iterations is None else plan.row_iterations.tolist()


def _image_size(model: Any) -> int:
    return int(model.spec.observations["pixels"].shape[0])


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
