"""A task small enough to reason about: a point in the plane that an expert walks to a goal.

The environment variable POINT_DELAY, in seconds, slows every step down, so that a test can kill a process meanwhile.
"""

import os
import time

import gymnasium as gym
import numpy as np

from wmkit.tasks import Column, Task


class PointEnv(gym.Env):
    """State (x, y) in [0, 1]; an action in [-1, 1] moves by a tenth; a frame is (S, S, 3) and encodes the state."""

    def __init__(self, obs_type="pixels", image_size=8, wild=0.0):
        self._size, self._wild = image_size, wild
        self._delay = float(os.environ.get("POINT_DELAY", "0"))
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._state, self._goal = self.np_random.uniform(0, 1, (2, 2))
        self._door = self.np_random.uniform()
        self._jump = self.np_random.uniform() < self._wild
        return self._observe(), self._info()

    def step(self, action):
        if self._delay:
            time.sleep(self._delay)
        self._state = self._state + 0.1 * np.asarray(action, np.float64) + 10 * self._jump
        info = self._info()
        return self._observe(), 0.0, info["success"], False, info

    def _observe(self):
        value = np.uint8(255 * np.clip(self._state, 0, 1))
        frame = np.zeros((self._size, self._size, 3), np.uint8)
        frame[..., 0], frame[..., 1] = value
        return {"pixels": frame}

    def _info(self):
        success = bool(np.linalg.norm(self._state - self._goal) < 0.05)
        return {"state": self._state.copy(), "goal_state": self._goal, "success": success, "door.position": self._door}


class PointExpert:
    """Walks straight to the goal."""

    def __init__(self, seed):
        self._goal = None

    def reset(self, state, goal, variation):
        self._goal = goal
        assert 0 <= variation["door.position"] <= 1

    def act(self, state):
        return np.clip((self._goal - state) / 0.1, -1, 1)


def _make_vector(num_envs, **keywords):
    return gym.vector.SyncVectorEnv([lambda: PointEnv(**keywords)] * num_envs)


def _success(states, goals, rule, strict):
    return np.linalg.norm(states - goals, axis=-1) < (0.025 if strict else 0.05)


POINT = Task(
    name="point",
    env_id="test/Point-v0",
    make=PointEnv,
    make_vector=_make_vector,
    expert=PointExpert,
    success=_success,
    rules=("near",),
    state=(Column("x", "1"), Column("y", "1")),
    probes={},
    valid=lambda states: np.abs(states).max(axis=-1) < 5,
    seconds_per_step=0.1,
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    action_repeat=2,
    max_steps=30,
    scene=("door.position",),
)
