"""Clips a second from recorded episodes, in shuffled batches as training draws them, beside a peer's.

For example:

    wmkit bench data
    wmkit bench data --data runs/quickstart/data --batch 256
    wmkit bench data --peer stable-worldmodel --peer-python PEER/bin/python --rounds 5 --out data.json

A clip is some frames of an episode, one every model step, with the actions between them; images stay 8-bit. Without
--data, episodes are recorded for the occasion. The peer gets the same frames in files of its own format, which its
dataset reads through torch's DataLoader; --peer-formats names them: hdf5 from the file, memory with its columns cached,
lance (JPEG, and so other pixels). What all are compared with is the peer's fastest way; memory is also compared with
memory.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wmkit.errors import UserError
from wmkit.provenance import provenance

from .bench_report import (
    beside,
    check_machine,
    check_positive,
    check_unused,
    finish,
    progress,
    ratios_to,
    seconds_of,
    use_threads,
)

if TYPE_CHECKING:
    from wmkit.data.episodes import EpisodeStore
    from wmkit.data.windows import Windows
    from wmkit.timing import Peer, Timed

__all__ = ["DataBench", "run"]


@dataclass(frozen=True)
class DataBench:
    """What `wmkit bench data` is asked for."""

    data: Path | None = None
    """Folder of recorded episodes with images; without it, some are recorded."""
    env: str = "pusht"
    """Environment that is recorded where no data are given."""
    episodes: int = 40
    """Episodes that are recorded, or used of the data."""
    image_size: int = 96
    """Pixels, where no data are given."""
    batch: int = 128
    """Clips of a batch."""
    frames: int = 4
    """Frames of a clip."""
    caches: tuple[Literal["memory", "disk", "gpu"], ...] = ("memory", "disk")
    """Where wmkit keeps the frames."""
    seconds: float = 1.0
    """Seconds that one turn lasts."""
    rounds: int = 5
    """Turns that are timed; one more before them is not."""
    peer: str | None = None
    """Another package to measure beside, e.g. stable-worldmodel."""
    peer_python: Path | None = None
    """Its Python; by default WMKIT_PEER_PYTHON names it."""
    peer_formats: tuple[Literal["hdf5", "memory", "lance"], ...] = ("hdf5", "memory")
    """How the peer keeps the frames."""
    peer_workers: tuple[int, ...] = (0, 2)
    """Processes of the peer's DataLoader, each number a contestant; 0 loads in the peer's own."""
    threads: int | None = None
    """CPU threads of each contestant; by default torch's choice."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the batches go."""
    out: Path | None = None
    """Write the result to this JSON file."""
    json: bool = False
    """Print the result as one JSON object instead of a table."""


def run(config: DataBench) -> None:
    """Measure and print.

    Raises:
        UserError: options out of range, data without images, no peer, or one that fails.
    """
    _check(config)
    with use_threads(config.threads) as threads, _store(config) as store, contextlib.ExitStack() as stack:
        result = _measure(config, store, threads, stack)
    finish(result, config.out, config.json, _table(result))


def _check(config: DataBench) -> None:
    """Raise UserError for an option out of its range, or one that would do nothing."""
    check_positive(config, "episodes", "image_size", "batch", "frames", "seconds", "rounds")
    if any(workers < 0 for workers in config.peer_workers):
        raise UserError(f"--peer-workers must be 0 or more, not {min(config.peer_workers)}")
    if not (config.caches and config.peer_formats and config.peer_workers):
        raise UserError("--caches, --peer-formats and --peer-workers need at least one each")
    if config.peer is None:
        check_unused(config, ("peer_python", "peer_formats", "peer_workers"), "only with --peer")
    if config.data is not None:
        check_unused(config, ("env", "image_size"), "not with --data, which are recorded already")
    check_machine(config)


@contextlib.contextmanager
def _store(config: DataBench) -> "Iterator[EpisodeStore]":
    """Open the data, or record some for as long as they are needed."""
    from wmkit.data.collect import collect
    from wmkit.data.episodes import EpisodeStore
    from wmkit.data.recording import Settings

    if config.data is not None:
        yield EpisodeStore.open(config.data)
        return
    env = {"image_size": config.image_size, "obs_type": "pixels"}
    with tempfile.TemporaryDirectory() as folder:
        store = collect(Settings(config.env, policy="random", env=env), folder, config.episodes).store
        try:
            yield store
        finally:
            store.close()


def _measure(config: DataBench, store: "EpisodeStore", threads: int, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Return the result, as JSON holds it."""
    from wmkit.data.windows import Windows
    from wmkit.timing import per_unit, take_turns

    chosen, repeat = store.episodes[: config.episodes].tolist(), store.metadata.action_repeat
    runs: dict[str, Callable[[int], float]] = {}
    opening: dict[str, float] = {}
    facts: dict[str, Any] | None = None
    if config.peer is not None:
        peer, facts = _peer(config, store, chosen, threads, stack)
        for form in config.peer_formats:
            opened = float(peer.ask("open", form=form, skip=repeat)["seconds"])
            for workers in config.peer_workers:
                name = f"{config.peer} {form}, {workers} workers"
                opening[name], runs[name] = opened, _theirs(peer, form, workers)
    for cache in config.caches:
        start = time.perf_counter()
        windows = Windows(store, chosen, config.frames, repeat, cache=cache)
        opening[f"wmkit {cache}"] = time.perf_counter() - start
        runs[f"wmkit {cache}"] = _ours(windows, config)
    contestants = {name: per_unit(each, config.seconds) for name, each in runs.items()}
    work = dict.fromkeys(contestants, float(config.batch))
    timed = take_turns(contestants, config.rounds, work=work, after=progress("a batch"))
    baseline = _fastest(timed, f"{config.peer} ") or next(iter(timed))
    left_out = ("data", "peer_python", "out", "json", "threads", "env", "image_size")
    pixels = store.metadata.column("pixels").shape
    return {
        "provenance": provenance(),
        "peer": facts,
        "settings": {name: value for name, value in asdict(config).items() if name not in left_out}
        | {"threads": threads, "task": store.metadata.task, "image": list(pixels), "action_repeat": repeat},
        "rates": {name: each.rate for name, each in timed.items()},
        "opening_seconds": opening,
        "seconds": seconds_of({"batch": timed}),
        "compared_with": baseline,
        "ratios": ratios_to(baseline, timed),
        "memory": _of_memory(config, timed),
    }


def _fastest(timed: "Mapping[str, Timed]", beginning: str) -> str | None:
    """Return whose clips come fastest of those whose names begin so, None without such."""
    found = [name for name in timed if name.startswith(beginning)]
    return max(found, key=lambda name: timed[name].rate, default=None)


def _of_memory(config: DataBench, timed: "Mapping[str, Timed]") -> dict[str, Any] | None:
    """Return how wmkit compares with the peer's fastest way where both keep the frames in memory; None without both."""
    theirs, ours = _fastest(timed, f"{config.peer} memory, "), "wmkit memory"
    if theirs is None or ours not in timed:
        return None
    return {"compared_with": theirs, "ratio": ratios_to(theirs, {name: timed[name] for name in (theirs, ours)})[ours]}


def _ours(windows: "Windows", config: DataBench) -> Callable[[int], float]:
    """Return what draws so many batches and returns their seconds."""
    import torch

    from wmkit.timing import stopwatch

    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> float:
        def batches() -> None:
            for _ in range(count):
                for value in windows.sample(config.batch, generator).values():
                    value.to(config.device, non_blocking=True)

        return stopwatch(batches, config.device)()

    return draw


def _theirs(peer: "Peer", form: str, workers: int) -> Callable[[int], float]:
    """Return the same of a peer."""
    return lambda count: float(peer.ask("batches", form=form, workers=workers, count=count)["seconds"])


def _peer(
    config: DataBench, store: "EpisodeStore", chosen: list[int], threads: int, stack: contextlib.ExitStack
) -> "tuple[Peer, dict[str, Any]]":
    """Start the peer, give it the frames, and return it and what it says of itself; it ends with the stack.

    An episode of L steps has L + 1 frames here and L there: its last frame is left out.
    """
    from .peers import open_peer

    peer = stack.enter_context(open_peer(str(config.peer), "data", config.peer_python))
    names = ("batch", "frames", "device")
    options = {name: getattr(config, name) for name in names} | {"threads": threads}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    facts = peer.ask("describe", folder=str(folder), **options)
    positions = np.searchsorted(store.episodes, chosen).tolist()
    for position in positions:
        np.save(folder / "pixels.npy", store.read("pixels", [position])[:-1])
        np.save(folder / "action.npy", store.read("action", [position]))
        peer.ask("take", formats=list(config.peer_formats))
    peer.ask("write")
    return peer, facts


def _table(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    settings = result["settings"]
    lines = [
        f"{settings['task']} {'x'.join(map(str, settings['image']))}: batches of {settings['batch']} clips of "
        f"{settings['frames']} frames, one every {settings['action_repeat']} steps, on {settings['device']}",
        "",
        f"{'':<40}{'clips a second':>16}{'opened in':>14}  against {result['compared_with']}",
    ]
    for name, rate in result["rates"].items():
        ratio = beside(result["ratios"].get(name))
        lines.append(f"{name:<40}{rate:>16,.0f}{result['opening_seconds'][name]:>12.2f} s{ratio}")
    if result["memory"] is not None:
        lines += ["", f"memory against memory, {result['memory']['compared_with']}:{beside(result['memory']['ratio'])}"]
    return "\n".join(lines)
