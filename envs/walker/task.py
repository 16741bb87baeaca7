"""The walker as data collection and planning see it."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from wmkit.tasks import Column, StateRollout, Task

from .behaviour import STATISTICS
from .changes import CHANGES, move_legs
from .env import WalkerEnv, WalkerVectorEnv
from .expert import QUALITIES, WalkerExpert
from .kinematics import BODIES, JOINTS, body_pitches
from .model import ACTION_SIZE, SECONDS_PER_STEP
from .rewards import REWARDS
from .simulator import WalkerSimulator
from .variations import VARIATIONS

__all__ = ["WALKER"]


def _vector(num_envs: int, **options: Any) -> gym.vector.VectorEnv:
    return WalkerVectorEnv(num_envs, max_episode_steps=None, autoreset_mode=AutoresetMode.DISABLED, **options)


def _simulator(variation: Mapping[str, Any]) -> StateRollout:
    return WalkerSimulator(variation).rollout


def _pitch(body: str) -> Any:
    """Return a probe's target: sine and cosine of a body's pitch."""
    index = BODIES.index(body)

    def target(states: np.ndarray) -> np.ndarray:
        pitch = body_pitches(states)[..., index]
        return np.stack([np.sin(pitch), np.cos(pitch)], axis=-1)

    return target


def _unit(joint: str) -> str:
    return "m" if joint in ("rootz", "rootx") else "rad"


WALKER = Task(
    name="walker",
    env_id="wmkit/Walker-v0",
    make=WalkerEnv,
    make_vector=_vector,
    expert=WalkerExpert,
    rewards=REWARDS,
    statistics=STATISTICS,
    qualities=QUALITIES,
    records="state",
    state=(
        *(Column(joint, _unit(joint)) for joint in JOINTS),
        *(Column(f"{joint}_velocity", f"{_unit(joint)}/s") for joint in JOINTS),
    ),
    probes={"height": lambda states: states[:, :1], **{f"{body} pitch": _pitch(body) for body in BODIES}},
    valid=lambda states: np.asarray(np.isfinite(states).all(axis=-1)),
    seconds_per_step=SECONDS_PER_STEP,
    action_low=(-1.0,) * ACTION_SIZE,
    action_high=(1.0,) * ACTION_SIZE,
    action_repeat=2,
    max_steps=1000,
    scene=tuple(VARIATIONS),
    simulator=_simulator,
    teleport=move_legs,
    changes=CHANGES,
    invariant=("rootx",),
    angles=("rooty",),
    symmetries=(),
)
