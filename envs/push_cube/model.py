"""PushCube's physics: Kinova's Jaco from dm_control's wheel, a table and a cube as a `mujoco.MjModel`."""
# MuJoCo's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from wmkit.errors import UserError

from ..mujoco_support import dm_control_file, load_mujoco
from .control import SECONDS_PER_STEP
from .kinematics import BASE_HEIGHT, JOINTS, STATE_SIZE
from .variations import Variation

if TYPE_CHECKING:
    import mujoco

__all__ = ["CAMERAS", "SUBSTEPS", "make_model", "paint", "shared_model"]

_TIMESTEP = 0.005
SUBSTEPS = round(SECONDS_PER_STEP / _TIMESTEP)
"""Physics steps of one control step."""
CAMERAS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], float]] = {
    "front": ((1.15, 0.0, 0.85), (0.455, 0.0, 0.02), 26.0),
    "side": ((0.47, -0.78, 0.75), (0.47, 0.0, 0.02), 27.0),
    "top": ((0.47, 0.0, 1.10), (0.465, 0.0, 0.0), 26.0),
}
"""Name -> where the camera is and what it looks at, in m, and its vertical field of view in degrees."""

_KINOVA = ("third_party", "kinova")
_CURLED = {"b_finger_": 1.0, "b_finger_tip_": 0.8}
"""Angles in rad by which the joints of the closed fingers are bent."""
_SERVO = 200.0
"""Torque in N m for each rad/s that a joint is too slow; with Jaco's 4 kg m^2 it takes 20 ms to follow."""
_ARM = "jaco_"


def make_model(variation: Variation | None = None) -> "mujoco.MjModel":
    """Return a model of one's own.

    Raises:
        UserError: dm_control or mujoco is not installed.
    """
    model = copy.copy(_base())
    paint(model, variation or Variation())
    _weigh(model, variation or Variation())
    return model


@lru_cache(maxsize=256)
def shared_model(variation: Variation) -> "mujoco.MjModel":
    """Return the model that all scenes of a variation in this process share; not to be changed."""
    return make_model(variation)


def paint(model: "mujoco.MjModel", variation: Variation) -> None:
    """Give a model the sizes and colours of a variation: all that pictures need."""
    cube = model.geom("cube").id
    half = variation.cube_size / 2
    model.geom_size[cube] = half
    model.geom_rbound[cube] = half * 3**0.5
    model.geom_aabb[cube, 3:] = half
    colors = {"cube": variation.cube_color, "table": variation.table_color, "target": variation.target_color}
    for name, color in colors.items():
        model.geom_rgba[model.geom(name).id] = (*np.array(color) / 255, 1.0)


def _weigh(model: "mujoco.MjModel", variation: Variation) -> None:
    """Give a model the mass and friction of a variation, whose size it has."""
    mujoco, body = load_mujoco(), model.body("cube").id
    model.geom_friction[model.geom("cube").id, 0] = variation.cube_friction
    model.body_mass[body] = variation.cube_mass
    model.body_inertia[body] = variation.cube_mass * variation.cube_size**2 / 6
    mujoco.mj_setConst(model, mujoco.MjData(model))


@lru_cache(maxsize=1)
def _base() -> "mujoco.MjModel":
    """Return the model that all others are copies of. A diverged simulation shows as NaN."""
    mujoco = load_mujoco()
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = _TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    _add_arm(mujoco, spec)
    _add_table(mujoco, spec)
    _add_cameras(mujoco, spec)
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = (0.45,) * 3, (0.35,) * 3
    model = spec.compile()
    if model.nq + model.nv != STATE_SIZE or model.nu != len(JOINTS):
        raise UserError("dm_control's Jaco is another arm than wmkit knows; install dm-control>=1.0.50")
    return model


def _add_arm(mujoco: Any, spec: Any) -> None:
    """Bolt the arm with closed fingers to the world; only the hand touches anything, and only the cube."""
    arm = mujoco.MjSpec.from_file(str(dm_control_file("PushCube", *_KINOVA, "jaco_arm.xml")))
    hand = mujoco.MjSpec.from_file(str(dm_control_file("PushCube", *_KINOVA, "jaco_hand.xml")))
    for body in hand.bodies:
        _curl(mujoco, hand, body)
    arm.body("b_6").add_frame(quat=(0, 1, 1, 0)).attach_body(hand.body("hand"), "hand_", "")
    for geom in arm.geoms:
        geom.contype, geom.conaffinity = 2 * ("hand_" in geom.name), 0
    spec.worldbody.add_frame(pos=(0, 0, BASE_HEIGHT)).attach_body(arm.body("b_base"), _ARM, "")
    for body in spec.bodies:
        body.gravcomp = float(body.name.startswith(_ARM))
    for name in JOINTS:
        spec.joint(_ARM + name).frictionloss = 0.0
        servo = spec.add_actuator(name=name, target=_ARM + name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_velocity(kv=_SERVO)


def _curl(mujoco: Any, hand: Any, body: Any) -> None:
    """Bend a part of a finger and fix it there."""
    angles = [angle for start, angle in _CURLED.items() if body.name.rstrip("123") == start]
    if angles:
        bend, turned = np.zeros(4), np.zeros(4)
        mujoco.mju_axisAngle2Quat(bend, np.array((0.0, 0.0, 1.0)), angles[0])
        mujoco.mju_mulQuat(turned, np.array(body.quat), bend)
        body.quat = turned
    for joint in list(body.joints):
        hand.delete(joint)


def _add_table(mujoco: Any, spec: Any) -> None:
    """Add what the cube slides on, what is seen of it, the cube, and the mark of the target."""
    world, kind = spec.worldbody, mujoco.mjtGeom
    world.add_geom(name="top", type=kind.mjGEOM_PLANE, size=(1, 1, 0.1), rgba=(0, 0, 0, 0), contype=1, conaffinity=0)
    matt = spec.add_material(name="matt", specular=0, shininess=0)
    seen = {"contype": 0, "conaffinity": 0, "material": matt.name}
    world.add_geom(name="table", type=kind.mjGEOM_BOX, pos=(0.5, 0, -0.021), size=(0.42, 0.5, 0.02), **seen)
    world.add_geom(name="target", type=kind.mjGEOM_CYLINDER, pos=(0.47, 0, 0), size=(0.025, 0.0005, 0), **seen)
    cube = world.add_body(name="cube", pos=(0.47, 0, 0.025))
    cube.add_freejoint(name="cube")
    cube.add_geom(
        name="cube",
        type=kind.mjGEOM_BOX,
        size=(0.025,) * 3,
        mass=0.1,
        contype=0,
        conaffinity=3,
        priority=1,
        material=matt.name,
    )
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=(-0.3, 0.3, -1), diffuse=(0.3,) * 3, specular=(0.1,) * 3
    )


def _add_cameras(mujoco: Any, spec: Any) -> None:
    for name, (place, target, angle) in CAMERAS.items():
        back = np.subtract(place, target) / np.linalg.norm(np.subtract(place, target))
        right = np.cross((0, 0, 1), back)
        right /= np.linalg.norm(right)
        turn = np.zeros(4)
        mujoco.mju_mat2Quat(turn, np.stack((right, np.cross(back, right), back), axis=1).ravel())
        spec.worldbody.add_camera(name=name, pos=place, quat=turn, fovy=angle)
