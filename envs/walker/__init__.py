"""Walker: dm-control's planar walker, to stand, walk or run (`wmkit/Walker-v0`).

`WalkerEnv` and `WalkerVectorEnv` are the environments, `WalkerSimulator` and `make_model` their dynamics alone,
`rewards` the functions that can be replaced at run time, `variations` what can be made worse, and by how much.
"""

from .behaviour import STATISTICS
from .env import WalkerEnv, WalkerVectorEnv
from .kinematics import center_of_mass_velocity, features, foot_clearance, torso_height, torso_upright
from .model import ACTION_SIZE, SECONDS_PER_STEP, SUBSTEPS, make_model
from .rewards import REWARDS, get_reward, register_reward, run, stand, walk
from .simulator import WalkerSimulator
from .variations import VARIATIONS, Variation, make_variation

__all__ = [
    "ACTION_SIZE",
    "REWARDS",
    "SECONDS_PER_STEP",
    "STATISTICS",
    "SUBSTEPS",
    "VARIATIONS",
    "Variation",
    "WalkerEnv",
    "WalkerSimulator",
    "WalkerVectorEnv",
    "center_of_mass_velocity",
    "features",
    "foot_clearance",
    "get_reward",
    "make_model",
    "make_variation",
    "register_reward",
    "run",
    "stand",
    "torso_height",
    "torso_upright",
    "walk",
]
