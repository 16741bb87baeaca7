"""What a real-time loop counts: histograms of constant size, and numbers that can be read at any time."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Counters", "Delay", "Histogram", "Meter", "Status"]

_LOWEST, _HIGHEST, _PER_DECADE = 1e-6, 1e3, 100
_SIZE = round(np.log10(_HIGHEST / _LOWEST)) * _PER_DECADE


class Histogram:
    """Seconds counted in bins of 2.3 percent, from a microsecond to a quarter of an hour, in constant memory.

    Attributes:
        bins: (900,), int64, how many values fell into each bin; smaller and larger values go to the ends.
    """

    def __init__(self) -> None:
        self.bins = np.zeros(_SIZE, dtype=np.int64)

    def add(self, seconds: float) -> None:
        """Count one value."""
        place = int(np.log10(max(seconds, _LOWEST) / _LOWEST) * _PER_DECADE)
        self.bins[min(place, _SIZE - 1)] += 1

    def quantile(self, fraction: float) -> float:
        """Return the upper edge of the bin that holds a quantile, in seconds; NaN without values."""
        reached = np.cumsum(self.bins)
        if not reached[-1]:
            return float("nan")
        place = int(np.searchsorted(reached, max(fraction * reached[-1], 1)))
        return float(_LOWEST * 10 ** ((place + 1) / _PER_DECADE))

    def rows(self, per_decade: int = 5) -> list[tuple[float, float, int]]:
        """Return (from, to, how many) in seconds, from the first to the last coarse bin that holds a value."""
        coarse = self.bins.reshape(-1, _PER_DECADE // per_decade).sum(axis=1)
        filled = np.flatnonzero(coarse)
        if not filled.size:
            return []
        edges = _LOWEST * 10 ** (np.arange(len(coarse) + 1) / per_decade)
        return [(float(edges[i]), float(edges[i + 1]), int(coarse[i])) for i in range(filled[0], filled[-1] + 1)]


class Delay:
    """How long a plan will take: somewhat more than nearly all of the last ones took."""

    def __init__(self, first: float, keep: int = 200) -> None:
        """Expect `first` seconds until there is experience, of the last `keep` plans."""
        self._first = first
        self._times: deque[float] = deque(maxlen=keep)

    def add(self, *seconds: float) -> None:
        """Learn from plans."""
        self._times.extend(seconds)

    def seconds(self) -> float:
        """Return a tenth more than the 99 percent quantile."""
        return 1.1 * float(np.quantile(self._times, 0.99)) if self._times else self._first


@dataclass(frozen=True)
class Status:
    """How the planner is.

    Attributes:
        state: "stopped"; "running"; "hanging" (no answer for `patience` seconds); "failing" (the last request ended in
            an error; the next observation is planned from all the same); "dead" (no worker is left: stop and start).
        error: the last error of planner, model or worker, None where there was none since `start`.
        refusal: why the last refused observation was refused, None where none was.
        planning: seconds since the request that is being planned, None while idle.
        left: planned actions that are left before the safe action.
    """

    state: str
    error: str | None
    refusal: str | None
    planning: float | None
    left: int


@dataclass(frozen=True)
class Counters:
    """What happened since `start`; times in seconds, NaN where there is none yet.

    Attributes:
        ticks: actions handed out.
        plans: plans that arrived and were taken over, in whole or in part.
        late: of those plans and of the `useless` ones, how many arrived after the count they were to start at.
        lost: actions of late plans that were due before the plan arrived.
        useless: plans that arrived when all their actions were past.
        superseded: plans dropped because the goal or the episode had changed meanwhile.
        empty: ticks without a planned action, after the episode's first plan had arrived: the safe action went out.
        waiting: ticks before the episode's first plan had arrived: the safe action went out.
        repaired: actions that the last check had to put right: not finite, or out of bounds.
        refused: reason -> observations refused for it.
        failures: requests that ended in an error of the planner, the model or the worker.
        restarts: workers started anew after they died.
        overruns: ticks of `run` that were left out because the loop itself came more than a period late.
        warm_up: plans made to warm up; in none of the other numbers.
        plan_p50: from asking for a plan to having it, median.
        plan_p99: the same, 99 percent.
        warm_up_longest: longest plan of the warm-up.
        jitter_p50: distance of a tick from its due time, median.
        jitter_p99: the same, 99 percent.
    """

    ticks: int
    plans: int
    late: int
    lost: int
    useless: int
    superseded: int
    empty: int
    waiting: int
    repaired: int
    refused: Mapping[str, int]
    failures: int
    restarts: int
    overruns: int
    warm_up: int
    plan_p50: float
    plan_p99: float
    warm_up_longest: float
    jitter_p50: float
    jitter_p99: float

    @property
    def safe(self) -> int:
        """Ticks at which the safe action went out."""
        return self.empty + self.waiting

    @property
    def miss_rate(self) -> float:
        """Late plans and empty ticks per tick that was not waiting."""
        return (self.late + self.empty) / max(self.ticks - self.waiting, 1)


@dataclass
class Meter:
    """The numbers of `Counters` while they are counted; one thread writes, any may read."""

    ticks: int = 0
    plans: int = 0
    late: int = 0
    lost: int = 0
    useless: int = 0
    superseded: int = 0
    empty: int = 0
    waiting: int = 0
    repaired: int = 0
    failures: int = 0
    restarts: int = 0
    overruns: int = 0
    warm_up: int = 0
    warm_up_longest: float = float("nan")
    refused: dict[str, int] = field(default_factory=dict)
    planning: Histogram = field(default_factory=Histogram)
    jitter: Histogram = field(default_factory=Histogram)

    def tick(self, off: float | None) -> None:
        """Count an action, and how many seconds it went out before or after its due time, where that is known."""
        self.ticks += 1
        if off is not None:
            self.jitter.add(abs(off))

    def refuse(self, reason: str) -> str:
        """Count a refused observation and return the reason."""
        self.refused = self.refused | {reason: self.refused.get(reason, 0) + 1}
        return reason

    def arrived(self, *, late: bool, lost: int, useless: bool) -> None:
        """Count a plan that arrived."""
        self.late += late
        self.lost += lost
        self.useless += useless
        self.plans += not useless

    def warmed(self, seconds: list[float]) -> None:
        """Take over the times of the warm-up."""
        self.warm_up += len(seconds)
        self.warm_up_longest = max(seconds, default=float("nan"))

    def snapshot(self) -> Counters:
        """Return the numbers as they are now."""
        numbers = {name: value for name, value in vars(self).items() if not isinstance(value, Histogram)}
        return Counters(
            **numbers,
            plan_p50=self.planning.quantile(0.5),
            plan_p99=self.planning.quantile(0.99),
            jitter_p50=self.jitter.quantile(0.5),
            jitter_p99=self.jitter.quantile(0.99),
        )
