"""Collecting episodes with several processes; a killed run goes on where it stood.

The unit of work is a shard. Each process makes whole shards, written aside and renamed, so what is on disk is always
whole, and a repeated command makes only what is missing. All randomness of episode i derives from (seed, i): the data
are the same, bit for bit, for any number of processes and after any interruption.
"""

import dataclasses
import fcntl
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UserError
from .episodes import EpisodeStore
from .files import read_json, remove_leftovers
from .metadata import Metadata
from .recording import Recorder, Settings
from .shards import Episode, shard_path, write_shard
from .splits import SPLITS, make_splits, save_splits, splits_path

__all__ = ["CollectionReport", "collect"]

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class CollectionReport:
    """What a call of `collect` did.

    Attributes:
        store: the complete store.
        resumed: episodes that were there already.
        redrawn: episodes that left the physics' domain and were drawn anew, over the whole store.
    """

    store: EpisodeStore
    resumed: int
    redrawn: int


def collect(
    settings: Settings,
    folder: str | Path,
    episodes: int,
    *,
    workers: int = 1,
    episodes_per_shard: int = 25,
    progress: Callable[[int], None] = lambda count: None,
) -> CollectionReport:
    """Record episodes into `folder`, or finish what an interrupted call began there.

    Asking for more episodes than a store has extends it. With several workers, a script that calls this must guard its
    own start with `if __name__ == "__main__":`, because they are fresh processes that import it.

    Args:
        settings: what to record.
        folder: the store's folder; made if missing.
        episodes: how many the store shall have.
        workers: processes; the result does not depend on it.
        episodes_per_shard: episodes in one file.
        progress: called in this process with the number of episodes newly at hand.

    Raises:
        UserError: an argument is out of range, the folder holds data of other settings or is being written to, the file
            system refuses, or a process died.
    """
    if min(episodes, workers, episodes_per_shard) < 1:
        raise UserError(f"{episodes=}, {workers=} and {episodes_per_shard=} must be at least 1")
    recorder, folder = Recorder(settings), Path(folder)
    metadata = recorder.metadata(episodes, episodes_per_shard, __version__)
    with _locked(folder):
        _prepare(folder, metadata)
        resumed = len(EpisodeStore.open(folder, partial=True))
        missing = [shard for shard in range(metadata.shards) if not shard_path(folder, shard).exists()]
        progress(resumed)
        if workers == 1 or len(missing) < 2:
            for shard in missing:
                write_shard(folder, shard, metadata, _made(recorder, metadata.shard_episodes(shard), progress))
        else:
            _in_processes(_Job(settings, folder, metadata), missing, workers, progress)
        store = EpisodeStore.open(folder)
        _split(store)
    return CollectionReport(store, resumed, int(store.values("attempt").sum()))


def _prepare(folder: Path, metadata: Metadata) -> None:
    """Write the metadata into a new folder; in an old one check that it is the same data, or less of it."""
    remove_leftovers(folder)
    if not (folder / "meta.json").exists():
        if any(folder.glob("shard-*.h5")):
            raise UserError(f"{folder} holds shards but no meta.json; choose another folder")
        metadata.save(folder)
        return
    old = Metadata.load(folder)
    difference = _difference(old, metadata)
    if difference:
        raise UserError(f"{folder} holds other data: {difference}; choose another folder or the same settings")
    if metadata.episodes > old.episodes:
        if old.episodes % old.episodes_per_shard:
            shard_path(folder, old.shards - 1).unlink(missing_ok=True)
        metadata.save(folder)


def _difference(old: Metadata, new: Metadata) -> str:
    """Name the first setting that differs, with both values; empty if the new data continue the old."""
    fields_old, fields_new = (json.loads(json.dumps(dataclasses.asdict(metadata))) for metadata in (old, new))
    if fields_old.pop("episodes") > fields_new.pop("episodes"):
        return f"episodes is {old.episodes} there and {new.episodes} here"
    for name, value in fields_old.items():
        if fields_new[name] != value and name != "columns":
            return f"{name} is {value!r} there and {fields_new[name]!r} here"
    return "the columns differ" if fields_old["columns"] != fields_new["columns"] else ""


def _split(store: EpisodeStore) -> None:
    """Write the split manifest, unless there is one of these very data."""
    path = splits_path(store)
    if path.exists() and read_json(path).get("fingerprint") == store.fingerprint:
        return
    if len(store) >= len(SPLITS):
        save_splits(store, make_splits(store))


@dataclass(frozen=True)
class _Job:
    """What a worker process needs to know."""

    settings: Settings
    folder: Path
    metadata: Metadata


class _Worker:
    """The state of a worker process."""

    def __init__(self, job: _Job, made: Any, stop: Any) -> None:
        self.job, self.made, self.stop = job, made, stop
        self.recorder = Recorder(job.settings)

    def make(self, shard: int) -> None:
        """Write one shard; give up between two episodes when told to stop."""
        indices = self.job.metadata.shard_episodes(shard)
        write_shard(self.job.folder, shard, self.job.metadata, _made(self.recorder, indices, self.count))

    def count(self, number: int) -> None:
        """Tell the main process of `number` episodes more."""
        if self.stop.is_set():
            raise UserError("told to stop")
        with self.made.get_lock():
            self.made.value += number


_WORKER: list[_Worker] = []


def _start_worker(job: _Job, made: Any, stop: Any) -> None:
    """Set a worker process up: it leaves Ctrl-C to the main process and ends when the main process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _WORKER.append(_Worker(job, made, stop))


def _end_with_parent() -> None:
    """End this process when the main process is gone, however that came about."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _make_shard(shard: int) -> None:
    """Write one shard in a worker process."""
    _WORKER[0].make(shard)


def _in_processes(job: _Job, missing: list[int], workers: int, progress: Callable[[int], None]) -> None:
    """Write the missing shards in fresh processes, and report progress meanwhile."""
    context = multiprocessing.get_context("spawn")
    made, stop, told = context.Value("q", 0), context.Event(), 0
    pool = ProcessPoolExecutor(min(workers, len(missing)), context, _start_worker, (job, made, stop))
    try:
        with _interrupt_deferred():
            pending = {pool.submit(_make_shard, shard) for shard in missing}
        while pending:
            done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
            now = made.value
            progress(now - told)
            told = now
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise UserError("a worker process died, perhaps for lack of memory; repeat the command to go on") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Hold Ctrl-C back; processes started meanwhile never see it."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _made(recorder: Recorder, indices: Iterable[int], progress: Callable[[int], None]) -> Iterator[Episode]:
    """Record the given episodes, and report each."""
    for index in indices:
        yield recorder.episode(index)
        progress(1)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a folder and hold it against other processes that would write to it; a killed process lets go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise UserError(f"another process is writing to {folder}; wait for it or choose another folder") from error
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
