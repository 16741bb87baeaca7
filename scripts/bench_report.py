"""What the benchmarks have in common: checks, progress, ratios, files; no command of its own."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit.errors import UserError

if TYPE_CHECKING:
    from wmkit.timing import Timed

__all__ = [
    "beside",
    "check_machine",
    "check_positive",
    "check_unused",
    "finish",
    "given",
    "progress",
    "ratios_to",
    "seconds_of",
    "timing_table",
    "torches",
    "use_threads",
]


def check_positive(config: Any, *names: str) -> None:
    """Raise UserError for an option that is given and not above 0, or not finite."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{_flag(name)} must be positive, not {value}")


def check_machine(config: Any) -> None:
    """Raise UserError for threads, a device or a file of results that cannot be had here; makes the file's folder."""
    threads, cores = getattr(config, "threads", None), os.cpu_count() or 1
    if threads is not None and not 0 < threads <= cores:
        raise UserError(f"--threads must be from 1 to {cores}, the cores of this machine, not {threads}")
    if getattr(config, "device", "cpu") == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no CUDA device here")
    if config.out is not None:
        _check_file(config.out)


def check_unused(config: Any, names: "tuple[str, ...] | list[str]", reason: str) -> None:
    """Raise UserError for options among `names` that are given though they do nothing, with the reason."""
    unused = given(config, names)
    if unused:
        raise UserError(f"{', '.join(map(_flag, unused))}: {reason}; leave {'it' if len(unused) == 1 else 'them'} out")


def given(config: Any, names: "tuple[str, ...] | list[str] | None" = None) -> list[str]:
    """Return the options that are not as they are by default, of all or of `names`."""
    defaults = {item.name: item.default for item in fields(config) if item.default is not MISSING}
    return [name for name in names or defaults if getattr(config, name) != defaults[name]]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_file(path: Path) -> None:
    """Raise UserError where a file cannot be written; what is in it stays."""
    before = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise UserError(f"--out: {path} cannot be written: {error.strerror or error}") from None
    if not before:
        path.unlink()


@contextlib.contextmanager
def use_threads(threads: int | None) -> Iterator[int]:
    """Let torch use so many CPU threads within the block, None for its own choice; yields how many it uses."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def progress(kind: str) -> Callable[[str, float], None]:
    """Return what shows one run on standard error."""

    def show(name: str, seconds: float) -> None:
        print(f"{kind:<10} {name:<32} {seconds * 1e3:>12.3f} ms", file=sys.stderr, flush=True)

    return show


def ratios_to(baseline: str, runs: "Mapping[str, Timed]") -> dict[str, Any]:
    """Return contestant -> how many times as long the baseline takes for the same work, as JSON holds it."""
    from wmkit.timing import ratio

    return {name: ratio(runs[baseline], each).to_json() for name, each in runs.items() if name != baseline}


def seconds_of(timed: "Mapping[str, Mapping[str, Timed]]") -> dict[str, Any]:
    """Return what was timed -> contestant -> its seconds, as JSON holds them."""
    return {kind: {name: each.to_json() for name, each in runs.items()} for kind, runs in timed.items()}


def timing_table(
    kind: str,
    runs: Mapping[str, Any],
    ratios: Mapping[str, Any],
    baseline: str,
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Return lines on one thing that was timed, from its part of `seconds_of` and `ratios_to`.

    Args:
        kind: what was timed.
        runs: contestant -> its seconds.
        ratios: contestant -> its ratio to the baseline.
        baseline: what is compared with.
        others: further contestants that some are compared with -> contestant -> ratio.
    """
    slow = "p99" if all("p99" in timed for timed in runs.values()) else "slowest"
    lines = [f"{kind:<36}{'median':>12}{slow:>12}{'fastest':>12}  against {baseline}"]
    for name, timed in runs.items():
        slowest = timed["p99"] if slow == "p99" else max(timed["all"])
        times = "".join(f"{value * 1e3:>9.3f} ms" for value in (timed["median"], slowest, min(timed["all"])))
        lines.append(f"{name:<36}{times}{beside(ratios.get(name))}")
    for other, found in (others or {}).items():
        lines += [f"{name:<36}{beside(ratio)} against {other}" for name, ratio in found.items()]
    return lines


def beside(ratio: Mapping[str, float] | None) -> str:
    """Return a ratio as a table shows it, nothing for None."""
    return f"  {ratio['median']:.3g}x ({ratio['low']:.3g} to {ratio['high']:.3g})" if ratio else ""


def torches(result: Mapping[str, Any], peer: str | None) -> str:
    """Return the versions of both sides as text, from a result's "peer" and "provenance"."""
    ours = f"wmkit on torch {result['provenance']['packages'].get('torch', 'unknown')}"
    if result["peer"] is None:
        return ours
    theirs = result["peer"]["packages"]
    return f"{peer} {theirs.get(peer, 'unknown')} on torch {theirs.get('torch', 'unknown')}, {ours}"


def finish(result: Mapping[str, Any], out: Path | None, as_json: bool, table: str) -> None:
    """Print the result as JSON or as a table, and write it to a file where one is asked for.

    Raises:
        UserError: the file cannot be written.
    """
    if as_json or table:
        print(json.dumps(result) if as_json else table, flush=True)
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(result, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"--out: {out} cannot be written: {error.strerror or error}") from None
