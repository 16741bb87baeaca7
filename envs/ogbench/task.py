"""OGBench's cube as data collection, planning and evaluation see it; importing this needs no ogbench."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from wmkit.tasks import Expert, StateRollout, Task

from .env import SECONDS_PER_STEP, OGBenchCubeEnv, OGBenchCubeVectorEnv
from .scenes import check_variation
from .state import ACTION_SIZE, COLUMNS, CUBE, HAND, SUCCESS_DISTANCE, cube_distance, is_success

__all__ = ["OGBENCH_CUBE"]

_NEAR = 0.3
"""Share of the tolerance within which it no longer matters how near the goal is."""


def _vector(num_envs: int, **options: Any) -> gym.vector.VectorEnv:
    return OGBenchCubeVectorEnv(num_envs, max_episode_steps=None, autoreset_mode=AutoresetMode.DISABLED, **options)


def _expert(seed: int = 0) -> Expert:
    from .expert import CubeExpert

    return CubeExpert(seed)


def _success(states: np.ndarray, goals: np.ndarray, rule: str, strict: bool) -> np.ndarray:
    return is_success(states, goals, strict)


def _distance(states: np.ndarray, goals: np.ndarray, rule: str) -> np.ndarray:
    return np.maximum(cube_distance(states, goals) / SUCCESS_DISTANCE - _NEAR, 0.0)


def _simulator(variation: Mapping[str, Any]) -> StateRollout:
    from .engine import shared_engine

    check_variation(variation)
    return shared_engine().rollout


OGBENCH_CUBE = Task(
    name="ogbench-cube",
    env_id="wmkit/OGBenchCube-v0",
    make=OGBenchCubeEnv,
    make_vector=_vector,
    expert=_expert,
    success=_success,
    rules=("position",),
    state=COLUMNS,
    probes={"cube": lambda states: states[:, CUBE], "hand": lambda states: states[:, HAND]},
    valid=lambda states: np.asarray(np.isfinite(states).all(axis=-1)),
    seconds_per_step=SECONDS_PER_STEP,
    action_low=(-1.0,) * ACTION_SIZE,
    action_high=(1.0,) * ACTION_SIZE,
    max_steps=200,
    simulator=_simulator,
    distance=_distance,
    symmetries=(),
)
