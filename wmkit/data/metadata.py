"""What a store of episodes is: its columns, and how they were made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from .files import read_json, write_json

__all__ = ["FORMAT", "RESERVED", "ColumnSpec", "Metadata"]

FORMAT = 1
"""Version of the layout on disk."""

RESERVED = ("episode", "length", "fingerprint")
"""Datasets that every shard has beside its columns, one row an episode."""


@dataclass(frozen=True)
class ColumnSpec:
    """One column.

    Attributes:
        name: unique in the store.
        per: "frame", "step" or "episode".
        dtype: NumPy name, e.g. "uint8".
        shape: shape of one row.
        unit: unit of the numbers; one text, or one for each number of the last axis separated by ", ".
        labels: names of the numbers along the last axis; empty where they have none.
    """

    name: str
    per: Literal["frame", "step", "episode"]
    dtype: str
    shape: tuple[int, ...]
    unit: str
    labels: tuple[str, ...] = ()

    def rows(self, length: int) -> int:
        """Return how many rows an episode of `length` steps has."""
        return {"frame": length + 1, "step": length, "episode": 1}[self.per]


@dataclass(frozen=True)
class Metadata:
    """What `meta.json` holds: how the episodes were made and what they are.

    Attributes:
        task: the registry's name of the task.
        env: keywords the environment was made with, e.g. image_size.
        episodes: how many episodes the finished store has.
        episodes_per_shard: episodes in one file; the last may have fewer.
        seed: what all randomness derives from.
        policy: "expert", "random" or "proposal".
        noise: standard deviation of the noise on the actions, as a share of half the action range.
        linger: steps recorded after success.
        max_steps: longest episode, environment steps.
        seconds_per_step: seconds of one environment step.
        action_low: (action_size,), environment units.
        action_high: (action_size,), environment units.
        action_repeat: environment steps per model step that models of this task use by default.
        columns: all columns.
        scene: columns (per episode) that a reset needs to restore the scene.
        wmkit: version that wrote the data.
        reward: name of the reward that was collected; empty for a task without rewards.
        quality: name of the expert's quality; empty where it knows only one.
        proposal: SHA-256 of the weights of the proposal that acted; empty for the other policies.
        format: version of the layout.
    """

    task: str
    env: Mapping[str, Any]
    episodes: int
    episodes_per_shard: int
    seed: int
    policy: str
    noise: float
    linger: int
    max_steps: int
    seconds_per_step: float
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    action_repeat: int
    columns: tuple[ColumnSpec, ...]
    scene: tuple[str, ...] = ()
    wmkit: str = ""
    reward: str = ""
    quality: str = ""
    proposal: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        double = sorted({name for name in names if names.count(name) > 1} | set(names) & set(RESERVED))
        if double:
            raise ValueError(f"column names {double} are taken; choose others")

    @property
    def shards(self) -> int:
        """Number of files of the finished store."""
        return -(-self.episodes // self.episodes_per_shard)

    def shard_episodes(self, shard: int) -> range:
        """Return the episode indices that a shard holds."""
        start = shard * self.episodes_per_shard
        return range(start, min(start + self.episodes_per_shard, self.episodes))

    def column(self, name: str) -> ColumnSpec:
        """Return a column's description. Raises UserError with the known names."""
        for column in self.columns:
            if column.name == name:
                return column
        raise UserError(f"no column {name!r}; known: {', '.join(column.name for column in self.columns)}")

    def save(self, folder: Path) -> None:
        """Write `meta.json`, whole or not at all."""
        write_json(folder / "meta.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Metadata":
        """Read `meta.json`.

        Raises:
            UserError: no such folder or file, not of this format, or keys that are missing or unknown.
        """
        path = folder / "meta.json"
        if not path.exists():
            raise UserError(f"{folder} holds no data: there is no meta.json in it; `wmkit collect` writes one")
        content = read_json(path)
        if content.get("format") != FORMAT:
            raise UserError(f"{path}: format {content.get('format')!r}; this version of wmkit reads format {FORMAT}")
        try:
            content["columns"] = tuple(_column(entry) for entry in content["columns"])
            for key in ("action_low", "action_high", "scene"):
                content[key] = tuple(content[key])
            return cls(**content)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not the metadata of an episode store ({error})") from error


def _column(entry: Mapping[str, Any]) -> ColumnSpec:
    """Make a column's description from its JSON."""
    fields: dict[str, Any] = dict(entry) | {"shape": tuple(entry["shape"]), "labels": tuple(entry.get("labels", ()))}
    return ColumnSpec(**fields)
