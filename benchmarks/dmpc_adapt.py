r"""What fine-tuning the dynamics alone recovers when the robot has changed, by the number of its episodes.

    wmkit collect walker --proposal runs/dmpc/medium/seed0 --episodes 130 --max-steps 250 --noise 0.2 \
        --env variation='{"weak_ankle":1}' --out data/play
    python benchmarks/dmpc_adapt.py data/medium data/play --runs runs/dmpc

All cells plan for walking with the same proposal, trained on the unchanged robot. They differ in robot and dynamics:

- "nominal": the unchanged robot, the dynamics trained on it
- "unadapted": the changed robot, the same dynamics
- "adapted/30": the changed robot, that dynamics fine-tuned on 30 episodes of play data
- "scratch/30": the changed robot, a dynamics trained on the same 30 episodes alone

The share of the loss that is recovered is (adapted - unadapted) / (nominal - unadapted). Its interval resamples seeds
and first poses, the same for the three rows, which start from the same poses. Finished cells are in the JSON file and
are not run again.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from dmpc_common import (
    PARTS,
    RESULTS,
    Cells,
    Planning,
    bootstrap,
    cell_of_returns,
    in_turn,
    load_part,
    play,
    settings_of,
    summary,
    train_part,
)
from dmpc_open_loop import held_out, measure

from wmkit.diffusion.adapt import AdaptSettings, adapt

_PART = {"diffusion": "dynamics", "autoregressive": "autoregressive"}
"""Dynamics -> part of a run."""

_STEPS = (1, 4, 16)
"""Steps ahead of the open-loop errors on play data that stand beside the returns."""


@dataclass(frozen=True)
class Args:
    """What to run."""

    data: tyro.conf.Positional[Path]
    """Folder of episodes of the unchanged robot."""
    play: tyro.conf.Positional[Path]
    """Folder of episodes of the changed robot."""
    runs: Path
    """Where trained parts are, and where missing ones go: RUNS/DATA/seedS/PART."""
    variation: str = '{"weak_ankle": 1.0}'
    """How the robot has changed: JSON of names and strengths, the same as in the play data."""
    episodes: tuple[int, ...] = (10, 30, 100)
    """Of play data."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    only: tuple[str, ...] = ("nominal", "unadapted", "adapted", "scratch")
    """Kinds of cells."""
    train: tuple[str, ...] = ()
    """Changes to every preset, each name=value."""
    dynamics: Literal["diffusion", "autoregressive"] = "diffusion"
    """Which dynamics is planned through and adapted."""
    adapt_steps: int = 600
    """Optimiser steps of the fine-tuning."""
    adapt_lr: float = 3e-4
    """Learning rate of the fine-tuning."""
    planning: Planning = field(default_factory=Planning)
    """How plans are made."""
    play_episodes: int = 20
    """Side by side, for each cell."""
    play_steps: int = 250
    """Control steps of an episode."""
    out: Path = RESULTS / "dmpc_adapt.json"
    """JSON file of the result."""


def run_folder(args: Args, seed: int) -> Path:
    """Return the run of the unchanged robot, trained if need be."""
    folder = args.runs / args.data.name / f"seed{seed}"
    name = _PART[args.dynamics]
    for part in (name, "proposal"):
        train_part(PARTS[part], args.data, folder / part, seed, args.train)
    if name == "dynamics":
        return folder
    run = folder.with_name(f"{folder.name}_{name}")
    with in_turn(run):
        for part, source in (("dynamics", name), ("proposal", "proposal")):
            if not (run / part).exists():
                shutil.copytree(folder / source, run / part)
    return run


def dynamics_folder(args: Args, kind: str, episodes: int, seed: int) -> Path:
    """Return the dynamics of a cell, trained if need be."""
    run = run_folder(args, seed)
    if kind in ("nominal", "unadapted"):
        return run / "dynamics"
    folder = args.runs / f"{args.data.name}-{args.play.name}" / f"seed{seed}" / f"{args.dynamics}_{kind}{episodes}"
    if kind == "scratch":
        return train_part(PARTS[_PART[args.dynamics]], args.play, folder, seed, (*args.train, f"episodes={episodes}"))
    settings = AdaptSettings(episodes=episodes, steps=args.adapt_steps, lr=args.adapt_lr, seed=seed)
    with in_turn(folder):
        if not (folder / "dynamics" / "config.json").exists():
            adapt(run, args.play, folder, settings, show=False)
    return folder / "dynamics"


def cell_of(args: Args, kind: str, episodes: int, seed: int) -> dict[str, Any]:
    """Run the episodes of one cell, and measure its dynamics on held-out play data."""
    model = load_part(dynamics_folder(args, kind, episodes, seed))
    proposal = load_part(run_folder(args, seed) / "proposal")
    agent = args.planning.agent(args.planning.ranked(model, proposal, seed), "walk")
    variation = None if kind == "nominal" else json.loads(args.variation)
    found = cell_of_returns(play(agent, "walk", args.play_episodes, args.play_steps, seed, variation))
    data = args.data if kind == "nominal" else args.play
    return found | {"open_loop": measure(model, held_out(data, max(_STEPS), 16), _STEPS, draws=8)}


def table(cells: dict[str, Any]) -> dict[str, Any]:
    """Return and print the summary of each kind of cell over its seeds, with the share of the loss recovered."""
    names = list(dict.fromkeys(name.rpartition("/")[0] for name in cells))
    groups = {n: [cells[c]["returns"] for c in sorted(cells) if c.rpartition("/")[0] == n] for n in names}
    rows: dict[str, Any] = {name: summary(group) | {"seeds": len(group)} for name, group in groups.items()}
    if "nominal" in groups and "unadapted" in groups:
        drawn = {name: bootstrap(group) for name, group in groups.items()}
        loss, lost = rows["nominal"]["mean"] - rows["unadapted"]["mean"], drawn["nominal"] - drawn["unadapted"]
        rows["loss"] = {"mean": loss, "interval": np.quantile(lost, [0.025, 0.975]).tolist()}
        for name in (name for name in names if "/" in name):
            share = (drawn[name] - drawn["unadapted"]) / lost
            rows[name]["recovered"] = (rows[name]["mean"] - rows["unadapted"]["mean"]) / loss
            rows[name]["recovered_interval"] = np.quantile(share, [0.025, 0.975]).tolist()
    for name, row in rows.items():
        share = f", {row['recovered']:.0%} of the loss recovered" if "recovered" in row else ""
        print(f"{name:<16}{row['mean']:7.1f} [{row['interval'][0]:.1f}, {row['interval'][1]:.1f}]{share}")
    return rows


def main(args: Args) -> None:
    """Run the missing cells and print the table."""
    torch.set_num_threads(1)
    apart = {"data", "play", "runs", "episodes", "seeds", "only", "out"}
    cells = Cells(args.out, settings_of(args, apart))
    for seed in args.seeds:
        for kind in args.only:
            for episodes in args.episodes if kind in ("adapted", "scratch") else (0,):
                name = f"{kind}/{episodes}/seed{seed}" if episodes else f"{kind}/seed{seed}"
                if cells.missing(name):
                    cells.add(name, cell := cell_of(args, kind, episodes, seed))
                    print(f"{name:<26}{np.mean(cell['returns']):7.1f}", flush=True)
    cells.put("table", table(cells.read()))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
