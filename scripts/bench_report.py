"""What the benchmarks have in common: checks, progress, ratios, files; no command of its own."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit.errors import UserError

if TYPE_CHECKING:
    from wmkit.timing import Timed

__all__ = [
    "beside",
    "check_device",
    "check_positive",
    "finish",
    "progress",
    "ratios_to",
    "seconds_of",
    "timing_table",
    "use_threads",
]


def check_positive(config: Any, *names: str) -> None:
    """Raise UserError for an option that is given and not above 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name.replace('_', '-')} must be positive, not {value}")


def check_device(device: str) -> None:
    """Raise UserError where the device is not there."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no CUDA device here")


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


def timing_table(kind: str, runs: Mapping[str, Any], ratios: Mapping[str, Any], baseline: str) -> list[str]:
    """Return lines on one thing that was timed, from its part of `seconds_of` and `ratios_to`."""
    lines = [f"{kind:<36}{'median':>12}{'p99':>12}{'fastest':>12}  against {baseline}"]
    for name, timed in runs.items():
        times = "".join(f"{value * 1e3:>9.3f} ms" for value in (timed["median"], timed["p99"], min(timed["all"])))
        lines.append(f"{name:<36}{times}{beside(ratios.get(name))}")
    return lines


def beside(ratio: Mapping[str, float] | None) -> str:
    """Return a ratio as a table shows it, nothing for None."""
    return f"  {ratio['median']:.3g}x ({ratio['low']:.3g} to {ratio['high']:.3g})" if ratio else ""


def finish(result: Mapping[str, Any], out: Path | None, as_json: bool, table: str) -> None:
    """Write the result to a file where one is asked for, and print it as JSON or as a table."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")
    if as_json or table:
        print(json.dumps(result) if as_json else table)
