"""TwoRoom's pictures: anti-aliased walls, drawn once a scene, and a smooth dot, drawn once a frame.

Only the dot's small bounding patch is computed for a frame; the rest is a copy of the scene's background. The goal is
never drawn: the goal image is the same scene with the agent at the goal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .world import BORDER, Scene

__all__ = ["draw_agents", "render_backgrounds", "render_states"]

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]


def render_states(states: npt.ArrayLike, image_size: int = 64, scene: Scene | None = None) -> Image:
    """Draws the scene with the agent at each state.

    Args:
        states: (B, 2) float, centres of the agents in widths.
        image_size: S, width and height of the pictures in pixels.
        scene: The scene; the default one if None. ``Scene(door_position=doors)`` for doors of shape (B,).

    Returns:
        (B, S, S, 3) uint8, rows from top to bottom, RGB.
    """
    scene = scene or Scene()
    return draw_agents(render_backgrounds(image_size, scene), np.asarray(states, np.float64), scene)


def render_backgrounds(image_size: int, scene: Scene) -> Image:
    """Draws the scenes without their agents.

    Args:
        image_size: S, in pixels.
        scene: Its fields are single values or have shape (B,), colours (B, 3).

    Returns:
        (B, S, S, 3) uint8, or (1, S, S, 3) where no field has a batch axis.
    """
    inside = _coverage(np.full(1, BORDER), np.full(1, 1.0 - BORDER), image_size)
    wall, half = np.atleast_1d(scene.wall_position), 0.5 * np.atleast_1d(scene.wall_thickness)
    door, size = np.atleast_1d(scene.door_position), np.atleast_1d(scene.door_size)
    across = _coverage(wall - half, wall + half, image_size)[:, None, :]
    closed = 1.0 - _coverage(door - size, door + size, image_size)[:, :, None]
    floor = inside[:, None, :] * inside[:, :, None] * (1.0 - across * closed)
    wall_color, background = np.atleast_2d(scene.wall_color), np.atleast_2d(scene.background_color)
    picture = wall_color[:, None, None] + floor[..., None] * (background - wall_color)[:, None, None]
    return np.rint(picture).astype(np.uint8)


def _coverage(low: Array, high: Array, image_size: int) -> Array:
    """How much of each pixel the interval [low, high] covers, in 0..1; (B,) in widths -> (B, S)."""
    edges = np.arange(image_size + 1) / image_size
    overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    return np.maximum(overlap, 0.0) * image_size


def draw_agents(backgrounds: Image, states: Array, scene: Scene) -> Image:
    """Copies the backgrounds and draws one agent on each copy.

    Args:
        backgrounds: (B, S, S, 3) or (1, S, S, 3) uint8, left as they are.
        states: (B, 2) float64, centres of the agents in widths.
        scene: The scene of the backgrounds, for the agent's radius and colour.

    Returns:
        (B, S, S, 3) uint8, a new array.
    """
    count, size = len(states), backgrounds.shape[1]
    frames = np.empty((count, *backgrounds.shape[1:]), np.uint8)
    frames[:] = backgrounds
    radius = np.broadcast_to(np.asarray(scene.agent_radius, np.float64), (count,)) * size
    rows, row_gap = _patch(states[:, 1] * size, float(radius.max()), size)
    columns, column_gap = _patch(states[:, 0] * size, float(radius.max()), size)
    distance = np.sqrt(row_gap[:, :, None] ** 2 + column_gap[:, None, :] ** 2)
    alpha = np.clip(radius[:, None, None] + 0.5 - distance, 0.0, 1.0)[..., None]
    where = np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    color = np.broadcast_to(np.asarray(scene.agent_color, np.float64), (count, 3))[:, None, None]
    under = frames[where]
    frames[where] = np.rint(under + alpha * (color - under)).astype(np.uint8)
    return frames


def _patch(centres: Array, radius: float, size: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Pixel indices (B, P) that a dot may touch along one axis, and their centres' distance from the dot's, in pixels.

    The patch is moved inside the picture where it would stick out, so no index repeats.
    """
    extent = min(int(np.ceil(2.0 * radius + 1.0)) + 1, size)
    first = np.clip(np.floor(centres - radius - 0.5).astype(np.int64), 0, size - extent)
    indices = first[:, None] + np.arange(extent)
    return indices, indices + 0.5 - centres[:, None]
