"""What a person can do to PushCube with the mouse, and cube and hand drawn as outlines in the camera's perspective."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .control import HEIGHT, HIGH, LOW, joints_at
from .kinematics import CUBE, CUBE_TURN, JOINTS, VELOCITIES, as_state, cube_yaw, hand_position
from .model import CAMERAS
from .starts import FIST, ZONE_HIGH, ZONE_LOW, as_goal
from .variations import VARIATIONS, make_variation

__all__ = ["PushCubePlayground", "project", "unproject"]

Array = NDArray[np.float64]

_HALF = VARIATIONS["cube.size"].default / 2
_HALVES = VARIATIONS["cube.size"].low / 2, VARIATIONS["cube.size"].high / 2
_SQUARE: Array = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
"""Corners of the cube's faces in halves of its edge, in order around it."""
_FINGERS = 0.03
"""Radius in m of the disc that stands for the finger tips."""
_PALM = 0.16
"""Metres above the finger tips up to which the hand can be grabbed."""
_GAP = 0.002
"""Metres left between cube and hand."""
_NEAR = 0.01
"""Widths of the picture beside the cube at which it can still be grabbed."""
_LOWEST = -0.2
"""Steepness of the flattest ray: places above the horizon are far away."""
_CIRCLE_ANGLES = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
_CIRCLE: Array = np.stack((np.cos(_CIRCLE_ANGLES), np.sin(_CIRCLE_ANGLES)), axis=1)
_AROUND: Array = (np.arange(0.0, 0.2, 0.004)[:, None, None] * _CIRCLE).reshape(-1, 2)
"""Offsets in m from the wanted place at which a free one is looked for, the nearest first."""


def project(points: Array, camera: str = "front") -> Array:
    """Return where points (..., 3) in m are in a camera's picture: x to the right, y down, [0, 1] inside (..., 2)."""
    place, axes, extent = _camera(camera)
    right, up, back = np.moveaxis((np.asarray(points, np.float64) - place) @ axes, -1, 0)
    return np.stack((0.5 - 0.5 * right / (back * extent), 0.5 + 0.5 * up / (back * extent)), axis=-1)


def unproject(x: float, y: float, height: float, camera: str = "front") -> Array:
    """Return the place (2,) in m that is seen at a place of the picture, [0, 1], where the scene is `height` m high."""
    place, axes, extent = _camera(camera)
    ray = axes @ np.array(((2 * x - 1) * extent, (1 - 2 * y) * extent, -1.0))
    return place[:2] + (height - place[2]) / min(ray[2], _LOWEST) * ray[:2]


def _camera(name: str) -> tuple[Array, Array, float]:
    """Return a camera's place (3,), its axes as columns (right, up, back), and the tangent of half its angle."""
    place, target, angle = CAMERAS[name]
    back = np.subtract(place, target) / np.linalg.norm(np.subtract(place, target))
    right = np.cross((0, 0, 1), back)
    right /= np.linalg.norm(right)
    return np.array(place), np.stack((right, np.cross(back, right), back), axis=1), float(np.tan(np.radians(angle / 2)))


class PushCubePlayground:
    """`wmkit.tasks.Playground` of PushCube: cube and hand can be dragged over the table, and the cube turned.

    Places are those of the front camera's picture. States and goals are (25,) as `kinematics` has them. The cube stays
    where starts put it, flat on the table and clear of the hand, the hand at the height of a hand that moves in the
    plane. How large the cube is, its height over the table tells.
    """

    @property
    def handles(self) -> Sequence[str]:
        """Cube and hand."""
        return ("cube", "hand")

    def place(self, state: np.ndarray, handle: str) -> tuple[float, float]:
        """Return where the middle of the cube, or the point between the finger tips, is in the picture."""
        point = hand_position(state) if handle == "hand" else np.asarray(state, np.float64)[CUBE]
        x, y = project(point)
        return float(x), float(y)

    def grab(self, state: np.ndarray, x: float, y: float) -> str | None:
        """Return "cube" or "hand" at a place, a little beside them too, or None; the finger tips lie on top."""
        hand, place = hand_position(state), np.array((x, y))
        if np.linalg.norm(unproject(x, y, hand[2]) - hand[:2]) <= _FINGERS:
            return "hand"
        if _outside(place, self.outline(state, "cube")[0]) <= _NEAR:
            return "cube"
        wrist = hand + np.array((0.0, 0.0, _PALM))
        palm = project(hand + np.linspace(0.0, 1.0, 9)[:, None] * (wrist - hand))
        thick = float(np.linalg.norm(project(hand) - project(hand + np.array((0.0, _FINGERS, 0.0)))))
        return "hand" if np.linalg.norm(palm - place, axis=1).min() <= 1.5 * thick else None

    def drag(self, state: np.ndarray, handle: str, x: float, y: float) -> np.ndarray:
        """Return the state (25,) with cube or hand at a place or the nearest free one, everything at rest.

        Raises:
            ValueError: for an unknown handle.
        """
        if handle not in self.handles:
            raise ValueError(f"unknown handle {handle!r}; PushCube has: {', '.join(self.handles)}")
        if handle == "hand":
            return _with_hand(state, unproject(x, y, HEIGHT))
        place = unproject(x, y, _half(state)).clip(ZONE_LOW, ZONE_HIGH)
        return _with_cube(state, place, float(cube_yaw(state)))

    def spin(self, state: np.ndarray, radians: float) -> np.ndarray:
        """Return the state (25,) with the cube turned about the vertical, clockwise seen from above, at rest."""
        return _with_cube(state, np.asarray(state, np.float64)[CUBE][:2], float(cube_yaw(state)) - radians)

    def goal(self, goal: np.ndarray, x: float, y: float) -> np.ndarray:
        """Return the goal (25,) with the cube at a place, turned as before, and the hand on the same side of it."""
        goal, half = as_state(goal), _half(goal)
        place = unproject(x, y, half).clip(ZONE_LOW, ZONE_HIGH)
        before = goal.copy()
        before[CUBE][:2] = place - (goal[CUBE][:2] - hand_position(goal)[:2])
        return as_goal(place, before, make_variation({"cube.size": 2 * half}))

    def sketch(self, quantities: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Return outlines in [0, 1], as far as they are known: cube (M, 2), its top (4, 2), finger tips (24, 2).

        Args:
            quantities: "cube" (2,) and "hand" (2,) in m; "cube angle" (2,), sine and cosine of four times the angle, of
                any length.
        """
        outlines: list[np.ndarray] = []
        if "cube" in quantities and "cube angle" in quantities:
            sine, cosine = np.asarray(quantities["cube angle"], float)
            outlines += _cube_outlines(
                np.asarray(quantities["cube"], float), float(np.arctan2(sine, cosine)) / 4, _HALF
            )
        if "hand" in quantities:
            disc = np.asarray(quantities["hand"], float) + _FINGERS * _CIRCLE
            outlines.append(project(np.insert(disc, 2, HEIGHT, axis=1)))
        return outlines

    def outline(self, state: np.ndarray, handle: str) -> Sequence[np.ndarray]:
        """Return the outlines (M, 2) in [0, 1] of what is dragged by a handle; `state` is (25,)."""
        if handle == "hand":
            return self.sketch({"hand": hand_position(state)[:2]})
        return _cube_outlines(np.asarray(state, float)[CUBE][:2], float(cube_yaw(state)), _half(state))


def _half(state: np.ndarray) -> float:
    """Return half the cube's edge in m: the height of its middle, where it stands on the table."""
    return float(np.clip(state[CUBE][2], *_HALVES))


def _cube_outlines(place: Array, yaw: float, half: float) -> list[Array]:
    """Return the outline (M, 2) of a cube that stands on the table, and that of its top (4, 2)."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    foot = place + half * _SQUARE @ np.array(((cos, sin), (-sin, cos)))
    bottom, top = (project(np.insert(foot, 2, height, axis=1)) for height in (0.0, 2 * half))
    return [_hull(np.concatenate((bottom, top))), top]


def _with_cube(state: np.ndarray, place: Array, yaw: float) -> Array:
    """Return the state (25,) with the cube flat at a place (2,) or the nearest free one; a copy if none is."""
    moved, half = _at_rest(state), _half(state)
    places = np.concatenate((place[None], (place + _AROUND).clip(ZONE_LOW, ZONE_HIGH)))
    free = _apart(hand_position(moved)[:2] - places, yaw, half) >= _GAP
    if not free.any():
        return np.array(state, np.float64)
    moved[CUBE] = (*places[int(np.argmax(free))], half)
    moved[CUBE_TURN] = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
    return moved


def _with_hand(state: np.ndarray, place: Array) -> Array:
    """Return the state (25,) with an upright hand at a place (2,) or the nearest free one; a copy if none is."""
    moved = _at_rest(state)
    places = (place.clip(LOW[:2], HIGH[:2]) + _AROUND).clip(LOW[:2], HIGH[:2])
    free = _apart(places - moved[CUBE][:2], float(cube_yaw(moved)), _half(moved)) >= _GAP
    if not free.any():
        return np.array(state, np.float64)
    moved[: len(JOINTS)] = joints_at((*places[int(np.argmax(free))], HEIGHT))[0]
    return moved


def _at_rest(state: np.ndarray) -> Array:
    """Return a copy of a state (25,) with all velocities zero."""
    rest = np.array(state, np.float64)
    rest[VELOCITIES] = 0.0
    return rest


def _apart(offsets: Array, yaw: float, half: float) -> Array:
    """Return the distances (M,) in m of the fist, seen from above, from a cube at offsets (M, 2) from its middle."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    local = offsets @ np.array(((cos, -sin), (sin, cos)))
    return np.linalg.norm(np.maximum(np.abs(local) - half, 0.0), axis=1) - FIST


def _hull(points: Array) -> Array:
    """Return the corners (M, 2) of the convex hull of points (P, 2), in order around it."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    sides: list[list[Array]] = []
    for rows in (ordered, ordered[::-1]):
        side: list[Array] = []
        for point in rows:
            while len(side) > 1 and _turn(side[-2], side[-1], point) <= 0:
                side.pop()
            side.append(point)
        sides.append(side[:-1])
    return np.stack(sides[0] + sides[1])


def _turn(a: Array, b: Array, c: Array) -> float:
    """Return twice the signed area of a triangle: positive where a, b, c turn from x towards y."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _outside(place: Array, corners: Array) -> float:
    """Return how far a place (2,) is beyond the sides of a convex outline (M, 2) as `_hull` has it; negative inside."""
    sides = np.roll(corners, -1, axis=0) - corners
    normals = np.stack((sides[:, 1], -sides[:, 0]), axis=1) / np.linalg.norm(sides, axis=1, keepdims=True)
    return float(((place - corners) * normals).sum(axis=1).max())
