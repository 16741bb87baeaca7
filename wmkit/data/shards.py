"""Shards: HDF5 files of whole episodes, written whole or not at all.

The rows of all episodes of a shard stand one after another, in one dataset a column; the datasets "episode" and
"length" say where each begins, and "fingerprint" what it held when it was written.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import UserError
from .files import replacing
from .metadata import RESERVED, Metadata

__all__ = ["Episode", "Shard", "episode_fingerprint", "open_shard", "shard_path", "write_shard"]

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        index: its number in the store, from 0.
        columns: name -> rows: (L + 1, ...) per frame, (L, ...) per step, (...) per episode.
    """

    index: int
    columns: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """What is known of a shard without reading its columns.

    Attributes:
        path: its file.
        episodes: (E,) int64, indices of the episodes.
        lengths: (E,) int64, environment steps.
        fingerprints: sha256 of each episode, hexadecimal.
    """

    path: Path
    episodes: np.ndarray
    lengths: np.ndarray
    fingerprints: tuple[str, ...] = field(repr=False)


def shard_path(folder: Path, shard: int) -> Path:
    """Return the name of a shard's file."""
    return folder / f"shard-{shard:05d}.h5"


def write_shard(folder: Path, shard: int, metadata: Metadata, episodes: Iterable[Episode]) -> None:
    """Write one shard, whole or not at all.

    The compressed file is put together in memory and written in one go: HDF5 itself does not survive a full disk.

    Args:
        folder: the store's folder.
        shard: number of the file, from 0.
        metadata: what the store holds.
        episodes: the shard's episodes in order; taken one at a time, so that memory holds one uncompressed.

    Raises:
        UserError: the file system refuses.
        ValueError: an episode does not fit the columns.
    """
    with h5py.File(f"shard-{shard}", "w", driver="core", backing_store=False) as file:
        for column in metadata.columns:
            _create(file, column.name, column.shape, column.dtype)
        for name, dtype in (("episode", "int64"), ("length", "int64"), ("fingerprint", "S64")):
            _create(file, name, (), dtype)
        for episode in episodes:
            length = _check_episode(episode, metadata)
            for column in metadata.columns:
                rows = np.asarray(episode.columns[column.name], column.dtype)
                _append(file, column.name, rows.reshape(-1, *column.shape))
            _append(file, "episode", np.array([episode.index]))
            _append(file, "length", np.array([length]))
            _append(file, "fingerprint", np.array([episode_fingerprint(episode, metadata)], "S64"))
        file.flush()
        image = file.id.get_file_image()
    with replacing(shard_path(folder, shard)) as aside:
        aside.write_bytes(image)


def episode_fingerprint(episode: Episode, metadata: Metadata) -> str:
    """Return sha256 over the columns of one episode in the order of their names, hexadecimal."""
    digest = hashlib.sha256()
    for column in sorted(metadata.columns, key=lambda column: column.name):
        rows = np.ascontiguousarray(episode.columns[column.name], np.dtype(column.dtype).newbyteorder("<"))
        digest.update(json.dumps([column.name, column.dtype, list(rows.shape)]).encode())
        digest.update(rows.tobytes())
    return digest.hexdigest()


def open_shard(folder: Path, shard: int, metadata: Metadata) -> Shard:
    """Read what a shard says of itself and check it against the metadata, without reading the columns' rows.

    Raises:
        UserError: the file is unreadable, or episodes, names, shapes or dtypes are not what the metadata say.
    """
    path = shard_path(folder, shard)
    try:
        with h5py.File(path, "r") as file:
            missing = sorted({*RESERVED, *(column.name for column in metadata.columns)} - set(file))
            if missing:
                raise UserError(f"{path}: missing column {missing[0]!r}")
            episodes, lengths, texts = (np.asarray(file[name]) for name in RESERVED)
            datasets: dict[str, Any] = {column.name: file[column.name] for column in metadata.columns}
            layouts = {name: (dataset.shape, dataset.dtype) for name, dataset in datasets.items()}
    except (OSError, RuntimeError, KeyError) as error:
        text = str(error).splitlines()[0]
        raise UserError(f"{path}: unreadable or truncated ({text}); delete it and collect again") from error
    expected = list(metadata.shard_episodes(shard))
    if episodes.tolist() != expected:
        text = f"episodes {_listed(episodes.tolist())}, expected {_listed(expected)}"
        raise UserError(f"{path}: {text}; delete the file and collect again")
    for column in metadata.columns:
        shape = (sum(column.rows(length) for length in lengths.tolist()), *column.shape)
        if layouts[column.name][0] != shape:
            raise UserError(f"{path}: column {column.name!r} has shape {layouts[column.name][0]}, expected {shape}")
        if layouts[column.name][1] != np.dtype(column.dtype):
            raise UserError(f"{path}: column {column.name!r} is {layouts[column.name][1]}, expected {column.dtype}")
    return Shard(path, episodes, lengths, tuple(text.decode() for text in texts.tolist()))


def _check_episode(episode: Episode, metadata: Metadata) -> int:
    """Return the number of steps, from the first column per step or frame; refuse rows that do not fit."""
    known = {column.name for column in metadata.columns}
    if set(episode.columns) != known:
        raise ValueError(f"episode {episode.index}: columns {sorted(episode.columns)}, expected {sorted(known)}")
    timed = next(column for column in metadata.columns if column.per != "episode")
    length = len(episode.columns[timed.name]) - timed.rows(0)
    for column in metadata.columns:
        shape = column.shape if column.per == "episode" else (column.rows(length), *column.shape)
        found = np.shape(episode.columns[column.name])
        if found != shape:
            raise ValueError(f"episode {episode.index}: column {column.name!r} has shape {found}, expected {shape}")
    return length


def _create(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> None:
    """Add an empty dataset that grows by rows; frames are compressed (about 40 times, faster than they are drawn)."""
    row = max(1, np.dtype(dtype).itemsize * int(np.prod(shape)))
    compression = {"compression": "gzip", "compression_opts": 1} if len(shape) > 1 else {}
    chunk = (min(1024, max(1, _CHUNK_BYTES // row)), *shape)
    file.create_dataset(name, (0, *shape), dtype, chunks=chunk, maxshape=(None, *shape), **compression)


def _append(file: h5py.File, name: str, rows: np.ndarray) -> None:
    """Add rows at the end of a dataset."""
    dataset: Any = file[name]
    dataset.resize(len(dataset) + len(rows), axis=0)
    dataset[len(dataset) - len(rows) :] = rows


def _listed(numbers: Sequence[int]) -> str:
    """Shorten a list of numbers to one that fits a line."""
    return (
        str(list(numbers))
        if len(numbers) <= 6
        else f"[{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}] ({len(numbers)})"
    )
