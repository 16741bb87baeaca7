"""OGBench's oracle behind the `Expert` protocol, and what is said where ogbench is missing."""

import numpy as np
import pytest

from wmkit.data.recording import Recorder, Settings
from wmkit.envs.ogbench.engine import shared_engine
from wmkit.envs.ogbench.state import CUBE
from wmkit.envs.ogbench.task import OGBENCH_CUBE

ogbench = pytest.importorskip("ogbench")
TASK = "wmkit.envs.ogbench.task:OGBENCH_CUBE"


def _run(seed, steps):
    """States (steps + 1, 74) of the expert left alone, and the goal."""
    engine, expert = shared_engine(), OGBENCH_CUBE.expert(seed)
    state, goal = engine.draw(seed)
    expert.reset(state, goal, {})
    states = [state]
    for _ in range(steps):
        states.append(engine.advance(states[-1], expert.act(states[-1])))
    return np.array(states), goal


def test_the_expert_brings_the_cube_to_its_goal():
    solved = []
    for seed in range(10):
        states, goal = _run(seed, 100)
        solved.append(OGBENCH_CUBE.success(states, goal, "position", True).any())
    assert sum(solved) >= 9


def test_it_goes_on_with_new_targets():
    states, goal = _run(0, 200)
    arrived = int(OGBENCH_CUBE.success(states, goal, "position", True).argmax())
    left = np.linalg.norm(states[arrived:, CUBE] - goal[CUBE], axis=1)
    assert left.max() > 0.1


def test_its_randomness_is_its_own():
    np.random.seed(1)  # noqa: NPY002
    first, _ = _run(4, 150)
    np.testing.assert_allclose(np.random.uniform(), 0.417022, atol=1e-6)  # noqa: NPY002
    second, _ = _run(4, 150)
    np.testing.assert_array_equal(first, second)


def test_episodes_are_recorded_with_noise():
    recorder = Recorder(Settings(TASK, noise=0.05, linger=200, max_steps=60, env={"obs_type": "state"}))
    columns = recorder.episode(0).columns
    assert columns["state"].shape == (61, 74)
    assert columns["action"].shape == (60, 5)
    np.testing.assert_array_equal(recorder.episode(0).columns["state"], columns["state"])
    state = columns["state"][0]
    for action, expected in zip(columns["action"], columns["state"][1:], strict=True):
        state = shared_engine().advance(state, action)
        np.testing.assert_array_equal(state, expected)
