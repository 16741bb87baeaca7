"""The walker's physics: dm-control's walker.xml as a `mujoco.MjModel`, changed by name.

The file is read from the installed dm_control package; that package itself is never imported, so that making an
environment takes a fraction of a second.
"""
# MuJoCo's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from wmkit.errors import UserError

from ..mujoco_support import dm_control_file, load_mujoco
from .kinematics import STATE_SIZE
from .variations import Variation, make_variation

if TYPE_CHECKING:
    import mujoco

__all__ = ["ACTION_SIZE", "SECONDS_PER_STEP", "SUBSTEPS", "make_model", "shared_model"]

SECONDS_PER_STEP = 0.025
"""Seconds of one control step."""
SUBSTEPS = 10
"""Physics steps of one control step."""
ACTION_SIZE = 6
"""Motors: hip, knee and ankle of the right leg, then of the left."""


def make_model(variation: str | Mapping[str, Any] | Variation | None = None) -> "mujoco.MjModel":
    """Return a walker of one's own, for the environment's physics or for a planner that shall know of the change.

    Args:
        variation: as in `make_variation`; what concerns observations alone changes nothing here.

    Raises:
        UserError: dm_control or mujoco is not installed.
        ValueError: an unknown variation or a value outside its range.
    """
    return copy.copy(shared_model(make_variation(variation).dynamics))


@lru_cache(maxsize=64)
def shared_model(variation: Variation) -> "mujoco.MjModel":
    """Return the one walker of a variation that all environments of this process share; not to be changed."""
    if variation == Variation():
        return _read_model()
    mujoco = load_mujoco()
    model = copy.copy(shared_model(Variation()))
    ankle, torso, floor = model.actuator("right_ankle").id, model.body("torso").id, model.geom("floor").id
    if variation.weak_ankle:
        model.actuator_forcelimited[ankle] = 1
        model.actuator_forcerange[ankle] = (variation.weak_ankle - 1, 1 - variation.weak_ankle)
    if variation.heavy_torso:
        model.body_mass[torso] *= 1 + variation.heavy_torso
        model.body_inertia[torso] *= 1 + variation.heavy_torso
        mujoco.mj_setConst(model, mujoco.MjData(model))
    if variation.slippery:
        model.geom_priority[floor] = 1
        model.geom_friction[floor] *= 1 - 0.95 * variation.slippery
    return model


def _read_model() -> "mujoco.MjModel":
    """Return dm-control's own walker. A diverged simulation shows as NaN instead of starting anew on its own."""
    path = dm_control_file("the walker", "suite", "walker.xml")
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_path(str(path))
    if model.nq + model.nv != STATE_SIZE or model.nu != ACTION_SIZE:
        raise UserError(f"{path} is another walker than this version of wmkit knows; install dm-control>=1.0.50")
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return model
