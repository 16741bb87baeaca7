"""Block shapes, poses and the success measures of PushT, vectorised over any leading axes.

Lengths are pixels of the 512 x 512 world (y points down), angles radians. A *pose* is (x, y, angle) of the block's own
origin, the middle of the bar's outer side for the T, as in gym-pusht. A *state* is float64 (10,): agent x, y; block
x, y, angle; agent velocity x, y; block velocity x, y; block angular velocity (px/s, rad/s).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ANGLE_TOLERANCE",
    "COVERAGE_THRESHOLD",
    "POSITION_TOLERANCE",
    "SHAPES",
    "STATE_SIZE",
    "WORLD_SIZE",
    "BlockShape",
    "as_goal",
    "as_state",
    "block_shape",
    "coverage",
    "pose_success",
    "valid_state",
]

STATE_SIZE = 10
WORLD_SIZE = 512.0
COVERAGE_THRESHOLD = 0.95
POSITION_TOLERANCE = 20.0
ANGLE_TOLERANCE = np.pi / 9
_WALL_FACES = (7.0, 504.0)
_NUDGE = 1e-9

Array = NDArray[np.float64]

SHAPES: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "T": ((-60, 0, 60, 30), (-15, 30, 15, 120)),
    "L": ((-60, 0, 60, 30), (30, 30, 60, 120)),
    "I": ((-60, 0, 60, 30),),
    "cross": ((-60, -15, 60, 15), (-15, 15, 15, 60), (-15, -60, 15, -15)),
    "square": ((-45, 0, 45, 90),),
}
"""Block shapes by name: disjoint rectangles (left, top, right, bottom) in the block's frame at scale 30."""


@dataclass(frozen=True)
class BlockShape:
    """A block made of disjoint rectangles.

    Attributes:
        rectangles: (left, top, right, bottom) of each rectangle in the block's frame, in pixels.
    """

    rectangles: tuple[tuple[float, float, float, float], ...]

    @cached_property
    def centers(self) -> Array:
        """Rectangle centres, (R, 2)."""
        r = np.array(self.rectangles, float)
        return (r[:, :2] + r[:, 2:]) / 2

    @cached_property
    def halves(self) -> Array:
        """Half width and height of each rectangle, (R, 2)."""
        r = np.array(self.rectangles, float)
        return (r[:, 2:] - r[:, :2]) / 2

    @cached_property
    def center_of_gravity(self) -> tuple[float, float]:
        """Mean of the rectangle centres, as in gym-pusht (not weighted by area)."""
        x, y = self.centers.mean(axis=0)
        return float(x), float(y)

    @cached_property
    def corners(self) -> Array:
        """Corners of all rectangles, (R, 4, 2), in order round each rectangle, counter-clockwise in (x, y)."""
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
        return self.centers[:, None] + self.halves[:, None] * signs

    @cached_property
    def radius(self) -> float:
        """Distance from the centre of gravity to the farthest corner, in pixels."""
        return float(np.linalg.norm(self.corners - self.center_of_gravity, axis=-1).max())

    @cached_property
    def area(self) -> float:
        """Area in square pixels."""
        return float(4 * self.halves.prod(axis=1).sum())

    def world_corners(self, poses: ArrayLike) -> Array:
        """Corners (..., R, 4, 2) of the block at the poses (..., 3)."""
        poses = np.asarray(poses, float)
        cos, sin = np.cos(poses[..., 2])[..., None, None], np.sin(poses[..., 2])[..., None, None]
        x, y = self.corners[..., 0], self.corners[..., 1]
        moved = np.stack((cos * x - sin * y, sin * x + cos * y), axis=-1)
        return moved + poses[..., None, None, :2]


@lru_cache(maxsize=64)
def block_shape(name: str = "T", scale: float = 30.0) -> BlockShape:
    """A named shape at a scale (30 is gym-pusht's: a T with a 120 x 30 bar).

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in SHAPES:
        raise ValueError(f"unknown block shape {name!r}; choose from {', '.join(SHAPES)}")
    return BlockShape(tuple(tuple(v * scale / 30.0 for v in r) for r in SHAPES[name]))  # type: ignore[arg-type]


def as_state(state: ArrayLike) -> Array:
    """A state of length 5, 7 or 10 as float64 (..., 10); missing velocities are zero.

    Raises:
        ValueError: for another length, or a value that is not finite.
    """
    array = np.asarray(state, np.float64)
    size = array.shape[-1] if array.ndim else 0
    if size not in (5, 7, STATE_SIZE):
        raise ValueError(
            f"a PushT state has 5, 7 or 10 numbers (agent x, y, block x, y, angle, agent velocity, block velocity); "
            f"got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"a PushT state must be finite; got {array}")
    padding = np.zeros((*array.shape[:-1], STATE_SIZE - size))
    return np.concatenate((array, padding), axis=-1)


def as_goal(goal: ArrayLike) -> Array:
    """A goal as float64 (..., 10): a block pose (..., 3) or a state of length 5, 7 or 10.

    For a block pose the agent's position is NaN, which means that it does not count.

    Raises:
        ValueError: for another length, or a block pose that is not finite.
    """
    array = np.asarray(goal, np.float64)
    size = array.shape[-1] if array.ndim else 0
    if size not in (3, 5, 7, STATE_SIZE):
        raise ValueError(f"a PushT goal is a block pose (3 numbers) or a state (5, 7 or 10); got shape {array.shape}")
    if size == 3:
        agent = np.full((*array.shape[:-1], 2), np.nan)
        array = np.concatenate((agent, array), axis=-1)
    if not np.isfinite(array[..., 2:]).all():
        raise ValueError(f"a PushT goal needs a finite block pose; got {array}")
    padding = np.zeros((*array.shape[:-1], STATE_SIZE - array.shape[-1]))
    return np.concatenate((array, padding), axis=-1)


def pose_success(states: ArrayLike, goals: ArrayLike, strict: bool = False) -> NDArray[np.bool_]:
    """Whether block and agent are each within 20 px and the angle within pi/9 of the goal.

    Args:
        states: (..., 10).
        goals: (..., 3) block pose, or a state (..., 5 | 7 | 10), where the agent counts too unless it is NaN.
        strict: halve the tolerances.

    Returns:
        bool (...).
    """
    states, goals = np.asarray(states, float), as_goal(goals)
    factor = 0.5 if strict else 1.0
    offset = states[..., :5] - goals[..., :5]
    agent = np.hypot(offset[..., 0], offset[..., 1])
    block = np.hypot(offset[..., 2], offset[..., 3])
    turn = np.abs((offset[..., 4] + np.pi) % (2 * np.pi) - np.pi)
    near = (block <= factor * POSITION_TOLERANCE) & (turn <= factor * ANGLE_TOLERANCE)
    return near & (np.isnan(agent) | (agent <= factor * POSITION_TOLERANCE))


def coverage(states: ArrayLike, goal_pose: ArrayLike, shape: BlockShape | None = None) -> Array:
    """Share of the goal's area that the block covers, in [0, 1]; gym-pusht's measure without shapely.

    Args:
        states: states (..., 10) or block poses (..., 3).
        goal_pose: goal states (..., 10) or poses (..., 3), broadcast against `states`.
        shape: the block's shape, by default the standard T.

    Returns:
        float64 (...).
    """
    shape = shape or block_shape()
    poses, goals = np.broadcast_arrays(_poses(states), _poses(goal_pose))
    flat, flat_goals = poses.reshape(-1, 3), goals.reshape(-1, 3)
    result = np.zeros(len(flat))
    relative = _relative(flat, flat_goals)
    cx, cy = shape.center_of_gravity
    cos, sin = np.cos(relative[:, 2]), np.sin(relative[:, 2])
    apart = np.hypot(relative[:, 0] + cos * cx - sin * cy - cx, relative[:, 1] + sin * cx + cos * cy - cy)
    near = apart < 2 * shape.radius
    if near.any():
        result[near] = _overlap(shape, relative[near]) / shape.area
    return result.reshape(poses.shape[:-1])


def valid_state(states: ArrayLike, shape: BlockShape | None = None, margin: float = 4.0) -> NDArray[np.bool_]:
    """Whether a state is finite, the agent inside the world, and the block inside the walls.

    A kinematic agent can push the block through a wall; such states are kept out of data sets.

    Args:
        states: (..., 10).
        shape: the block's shape, by default the standard T.
        margin: how far, in pixels, a corner may sink into a wall: contacts are soft.

    Returns:
        bool (...).
    """
    states = np.asarray(states, float)
    corners = (shape or block_shape()).world_corners(states[..., 2:5])
    low, high = _WALL_FACES[0] - margin, _WALL_FACES[1] + margin
    inside = ((corners >= low) & (corners <= high)).all(axis=(-3, -2, -1))
    agent = ((states[..., :2] >= 0) & (states[..., :2] <= WORLD_SIZE)).all(axis=-1)
    return np.asarray(inside & agent & np.isfinite(states).all(axis=-1))


def _poses(values: ArrayLike) -> Array:
    array = np.asarray(values, float)
    return array if array.shape[-1] == 3 else array[..., 2:5]


def _relative(poses: Array, frames: Array) -> Array:
    """Poses (M, 3) expressed in the frames (M, 3)."""
    dx, dy = poses[:, 0] - frames[:, 0], poses[:, 1] - frames[:, 1]
    cos, sin = np.cos(frames[:, 2]), np.sin(frames[:, 2])
    return np.stack((cos * dx + sin * dy, cos * dy - sin * dx, poses[:, 2] - frames[:, 2]), axis=1)


def _overlap(shape: BlockShape, relative: Array) -> Array:
    """Area (M,) of the block's overlap with itself moved by the relative poses (M, 3).

    For each pair of rectangles A and B, twice the area of their intersection is the sum, over the edges of A inside B
    and the edges of B inside A, of the cross product of the clipped ends (Green's theorem). B is grown by a hair,
    so that no edges of A and B coincide.
    """
    cos, sin = np.cos(relative[:, 2]), np.sin(relative[:, 2])
    turn = np.stack((np.stack((cos, -sin), -1), np.stack((sin, cos), -1)), 1)
    shift = relative[:, None, :2]
    ends, edges = _outline(shape, 0.0)
    moved, moved_edges = ends @ turn.transpose(0, 2, 1) + shift, edges @ turn.transpose(0, 2, 1)
    twice = (_clipped(moved, moved_edges, shape, _NUDGE) * _cross(moved, moved_edges)).sum(axis=1)
    ends, edges = _outline(shape, _NUDGE)
    inside = _clipped((ends - shift) @ turn, edges @ turn, shape, 0.0)
    return np.maximum(0.5 * (twice + (inside * _cross(ends, edges)).sum(axis=1)), 0.0)


@lru_cache(maxsize=128)
def _outline(shape: BlockShape, grow: float) -> tuple[Array, Array]:
    """Starts and directions (4R, 2) of the edges of the rectangles grown by `grow`."""
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    corners = shape.centers[:, None] + (shape.halves[:, None] + grow) * signs
    return corners.reshape(-1, 2), (np.roll(corners, -1, axis=1) - corners).reshape(-1, 2)


def _clipped(ends: Array, edges: Array, shape: BlockShape, grow: float) -> Array:
    """Share of each edge (M, E) inside the rectangles, summed over them; edges start at `ends` (M, E, 2)."""
    offset = ends[:, :, None] - shape.centers
    step = edges[:, :, None]
    step = np.where(np.abs(step) < 1e-12, 1e-12, step)
    half = shape.halves + grow
    first, second = (-half - offset) / step, (half - offset) / step
    enter = np.maximum(np.minimum(first, second).max(axis=-1), 0.0)
    leave = np.minimum(np.maximum(first, second).min(axis=-1), 1.0)
    return np.maximum(leave - enter, 0.0).sum(axis=-1)


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
