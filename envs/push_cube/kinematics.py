"""States of PushCube, and where the hand is: the arm's forward kinematics in NumPy.

A state is float64 (25,), MuJoCo's positions and velocities: six joint angles in rad, the cube's centre x, y, z in m and
its orientation as a unit quaternion w, x, y, z; then the joints' speeds in rad/s, the cube's velocity in m/s, and its
angular velocity in rad/s in the cube's own frame. x points away from the arm, y to its left, z up from the table;
the arm's base is at x = y = 0, 8 cm below the table.

A goal is a state, of which only the place of the cube counts.

The arm is Kinova's Jaco (j2n6s300) as dm_control's wheel has it; its numbers stand here too, so that recorded states
mean something where MuJoCo and dm_control are not installed.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..scene_checks import finite_numbers

__all__ = [
    "BASE_HEIGHT",
    "CUBE",
    "CUBE_TURN",
    "JOINTS",
    "JOINT_LIMITS",
    "POSITIONS",
    "STATE_NAMES",
    "STATE_SIZE",
    "SUCCESS_DISTANCE",
    "VELOCITIES",
    "as_state",
    "cube_yaw",
    "cube_yaw_features",
    "hand_jacobian",
    "hand_pose",
    "hand_position",
    "is_success",
]

Array = NDArray[np.float64]

JOINTS = tuple(f"joint_{number}" for number in range(1, 7))
_BODY = ("x", "y", "z", "qw", "qx", "qy", "qz")
_SPIN = ("vx", "vy", "vz", "wx", "wy", "wz")
STATE_NAMES = (
    *JOINTS,
    *(f"cube_{part}" for part in _BODY),
    *(f"{joint}_velocity" for joint in JOINTS),
    *(f"cube_{part}" for part in _SPIN),
)
"""Names of the 25 numbers of a state."""
STATE_SIZE = len(STATE_NAMES)
POSITIONS = slice(0, 13)
"""Joint angles and the cube's pose: MuJoCo's qpos."""
VELOCITIES = slice(13, 25)
"""Joint speeds and the cube's velocities: MuJoCo's qvel."""
CUBE = slice(6, 9)
"""The cube's centre."""
CUBE_TURN = slice(9, 13)
"""The cube's orientation."""
SUCCESS_DISTANCE = 0.025
"""Metres between the cube's centre and the goal's that count as success; half of it for the strict measure."""
JOINT_LIMITS: Array = np.array(
    [(-np.inf, np.inf), (0.820305, 5.462881), (0.331613, 5.951573), *[(-np.inf, np.inf)] * 3], np.float64
)
"""Smallest and largest angle of each joint (6, 2) in rad; four of Jaco's joints turn without end."""
_SLACK = 0.01
"""rad by which a state's joints may be beyond their limits, which are soft."""


def _rotation(w: float, x: float, y: float, z: float) -> Array:
    """Return the matrix (3, 3) of a quaternion that need not be normalised."""
    w, x, y, z = np.array((w, x, y, z)) / np.linalg.norm((w, x, y, z))
    return np.array(
        [
            (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ]
    )


_FLIP = _rotation(0, 1, 1, 0)
_BEND = _rotation(0, 0, 0.5, 0.866025)
_TURN = _rotation(0, 0, -0.707107, 0.707107)
BASE_HEIGHT = -0.08
"""Height of the arm's base over the table in m: an upright hand reaches most there."""
_LINKS: tuple[tuple[Array, Array], ...] = (
    (np.array((0, 0, BASE_HEIGHT + 0.15675)), _rotation(0, 0, 1, 0)),
    (np.array((0, 0.0016, -0.11875)), _TURN),
    (np.array((0, -0.41, 0)), _rotation(0, 0, 1, 0)),
    (np.array((0, 0.2073, -0.0114)), _TURN),
    (np.array((0, -0.03703, -0.06414)), _BEND),
    (np.array((0, -0.03703, -0.06414)), _BEND),
)
"""Where each link's joint is in the link before, and how it is turned there; a joint turns about its own z."""
_GRIP = (np.array((0, -0.0001, -0.159)), _FLIP)
"""The point between the finger tips in the last link's frame."""


def hand_pose(joints: ArrayLike) -> tuple[Array, Array]:
    """Return where the hand is, and how it is turned.

    Args:
        joints: (..., 6) in rad.

    Returns:
        The point between the finger tips (..., 3) in m, and the hand's axes as columns (..., 3, 3); z points from the
        palm to the finger tips.
    """
    place, turn, _, _ = _chain(np.asarray(joints, np.float64))
    return place, turn


def hand_position(joints: ArrayLike) -> Array:
    """Return the point between the finger tips (..., 3) in m for joints (..., 6) in rad; whole states will do, too."""
    return hand_pose(np.asarray(joints, np.float64)[..., : len(JOINTS)])[0]


def hand_jacobian(joints: ArrayLike) -> tuple[Array, Array, Array]:
    """Return `hand_pose`'s position and axes, and their derivative (..., 6, 6) by the joints (..., 6).

    The first three rows are the position's, in m/rad, the others the rotation vector's in the world's frame.
    """
    place, turn, origins, axes = _chain(np.asarray(joints, np.float64))
    arms = place[..., None, :] - origins
    return place, turn, np.concatenate((np.cross(axes, arms), axes), axis=-1).swapaxes(-1, -2)


def _chain(joints: Array) -> tuple[Array, Array, Array, Array]:
    """Return the hand's position and axes, and each joint's origin and axis, (..., 6, 3) each."""
    place, turn = np.zeros((*joints.shape[:-1], 3)), np.broadcast_to(np.eye(3), (*joints.shape[:-1], 3, 3))
    origins, axes = np.empty((2, *joints.shape, 3))
    cos, sin = np.cos(joints)[..., None], np.sin(joints)[..., None]
    for index, (offset, fixed) in enumerate(_LINKS):
        place = place + turn @ offset
        frame = turn @ fixed
        x, y = frame[..., 0], frame[..., 1]
        origins[..., index, :], axes[..., index, :] = place, frame[..., 2]
        c, s = cos[..., index, :], sin[..., index, :]
        turn = np.stack((c * x + s * y, c * y - s * x, frame[..., 2]), axis=-1)
    return place + turn @ _GRIP[0], turn @ _GRIP[1], origins, axes


def cube_yaw(states: ArrayLike) -> Array:
    """Return the cube's angle (...) about the vertical in rad for states (..., 25)."""
    w, x, y, z = np.moveaxis(np.asarray(states, np.float64)[..., CUBE_TURN], -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def cube_yaw_features(states: ArrayLike) -> Array:
    """Return sine and cosine (..., 2) of four times the cube's angle: all of it that can be seen of a plain cube."""
    yaw = 4 * cube_yaw(states)
    return np.stack((np.sin(yaw), np.cos(yaw)), axis=-1)


def is_success(states: ArrayLike, goals: ArrayLike, strict: bool = False) -> NDArray[np.bool_]:
    """Return whether the cube (...) is within 2.5 cm of the goal's cube; `strict` halves it. Both are (..., 25)."""
    off = np.asarray(states, np.float64)[..., CUBE] - np.asarray(goals, np.float64)[..., CUBE]
    return np.linalg.norm(off, axis=-1) <= SUCCESS_DISTANCE * (0.5 if strict else 1.0)


def as_state(state: ArrayLike, name: str = "state") -> Array:
    """Return a state (25,) as an array of its own, its quaternion normalised.

    Args:
        state: (25,).
        name: what it is, for the messages.

    Raises:
        ValueError: a wrong length, a number that is not finite, a quaternion of zeros, joints beyond their limits, or a
            cube whose centre lies below the table's top.
    """
    found = finite_numbers(name, state, (STATE_SIZE,))
    length = float(np.linalg.norm(found[CUBE_TURN]))
    if length < 1e-6:
        raise ValueError(
            f"{name}: the cube's quaternion (numbers 9 to 12) is zero; give (1, 0, 0, 0) for an upright cube"
        )
    for joint, angle, (low, high) in zip(JOINTS, found, JOINT_LIMITS, strict=False):
        if not low - _SLACK <= angle <= high + _SLACK:
            raise ValueError(f"{name}: {joint} is {angle:g} rad; its limits are {low:g} and {high:g}")
    if found[CUBE][2] < 0:
        raise ValueError(f"{name}: the cube's centre, z = {found[CUBE][2]:g} m, lies below the table's top, z = 0")
    if abs(length - 1.0) >= 1e-9:
        found[CUBE_TURN] /= length
    return found
