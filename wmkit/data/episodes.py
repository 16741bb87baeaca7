"""The store: a folder with `meta.json` and HDF5 shards of whole episodes.

An episode of L environment steps has L + 1 frames: what was seen before each step, and after the last. A column is
stored per frame (L + 1 rows), per step (L rows; row t is what happened between the frames t and t + 1) or per episode
(one row).

The fingerprint covers the content alone: it does not depend on the sharding, on compression, or on how many processes
wrote the data.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from ..errors import UserError
from .metadata import Metadata
from .shards import Episode, Shard, open_shard, shard_path

__all__ = ["EpisodeStore"]

_OPEN_FILES = 64


class EpisodeStore:
    """Recorded episodes on disk, read only; make one with `open`.

    Positions count the episodes at hand from 0, in the order of their indices; in a complete store they are the same.
    """

    def __init__(self, folder: Path, metadata: Metadata, shards: Sequence[Shard]) -> None:
        self.folder = folder
        self.metadata = metadata
        self._shards = tuple(shards)
        self.episodes = _joined([shard.episodes for shard in shards])
        self.lengths = _joined([shard.lengths for shard in shards])
        self.fingerprints = tuple(text for shard in shards for text in shard.fingerprints)
        sizes = [len(shard.episodes) for shard in shards]
        self._shard_of = np.repeat(np.arange(len(sizes)), sizes)
        self._first = np.cumsum([0, *sizes])
        self._files: dict[Path, h5py.File] = {}
        self._starts: dict[tuple[str, Path], list[int]] = {}

    @classmethod
    def open(cls, folder: str | Path, partial: bool = False) -> "EpisodeStore":
        """Open a store and check cheaply that its files are whole; `wmkit.data.validate` checks everything.

        Args:
            folder: where `wmkit collect` wrote to.
            partial: Whether an unfinished store will do.

        Raises:
            UserError: there is no store, a file is unreadable (the text names it), or the store is unfinished.
        """
        folder = Path(folder)
        metadata = Metadata.load(folder)
        found = [shard for shard in range(metadata.shards) if shard_path(folder, shard).exists()]
        store = cls(folder, metadata, [open_shard(folder, shard, metadata) for shard in found])
        if not partial and len(store) != metadata.episodes:
            text = f"{folder} holds {len(store)} of {metadata.episodes} episodes"
            raise UserError(f"{text}; repeat the same `wmkit collect` to finish it")
        return store

    def __len__(self) -> int:
        return len(self.episodes)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the task and all episodes in order, hexadecimal."""
        digest = hashlib.sha256(self.metadata.task.encode())
        for index, text in zip(self.episodes.tolist(), self.fingerprints, strict=True):
            digest.update(f"\n{index} {text}".encode())
        return digest.hexdigest()

    def values(self, name: str) -> np.ndarray:
        """Return a column per episode, (E, ...)."""
        if self.metadata.column(name).per != "episode":
            raise UserError(f"column {name!r} is stored per {self.metadata.column(name).per}, not per episode")
        return self.read(name, range(len(self)))

    def read(self, name: str, positions: Iterable[int]) -> np.ndarray:
        """Return the rows of a column for the episodes at `positions`, one after another, (rows, ...)."""
        column, positions = self.metadata.column(name), np.asarray(list(positions), np.int64)
        counts = np.array([column.rows(int(length)) for length in self.lengths[positions]], np.int64)
        out, stops = np.empty((int(counts.sum()), *column.shape), column.dtype), counts.cumsum()
        for position, start, stop in zip(positions.tolist(), stops - counts, stops, strict=True):
            out[start:stop] = self.rows(name, position, 0, int(stop - start))
        return out

    def rows(self, name: str, position: int, start: int, stop: int) -> np.ndarray:
        """Return the rows start..stop of a column of the episode at `position`, (stop - start, ...).

        Raises:
            UserError: the file cannot be read, or the episode has fewer rows.
        """
        column, shard = self.metadata.column(name), self._shards[self._shard_of[position]]
        local = position - self._first[self._shard_of[position]]
        count = column.rows(int(self.lengths[position]))
        if not 0 <= start <= stop <= count:
            raise UserError(
                f"episode {self.episodes[position]} has {count} rows of {name!r}; asked for {start}..{stop}"
            )
        if (name, shard.path) not in self._starts:
            counts = [column.rows(length) for length in shard.lengths.tolist()]
            self._starts[name, shard.path] = np.cumsum([0, *counts]).tolist()
        before = self._starts[name, shard.path][local]
        try:
            return self._file(shard.path)[name][before + start : before + stop]  # pyright: ignore
        except (OSError, KeyError, ValueError) as error:
            raise UserError(f"{shard.path}: column {name!r} cannot be read ({error})") from error

    def episode(self, position: int) -> Episode:
        """Return one episode with all its columns."""
        columns = {column.name: self.read(column.name, [position]) for column in self.metadata.columns}
        single = {column.name for column in self.metadata.columns if column.per == "episode"}
        squeezed = {name: rows[0] if name in single else rows for name, rows in columns.items()}
        return Episode(int(self.episodes[position]), squeezed)

    def close(self) -> None:
        """Close all files; reading opens them again."""
        while self._files:
            self._files.popitem()[1].close()

    def _file(self, path: Path) -> h5py.File:
        """Return an open file; at most `_OPEN_FILES` stay open."""
        if path not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
            self._files[path] = h5py.File(path, "r")
        return self._files[path]


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate (E_i,) int64 arrays, of which there may be none."""
    return np.concatenate([np.zeros(0, np.int64), *arrays])
