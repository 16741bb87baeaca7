"""TwoRoom's geometry and dynamics: pure functions of NumPy arrays, batched over any leading axes.

The world is the unit square, one unit being the width of the image; x grows to the right and y downwards, as in
the image. An outer wall runs around it and a vertical wall divides it, open at one door. The agent is a disc.
One environment step moves it by ``action * speed``; where a wall is in the way it slides along it.

Collision is exact. The two halves of the dividing wall mirror each other about the door's centre, so after folding y
there one rectangle remains; the disc's centre is moved to the nearest point at one radius from it. A step is split
into parts shorter than the smallest radius, so that the centre never enters the wall, not even at the door's corners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BORDER", "SUCCESS_DISTANCE", "Scene", "is_free", "is_success", "room_of", "step_states"]

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PIXEL = 1.0 / 224.0
"""One pixel of the papers' 224-pixel image, the unit in which the sizes below are given."""

BORDER = 7 * PIXEL
"""Thickness of the outer wall, in widths."""

SUCCESS_DISTANCE = 16 * PIXEL
"""Tolerance of success, in widths; the ``strict`` rule takes half of it."""

_SUBSTEPS = 4


@dataclass(frozen=True)
class Scene:
    """What can vary between two episodes: geometry in widths, colours in 0..255.

    Every field is either one value for all, or an array with the leading axes of the states it is used with
    (colours with one axis of 3 more).

    Attributes:
        door_position: y of the door's centre.
        door_size: Half the door's height.
        wall_position: x of the dividing wall's centre line.
        wall_thickness: Full thickness of the dividing wall.
        agent_radius: Radius of the agent.
        agent_speed: Distance that an action of 1 moves the agent along an axis in one environment step.
        agent_color: RGB of the agent.
        background_color: RGB of the floor.
        wall_color: RGB of all walls.
    """

    door_position: npt.ArrayLike = 0.5
    door_size: npt.ArrayLike = 28 * PIXEL
    wall_position: npt.ArrayLike = 0.5
    wall_thickness: npt.ArrayLike = 14 * PIXEL
    agent_radius: npt.ArrayLike = 7 * PIXEL
    agent_speed: npt.ArrayLike = 5 * PIXEL
    agent_color: npt.ArrayLike = (220, 50, 47)
    background_color: npt.ArrayLike = (255, 255, 255)
    wall_color: npt.ArrayLike = (40, 44, 52)


def step_states(states: npt.ArrayLike, actions: npt.ArrayLike, scene: Scene | None = None) -> Array:
    """Moves the agents by one environment step.

    Args:
        states: (..., 2) float, centres of the agents, in free space.
        actions: (..., 2) float, clipped to [-1, 1].
        scene: The geometry; the default scene if None. ``Scene(door_position=door)`` for doors of shape (...).

    Returns:
        (..., 2) float64, the centres one step later, in free space.
    """
    scene = scene or Scene()
    part = np.clip(actions, -1.0, 1.0) * np.asarray(scene.agent_speed)[..., None] / _SUBSTEPS
    states = np.asarray(states, np.float64)
    for _ in range(_SUBSTEPS):
        states = _push_out(states + part, scene)
    return states


def _push_out(points: Array, scene: Scene) -> Array:
    """Moves each centre to the nearest point at which the disc overlaps no wall; points is (..., 2)."""
    wall, radius = np.asarray(scene.wall_position), np.asarray(scene.agent_radius)
    side, nearest_x, nearest_y, gap_x, gap_y, distance = _from_wall(points, scene)
    scale = np.where(distance < radius, radius / np.maximum(distance, 1e-12), 1.0)
    x = wall + nearest_x + gap_x * scale
    y = np.asarray(scene.door_position) + side * (nearest_y + gap_y * scale)
    moved = np.where((distance < radius)[..., None], np.stack((x, y), axis=-1), points)
    limit = (BORDER + radius)[..., None]
    return np.clip(moved, limit, 1.0 - limit)


def _from_wall(points: Array, scene: Scene) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The nearest point of the dividing wall, in coordinates about the door's centre with y folded to be positive.

    Returns:
        The side of the door in y (+1 or -1), the nearest point (x, y), the way from it to the centre (x, y), and the
        length of that way, each (...).
    """
    dx = points[..., 0] - np.asarray(scene.wall_position)
    dy = points[..., 1] - np.asarray(scene.door_position)
    half = 0.5 * np.asarray(scene.wall_thickness)
    side, folded = np.where(dy < 0.0, -1.0, 1.0), np.abs(dy)
    nearest_x, nearest_y = np.clip(dx, -half, half), np.maximum(folded, np.asarray(scene.door_size))
    gap_x, gap_y = dx - nearest_x, folded - nearest_y
    return side, nearest_x, nearest_y, gap_x, gap_y, np.hypot(gap_x, gap_y)


def is_free(states: npt.ArrayLike, scene: Scene | None = None, slack: float = 1e-6) -> Bools:
    """Whether agents at these places overlap no wall.

    Args:
        states: (..., 2) float, centres of the agents.
        scene: The geometry; the default scene if None.
        slack: Overlap in widths that still counts as free, so that states stored in float32 stay valid.

    Returns:
        (...) bool.
    """
    scene = scene or Scene()
    states, radius = np.asarray(states, np.float64), np.asarray(scene.agent_radius)
    low = (BORDER + radius - slack)[..., None]
    inside = ((states >= low) & (states <= 1.0 - low)).all(axis=-1)
    return inside & (_from_wall(states, scene)[-1] >= radius - slack)


def room_of(states: npt.ArrayLike, scene: Scene | None = None) -> npt.NDArray[np.int64]:
    """The room of each agent: 0 left and 1 right of the dividing wall's centre line; (..., 2) -> (...) int64."""
    scene = scene or Scene()
    return (np.asarray(states)[..., 0] > np.asarray(scene.wall_position)).astype(np.int64)


def is_success(states: npt.ArrayLike, goals: npt.ArrayLike, strict: bool = False) -> Bools:
    """Whether each agent is at its goal.

    Args:
        states: (..., 2) float.
        goals: (..., 2) float.
        strict: Halve the tolerance of `SUCCESS_DISTANCE`.

    Returns:
        (...) bool.
    """
    distance = np.linalg.norm(np.asarray(states) - np.asarray(goals), axis=-1)
    return distance <= SUCCESS_DISTANCE * (0.5 if strict else 1.0)
