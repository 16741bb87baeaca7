"""A full check of a store: every byte is read, and each defect becomes one line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from ..errors import UserError
from .episodes import EpisodeStore
from .metadata import ColumnSpec, Metadata
from .shards import Episode, Shard, episode_fingerprint, open_shard, shard_path
from .splits import load_splits

__all__ = ["validate"]


def validate(folder: str | Path, progress: Callable[[int], None] = lambda count: None) -> list[str]:
    """Read a whole store and say what is wrong with it.

    Checked are: the metadata; missing, superfluous and unreadable files; missing and repeated episodes; missing
    columns; shapes and dtypes; numbers that are not finite; actions out of bounds; fingerprints; the split manifest.

    Args:
        folder: the store.
        progress: called with the number of episodes newly checked.

    Returns:
        One line for each defect, naming file, episode, column, row, what was found and what was expected; empty if all
        is well. A column of an episode gives at most one line.
    """
    folder = Path(folder)
    try:
        metadata = Metadata.load(folder)
    except UserError as error:
        return [str(error)]
    problems = list(_strangers(folder, metadata))
    seen: dict[str, str] = {}
    for number in range(metadata.shards):
        path, indices = shard_path(folder, number), metadata.shard_episodes(number)
        if not path.exists():
            problems.append(f"{path}: missing, with the episodes {indices[0]} to {indices[-1]}")
            continue
        try:
            shard = open_shard(folder, number, metadata)
            problems += _check_repeats(shard, seen)
            problems += _check_rows(shard, metadata)
        except UserError as error:
            problems.append(str(error))
        progress(len(indices))
    return problems or _check_whole(folder)


def _strangers(folder: Path, metadata: Metadata) -> Iterator[str]:
    """Find shards that the metadata do not know of."""
    known = {shard_path(folder, number) for number in range(metadata.shards)}
    for path in sorted(set(folder.glob("shard-*.h5")) - known):
        yield f"{path}: superfluous; {metadata.episodes} episodes fill {metadata.shards} shards"


def _check_repeats(shard: Shard, seen: dict[str, str]) -> Iterator[str]:
    """Find episodes whose content equals one seen before."""
    for index, text in zip(shard.episodes.tolist(), shard.fingerprints, strict=True):
        here = f"{shard.path}: episode {index}"
        if text in seen:
            yield f"{here}: repeats the content of {seen[text]}"
        seen.setdefault(text, here)


def _check_rows(shard: Shard, metadata: Metadata) -> Iterator[str]:
    """Read all rows of a shard; find numbers that cannot be, and content that is not what was written."""
    starts = {column.name: 0 for column in metadata.columns}
    for index, length, text in zip(shard.episodes.tolist(), shard.lengths.tolist(), shard.fingerprints, strict=True):
        columns, problems = {}, []
        for column in metadata.columns:
            start = starts[column.name]
            starts[column.name] = stop = start + column.rows(length)
            rows = _read(shard.path, column.name, start, stop)
            problems += _check_column(column, rows, metadata)
            columns[column.name] = rows[0] if column.per == "episode" else rows
        if not problems and episode_fingerprint(Episode(index, columns), metadata) != text:
            problems = ["the content does not match its fingerprint; it was changed after it was written"]
        yield from (f"{shard.path}: episode {index}: {problem}" for problem in problems)


def _check_column(column: ColumnSpec, rows: np.ndarray, metadata: Metadata) -> Iterator[str]:
    """Find the first number of an episode's column that is not finite or, for actions, out of bounds."""
    if np.dtype(column.dtype).kind != "f":
        return
    low, high, expected = np.float32(-np.inf), np.float32(np.inf), "a finite number"
    if column.name == "action":
        low, high = np.asarray(metadata.action_low, np.float32), np.asarray(metadata.action_high, np.float32)
        expected = f"{_plain(metadata.action_low)} to {_plain(metadata.action_high)}"
    wrong = ~(np.isfinite(rows) & (rows >= low) & (rows <= high))
    if wrong.any():
        first = np.unravel_index(int(wrong.argmax()), wrong.shape)
        place = f"row {first[0]}" if column.per != "episode" else "its row"
        label = f" number {first[1]}" if len(first) > 1 else ""
        yield f"column {column.name!r}, {place}{label}: found {rows[first]}, expected {expected} ({wrong.sum()} such)"


def _check_whole(folder: Path) -> list[str]:
    """Check what concerns all files together; called when each is sound."""
    try:
        store = EpisodeStore.open(folder)
        if (folder / "splits.json").exists():
            load_splits(store)
    except UserError as error:
        return [str(error)]
    return []


def _read(path: Path, name: str, start: int, stop: int) -> np.ndarray:
    """Read rows of a column. Raises UserError if the file's content is damaged."""
    try:
        with h5py.File(path, "r") as file:
            return file[name][start:stop]  # pyright: ignore
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: column {name!r}, rows {start} to {stop - 1}: damaged ({error})") from error


def _plain(numbers: tuple[float, ...]) -> str:
    """Write bounds as one number where all are equal."""
    return f"{numbers[0]:g}" if len(set(numbers)) == 1 else str([float(number) for number in numbers])
