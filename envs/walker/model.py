"""The walker's physics: dm-control's walker.xml as a `mujoco.MjModel`, changed by name.

The file is read from the installed dm_control package; that package itself is never imported, so that making an
environment takes a fraction of a second.
"""
# MuJoCo's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import copy
import importlib.util
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit.errors import UserError

from .kinematics import STATE_SIZE
from .variations import Variation, make_variation

if TYPE_CHECKING:
    import mujoco

__all__ = ["ACTION_SIZE", "SECONDS_PER_STEP", "SUBSTEPS", "cores", "load_mujoco", "make_model", "shared_model"]

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
    path = _xml_path()
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_path(str(path))
    if model.nq + model.nv != STATE_SIZE or model.nu != ACTION_SIZE:
        raise UserError(f"{path} is another walker than this version of wmkit knows; install dm-control>=1.0.50")
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return model


def load_mujoco() -> Any:
    """Import and return mujoco, which reads MUJOCO_GL while it is imported.

    Raises:
        UserError: it is not installed, or finds no OpenGL of the kind that MUJOCO_GL demands.
    """
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise UserError(f"the walker needs mujoco ({error}): pip install 'mujoco>=3.17,<4'") from None
    except Exception as error:
        raise UserError(
            f"mujoco cannot be imported with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r} ({error}); unset it for "
            "observations without pixels, or, on Debian or Ubuntu, apt-get install libegl1 libgl1 libgles2"
        ) from None
    return mujoco


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _xml_path() -> Path:
    """Return where dm_control keeps walker.xml."""
    found = importlib.util.find_spec("dm_control")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        path = Path(folder) / "suite" / "walker.xml"
        if path.exists():
            return path
    raise UserError("the walker needs dm-control's walker.xml: pip install 'wmkit[dm-control]'")
