"""From an action to joint speeds: differential inverse kinematics.

An action is a displacement of the hand over one control step, 2 cm at 1. The hand points straight down and does not
turn; where only x and y are given its height is held. The displaced pose is brought into the workspace, and a few
damped Gauss-Newton steps from the present joints find joints for it within their limits (Buss, "Introduction to inverse
kinematics with Jacobian transpose, pseudoinverse and damped least squares methods", 2004, section 6). The joints are to
get there at constant speed.

The workspace is where an upright hand can be without the elbow stretching.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .kinematics import JOINT_LIMITS, hand_jacobian

__all__ = [
    "ACTION_MODES",
    "HEIGHT",
    "HIGH",
    "HOME",
    "LOW",
    "REACH",
    "SECONDS_PER_STEP",
    "joint_speeds",
    "joints_at",
]

Array = NDArray[np.float64]

SECONDS_PER_STEP = 0.1
"""Seconds of one control step."""
REACH = 0.02
"""Metres that an action of 1 displaces the hand."""
HEIGHT = 0.05
"""Height in metres at which a hand that moves in the plane is held: half a finger over the table."""
LOW, HIGH = np.array((0.28, -0.20, 0.04)), np.array((0.66, 0.20, 0.14))
"""The workspace in m: least and largest x, y and z of the point between the finger tips."""
HOME = np.array((0.134, 2.358, 4.8, 0.212, -0.813, 1.916))
"""Joints in rad of an upright hand with the elbow up, in the middle of the workspace; where searches begin."""
ACTION_MODES = {"plane": 2, "space": 3}
"""Name -> numbers of an action: displacements in x and y, or x, y and z."""

_UPRIGHT = np.diag((1.0, -1.0, -1.0))
_DAMPING = 1e-4
_STEPS = 2
_FASTEST = 1.5
"""rad/s; all joints go slower together where one would exceed it."""


def joint_speeds(joints: Array, actions: Array) -> Array:
    """Return the speeds (M, 6) in rad/s that joints shall have over the next control step.

    Args:
        joints: (M, 6), rad.
        actions: (M, 2 | 3), in [-1, 1].
    """
    place, turn, jacobian = hand_jacobian(joints)
    aims = place.copy()
    aims[:, 2] = HEIGHT if actions.shape[1] == 2 else aims[:, 2]
    aims[:, : actions.shape[1]] += REACH * actions
    aims = aims.clip(LOW, HIGH)
    found = _damped(joints, place, turn, jacobian, aims)
    for _ in range(_STEPS - 1):
        found = _damped(found, *hand_jacobian(found), aims)
    speeds = (found - joints) / SECONDS_PER_STEP
    return speeds / np.maximum(np.abs(speeds).max(axis=1, keepdims=True) / _FASTEST, 1.0)


def joints_at(places: ArrayLike) -> Array:
    """Return joints (M, 6) in rad of an upright hand at places (M, 3) in m.

    Raises:
        ValueError: a place that such a hand cannot reach.
    """
    aims = np.atleast_2d(np.asarray(places, np.float64))
    joints = np.broadcast_to(HOME, (len(aims), 6))
    for _ in range(20):
        joints = _damped(joints, *hand_jacobian(joints), aims)
    off = np.abs(hand_jacobian(joints)[0] - aims).max(axis=1)
    if not (off < 1e-4).all():
        raise ValueError(
            f"the hand cannot be at {aims[int(off.argmax())].tolist()}; x, y, z range from {LOW} to {HIGH}"
        )
    return joints


def _damped(joints: Array, place: Array, turn: Array, jacobian: Array, aims: Array) -> Array:
    """Return joints (M, 6) one step of damped least squares nearer to upright hands at `aims` (M, 3)."""
    twist = 0.5 * np.cross(turn, _UPRIGHT, axis=-2).sum(axis=-1)
    error = np.concatenate((aims - place, twist), axis=1)
    across = jacobian.swapaxes(-1, -2)
    step = across @ np.linalg.solve(jacobian @ across + _DAMPING * np.eye(6), error[..., None])
    return (joints + step[..., 0]).clip(JOINT_LIMITS[:, 0], JOINT_LIMITS[:, 1])
