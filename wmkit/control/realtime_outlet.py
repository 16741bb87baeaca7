"""What a real-time loop lets out: finite actions within the bounds, and the safe action."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from ..contracts import ModelSpec

__all__ = ["Outlet", "SafeAction"]

SafeAction = np.ndarray | Callable[[np.ndarray | None], np.ndarray] | Literal["hold", "zero"]
"""What to do without a plan: repeat the last action, the action 0, an action (action_size,), or a function of the last
action (None at the start of an episode) that returns one. All are clipped into the bounds; "hold" begins with 0."""


class Outlet:
    """The last check of every action, and the source of safe ones."""

    def __init__(self, spec: ModelSpec, safe: SafeAction) -> None:
        """Create an outlet.

        Raises:
            ValueError: the safe action is of no known kind, has another shape, or is not finite.
        """
        self._low, self._high = np.asarray(spec.action_low, np.float32), np.asarray(spec.action_high, np.float32)
        self._rest = np.clip(np.zeros_like(self._low), self._low, self._high)
        self._given = safe
        if isinstance(safe, str):
            if safe not in ("hold", "zero"):
                raise ValueError(f"safe_action is {safe!r}; give 'hold', 'zero', an action, or a function")
            return
        found = np.asarray(safe(None) if callable(safe) else safe)
        if found.shape != self._low.shape or not np.isfinite(found).all():
            raise ValueError(
                f"the safe action is {found.tolist()!r}; give {len(self._low)} finite numbers, or a function that does"
            )

    def safe(self, before: np.ndarray | None) -> np.ndarray:
        """Return the safe action (action_size,), float32, that follows `before`; the action 0 if a function fails."""
        given = self._given
        if isinstance(given, str):
            return self._rest if given == "zero" or before is None else before
        try:
            action = np.asarray(given(before) if callable(given) else given, np.float32)
        except Exception:
            return self._rest
        return self.checked(action)[0]

    def checked(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return the action, float32, finite and within the bounds, and whether it had to be changed."""
        if action.shape != self._low.shape or not np.isfinite(action).all():
            return self._rest, True
        kept = np.clip(action, self._low, self._high)
        return kept, not np.array_equal(kept, action)
