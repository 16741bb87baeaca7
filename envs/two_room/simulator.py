"""TwoRoom's dynamics alone: states and actions in, states out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .variations import parse_variations
from .world import Scene, step_states

__all__ = ["TwoRoomSimulator"]


class TwoRoomSimulator:
    """Rolls actions out in one scene, all candidates at once; each step is exactly that of the environment.

    Args:
        variation: Name -> value, as in `VARIATIONS`; the default scene if None.

    Raises:
        ValueError: If a variation is unknown or its value is refused.
    """

    def __init__(self, variation: Mapping[str, Any] | None = None) -> None:
        self._scene = Scene(**parse_variations(variation or {}, ()))

    def rollout(self, states: npt.ArrayLike, actions: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Simulates every candidate from its start.

        Args:
            states: (B, 2) float, starts in free space.
            actions: (B, N, H, 2) float, clipped to [-1, 1].

        Returns:
            (B, N, H, 2) float64, the state after each action.
        """
        actions = np.asarray(actions, np.float64)
        found = np.empty(actions.shape)
        now = np.broadcast_to(np.asarray(states, np.float64)[:, None], found[:, :, 0].shape)
        for step in range(actions.shape[2]):
            now = found[:, :, step] = step_states(now, actions[:, :, step], self._scene)
        return found
