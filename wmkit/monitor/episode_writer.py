"""Adding episodes to a store one at a time, from a control loop that does not wait for the disk.

The store is one that `wmkit.data.EpisodeStore` opens. Every episode is a file of its own, written whole or not at all,
and counted in the metadata after; where a process is killed in between, the next to open the folder counts it.
"""

import dataclasses
import fcntl
import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..data.files import remove_leftovers
from ..data.metadata import ColumnSpec, Metadata
from ..data.shards import Episode, open_shard, shard_path, write_shard
from ..errors import UserError
from ..tasks import Task

__all__ = ["EpisodeWriter"]

_LOGGER = logging.getLogger(__name__)


class EpisodeWriter:
    """Writes episodes that a controller made.

    Args:
        folder: of the store; made if missing, continued if it holds episodes of the same kind.
        task: the environment.
        steps: longest episode, environment steps.
        env: keywords that the environment was made with.

    Attributes:
        episodes: how many the store held when it was opened.

    Raises:
        UserError: another process writes to the folder, it cannot be written to, or it holds other data.
    """

    def __init__(self, folder: str | Path, task: Task, steps: int, env: Mapping[str, Any]) -> None:
        self._folder, self._task, self._steps, self._env = Path(folder), task, steps, env
        self._lock = _locked(self._folder)
        self._metadata: Metadata | None = None
        try:
            self.episodes = self._resumed()
        except BaseException:
            self._lock.close()
            raise
        self._next, self._failed = self.episodes, False
        self._pool = ThreadPoolExecutor(1, "episode-writer")

    def put(self, columns: Mapping[str, np.ndarray]) -> None:
        """Take an episode: its columns, (L + 1, ...) per frame and "action" (L, action_size); nothing is waited for.

        What cannot be written is logged as an error, once, and the control loop goes on.
        """
        try:
            self._pool.submit(self._write, columns)
        except RuntimeError:
            self._write(columns)

    def close(self) -> None:
        """Wait until everything is on disk, and let others write to the folder."""
        self._pool.shutdown()
        self._lock.close()

    def _write(self, columns: Mapping[str, np.ndarray]) -> None:
        """Write one episode."""
        try:
            if self._failed:
                return
            if self._metadata is None:
                self._metadata = self._described(columns)
                self._metadata.save(self._folder)
            grown = dataclasses.replace(self._metadata, episodes=self._next + 1)
            write_shard(self._folder, self._next, grown, [Episode(self._next, columns)])
            grown.save(self._folder)
            self._metadata, self._next = grown, self._next + 1
        except (UserError, ValueError, OSError) as error:
            self._failed = True
            _LOGGER.error("episodes are no longer recorded: %s", error)

    def _resumed(self) -> int:
        """Return how many episodes are there; count those that a killed process left uncounted."""
        remove_leftovers(self._folder)
        if not (self._folder / "meta.json").exists():
            if any(self._folder.glob("shard-*.h5")):
                raise UserError(f"{self._folder} holds shards but no meta.json; choose another folder")
            return 0
        found = Metadata.load(self._folder)
        self._check(found)
        while shard_path(self._folder, found.episodes).exists():
            more = dataclasses.replace(found, episodes=found.episodes + 1)
            open_shard(self._folder, found.episodes, more)
            more.save(self._folder)
            found = more
        self._metadata = found
        return found.episodes

    def _check(self, found: Metadata) -> None:
        """Refuse data of another kind; the version that wrote them may differ."""
        wanted = dataclasses.asdict(self._metadata_of(found.columns))
        there, here = (json.loads(json.dumps(content)) for content in (dataclasses.asdict(found), wanted))
        differ = [name for name in here if here[name] != there[name] and name not in ("episodes", "wmkit")]
        if differ:
            name = differ[0]
            text = f"{name} is {there[name]!r} there and {here[name]!r} here"
            raise UserError(f"{self._folder} holds other data: {text}; choose another folder")

    def _described(self, columns: Mapping[str, np.ndarray]) -> Metadata:
        """Return the metadata of a store of such episodes, still without one."""
        return self._metadata_of(tuple(self._column(name, rows) for name, rows in columns.items()))

    def _metadata_of(self, columns: tuple[ColumnSpec, ...]) -> Metadata:
        task = self._task
        return Metadata(
            task=task.name,
            env=self._env,
            episodes=0,
            episodes_per_shard=1,
            seed=0,
            policy="controller",
            noise=0.0,
            linger=0,
            max_steps=self._steps,
            seconds_per_step=task.seconds_per_step,
            action_low=tuple(map(float, task.action_low)),
            action_high=tuple(map(float, task.action_high)),
            action_repeat=task.action_repeat,
            columns=columns,
            wmkit=__version__,
        )

    def _column(self, name: str, rows: np.ndarray) -> ColumnSpec:
        """Describe a column; the state's numbers have the task's names and units."""
        shape, dtype = rows.shape[1:], rows.dtype.name
        if name == "action":
            return ColumnSpec(name, "step", dtype, shape, "environment units")
        if name == "state" and shape == (len(self._task.state),):
            units = ", ".join(column.unit for column in self._task.state)
            return ColumnSpec(name, "frame", "float64", shape, units, tuple(c.name for c in self._task.state))
        return ColumnSpec(name, "frame", dtype, shape, "0 to 255, RGB" if dtype == "uint8" else "")


def _locked(folder: Path) -> Any:
    """Make a folder and return an open file that holds it against other processes; a killed process lets go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UserError(f"another process is writing to {folder}; wait for it or choose another folder") from error
    return file
