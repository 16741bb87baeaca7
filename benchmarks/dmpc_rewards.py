"""Rewards that no training knew: how the walker behaves before and after each, without retraining, with a GIF of each.

    python benchmarks/dmpc_rewards.py data/mixed --runs runs/dmpc --gifs docs/rewards

"Before" is planning for walking, "after" planning for the new reward, with the same parts and from the same first
poses. Each reward is judged by the statistic of the walker's task that shows it best, and by its own return.
Finished cells are in the JSON file and are not run again.
"""

# pyright: reportMissingImports=false

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
    cell_of_returns,
    load_part,
    play,
    settings_of,
    summary,
    train_part,
)

from wmkit.data.recording import load_task
from wmkit.envs.walker.render import render_states
from wmkit.evaluation.movie import gif_bytes
from wmkit.evaluation.returns import Returns
from wmkit.evaluation.rewards import find_reward

_BEFORE = "walk"
_EVERY = 2
"""Control steps between the frames of a GIF."""


@dataclass(frozen=True)
class Args:
    """What to run."""

    data: tyro.conf.Positional[Path]
    """Folder of episodes, from `wmkit collect walker`."""
    runs: Path
    """Where trained parts are, and where missing ones go: RUNS/DATA/seedS/PART."""
    rewards: tuple[str, ...] = ("jump", "lean-back", "walk-backward", "target-height=0.8", "target-speed=0.5")
    """What to plan for."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    train: tuple[str, ...] = ()
    """Changes to every preset, each name=value."""
    dynamics: Literal["dynamics", "autoregressive"] = "dynamics"
    """Part to plan through: the diffusion dynamics, or the autoregressive ones."""
    planning: Planning = field(default_factory=Planning)
    """How plans are made."""
    episodes: int = 20
    """Side by side, for each cell."""
    steps: int = 250
    """Control steps of an episode."""
    gifs: Path | None = None
    """Folder for a GIF of the first seed's median episode under each reward; none without."""
    size: int = 160
    """Side of a GIF, pixels."""
    out: Path = RESULTS / "dmpc_rewards.json"
    """JSON file of the result."""


def rewarded(played: Returns, reward: str) -> list[float]:
    """Return the return of each episode under a reward that it may not have been played for."""
    states = played.states[:, 1:].astype(np.float64)
    return np.asarray(find_reward(load_task("walker"), reward).function(states, None)).sum(axis=1).round(4).tolist()


def cell_of(args: Args, reward: str, seed: int) -> dict[str, Any]:
    """Play for a reward; return every statistic and the return under every reward of the study."""
    folder = args.runs / args.data.name / f"seed{seed}"
    model, proposal = (
        load_part(train_part(PARTS[name], args.data, folder / name, seed, args.train))
        for name in (args.dynamics, "proposal")
    )
    agent = args.planning.agent(args.planning.ranked(model, proposal, seed), reward)
    played = play(agent, reward, args.episodes, args.steps, seed)
    if args.gifs is not None and seed == args.seeds[0]:
        write_gif(args, played, reward)
    return cell_of_returns(played) | {"under": {name: rewarded(played, name) for name in (_BEFORE, *args.rewards)}}


def write_gif(args: Args, played: Returns, reward: str) -> None:
    """Write the episode with the median return."""
    folder, returns = args.gifs or Path(), np.asarray(played.returns)
    row = int(np.argsort(returns)[len(returns) // 2])
    folder.mkdir(parents=True, exist_ok=True)
    frames = list(render_states(played.states[row, ::_EVERY], args.size))
    seconds = load_task("walker").seconds_per_step * _EVERY
    (folder / f"{reward.replace('=', '-')}.gif").write_bytes(gif_bytes(frames, seconds))


def table(cells: dict[str, Any], rewards: tuple[str, ...]) -> dict[str, Any]:
    """Return and print, for each reward, its statistic and its return before and after."""
    task, rows = load_task("walker"), {}
    for reward in rewards:
        name = find_reward(task, reward).statistics[0]
        unit = task.statistics[name].unit
        row: dict[str, Any] = {"statistic": name, "unit": unit}
        for label, played in (("before", _BEFORE), ("after", reward)):
            mine = [cells[cell] for cell in sorted(cells) if cell.startswith(f"{played}/")]
            if mine:
                row[label] = summary([cell["statistics"][name] for cell in mine])
                row[f"return_{label}"] = summary([cell["under"][reward] for cell in mine])
        if "before" in row and "after" in row:
            rows[reward] = row
            numbers = "  to".join(
                f" {row[label]['mean']:6.2f} [{row[label]['interval'][0]:.2f}, {row[label]['interval'][1]:.2f}]"
                for label in ("before", "after")
            )
            gained = f"return {row['return_before']['mean']:.1f} to {row['return_after']['mean']:.1f}"
            print(f"{reward:<20}{name:<14}{numbers} {unit}, {gained}")
    return rows


def main(args: Args) -> None:
    """Run the missing cells and print the table."""
    torch.set_num_threads(1)
    apart = {"runs", "seeds", "gifs", "size", "out"}
    cells = Cells(args.out, settings_of(args, apart))
    for seed in args.seeds:
        for reward in (_BEFORE, *args.rewards):
            name = f"{reward}/seed{seed}"
            if cells.missing(name):
                cells.add(name, cell := cell_of(args, reward, seed))
                print(f"{name:<28}{np.mean(cell['returns']):7.1f}", flush=True)
    cells.put("table", table(cells.read(), args.rewards))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
