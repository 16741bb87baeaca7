"""Describe or check a folder of recorded episodes.

For example:

wmkit data info data/pusht
wmkit data validate data/pusht
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from wmkit.data.episodes import EpisodeStore

__all__ = ["Data", "run"]


@dataclass(frozen=True)
class Data:
    """Options of `wmkit data`."""

    action: tyro.conf.Positional[Literal["info", "validate"]]
    """What to do: describe the data, or read and check every byte."""
    folder: tyro.conf.Positional[Path]
    """Folder that `wmkit collect` wrote to."""


def run(config: Data) -> None:
    """Print a description, or one line for each defect.

    Raises:
        UserError: the folder holds no data, or a file is unreadable.
        SystemExit: 2 if the check finds a defect.
    """
    from wmkit.data.episodes import EpisodeStore
    from wmkit.data.metadata import Metadata

    if config.action == "info":
        _show(EpisodeStore.open(config.folder, partial=True))
        return
    from tqdm import tqdm

    from wmkit.data.validate import validate

    total = Metadata.load(config.folder).episodes
    with tqdm(total=total, unit="episode", desc="validate", leave=False) as bar:
        problems = validate(config.folder, lambda count: _advance(bar, count))
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise SystemExit(2)
    store = EpisodeStore.open(config.folder)
    print(f"{config.folder}: {len(store)} episodes are sound, fingerprint {store.fingerprint}")


def _advance(bar: "tqdm", count: int) -> None:  # noqa: F821  # pyright: ignore
    """Move the progress bar."""
    bar.update(count)


def _show(store: "EpisodeStore") -> None:
    """Print two tables: what the data are, and their columns."""
    from rich.console import Console
    from rich.table import Table

    facts = Table(title=str(store.folder), show_header=False)
    for name, text in _facts(store).items():
        facts.add_row(name, text)
    columns = Table("column", "per", "shape", "dtype", "unit", title="columns")
    for column in store.metadata.columns:
        columns.add_row(column.name, column.per, str(column.shape), column.dtype, column.unit)
    console = Console()
    console.print(facts)
    console.print(columns)


def _facts(store: "EpisodeStore") -> dict[str, str]:
    """Return what is worth knowing of a store, name -> text."""
    from wmkit.data.splits import SPLITS, load_splits

    metadata, lengths = store.metadata, store.lengths
    quality = f", quality {metadata.quality}" if metadata.quality else ""
    facts = {
        "task": metadata.task,
        "environment": ", ".join(f"{key}={value}" for key, value in metadata.env.items()),
        "policy": f"{metadata.policy}{quality}, noise {metadata.noise:g}, seed {metadata.seed}",
        "episodes": f"{len(store)} of {metadata.episodes}",
    }
    if not len(store):
        return facts
    facts |= {
        "frames": str(int((lengths + 1).sum())),
        "steps an episode": f"{lengths.min()} to {lengths.max()}, mean {lengths.mean():.1f}",
        "duration": f"{lengths.sum() * metadata.seconds_per_step:.0f} s, {metadata.seconds_per_step:g} s a step",
        **_outcome(store),
        "redrawn": str(int(store.values("attempt").sum())),
        "fingerprint": store.fingerprint,
    }
    if len(store) == metadata.episodes and len(store) >= len(SPLITS):
        splits = load_splits(store)
        facts["splits"] = ", ".join(f"{name} {len(splits.episodes(name))}" for name in SPLITS)
    return facts


def _outcome(store: "EpisodeStore") -> dict[str, str]:
    """Return what came of the episodes: how many reached success, and what rewards they got."""
    known, facts = {column.name for column in store.metadata.columns}, {}
    if "success" in known:
        reached = sum(bool(store.read("success", [position]).any()) for position in range(len(store)))
        facts["reached success"] = f"{reached} of {len(store)} ({100 * reached / len(store):.1f} %)"
    if "reward" in known:
        means = [float(store.read("reward", [position]).mean()) for position in range(len(store))]
        text = f"mean {sum(means) / len(means):.3f} a step, episodes {min(means):.3f} to {max(means):.3f}"
        facts[f"reward {store.metadata.reward}"] = text
    return facts
