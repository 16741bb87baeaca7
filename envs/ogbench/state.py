"""The state of OGBench's cube: 74 numbers from which the simulation goes on bit for bit.

| columns | what |
| --- | --- |
| 0 to 20 | MuJoCo's positions: six joints of the arm, eight of the gripper, the cube's place and orientation |
| 21 to 40 | velocities |
| 41 to 60 | accelerations of the last physics step, from which MuJoCo's solver starts |
| 61 to 72 | the hand's place and rotation matrix one physics step (2 ms) ago: what OGBench's controller reads |
| 73 | force on a finger, in 50 N, at most 1: OGBench's gripper contact |

The last 33 follow from how the state came about. Who knows only positions and velocities gives 41 numbers
(`Engine.complete`), as OGBench's `set_state` does.
"""

import numpy as np
from numpy.typing import NDArray

from wmkit.tasks import Column

__all__ = [
    "ACCELERATIONS",
    "ACTION_SIZE",
    "COLUMNS",
    "CONTACT",
    "CUBE",
    "CUBE_TURN",
    "HAND",
    "HAND_ROTATION",
    "POSITIONS",
    "SHORT_SIZE",
    "STATE_SIZE",
    "SUCCESS_DISTANCE",
    "VELOCITIES",
    "cube_distance",
    "is_success",
]

POSITIONS, VELOCITIES, ACCELERATIONS = slice(0, 21), slice(21, 41), slice(41, 61)
HAND, HAND_ROTATION, CONTACT = slice(61, 64), slice(64, 73), slice(73, 74)
CUBE, CUBE_TURN = slice(14, 17), slice(17, 21)
"""The cube's centre, metres, and its orientation, a unit quaternion with the real part first."""
STATE_SIZE, SHORT_SIZE = 74, 41
"""Numbers of a state, and of one given by positions and velocities alone."""
ACTION_SIZE = 5
"""Displacement of the hand in x, y and z, its turn about z, and how far the gripper closes."""
SUCCESS_DISTANCE = 0.04
"""Metres between the cube's centre and the goal's that count as success, as in OGBench."""

_ARM = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
_FINGER = ("driver", "coupler", "spring_link", "follower")
_JOINTS = (*_ARM, *(f"{side}_{joint}" for side in ("right", "left") for joint in _FINGER))


def _rates(name: str, letter: str, unit: str) -> tuple[Column, ...]:
    """Return the columns of the 20 velocities or accelerations."""
    turn = {"v": "w", "a": "alpha_"}[letter]
    return (
        *(Column(f"{joint}_{name}", f"rad/{unit}") for joint in _JOINTS),
        *(Column(f"cube_{letter}{axis}", f"m/{unit}") for axis in "xyz"),
        *(Column(f"cube_{turn}{axis}", f"rad/{unit}") for axis in "xyz"),
    )


COLUMNS = (
    *(Column(joint, "rad") for joint in _JOINTS),
    *(Column(f"cube_{axis}", "m") for axis in "xyz"),
    *(Column(f"cube_q{part}", "") for part in "wxyz"),
    *_rates("velocity", "v", "s"),
    *_rates("acceleration", "a", "s2"),
    *(Column(f"hand_{axis}", "m") for axis in "xyz"),
    *(Column(f"hand_{row}{column}", "") for row in "xyz" for column in "xyz"),
    Column("gripper_contact", ""),
)
"""The 74 columns."""


def cube_distance(states: NDArray[np.float64], goals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the metres (...) between the cube's centre in states (..., 74) and in goals that broadcast with them."""
    return np.linalg.norm(states[..., CUBE] - goals[..., CUBE], axis=-1)


def is_success(states: NDArray[np.float64], goals: NDArray[np.float64], strict: bool = False) -> NDArray[np.bool_]:
    """Return whether the cube is at its goal (...): within 4 cm as in OGBench, or, if strict, within half of that.

    Args:
        states: (..., 74).
        goals: (..., 74), broadcast with the states; only the cube's place counts.
        strict: whether to halve the tolerance.
    """
    return cube_distance(states, goals) <= (SUCCESS_DISTANCE / 2 if strict else SUCCESS_DISTANCE)
