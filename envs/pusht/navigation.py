"""Shortest ways for the agent round the block, in the block's frame, where its rectangles are aligned with the axes."""

import numpy as np
from numpy.typing import NDArray

from .geometry import BlockShape

__all__ = ["clearance", "shortest_path", "to_local", "to_world"]

_BEYOND = 1.5

Array = NDArray[np.float64]


def to_local(points: Array, pose: Array) -> Array:
    """World points (..., 2) in the frame of the pose (3,)."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return (points - pose[:2]) @ np.array(((cos, -sin), (sin, cos)))


def to_world(points: Array, pose: Array) -> Array:
    """Points (..., 2) of the frame of the pose (3,) in the world."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return points @ np.array(((cos, sin), (-sin, cos))) + pose[:2]


def clearance(points: Array, shape: BlockShape) -> Array:
    """Distance (M,) of local points (M, 2) to the block, measured along its axes: at a corner less than Euclid's."""
    beyond = np.abs(points[:, None] - shape.centers) - shape.halves
    return beyond.max(axis=2).min(axis=1)


def shortest_path(start: Array, ends: Array, shape: BlockShape, radius: float, pose: Array, walls: tuple) -> tuple:
    """Ways from a point to several, keeping `radius` from the block.

    The way goes over the corners of the rectangles grown by the radius (a visibility graph). A start closer than the
    radius is let out first.

    Args:
        start: local point (2,).
        ends: local points (M, 2).
        shape: the block.
        radius: px to keep from it.
        pose: the block's pose (3,), to tell which corners lie within the walls.
        walls: lowest and highest world coordinate of a corner to pass.

    Returns:
        lengths (M,), infinite where there is no way, and the first point (M, 2) of each way.
    """
    out = _let_out(start, shape, radius)
    corners = _corners(shape, radius + _BEYOND)
    world = to_world(corners, pose)
    free = (clearance(corners, shape) >= radius) & ((world > walls[0]) & (world < walls[1])).all(axis=1)
    nodes = np.concatenate((out[None], corners[free]))
    between = _distances(nodes, nodes, shape, radius)
    for via in range(1, len(nodes)):
        between = np.minimum(between, between[:, via : via + 1] + between[via : via + 1])
    last = _distances(nodes, ends, shape, radius)
    lengths = (between[0][:, None] + last).min(axis=0)
    firsts = _first_points(nodes, ends, last, lengths, shape, radius)
    detour = float(np.linalg.norm(out - start))
    if detour > 1e-6:
        firsts = np.repeat(out[None], len(ends), axis=0)
    return lengths + detour, firsts


def _first_points(nodes: Array, ends: Array, last: Array, lengths: Array, shape: BlockShape, radius: float) -> Array:
    """The first stop (M, 2) on the way from node 0 to each end: the end itself where it is in sight."""
    steps = _distances(nodes[:1], nodes, shape, radius)[0]
    rest = _distances(nodes, nodes, shape, radius)
    for via in range(1, len(nodes)):
        rest = np.minimum(rest, rest[:, via : via + 1] + rest[via : via + 1])
    through = steps[:, None] + (rest[:, :, None] + last[None]).min(axis=1)
    through[0] = np.inf
    chosen = nodes[through.argmin(axis=0)]
    return np.where((last[0] <= lengths + 1e-6)[:, None], ends, chosen)


def _let_out(point: Array, shape: BlockShape, radius: float) -> Array:
    """The point moved away from the rectangles until it keeps the radius."""
    for _ in range(3):
        offset = point - shape.centers
        beyond = np.abs(offset) - shape.halves
        nearest = int(beyond.max(axis=1).argmin())
        axis = int(beyond[nearest].argmax())
        lack = radius + 0.1 - beyond[nearest, axis]
        if lack <= 0.1:
            break
        point = point.copy()
        point[axis] += lack * (1.0 if offset[nearest, axis] >= 0 else -1.0)
    return point


def _corners(shape: BlockShape, radius: float) -> Array:
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    return (shape.centers[:, None] + (shape.halves[:, None] + radius) * signs).reshape(-1, 2)


def _distances(a: Array, b: Array, shape: BlockShape, radius: float) -> Array:
    """Lengths (P, Q) of the straight lines from a (P, 2) to b (Q, 2); infinite where one meets a grown rectangle."""
    step = (b[None] - a[:, None])[:, :, None]
    offset = (a[:, None, None] - shape.centers) + np.zeros_like(step)
    step = np.where(np.abs(step) < 1e-9, 1e-9, step)
    half = shape.halves + radius - 1e-3
    first, second = (-half - offset) / step, (half - offset) / step
    enter = np.maximum(np.minimum(first, second).max(axis=-1), 0.0)
    leave = np.minimum(np.maximum(first, second).min(axis=-1), 1.0)
    blocked = (leave > enter).any(axis=-1)
    return np.where(blocked, np.inf, np.linalg.norm(step[:, :, 0], axis=-1))
