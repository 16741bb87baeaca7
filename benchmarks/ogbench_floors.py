"""Floors and bounds on OGBench's cube, by the papers' pairs and by pairs that are not solved at the start.

    pip install 'wmkit[ogbench]'
    wmkit collect ogbench-cube --episodes 500 --noise 0.05 --linger 200 --env obs_type=state --out data/ogbench
    python benchmarks/ogbench_floors.py data/ogbench

The agents need no model: random actions and holding still below, the recorded actions and the scripted expert above.
"""

# pyright: reportMissingImports=false

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import load_task
from wmkit.evaluation import evaluate, needs_motion, suite
from wmkit.evaluation.agents import Agent, ExpertAgent, ReplayAgent
from wmkit.evaluation.report import Row, group_lines, make_row
from wmkit.provenance import provenance
from wmkit.tasks import Task

_HERE = Path(__file__).resolve().parent
_LEFT_OUT = ("outcomes", "settled", "decision", "seconds")
"""Fields of a row that would fill the file."""


@dataclass(frozen=True)
class Args:
    """What to run."""

    data: tyro.conf.Positional[Path]
    """Data set whose held-out episodes give the pairs."""
    task: str = "ogbench-cube"
    """Registered name of the environment, or module:attribute."""
    protocols: tuple[str, ...] = ("papers", "short")
    """Kinds of pairs."""
    pairs: int = 200
    """Pairs of each protocol."""
    seed: int = 0
    """Of the draw and of the agents."""
    bounds: bool = True
    """Run the recorded actions and the expert, too."""
    out: Path = _HERE / "results" / "ogbench_floors.json"
    """JSON file of the result."""


def measure(args: Args, task: Task, protocol: str) -> dict[str, Any]:
    """Run all agents on the pairs of one protocol; print and return what they reached."""
    manifest = suite.obtain(task, protocol, args.pairs, seed=args.seed, data=args.data).manifest
    moved = needs_motion(task, manifest.starts, manifest.goals)
    agents: list[tuple[str, Agent]] = [("floor", agent) for agent in suite.floors(task, args.seed)]
    if args.bounds:
        agents += [("bound", ReplayAgent(task)), ("bound", ExpertAgent(task, args.seed))]
    rows: list[Row] = []
    for kind, agent in agents:
        rows.append(make_row(agent.name, kind, evaluate(task, manifest, agent), moved=moved))
        low, high = rows[-1].interval
        print(
            f"{protocol:<7} {agent.name:<11} {rows[-1].successes}/{args.pairs}, {100 * low:.0f} to {100 * high:.0f} %, "
            f"settled {rows[-1].strict}",
            flush=True,
        )
    print("\n".join([manifest.remark, *group_lines(rows)]))
    kept = [{name: value for name, value in asdict(row).items() if name not in _LEFT_OUT} for row in rows]
    return {"manifest": manifest.sha256, "excluded": dict(manifest.excluded), "rows": kept}


def main(args: Args) -> None:
    """Run the protocols and write the JSON."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    task, metadata = load_task(args.task), EpisodeStore.open(args.data).metadata
    recorded = {
        name: getattr(metadata, name) for name in ("episodes", "policy", "noise", "linger", "max_steps", "seed")
    }
    result = {
        "environment": task.name,
        "pairs": args.pairs,
        "seed": args.seed,
        "data": recorded | {"fingerprint": EpisodeStore.open(args.data).fingerprint},
        "protocols": {protocol: measure(args, task, protocol) for protocol in args.protocols},
        "ogbench": importlib.metadata.version("ogbench"),
        "mujoco": importlib.metadata.version("mujoco"),
        "provenance": provenance(),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))
