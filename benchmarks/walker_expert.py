"""Returns of the walker's expert, as `wmkit collect walker` records its episodes.

    python benchmarks/walker_expert.py

Episodes start in dm-control's random poses and last 1000 steps of reward up to 1.
"""

# pyright: reportMissingImports=false

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from wmkit.data.recording import Recorder, Settings
from wmkit.provenance import provenance

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Args:
    """What to run."""

    tasks: tuple[str, ...] = ("stand", "walk", "run")
    """Rewards, by name."""
    qualities: tuple[str, ...] = ("expert", "medium")
    """Of the expert, by name."""
    episodes: int = 10
    """Of each task and quality, one after another."""
    steps: int = 1000
    """Control steps of an episode."""
    seed: int = 0
    """Of the first poses and of the expert."""
    out: Path = _HERE / "results" / "walker_expert.json"
    """JSON file of the result."""


def episodes(args: Args, task: str, quality: str) -> dict[str, Any]:
    """Record the episodes of one task and quality; return their returns, for 1000 steps, and what a step took."""
    settings = Settings("walker", seed=args.seed, max_steps=args.steps, reward=task, quality=quality)
    recorder, began, returns = Recorder(settings), time.process_time(), []
    for index in range(args.episodes):
        returns.append(1000 * float(recorder.episode(index).columns["reward"].mean()))
        print(f"{task:<6}{quality:<7} episode {index}: {returns[-1]:.1f} of 1000", flush=True)
    several = args.episodes > 1
    return {
        "returns": [round(value, 1) for value in returns],
        "mean": float(np.mean(returns)),
        "standard_error": float(np.std(returns, ddof=1) / np.sqrt(args.episodes)) if several else None,
        "cpu_ms_per_step": 1000 * (time.process_time() - began) / args.steps / args.episodes,
    }


def main(args: Args) -> None:
    """Run the tasks, print them and write the JSON."""
    torch.set_num_threads(1)
    tasks = {task: {quality: episodes(args, task, quality) for quality in args.qualities} for task in args.tasks}
    for task, found in tasks.items():
        shown = ", ".join(f"{quality} {each['mean']:.1f}" for quality, each in found.items())
        print(f"{task:<6}{shown} of 1000")
    settings = {name: value for name, value in asdict(args).items() if name != "out"}
    args.out.write_text(json.dumps({"settings": settings, "tasks": tasks, "provenance": provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
