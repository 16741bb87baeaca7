"""Time contestants in turns, and talk to one that lives in another Python.

A machine's speed drifts, so two things are compared by letting them take turns and pairing the runs of one turn: what
slows the machine for a while then falls on both.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from .errors import UserError

__all__ = ["MANY", "Peer", "PeerPackage", "Ratio", "Timed", "p99", "per_unit", "ratio", "stopwatch", "take_turns"]

MANY = 100
"""Runs from which on a p99 is told; that of fewer is the slowest one, and called so."""

_LAST_LINES = 8
"""Lines of a dead peer's error output that are shown."""
_MOST = 100_000
"""Units in one run, for contestants whose clock hardly sees time pass."""
_PATIENCE = 5.0
"""Seconds that a peer has to end by itself once its input is closed."""


@dataclass(frozen=True)
class Timed:
    """The runs of one contestant.

    Attributes:
        seconds: of each run, in order; at least one.
        work: units of work in one run, e.g. frames.
    """

    seconds: tuple[float, ...]
    work: float = 1.0

    @property
    def median(self) -> float:
        """The median run's seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Seconds of the fastest and of the slowest run."""
        return min(self.seconds), max(self.seconds)

    @property
    def p99(self) -> float:
        """Seconds that 99 of 100 runs do not exceed; of fewer runs, the slowest one's."""
        return p99(self.seconds)

    @property
    def rate(self) -> float:
        """Units of work a second, at the median; infinite where the clock saw no time pass."""
        return self.work / self.median if self.median > 0 else float("inf")

    def to_json(self) -> dict[str, Any]:
        """Return "median", "p99" (from 100 runs on) and "all" in seconds, "work" and "rate"."""
        return {
            "median": self.median,
            **({"p99": self.p99} if len(self.seconds) >= MANY else {}),
            "all": list(self.seconds),
            "work": self.work,
            "rate": self.rate,
        }


@dataclass(frozen=True)
class Ratio:
    """How many times as long one contestant takes as another, for the same work.

    Attributes:
        median: over the turns.
        low: the smallest of a turn.
        high: the largest of a turn.
    """

    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return {"median": self.median, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.median:.3g}x ({self.low:.3g} to {self.high:.3g})"


def ratio(slow: Timed, fast: Timed) -> Ratio:
    """Return by how much `fast` beats `slow`: seconds a unit of work of `slow` over those of `fast`, turn by turn.

    Raises:
        ValueError: they did not take the same number of turns.
    """
    if len(slow.seconds) != len(fast.seconds):
        raise ValueError(f"{len(slow.seconds)} runs cannot be paired with {len(fast.seconds)}: time them in turns")
    scale = fast.work / slow.work
    paired = [scale * mine / max(other, 1e-12) for mine, other in zip(slow.seconds, fast.seconds, strict=True)]
    return Ratio(statistics.median(paired), min(paired), max(paired))


def p99(seconds: Sequence[float]) -> float:
    """Return the seconds that at least 99 of 100 runs do not exceed, those of one of them; of fewer, the slowest's."""
    return sorted(seconds)[-(-99 * len(seconds) // 100) - 1]


def stopwatch(run: Callable[[], object], device: torch.device | str = "cpu") -> Callable[[], float]:
    """Return a function that does `run` and returns its seconds, waiting for the device before and after."""

    def timed() -> float:
        _synchronise(device)
        start = time.perf_counter()
        run()
        _synchronise(device)
        return time.perf_counter() - start

    return timed


def per_unit(run: Callable[[int], float], seconds: float) -> Callable[[], float]:
    """Return a contestant that does many short things in one run, and returns the seconds of one.

    Args:
        run: does so many and returns the seconds that they took; it is called here, to find out how many fit.
        seconds: that one run should last; at least one thing is done.
    """
    count, used = 1, run(1)
    while used < seconds / 10 and count < _MOST:
        count = min(_MOST, 4 * count)
        used = run(count)
    chosen = max(1, min(_MOST, round(count * seconds / max(used, 1e-9))))
    return lambda: run(chosen) / chosen


def take_turns(
    contestants: Mapping[str, Callable[[], float]],
    rounds: int,
    warmup: int = 1,
    work: Mapping[str, float] | None = None,
    after: Callable[[str, float], object] | None = None,
) -> dict[str, Timed]:
    """Let every contestant run once a turn, each turn beginning with the next one.

    Args:
        contestants: by name, a function that does one run and returns its seconds (`stopwatch` makes one).
        rounds: turns that count.
        warmup: turns before them that do not.
        work: by name, units of work in one run; 1 where it says nothing.
        after: called with the name and the seconds of every run that counts, e.g. to show progress.

    Raises:
        ValueError: there is no contestant, or no turn.
    """
    if not contestants or rounds < 1 or warmup < 0:
        raise ValueError(f"{len(contestants)} contestants, {rounds} rounds, {warmup} of warm-up: nothing to time")
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warmup, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            used = contestants[name]()
            if turn >= 0:
                seconds[name].append(used)
                if after is not None:
                    after(name, used)
    return {name: Timed(tuple(seconds[name]), (work or {}).get(name, 1.0)) for name in names}


@dataclass(frozen=True)
class PeerPackage:
    """Another package that wmkit measures itself beside, installed in an environment of its own.

    Attributes:
        name: of the package, as users name it.
        install: the command that makes its environment.
    """

    name: str
    install: str


class Peer:
    """A program of another Python that answers requests: one JSON object a line in, one a line out.

    Use it as a context manager; leaving ends the process. What the program prints beside its answers is passed over,
    and an answer {"error": TEXT} is raised.

    Args:
        package: what it needs.
        python: interpreter of the environment that the package is in.
        program: the file to run.
        arguments: of the program.

    Raises:
        UserError: the interpreter is missing or does not start.
    """

    def __init__(self, package: PeerPackage, python: Path, program: Path, arguments: Sequence[str] = ()) -> None:
        self.package = package
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        command = [str(python), "-W", "ignore", str(program), *arguments]
        pipe = subprocess.PIPE
        settings = os.environ | {"SDL_VIDEODRIVER": "dummy", "PYTHONUNBUFFERED": "1"}
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, env=settings
            )
        except OSError as error:
            self._errors.close()
            reason = error.strerror or error
            raise UserError(f"{python} is no Python that starts ({reason}); make one: {package.install}") from None

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send the request `do` with its options and return the answer.

        Raises:
            UserError: the program ended, lacks a package, or answered with an error.
        """
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise ValueError("the peer's process has no pipes")
        try:
            process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):
            raise self._ended() from None
        for line in process.stdout:
            answer = _object_in(line)
            if answer is None:
                continue
            if "error" in answer:
                raise UserError(f"{self.package.name} could not {do}: {answer['error']}")
            return answer
        raise self._ended()

    def seconds(self, do: str, **request: Any) -> Callable[[], float]:
        """Return a contestant for `take_turns`: the "seconds" of the answer to a request."""
        return lambda: float(self.ask(do, **request)["seconds"])

    def close(self) -> None:
        """End the process: by closing its input, and where that is not enough, by force."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ended(self) -> UserError:
        """Return what to tell of a process that ended without an answer."""
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        name, last = self.package.name, lines[-1] if lines else ""
        if last.startswith(("ModuleNotFoundError", "ImportError", "importlib.metadata.PackageNotFoundError")):
            return UserError(f"the peer's Python cannot load {name} ({last}); make one: {self.package.install}")
        said = " | ".join(lines[-_LAST_LINES:]) or "nothing"
        return UserError(f"{name} ended with code {code} and without an answer; it last said: {said}")


def _object_in(line: str) -> dict[str, Any] | None:
    """Return the JSON object of a line; None where the line is something else."""
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _synchronise(device: torch.device | str) -> None:
    """Wait until a CUDA device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
