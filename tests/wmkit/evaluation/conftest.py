"""A TwoRoom task with recordings made on the spot."""

import functools
import types

import numpy as np
import pytest

from wmkit.envs.two_room import TwoRoomExpert, TwoRoomSimulator, TwoRoomVectorEnv, is_success
from wmkit.evaluation.protocols import Recording
from wmkit.tasks import Column, Task


def _success(states, goals, rule, strict):
    return is_success(states, goals, strict)


@pytest.fixture(scope="session")
def task():
    return Task(
        name="two-room",
        env_id="wmkit/TwoRoom-v0",
        make=lambda **kwargs: None,
        make_vector=functools.partial(TwoRoomVectorEnv, autoreset_mode="Disabled", max_episode_steps=None),
        expert=lambda seed: TwoRoomExpert(),
        success=_success,
        rules=("distance",),
        state=(Column("agent x", "width"), Column("agent y", "width")),
        probes={"agent": lambda states: states},
        valid=lambda states: np.ones(len(states), bool),
        seconds_per_step=0.05,
        action_low=(-1.0, -1.0),
        action_high=(1.0, 1.0),
        max_steps=60,
        simulator=lambda variation: TwoRoomSimulator(variation).rollout,
        distance=lambda states, goals, rule: np.linalg.norm(states - goals, axis=-1),
    )


def record(task, index, seed, steps=60, **reset):
    """Record an episode of the expert; every second one crosses."""
    env = task.make_vector(num_envs=1, obs_type="state")
    _, info = env.reset(seed=seed, options={"cross_room": index % 2 == 0, **reset})
    expert = task.expert(seed)
    expert.reset(info["state"][0], info["goal_state"][0], {})
    states, actions = [info["state"][0]], []
    for _ in range(steps):
        actions.append(np.asarray(expert.act(states[-1]), np.float32))
        states.append(env.step(actions[-1][None])[-1]["state"][0])
    return Recording(index, np.array(states), np.array(actions))


@pytest.fixture(scope="session")
def recordings(task):
    return [record(task, index, seed=100 + index) for index in range(12)]


@pytest.fixture
def store():
    """What `read_recordings` needs of an `EpisodeStore`, in memory."""
    columns = {"state": [np.full((4, 2), e) for e in range(3)], "action": [np.full((3, 2), e) for e in range(3)]}
    return types.SimpleNamespace(
        episodes=np.array([10, 11, 12]),
        metadata=types.SimpleNamespace(scene=("door.position",)),
        values=lambda name: np.array([0.3, 0.4, 0.5]),
        read=lambda name, positions: columns[name][positions[0]],
    )
