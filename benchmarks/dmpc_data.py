"""How much data each dynamics needs: few or many episodes, seen once or until the model overfits.

    python benchmarks/dmpc_data.py data/medium --runs runs/dmpc_data
    python benchmarks/dmpc_data.py data/medium --runs runs/dmpc_data --seeds 0 --arms autoregressive --episodes 10 30
    python benchmarks/dmpc_data.py data/medium --runs runs/dmpc_data --proposal runs/dmpc/medium/seed0/proposal

Diffusion and autoregressive dynamics of the same size, batch and learning rate train on the first so many training
episodes, at a constant learning rate after the warm-up so that every checkpoint stands for training of that length.
At fixed steps the averaged weights are measured on the same held-out windows, by the yardsticks of
`dmpc_open_loop.py`, and with `--proposal` by the return of planning through them with that one proposal for all.

The third arm tests why diffusion might need less data: "diffusion, frozen noise" draws noise and noise level once for
each window and keeps them, so that each epoch shows the same numbers again, as it does to the autoregressive model.

A cell is one checkpoint. Finished cells are in the JSON file; a killed run goes on from its last checkpoint.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from dmpc_common import (
    PARTS,
    RESULTS,
    Cells,
    Planning,
    cell_of_returns,
    in_turn,
    load_part,
    play,
    recipe_of,
    settings_of,
)
from dmpc_open_loop import Held, held_out, measure

from wmkit.data.episodes import EpisodeStore
from wmkit.data.splits import load_splits
from wmkit.data.windows import Windows
from wmkit.training.loop import Trainer

ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "diffusion": (PARTS["dynamics"], ()),
    "autoregressive": (PARTS["autoregressive"], ()),
    "diffusion, frozen noise": (PARTS["dynamics"], ("frozen_noise=true",)),
}
"""Name -> preset and settings."""

_WARMUP = 100


@dataclass(frozen=True)
class Args:
    """What to measure."""

    data: tyro.conf.Positional[Path]
    """Folder of episodes, from `wmkit collect walker`."""
    runs: Path
    """Folder for the training runs and their checkpoints."""
    arms: tuple[str, ...] = tuple(ARMS)
    """What to train."""
    episodes: tuple[int, ...] = (10, 30, 100, 300)
    """Training episodes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    at: tuple[int, ...] = (100, 200, 400, 800, 1600, 3200)
    """Optimiser steps to measure after; the last ends the training."""
    batch: int = 128
    """Windows of an optimiser step."""
    train: tuple[str, ...] = ()
    """More changes to every preset, each name=value."""
    steps: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Steps ahead."""
    draws: int = 8
    """Of each window, for the energy score."""
    windows: int = 128
    """Held-out windows, evenly spread."""
    proposal: Path | None = None
    """Folder of the proposal for closed-loop returns; none without."""
    returns_at: tuple[int, ...] = ()
    """Optimiser steps after which to measure returns too; with --proposal and none given, the last."""
    play_episodes: int = 20
    """Side by side, for returns."""
    play_steps: int = 250
    """Control steps of an episode."""
    planning: Planning = field(default_factory=Planning)
    """How plans are made, for returns."""
    out: Path = RESULTS / "dmpc_data.json"
    """JSON file of the result."""


@dataclass(frozen=True)
class Recipe:
    """What the training loop asks for.

    Attributes:
        model: what is trained.
        stages: one.
        settings: of the preset.
    """

    model: Any
    stages: Sequence[Any]
    settings: dict[str, Any]


class Probed:
    """A stage that is measured at chosen steps, at a constant learning rate.

    Args:
        stage: does the work.
        at: optimiser steps after which to measure.
        report: called with the step and the averaged model.
    """

    def __init__(self, stage: Any, at: Sequence[int], report: Callable[[int, Any], None]) -> None:
        self._stage, self._at, self._report = stage, frozenset(at), report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def schedule(self, step: int) -> float:
        """Return the factor of the learning rate: a warm-up, then 1."""
        return min(1.0, (step + 1) / _WARMUP)

    def after_step(self, step: int) -> None:
        """Move the average, and measure where it is time."""
        self._stage.after_step(step)
        if step + 1 in self._at:
            self._report(step + 1, self._stage.averaged.eval())

    def validate(self, generator: torch.Generator) -> dict[str, float]:
        """Return nothing: the reports are on held-out episodes."""
        return {}


def planned_return(args: Args, model: Any, seed: int) -> dict[str, Any]:
    """Return the returns of planning through a model."""
    proposal = load_part(args.proposal) if args.proposal is not None else None
    agent = args.planning.agent(args.planning.ranked(model, proposal, seed), "walk")
    return cell_of_returns(play(agent, "walk", args.play_episodes, args.play_steps, seed))


def windows_of(data: Path, episodes: int, frames: int) -> int:
    """Return the number of different windows in the first so many training episodes."""
    store = EpisodeStore.open(data, partial=True)
    chosen = load_splits(store).episodes("train")[:episodes]
    return len(Windows(store, chosen, frames, store.metadata.action_repeat, (), "memory"))


def run(args: Args, cells: Cells, held: Held, arm: str, episodes: int, seed: int) -> None:
    """Train one model and add its cells."""
    preset, settings = ARMS[arm]
    name = f"{arm}/{episodes}/seed{seed}"
    if not any(cells.missing(f"{name}/{step}") for step in args.at):
        return
    last = max(args.at)
    fixed = (f"episodes={episodes}", f"steps={last}", f"batch={args.batch}")
    recipe = recipe_of(preset, args.data, seed, (*args.train, *fixed, *settings))
    epoch = windows_of(args.data, episodes, max(args.steps) + 1) / args.batch
    began = time.perf_counter()

    def report(step: int, model: Any) -> None:
        """Measure a checkpoint unless that is done."""
        cell = f"{name}/{step}"
        if not cells.missing(cell):
            return
        found = measure(model, held, args.steps, args.draws) | {"step": step, "epochs": step / epoch}
        if args.proposal is not None and step in (args.returns_at or (last,)):
            found |= planned_return(args, model, seed)
        cells.add(cell, found)
        energy = sum(found["energy"]) / len(found["energy"])
        print(f"{cell:<46}energy {energy:.4f}, {time.perf_counter() - began:.0f} s", flush=True)

    stage = Probed(recipe.stages[0], args.at, report)
    folder = args.runs / arm.replace(", ", "-").replace(" ", "-") / f"episodes{episodes}" / f"seed{seed}"
    identity = {"preset": preset, "constant rate": True, **recipe.settings}
    with in_turn(folder):
        whole = Recipe(recipe.model, [stage], identity)
        if not Trainer(whole, folder, seed, identity, validate_every=0, show=False).run().finished:
            raise SystemExit(130)


def main(args: Args) -> None:
    """Run what is missing, the cheapest question first: few episodes before many."""
    torch.set_num_threads(1)
    unknown = [arm for arm in args.arms if arm not in ARMS]
    if unknown:
        raise SystemExit(f"unknown arm {unknown[0]!r}; known: {', '.join(ARMS)}")
    apart = {"runs", "arms", "episodes", "seeds", "out"}
    cells = Cells(args.out, settings_of(args, apart))
    held = held_out(args.data, max(args.steps), stride=8, limit=args.windows)
    for episodes, seed, arm in ((e, s, a) for s in args.seeds for e in args.episodes for a in args.arms):
        run(args, cells, held, arm, episodes, seed)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
