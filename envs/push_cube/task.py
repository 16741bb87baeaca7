"""PushCube as data collection, planning and the live window see it."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from wmkit.tasks import Column, StateRollout, Task

from .changes import CHANGES
from .control import SECONDS_PER_STEP
from .env import PushCubeEnv, PushCubeVectorEnv
from .expert import PushCubeExpert
from .kinematics import CUBE, STATE_NAMES, SUCCESS_DISTANCE, cube_yaw_features, hand_position, is_success
from .playground import PushCubePlayground
from .simulator import PushCubeSimulator
from .starts import is_valid, move_cube
from .variations import VARIATIONS

__all__ = ["PUSH_CUBE"]

_NEAR = 0.35
"""Distance from the goal, in tolerances, below which a state is near enough: well within half of one."""


def _vector(num_envs: int, **options: Any) -> gym.vector.VectorEnv:
    return PushCubeVectorEnv(num_envs, max_episode_steps=None, autoreset_mode=AutoresetMode.DISABLED, **options)


def _success(states: np.ndarray, goals: np.ndarray, rule: str, strict: bool) -> np.ndarray:
    return is_success(states, goals, strict)


def _distance(states: np.ndarray, goals: np.ndarray, rule: str) -> np.ndarray:
    off = np.linalg.norm(states[..., CUBE] - goals[..., CUBE], axis=-1)
    return np.maximum(off / SUCCESS_DISTANCE - _NEAR, 0.0)


def _simulator(variation: Mapping[str, Any]) -> StateRollout:
    return PushCubeSimulator(variation).rollout


def _unit(name: str) -> str:
    if name.startswith("joint"):
        return "rad/s" if name.endswith("velocity") else "rad"
    part = name.removeprefix("cube_")
    return {"v": "m/s", "w": "rad/s", "q": ""}.get(part[0], "m")


PUSH_CUBE = Task(
    name="push-cube",
    env_id="wmkit/PushCube-v0",
    make=PushCubeEnv,
    make_vector=_vector,
    expert=PushCubeExpert,
    success=_success,
    rules=("position",),
    state=tuple(Column(name, _unit(name)) for name in STATE_NAMES),
    probes={
        "hand": lambda states: hand_position(states)[..., :2],
        "cube": lambda states: states[..., CUBE][..., :2],
        "cube angle": cube_yaw_features,
    },
    valid=is_valid,
    seconds_per_step=SECONDS_PER_STEP,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    max_steps=150,
    scene=tuple(VARIATIONS),
    simulator=_simulator,
    distance=_distance,
    teleport=move_cube,
    changes=CHANGES,
    symmetries=(),
    playground=PushCubePlayground,
)
