"""The whole loop in minutes: collect, train, evaluate, write a report.

    wmkit quickstart
    wmkit quickstart --out runs/first --seed 1

TwoRoom with a fixed door, from pixels, on the CPU. An interrupted run, repeated, goes on where it stood. The folder
gets data/, model/ (with its evaluation) and report.html.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from wmkit.data.episodes import EpisodeStore
    from wmkit.evaluation.quickstart import Stage

    from .eval import Measured

__all__ = ["Quickstart", "run"]

_PRESET, _TASK = "lewm-micro", "two-room"
_SPLIT = (65, 5, 30)
_PLANNING: dict[str, Any] = {
    "horizon": 6,
    "samples": 128,
    "iterations": 4,
    "elites": 16,
    "hold": "block",
    "objective": "mean",
    "shrink": False,
}
"""Planner settings where the preset brings none of its own."""


@dataclass(frozen=True)
class Quickstart:
    """Options of `wmkit quickstart`."""

    out: Path = Path("runs/quickstart")
    """Folder for data, model and report."""
    seed: int = 0
    """What all randomness derives from."""
    episodes: int = 1500
    """Episodes to collect."""
    pairs: int = 100
    """Pairs of start and goal in different rooms to evaluate on."""
    workers: int = 2
    """Processes that collect."""
    set: tuple[str, ...] = field(default_factory=tuple)
    """Settings of the training preset to change, each name=value."""


def run(config: Quickstart) -> None:
    """Collect, train, evaluate and write the report.

    Raises:
        UserError: the folder holds something else, or a setting is unknown.
        SystemExit: 130 after Ctrl-C in training; the same command goes on.
    """
    from rich.console import Console

    from wmkit.errors import UserError

    if min(config.pairs, config.workers) < 1 or config.episodes < 10:
        raise UserError("--pairs and --workers must be at least 1, --episodes at least 10")
    console, stages = Console(), []
    store = _collect(config, console, stages)
    planning = _train(config, console, stages)
    measured = _evaluate(config, console, stages, planning)
    path = _report(config, console, stages, store, measured)
    console.print(f"[bold]{path}[/bold] ({sum(stage.seconds for stage in stages):.0f} s in all)")


def _collect(config: Quickstart, console: "Console", stages: "list[Stage]") -> "EpisodeStore":
    """Record episodes that cross from room to room, and hold a third of them out."""
    from tqdm import tqdm

    from wmkit.data.collect import collect
    from wmkit.data.recording import Settings
    from wmkit.data.splits import make_splits, save_splits

    _say(console, 1, "collect", f"{config.episodes} episodes of a noisy expert walking from one room into the other.")
    began = time.perf_counter()
    env = {"image_size": 64, "cross_room": True}
    settings = Settings(_TASK, "expert", noise=0.5, seed=config.seed, linger=5, env=env)
    with tqdm(total=config.episodes, unit="episode", leave=False) as bar:
        found = collect(
            settings,
            config.out / "data",
            config.episodes,
            workers=config.workers,
            progress=lambda count: _advance(bar, count),
        )
    save_splits(found.store, make_splits(found.store, _SPLIT))
    text = (
        f"{len(found.store)} episodes, {int(found.store.lengths.sum()):,} steps; {_SPLIT[2]} % of the episodes held out"
    )
    _done(console, stages, "collect", began, text + (", begun by an earlier call" if found.resumed else ""))
    return found.store


def _train(config: Quickstart, console: "Console", stages: "list[Stage]") -> dict[str, Any]:
    """Train the preset, or go on with a run that was interrupted; return the settings to plan with."""
    import torch

    from wmkit import registry
    from wmkit.training.loop import Trainer
    from wmkit.training.overrides import parse_assignments
    from wmkit.training.randomness import derive_seed

    _say(
        console, 2, "train", "A world model learns from the pictures and actions: no positions, no rewards, no decoder."
    )
    began = time.perf_counter()
    torch.manual_seed(derive_seed(config.seed, "build"))
    recipe = registry.load("presets", _PRESET).recipe(config.out / "data", "cpu", parse_assignments(config.set))
    identity = {"preset": _PRESET, **recipe.settings}
    result = Trainer(recipe, config.out / "model", config.seed, identity, log_every=20, validate_every=250).run()
    if not result.finished:
        console.print(f"stopped and saved in {config.out}; the same command goes on")
        raise SystemExit(130)
    weights = sum(parameter.numel() for parameter in recipe.model.parameters())
    earlier = max(0.0, sum(result.seconds.values()) - (time.perf_counter() - began))
    _done(console, stages, "train", began - earlier, f"{_PRESET}, {weights:,} weights, on the CPU")
    return {} if getattr(recipe.model, "metadata", {}).get("planning") else _PLANNING


def _evaluate(config: Quickstart, console: "Console", stages: "list[Stage]", planning: dict[str, Any]) -> "Measured":
    """Plan on held-out pairs, beside the floors."""
    from .eval import Eval, measure, show

    _say(
        console, 3, "evaluate", f"Plan through the model towards goal pictures in the other room, {config.pairs} times."
    )
    began = time.perf_counter()
    options: dict[str, Any] = {"episodes": config.pairs, "seed": config.seed, "data": config.out / "data"}
    measured = measure(Eval(str(config.out / "model"), _TASK, "cross", gif=False, timed=1, **options, **planning))
    show(measured, console)
    row = measured.rows[0]
    _done(console, stages, "evaluate", began, f"{row.successes} of {row.pairs} reached, {row.strict} settled")
    return measured


def _report(
    config: Quickstart, console: "Console", stages: "list[Stage]", store: "EpisodeStore", measured: "Measured"
) -> Path:
    """Draw the rollouts and what the model imagines, and write the page."""
    from wmkit.data.splits import load_splits
    from wmkit.evaluation import quickstart
    from wmkit.evaluation.imagination import imagine

    _say(console, 4, "report", "Draw the rollouts, and beside real frames what the model imagined.")
    began, path = time.perf_counter(), config.out / "report.html"
    columns = range(len(measured.task.state))
    imagined = imagine(measured.model, store, load_splits(store), columns)
    content = quickstart.Quickstart(
        task=measured.task,
        stages=stages,
        manifest=measured.pairs.manifest,
        rows=measured.rows,
        outcomes=measured.outcomes,
        imagined=imagined,
        probes=measured.probes,
        metrics=config.out / "model" / "metrics.jsonl",
        planning=measured.planning,
        command=f"wmkit quickstart --seed {config.seed} --episodes {config.episodes}",
    )
    quickstart.write_report(path, content)
    _done(console, stages, "report", began, "this page")
    return path


def _advance(bar: Any, count: int) -> None:
    bar.update(count)


def _say(console: "Console", number: int, name: str, text: str) -> None:
    console.print(f"\n[bold]{number}/4 {name}[/bold]  {text}", highlight=False)


def _done(console: "Console", stages: "list[Stage]", name: str, began: float, text: str) -> None:
    from wmkit.evaluation.quickstart import Stage

    stages.append(Stage(name, time.perf_counter() - began, text))
    console.print(f"    {text} ({stages[-1].seconds:.0f} s)", highlight=False)
