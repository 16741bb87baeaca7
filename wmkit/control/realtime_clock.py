"""Clocks for real-time loops: the system's, and one that a test moves."""

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Clock", "ManualClock", "Metronome", "SystemClock", "quiet_interpreter", "ticks"]


class Clock(Protocol):
    """Monotonic seconds."""

    def now(self) -> float:
        """Return the time in seconds from an arbitrary zero."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds; at once for 0 or less."""
        ...


class SystemClock:
    """`time.monotonic`."""

    def now(self) -> float:
        """Return the time in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        if seconds > 0:
            time.sleep(seconds)


class ManualClock:
    """Time that passes only when told: loops in lock step, as fast as the machine is, always alike."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._now = seconds

    def now(self) -> float:
        """Return the time in seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._now += max(seconds, 0.0)


class Metronome:
    """Ticks at a fixed rate, counted from the first one, so that errors do not add up.

    A loop that comes more than a period late leaves out the ticks that are past: late actions are not sent in a burst.

    Attributes:
        skipped: ticks left out.
    """

    def __init__(self, rate_hz: float, clock: Clock) -> None:
        """Create a metronome whose first tick is due at the first `wait`."""
        self._period, self._clock = 1.0 / rate_hz, clock
        self._due: float | None = None
        self.skipped = 0

    def wait(self) -> float:
        """Sleep until the next tick; return how late this one is, in seconds."""
        now = self._clock.now()
        if self._due is None:
            self._due = now
            return 0.0
        behind = int(max(now - self._due, 0.0) / self._period)
        ticks = max(behind, 1)
        self.skipped += ticks - 1
        self._due += ticks * self._period
        self._clock.sleep(self._due - now)
        return max(self._clock.now() - self._due, 0.0)


def ticks(rate_hz: float, clock: Clock, seconds: float) -> Iterator[int]:
    """Yield once a tick for some seconds, at the rate; what is yielded is how many ticks were left out so far."""
    metronome, end = Metronome(rate_hz, clock), clock.now() + seconds - 0.5 / rate_hz
    while True:
        metronome.wait()
        if clock.now() >= end:
            return
        yield metronome.skipped


@contextmanager
def quiet_interpreter(switch_seconds: float = 0.0005) -> Iterator[None]:
    """Make Python interrupt a timed loop less: threads hand over sooner, and old objects are not garbage collected.

    The default of `sys.setswitchinterval`, 5 ms, is how long a planner's thread in Python may keep the loop waiting.
    """
    before = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(switch_seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()
