"""What can be perturbed in the walker: its pose, and the variations that change mid-episode."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..mujoco_support import load_mujoco
from .kinematics import JOINTS
from .model import shared_model
from .scenes import draw_state
from .variations import Variation

__all__ = ["CHANGES", "move_legs"]

_LEGS = slice(3, len(JOINTS))
_FAR = 0.4
"""Mean angle in radians by which the six joints of the legs at least turn."""


def move_legs(state: np.ndarray, strength: float, rng: np.random.Generator, variation: Mapping[str, Any]) -> np.ndarray:
    """Put the legs into another pose at a stroke, at rest; the torso stays, but for what the floor lifts it.

    Joints are drawn as for a start, turned by at least 0.4 rad in the mean; the legs go the share `strength` of the
    way there.

    Args:
        state: (18,), left as it is.
        strength: in [0, 1].
        rng: source of randomness.
        variation: names -> values of the scene; changes nothing here.

    Returns:
        (18,) float64.
    """
    moved = np.array(state, np.float64)
    moved[len(JOINTS) :] = 0.0
    turn = np.zeros(6)
    while np.abs(turn).mean() < _FAR:
        turn = draw_state(rng)[_LEGS] - state[_LEGS]
    moved[_LEGS] += strength * turn
    moved[0] -= min(0.0, _lowest(moved))
    return moved


def _lowest(state: np.ndarray) -> float:
    """Return the height in metres of the lowest point of all capsules over the floor."""
    mujoco, model = load_mujoco(), shared_model(Variation())
    data = mujoco.MjData(model)
    data.qpos[:] = state[: len(JOINTS)]
    mujoco.mj_kinematics(model, data)
    radius, half = model.geom_size[:, 0], model.geom_size[:, 1]
    bottoms = data.geom_xpos[:, 2] - np.abs(data.geom_xmat[:, 8]) * half - radius
    return float(np.delete(bottoms, model.geom("floor").id).min())


def _broken_sensor(strength: float, rng: np.random.Generator) -> dict[str, Any]:
    return {"broken_sensor": strength, "broken_sensor.joint": JOINTS[rng.integers(3, len(JOINTS))]}


CHANGES = {
    "mass": lambda strength, rng: {"heavy_torso": strength},
    "friction": lambda strength, rng: {"slippery": strength},
    "weak-ankle": lambda strength, rng: {"weak_ankle": strength},
    "heavy-torso": lambda strength, rng: {"heavy_torso": strength},
    "slippery": lambda strength, rng: {"slippery": strength},
    "broken-sensor": _broken_sensor,
}
"""The walker's variations as perturbations; "mass" and "friction" are other names of two of them."""
