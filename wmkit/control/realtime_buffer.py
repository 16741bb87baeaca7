"""Actions by the number of actions consumed before them."""

from collections.abc import Callable

import numpy as np

__all__ = ["ActionBuffer"]


class ActionBuffer:
    """What the robot has executed and what is planned for it, one environment action per count.

    Action `k` is the one that is taken when `count` is k. Those below `count` are history, those from it on the plan;
    a plan may have gaps, and ends somewhere. Only one thread may use a buffer.

    Attributes:
        count: actions taken so far.
        origin: count at the last `clear`; what was executed before it is forgotten.
    """

    def __init__(self, keep: int) -> None:
        """Create an empty buffer that remembers the last `keep` actions taken."""
        self.count = 0
        self.origin = 0
        self._keep = keep
        self._taken: dict[int, np.ndarray] = {}
        self._planned: dict[int, np.ndarray] = {}

    @property
    def last(self) -> np.ndarray | None:
        """The action (action_size,) taken last since `origin`, or None."""
        return self.taken(self.count - 1)

    def taken(self, count: int) -> np.ndarray | None:
        """Return the action (action_size,) that was taken at a count since `origin`, None where it is not known."""
        return self._taken.get(count)

    @property
    def left(self) -> int:
        """How many actions can be taken before the first gap."""
        number = 0
        while self.count + number in self._planned:
            number += 1
        return number

    def clear(self) -> None:
        """Forget plan and history; `count` goes on."""
        self.origin = self.count
        self._taken.clear()
        self._planned.clear()

    def forget_plan(self) -> None:
        """Forget what is planned and keep what was executed."""
        self._planned.clear()

    def put(self, start: int, actions: np.ndarray) -> int:
        """Replace the plan from `start` on; what was planned before `start` stays.

        Args:
            start: count at which the first action is due; those due before `count` come too late and are dropped.
            actions: (L, action_size).

        Returns:
            How many actions came too late. If that is all of them, the present plan stays.
        """
        late = min(max(self.count - start, 0), len(actions))
        if late < len(actions):
            self._planned = {k: action for k, action in self._planned.items() if k < start}
            self._planned.update({start + k: actions[k] for k in range(late, len(actions))})
        return late

    def covers(self, count: int) -> bool:
        """Return whether an action is planned for a count."""
        return count in self._planned

    def next(self) -> np.ndarray | None:
        """Return the action (action_size,) planned for `count`, or None; it counts as taken by `take` alone."""
        return self._planned.get(self.count)

    def take(self, action: np.ndarray) -> None:
        """Write down the action (action_size,) handed out for `count`, and move on to the next."""
        self._taken[self.count] = action
        self._taken.pop(self.count - self._keep, None)
        self._planned.pop(self.count, None)
        self.count += 1

    def window(self, first: int, last: int, safe: Callable[[np.ndarray | None], np.ndarray]) -> np.ndarray:
        """Return the actions first to last, exclusive, as far as one can know them now.

        Args:
            first: count of the first one, since `origin`, at most `keep` actions ago, and `count` at most.
            last: count after the last one.
            safe: the action that fills a gap of the plan, from the action before it.

        Returns:
            (last - first, action_size).
        """
        before = self._taken.get(first - 1)
        found = []
        for count in range(min(first, self.count), last):
            action = self._taken[count] if count < self.count else self._planned.get(count)
            before = safe(before if count > self.count else self.last) if action is None else action
            if count >= first:
                found.append(before)
        return np.stack(found) if found else np.zeros((0, len(safe(None))), np.float32)
