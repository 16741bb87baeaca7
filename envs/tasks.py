"""The environments as data collection and evaluation see them, found through the registry."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from wmkit.tasks import Column, StateRollout, Task

from .changes import PUSHT_CHANGES, TWO_ROOM_CHANGES, move_agent
from .pusht import (
    PushTEnv,
    PushTExpert,
    PushTSimulator,
    PushTVectorEnv,
    coverage,
    make_variation,
    pose_success,
    valid_state,
)
from .pusht.geometry import ANGLE_TOLERANCE, POSITION_TOLERANCE
from .pusht.playground import PushTPlayground
from .pusht.starts import move_block
from .two_room import SUCCESS_DISTANCE, TwoRoomEnv, TwoRoomExpert, TwoRoomSimulator, TwoRoomVectorEnv, is_success
from .two_room.playground import TwoRoomPlayground
from .two_room.starts import draw_states
from .two_room.world import Scene

__all__ = ["PUSHT", "TWO_ROOM"]

_STRICT_COVERAGE = 0.975
"""Half the tolerance of the rule "coverage": half of the 5 % that may stay uncovered."""
_ARRIVED = 0.02
"""Distance in widths within which the touring expert chooses its next goal."""
_NEAR = 0.3
"""Share of a tolerance within which it no longer matters how near the goal is."""
_BLOCK_FIRST = 3.0
"""Weight of the block in PushT's distance: an agent at its goal must not outweigh a block that is not."""
_FINE = (3.0, 0.03)
"""Pixels and radians by which the block may be off at about 95 % coverage."""


class _TouringExpert:
    """TwoRoom's expert with a new goal anywhere whenever it has arrived, so that long episodes cover the rooms."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._expert = TwoRoomExpert()
        self._variation: Mapping[str, Any] = {}
        self._goal = np.zeros(2)

    def reset(self, state: np.ndarray, goal: np.ndarray, variation: Mapping[str, Any]) -> None:
        """Start from `state` (2,) towards `goal` (2,)."""
        self._variation, self._goal = variation, goal
        self._expert.reset(state, goal, variation)

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return one action (2,)."""
        if np.linalg.norm(state - self._goal) < _ARRIVED:
            scene = Scene(door_position=float(self._variation["door.position"]))
            self.reset(state, draw_states(self._rng, scene, 1)[0], self._variation)
        return self._expert.act(state)


def _two_room_vector(num_envs: int, **options: Any) -> gym.vector.VectorEnv:
    return TwoRoomVectorEnv(num_envs, max_episode_steps=None, autoreset_mode=AutoresetMode.DISABLED, **options)


def _two_room_success(states: np.ndarray, goals: np.ndarray, rule: str, strict: bool) -> np.ndarray:
    return is_success(states, goals, strict)


def _pusht_vector(num_envs: int, **options: Any) -> gym.vector.VectorEnv:
    return PushTVectorEnv(num_envs, max_episode_steps=None, autoreset_mode=AutoresetMode.DISABLED, **options)


def _pusht_success(states: np.ndarray, goals: np.ndarray, rule: str, strict: bool) -> np.ndarray:
    if rule == "pose":
        return pose_success(states, goals, strict)
    return coverage(states, goals[..., 2:5]) > (_STRICT_COVERAGE if strict else 0.95)


def _two_room_distance(states: np.ndarray, goals: np.ndarray, rule: str) -> np.ndarray:
    return _beyond(np.linalg.norm(states - goals, axis=-1) / SUCCESS_DISTANCE)


def _pusht_distance(states: np.ndarray, goals: np.ndarray, rule: str) -> np.ndarray:
    """Under the rule "coverage" the agent does not count."""
    position, angle = (POSITION_TOLERANCE, ANGLE_TOLERANCE) if rule == "pose" else _FINE
    off = states[..., :5] - goals[..., :5]
    turn = np.abs((off[..., 4] + np.pi) % (2 * np.pi) - np.pi)
    block = _beyond(np.hypot(off[..., 2], off[..., 3]) / position) + _beyond(turn / angle)
    agent = _beyond(np.hypot(off[..., 0], off[..., 1]) / position) if rule == "pose" else 0.0
    return agent + _BLOCK_FIRST * block


def _beyond(tolerances: np.ndarray) -> np.ndarray:
    """Return how far (...) tolerances lie beyond the share of one that is near enough."""
    return np.maximum(tolerances - _NEAR, 0.0)


def _pusht_simulator(variation: Mapping[str, Any]) -> StateRollout:
    return PushTSimulator(variation=make_variation(variation)).rollout


def _angle(states: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(states[:, 4]), np.cos(states[:, 4])], axis=1)


TWO_ROOM = Task(
    name="two-room",
    env_id="wmkit/TwoRoom-v0",
    make=TwoRoomEnv,
    make_vector=_two_room_vector,
    expert=_TouringExpert,
    success=_two_room_success,
    rules=("distance",),
    state=(Column("agent_x", "width"), Column("agent_y", "width")),
    probes={"agent": lambda states: states[:, :2]},
    valid=lambda states: np.asarray(np.isfinite(states).all(axis=-1)),
    seconds_per_step=0.05,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    max_steps=200,
    scene=("door.position",),
    simulator=lambda variation: TwoRoomSimulator(variation).rollout,
    distance=_two_room_distance,
    teleport=move_agent,
    changes=TWO_ROOM_CHANGES,
    playground=TwoRoomPlayground,
    symmetries=("flip",),
)

PUSHT = Task(
    name="pusht",
    env_id="wmkit/PushT-v0",
    make=PushTEnv,
    make_vector=_pusht_vector,
    expert=PushTExpert,
    success=_pusht_success,
    rules=("pose", "coverage"),
    state=(
        Column("agent_x", "px"),
        Column("agent_y", "px"),
        Column("block_x", "px"),
        Column("block_y", "px"),
        Column("block_angle", "rad"),
        Column("agent_vx", "px/s"),
        Column("agent_vy", "px/s"),
        Column("block_vx", "px/s"),
        Column("block_vy", "px/s"),
        Column("block_omega", "rad/s"),
    ),
    probes={"agent": lambda states: states[:, :2], "block": lambda states: states[:, 2:4], "angle": _angle},
    valid=valid_state,
    seconds_per_step=0.1,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    max_steps=300,
    simulator=_pusht_simulator,
    distance=_pusht_distance,
    teleport=move_block,
    changes=PUSHT_CHANGES,
    playground=PushTPlayground,
    symmetries=("flip", "dihedral"),
)
