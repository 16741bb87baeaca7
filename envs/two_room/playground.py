"""What a person can do to TwoRoom with the mouse, and the agent drawn as an outline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .world import Array, Scene, is_free, step_states

__all__ = ["TwoRoomPlayground"]

_CORNERS = 24
"""Corners of the polygon that stands for the agent's circle."""
_NUDGE = 1e-6


class TwoRoomPlayground:
    """`wmkit.tasks.Playground` of TwoRoom: the agent can be dragged, and the goal put elsewhere; nothing turns.

    States and goals are (2,), the agent's centre in widths, which are the picture's coordinates already.

    Args:
        scene: the geometry; by default that of a reset with the door in the middle.
    """

    def __init__(self, scene: Scene | None = None) -> None:
        self._scene = scene or Scene()
        turn = np.linspace(0.0, 2 * np.pi, _CORNERS, endpoint=False)
        self._circle = float(np.asarray(self._scene.agent_radius)) * np.stack((np.cos(turn), np.sin(turn)), axis=1)

    @property
    def handles(self) -> Sequence[str]:
        """The agent."""
        return ("agent",)

    def place(self, state: np.ndarray, handle: str) -> tuple[float, float]:
        """Return where the agent's centre is."""
        return float(state[0]), float(state[1])

    def grab(self, state: np.ndarray, x: float, y: float) -> str | None:
        """Return "agent" within two radii of its centre, since it is small, else None."""
        reach = 2.0 * float(np.asarray(self._scene.agent_radius))
        return "agent" if np.hypot(state[0] - x, state[1] - y) <= reach else None

    def drag(self, state: np.ndarray, handle: str, x: float, y: float) -> np.ndarray:
        """Return the agent's centre (2,) at a place, or beside the wall that is there.

        Raises:
            ValueError: for an unknown handle.
        """
        if handle != "agent":
            raise ValueError(f"unknown handle {handle!r}; TwoRoom has: agent")
        return self._free(np.array([x, y], np.float64), np.asarray(state, np.float64))

    def spin(self, state: np.ndarray, radians: float) -> np.ndarray:
        """Return the state (2,) as it is: a disc has no angle."""
        return np.array(state, np.float64)

    def goal(self, goal: np.ndarray, x: float, y: float) -> np.ndarray:
        """Return the goal (2,) at a place, or beside the wall that is there."""
        return self._free(np.array([x, y], np.float64), np.asarray(goal, np.float64))

    def sketch(self, quantities: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Return the agent's circle (M, 2) about "agent" (2,); nothing without it."""
        return [quantities["agent"] + self._circle] if "agent" in quantities else []

    def outline(self, state: np.ndarray, handle: str) -> Sequence[np.ndarray]:
        """Return the outlines (M, 2) in [0, 1] of what is dragged by a handle; `state` is (2,)."""
        return self.sketch({handle: np.asarray(state)})

    def _free(self, place: Array, otherwise: Array) -> Array:
        """Return the free place (2,) beside `place`; `otherwise`, a copy, if there is none."""
        scene = self._scene
        wall, reach = float(np.asarray(scene.wall_position)), 0.5 * float(np.asarray(scene.wall_thickness)) + _NUDGE
        buried = abs(place[0] - wall) < reach and abs(place[1] - float(np.asarray(scene.door_position))) > float(
            np.asarray(scene.door_size)
        )
        if buried:
            place = np.array([wall + np.copysign(reach, place[0] - wall), place[1]])
        moved = step_states(place, np.zeros(2), scene)
        return moved if is_free(moved, scene) else otherwise.copy()
