"""TwoRoom's expert: straight lines between way-points, through the door where the goal lies beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .variations import parse_variations
from .world import PIXEL, Array, Bools, Scene

__all__ = ["TwoRoomExpert"]

_MARGIN = 1 * PIXEL
"""Distance that way-points keep from the walls, beyond the agent's radius."""


class TwoRoomExpert:
    """Reaches any goal from anywhere, batched, and tolerates noise on its actions.

    In the goal's room it heads straight for the goal. Otherwise it heads for the near mouth of the door, and once it
    is level with the opening, for the far mouth; within the opening the way-points lie as close as they can to the
    straight line between agent and goal. Each action depends only on the present states and the goals, so the expert
    recovers from any disturbance and `reset` may be called at any time.

    Shapes: (2,) for one environment or (B, 2) for a batch.
    """

    def __init__(self) -> None:
        self._scene = Scene()
        self._goals: Array | None = None

    def reset(self, state: npt.ArrayLike, goal: npt.ArrayLike, variation: Mapping[str, Any] | None = None) -> None:
        """Sets the goals and the scenes.

        Args:
            state: (2,) or (B, 2) float, where the agents are; only its shape matters here.
            goal: (2,) or (B, 2) float.
            variation: What differs from the default scene, as in the environment's reset option of that name;
                ``{"door.position": info["door.position"]}`` for doors that are drawn anew.

        Raises:
            ValueError: If state and goal differ in shape, or a variation is unknown or out of range.
        """
        goals = np.array(goal, np.float64)
        if np.shape(state) != goals.shape or goals.shape[-1:] != (2,):
            raise ValueError(f"state {np.shape(state)} and goal {goals.shape} must both be (2,) or both (B, 2)")
        self._goals, self._scene = goals, Scene(**parse_variations(variation or {}, goals.shape[:-1]))

    def act(self, state: npt.ArrayLike) -> Array:
        """Actions float64 in [-1, 1] for agents at ``state``, both (2,) or (B, 2).

        Raises:
            ValueError: If `reset` was never called, or the state does not have the goals' shape.
        """
        states = np.asarray(state, np.float64)
        if self._goals is None or states.shape != self._goals.shape:
            raise ValueError(f"state {states.shape} does not match the goal given to reset")
        towards = (self._target(states, self._goals) - states) / np.asarray(self._scene.agent_speed)[..., None]
        return towards / np.maximum(1.0, np.abs(towards).max(axis=-1, keepdims=True))

    def _target(self, states: Array, goals: Array) -> Array:
        """The next way-point of each agent, (B, 2)."""
        scene = self._scene
        wall, radius = np.asarray(scene.wall_position), np.asarray(scene.agent_radius)
        half = 0.5 * np.asarray(scene.wall_thickness)
        side = np.where(states[..., 0] > wall, 1.0, -1.0)
        goal_side = np.where(goals[..., 0] > wall, 1.0, -1.0)
        goal_in_doorway = np.abs(goals[..., 0] - wall) < half + radius
        level = self._level(states)
        near = self._mouth(states, goals, wall + side * (half + radius + _MARGIN))
        far = self._mouth(states, goals, wall + goal_side * (half + radius + _MARGIN))
        beyond = (side != goal_side) | goal_in_doorway
        through = np.where(goal_in_doorway[..., None], goals, far)
        across = np.where(level[..., None], through, near)
        leaving = np.abs(states[..., 0] - wall) < half + radius - 1e-9
        return np.where(beyond[..., None], across, np.where(leaving[..., None], far, goals))

    def _level(self, states: Array) -> Bools:
        """Whether a horizontal line from each agent leads through the door, or the agent is at or in the door."""
        offset = np.abs(states[..., 1] - np.asarray(self._scene.door_position))
        reach = 0.5 * np.asarray(self._scene.wall_thickness) + np.asarray(self._scene.agent_radius) + 2 * _MARGIN
        at_door = np.abs(states[..., 0] - np.asarray(self._scene.wall_position)) < reach
        return (offset <= self._opening()) | (at_door & (offset < np.asarray(self._scene.door_size)))

    def _opening(self) -> Array:
        """Half the height that is left to the agent's centre in the door."""
        return np.asarray(self._scene.door_size) - np.asarray(self._scene.agent_radius) - _MARGIN

    def _mouth(self, states: Array, goals: Array, x: Array) -> Array:
        """The point at x in the door's height nearest to the line from each agent to its goal, (B, 2)."""
        span = goals[..., 0] - states[..., 0]
        share = np.clip((x - states[..., 0]) / np.where(np.abs(span) < 1e-9, 1e-9, span), 0.0, 1.0)
        line = states[..., 1] + share * (goals[..., 1] - states[..., 1])
        door, opening = np.asarray(self._scene.door_position), 0.7 * self._opening()
        return np.stack((np.broadcast_to(x, line.shape), np.clip(line, door - opening, door + opening)), axis=-1)
