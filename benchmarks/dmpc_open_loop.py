"""Open-loop error of the diffusion dynamics and of the autoregressive one, of the same size and on the same data.

    python benchmarks/dmpc_open_loop.py data/medium --runs runs/dmpc

Both predict held-out windows from the first state and the recorded actions. Errors are in standard deviations of the
training states, a column that may drift, such as the walker's place, in those of its change over the horizon. Three
yardsticks at each step ahead, the same for both models:

- "planning": RMSE of what a planner sees, which is the autoregressive model's mean rolled out and one draw of diffusion
- "mean": RMSE of the mean of several draws of either model; of several draws, not of one, since a draw of a model that
  knows its spread has an error of its own
- "energy": the energy score of the draws, which is lowest for the right distribution

Finished cells are in the JSON file and are not run again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from dmpc_common import PARTS, RESULTS, Cells, load_part, settings_of, train_part
from torch import Tensor

from wmkit.contracts import Context
from wmkit.data.episodes import EpisodeStore
from wmkit.data.windows import Windows
from wmkit.diffusion.scores import energy_score

__all__ = ["GROUPS", "Held", "held_out", "measure"]

GROUPS = {"all": slice(None), "positions": slice(0, 9), "velocities": slice(9, 18)}
"""Columns of the walker's state that are reported together."""
_DRIFTS = 1
"""Column of the walker's place along its track."""
_CHUNK = 512
"""Windows at once."""
_MODELS = ("dynamics", "autoregressive")


@dataclass(frozen=True)
class Args:
    """What to measure."""

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of episodes, from `wmkit collect walker`."""
    runs: Path
    """Where trained parts are, and where missing ones go: RUNS/DATA/seedS/PART."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    only: tuple[str, ...] = _MODELS
    """Parts to measure."""
    train: tuple[str, ...] = ()
    """Changes to every preset, each name=value."""
    steps: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Steps ahead."""
    draws: int = 16
    """Of each window, for the energy score."""
    stride: int = 16
    """Control steps between the starts of windows."""
    out: Path = RESULTS / "dmpc_open_loop.json"
    """JSON file of the result."""


@dataclass(frozen=True)
class Held:
    """Held-out windows.

    Attributes:
        states: (W, F + 1, 18), the first is where the prediction starts.
        actions: (W, F, A), environment units.
        scale: (18,), one standard deviation.
    """

    states: Tensor
    actions: Tensor
    scale: Tensor


def held_out(data: Path, horizon: int, stride: int, limit: int | None = None) -> Held:
    """Return windows of held-out episodes; with a limit, at most so many, evenly spread.

    Args:
        data: folder of episodes.
        horizon: F, steps ahead.
        stride: control steps between the starts of windows.
        limit: of the number of windows.
    """
    store = EpisodeStore.open(data, partial=True)
    repeat = store.metadata.action_repeat
    train, held = (Windows(store, split, horizon + 1, repeat, ("state",), "memory") for split in ("train", "heldout"))
    states = train.batch(train.ordered(stride=horizon))["state"].float()
    scale = states.flatten(0, 1).std(dim=0)
    scale[_DRIFTS] = (states[:, -1, _DRIFTS] - states[:, 0, _DRIFTS]).std()
    rows = held.ordered(stride=stride)
    if limit is not None and len(rows) > limit:
        rows = rows[torch.linspace(0, len(rows) - 1, limit).long()]
    batch = held.batch(rows)
    return Held(batch["state"].float(), batch["action"], scale)


@torch.inference_mode()
def rolled(model: Any, held: Held, generator: torch.Generator) -> Tensor:
    """Return predicted states (W, F, 18) of the recorded actions, one draw for each window."""
    found = []
    for states, actions in zip(held.states.split(_CHUNK), held.actions.split(_CHUNK), strict=True):
        latents = model.encode({"state": states[:, :1].numpy()})
        context = Context(latents, actions.new_zeros(len(states), 0, actions.shape[-1]))
        found.append(model.rollout(context, actions[:, None], generator).latents[:, 0].float())
    return torch.cat(found)


@contextmanager
def drawing(model: Any) -> Iterator[None]:
    """Let a model draw its futures for a while, each on its own."""
    wanted = {"stochastic": True, "shared_noise": False}
    before = {name: getattr(model, name) for name in wanted if hasattr(model, name)}
    try:
        for name in before:
            setattr(model, name, wanted[name])
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)


def measure(model: Any, held: Held, steps: Sequence[int], draws: int, seed: int = 0) -> dict[str, Any]:
    """Return the three yardsticks of a model at so many steps ahead.

    Args:
        model: diffusion or autoregressive dynamics.
        held: windows.
        steps: steps ahead, from 1.
        draws: of each window, at least 2.
        seed: of the draws.

    Returns:
        "planning" and "mean", each group of columns -> RMSE of each step; "energy" -> of each step; "windows".
    """
    index = torch.tensor(steps) - 1
    truth = (held.states[:, 1:] / held.scale)[:, index]
    generator = torch.Generator().manual_seed(seed)
    point = (rolled(model, held, generator) / held.scale)[:, index]
    with drawing(model):
        drawn = torch.stack([rolled(model, held, generator)[:, index] for _ in range(draws)], dim=1) / held.scale
    energy = [float(energy_score(drawn[:, :, i], truth[:, i]).mean()) for i in range(len(steps))]
    return {
        "planning": _by_group(point - truth),
        "mean": _by_group(drawn.mean(dim=1) - truth),
        "energy": [round(value, 5) for value in energy],
        "windows": len(truth),
    }


def _by_group(error: Tensor) -> dict[str, list[float]]:
    """Return the RMSE of each step from errors (W, S, D)."""
    squared = error.square().mean(dim=0)
    return {name: [round(v, 5) for v in squared[:, part].mean(1).sqrt().tolist()] for name, part in GROUPS.items()}


def cell_of(args: Args, data: Path, name: str, seed: int) -> dict[str, Any]:
    """Train a model if need be, and measure it."""
    folder = args.runs / data.name / f"seed{seed}" / name
    model = load_part(train_part(PARTS[name], data, folder, seed, args.train))
    began = time.perf_counter()
    found = measure(model, held_out(data, max(args.steps), args.stride), args.steps, args.draws)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    return found | {"parameters": numbers, "seconds": time.perf_counter() - began}


def main(args: Args) -> None:
    """Measure the missing cells and print all."""
    torch.set_num_threads(1)
    apart = {"data", "runs", "seeds", "only", "out"}
    cells = Cells(args.out, settings_of(args, apart))
    for data, seed, name in ((d, s, n) for s in args.seeds for d in args.data for n in args.only):
        cell = f"{data.name}/{name}/seed{seed}"
        if cells.missing(cell):
            cells.add(cell, cell_of(args, data, name, seed))
    for name, cell in cells.read().items():
        for yardstick in ("planning", "mean", "energy"):
            values = cell[yardstick] if yardstick == "energy" else cell[yardstick]["all"]
            print(f"{name:<36}{yardstick:<10}" + "".join(f"{value:8.3f}" for value in np.asarray(values)))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
