"""What a person can do to PushT with the mouse, and block and agent drawn as outlines."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .geometry import WORLD_SIZE, block_shape, valid_state
from .variations import Variation

__all__ = ["PushTPlayground"]

Array = NDArray[np.float64]

_T = np.array([(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], np.float64)
"""The outline of the standard T in the block's frame, px; its corners' mean is the block's centre of gravity."""
_CORNERS = 24
"""Corners of the polygon that stands for the agent's circle."""
_GAP = 1.0
"""Pixels left between block and agent, and between either and a wall."""
_WALLS = (7.0, 504.0)
_RINGS = np.arange(0.0, 181.0, 6.0)
"""Distances in px from the wanted place at which another is looked for."""
_TURN = np.linspace(0.0, 2 * np.pi, _CORNERS, endpoint=False)
_CIRCLE = np.stack((np.cos(_TURN), np.sin(_TURN)), axis=1)
_AROUND = (_RINGS[:, None, None] * _CIRCLE).reshape(-1, 2)


class PushTPlayground:
    """`wmkit.tasks.Playground` of PushT with the standard T: block and agent can be dragged, the block turned.

    States and goals are float64 (10,) as `geometry` has them. The place of the block is its centre of gravity.
    """

    def __init__(self) -> None:
        self._shape, self._radius = block_shape(), Variation().agent_radius
        self._middle = np.array(self._shape.center_of_gravity)

    @property
    def handles(self) -> Sequence[str]:
        """Block and agent."""
        return ("block", "agent")

    def place(self, state: np.ndarray, handle: str) -> tuple[float, float]:
        """Return where the block's centre of gravity, or the agent, is in [0, 1]."""
        x, y = (self._centre(state) if handle == "block" else np.asarray(state, float)[:2]) / WORLD_SIZE
        return float(x), float(y)

    def grab(self, state: np.ndarray, x: float, y: float) -> str | None:
        """Return "agent" or "block" at a place, a little beside them too, or None; the agent lies on top."""
        place = np.array([x, y]) * WORLD_SIZE
        if np.hypot(*(place - state[:2])) <= self._radius + 4.0:
            return "agent"
        return "block" if self._distance(place, state[None, 2:5])[0] <= 4.0 else None

    def drag(self, state: np.ndarray, handle: str, x: float, y: float) -> np.ndarray:
        """Return the state (10,) with block or agent at a place or the nearest free one, everything at rest.

        Raises:
            ValueError: for an unknown handle.
        """
        if handle not in self.handles:
            raise ValueError(f"unknown handle {handle!r}; PushT has: {', '.join(self.handles)}")
        place = np.array([x, y], np.float64) * WORLD_SIZE
        if handle == "block":
            return self._place_block(state, place, float(state[4]))
        return self._place_agent(state, place)

    def spin(self, state: np.ndarray, radians: float) -> np.ndarray:
        """Return the state (10,) with the block turned clockwise about its centre of gravity, everything at rest."""
        return self._place_block(state, self._centre(state), float(state[4]) + radians)

    def goal(self, goal: np.ndarray, x: float, y: float) -> np.ndarray:
        """Return the goal (10,) with the block at a place; the agent, where it counts, goes with it."""
        alone = np.array(goal, np.float64)
        alone[:2] = np.nan
        moved = self._place_block(alone, np.array([x, y]) * WORLD_SIZE, float(alone[4]))
        agent = goal[:2] + moved[2:4] - alone[2:4]
        if np.isnan(agent).any():
            return moved
        moved[:2] = self._place_agent(moved, agent)[:2]
        return np.array(goal, np.float64) if np.isnan(moved).any() else moved

    def sketch(self, quantities: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Return the T's outline (8, 2) and the agent's circle (M, 2) in [0, 1], as far as they are known.

        Args:
            quantities: "block" (2,) px and "angle" (2,) as sine and cosine of any length, "agent" (2,) px.
        """
        outlines = []
        if "block" in quantities and "angle" in quantities:
            sine, cosine = np.asarray(quantities["angle"], float)
            corners = _turned(_T, float(np.arctan2(sine, cosine))) + np.asarray(quantities["block"], float)
            outlines.append(corners / WORLD_SIZE)
        if "agent" in quantities:
            outlines.append((np.asarray(quantities["agent"], float) + self._radius * _CIRCLE) / WORLD_SIZE)
        return outlines

    def outline(self, state: np.ndarray, handle: str) -> Sequence[np.ndarray]:
        """Return the outlines (M, 2) in [0, 1] of what is dragged by a handle; `state` is (10,)."""
        if handle == "agent":
            return self.sketch({"agent": state[:2]})
        return self.sketch({"block": state[2:4], "angle": np.array([np.sin(state[4]), np.cos(state[4])])})

    def _centre(self, state: np.ndarray) -> Array:
        """Return the block's centre of gravity (2,), px."""
        return np.asarray(state[2:4], float) + _turned(self._middle, float(state[4]))

    def _place_block(self, state: np.ndarray, centre: Array, angle: float) -> Array:
        """Return the state (10,) with the block's centre of gravity at a place or the nearest free one."""
        middle = _turned(self._middle, angle)
        corners = _turned(self._shape.corners.reshape(-1, 2), angle) - middle
        low, high = _WALLS[0] + _GAP - corners.min(axis=0), _WALLS[1] - _GAP - corners.max(axis=0)
        rows = _at_rest(state)
        rows[:, 2:4] = np.clip(np.clip(centre, low, high) + _AROUND, low, high) - middle
        rows[:, 4] = angle
        return self._first_free(state, rows)

    def _place_agent(self, state: np.ndarray, place: Array) -> Array:
        """Return the state (10,) with the agent at a place (2,) px or the nearest free one."""
        rows, margin = _at_rest(state), self._radius + _GAP
        low, high = _WALLS[0] + margin, _WALLS[1] - margin
        rows[:, :2] = np.clip(np.clip(place, low, high) + _AROUND, low, high)
        return self._first_free(state, rows)

    def _first_free(self, state: np.ndarray, rows: Array) -> Array:
        """Return the first of the states (M, 10) that can be; a copy of `state` if none can.

        An agent that is NaN is nowhere, and in nothing's way.
        """
        apart = self._distance(rows[:, :2], rows[:, 2:5]) >= self._radius + _GAP
        present = np.where(np.isnan(rows), 0.0, rows)
        free = (apart | np.isnan(rows[:, 0])) & valid_state(present, margin=0.0)
        return rows[int(np.argmax(free))] if free.any() else np.array(state, np.float64)

    def _distance(self, places: Array, poses: Array) -> Array:
        """Return the distances (M,) of places (M, 2) or (2,) from the block at poses (M, 3), px; 0 inside."""
        offset, cos, sin = places - poses[:, :2], np.cos(poses[:, 2]), np.sin(poses[:, 2])
        local = np.stack((cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]), axis=1)
        beyond = np.maximum(np.abs(local[:, None] - self._shape.centers) - self._shape.halves, 0.0)
        return np.linalg.norm(beyond, axis=-1).min(axis=-1)


def _at_rest(state: np.ndarray) -> Array:
    """Return as many copies (M, 10) of a state as there are places to try, with all velocities zero."""
    rows = np.tile(np.asarray(state, np.float64), (len(_AROUND), 1))
    rows[:, 5:] = 0.0
    return rows


def _turned(points: Array, angle: float) -> Array:
    """Return points (..., 2) turned about the origin, clockwise in the picture."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack((cos * points[..., 0] - sin * points[..., 1], sin * points[..., 0] + cos * points[..., 1]), axis=-1)
