"""What a real-time loop lets in: observations with a time or a count, or a reason why not."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

from ..contracts import ModelSpec
from .observations import checked

__all__ = ["Intake", "Seen"]


@dataclass(frozen=True)
class Seen:
    """An accepted observation.

    Attributes:
        count: actions consumed when it was taken.
        observation: by key (1, ...), a copy.
    """

    count: int
    observation: Mapping[str, Any]


class Intake:
    """Checks observations and keeps those that plans may look back on.

    Reasons for refusal: "invalid" (key, shape, dtype, or not finite), "stale" (too old), "repeated" (the stamp of the
    one before), "out of order" (older than the one before, or than the last reset), "future" (a stamp that lies ahead).
    """

    def __init__(self, spec: ModelSpec, rate_hz: float, max_age: float) -> None:
        """Create an intake that takes observations at most `max_age` seconds old."""
        self._spec, self._rate, self._max_age = spec, rate_hz, max_age
        self.keep = math.ceil(max_age * rate_hz) + (spec.history + 1) * spec.action_repeat
        self._times: deque[float] = deque(maxlen=self.keep)
        self._count = self._origin = 0
        self._seen: dict[int, Seen] = {}
        self._last: tuple[type, float] | None = None

    def clear(self) -> None:
        """Forget observations and stamps, as at the start of an episode."""
        self._seen.clear()
        self._origin, self._last = self._count, None

    def acted(self, now: float) -> None:
        """Write down when an action was handed out."""
        self._times.append(now)
        self._count += 1

    def take(self, observation: Mapping[str, Any], stamp: float | None, now: float) -> Seen | tuple[str, str]:
        """Take an observation, or return the reason for refusing it and a sentence.

        Args:
            observation: by key (...) or (1, ...).
            stamp: an integer is the number of actions consumed when it was taken, a float its time on the loop's clock;
                None is now.
            now: time on the loop's clock.
        """
        reason = self._refusal(stamp, now)
        if reason is not None:
            return reason, f"observation with stamp {stamp!r} at count {self._count}, time {now:.3f} s: {reason}"
        try:
            arrays, _ = checked(observation, self._spec.observations)
            if next(iter(arrays.values())).shape[0] != 1:
                raise ValueError("the observation has several rows; a real-time controller drives one robot")
        except Exception as error:
            return "invalid", str(error)
        seen = Seen(self._count_at(stamp, now), {key: _copied(value) for key, value in arrays.items()})
        self._last = None if stamp is None else _key(stamp)
        self._seen[seen.count] = seen
        self._seen = {count: each for count, each in self._seen.items() if count > self._count - self.keep}
        return seen

    def moved(self, seen: Seen, count: int) -> Seen:
        """Pretend that an accepted observation was taken at another count; return it so."""
        self._seen.pop(seen.count)
        self._seen[count] = Seen(count, seen.observation)
        return self._seen[count]

    def is_stale(self, seen: Seen) -> bool:
        """Return whether an observation has become too old to plan from."""
        return self._count - seen.count > self._max_age * self._rate + 1

    def history(self, seen: Seen) -> list[Seen]:
        """Return the observation and those one, two, ... model steps before it, oldest first, up to the first gap."""
        found = [seen]
        while len(found) < self._spec.history:
            before = self._seen.get(found[0].count - self._spec.action_repeat)
            if before is None:
                break
            found.insert(0, before)
        return found

    def _refusal(self, stamp: float | None, now: float) -> str | None:
        if stamp is None:
            return None
        if not isinstance(stamp, Real) or not math.isfinite(stamp):
            return "invalid"
        whole, count = isinstance(stamp, Integral), self._count_at(stamp, now)
        age = (self._count - count) / self._rate if whole else now - stamp
        if age < (0 if whole else -1e-3):
            return "future"
        if self._last is not None and self._last[0] is _key(stamp)[0] and stamp <= self._last[1]:
            return "repeated" if stamp == self._last[1] else "out of order"
        if count < self._origin:
            return "out of order"
        return "stale" if age > self._max_age + 1e-9 else None

    def _count_at(self, stamp: float | None, now: float) -> int:
        """Return the count of a stamp; between two actions, the nearer end of the one that is being executed."""
        if stamp is None:
            return self._count
        if isinstance(stamp, Integral):
            return int(stamp)
        for back, time in enumerate(reversed(self._times)):
            if time < stamp:
                return self._count - back - (1 if (stamp - time) * self._rate < 0.5 else 0)
        return self._count - len(self._times)


def _key(stamp: float) -> tuple[type, float]:
    return (int if isinstance(stamp, Integral) else float, stamp)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else np.array(value)
