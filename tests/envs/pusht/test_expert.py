"""The expert solves the task from its own starts, with noise and with other goals."""

import numpy as np
import pytest

from wmkit.envs.pusht import PushTEnv, PushTExpert, valid_state
from wmkit.envs.pusht.geometry import block_shape
from wmkit.envs.pusht.navigation import clearance, shortest_path


def solve(seed, noise=0.0, goal=None, limit=300):
    """Steps taken, whether solved, and whether every state was valid."""
    env, expert, rng = PushTEnv(obs_type="state"), PushTExpert(seed), np.random.default_rng(seed)
    observation, info = env.reset(seed=seed, options=None if goal is None else {"goal": goal})
    expert.reset(info["state"], info["goal_state"], {})
    for step in range(1, limit + 1):
        action = expert.act(observation["state"])
        assert action.shape == (2,)
        assert np.abs(action).max() <= 1
        action = np.clip(action + noise * rng.standard_normal(2), -1, 1)
        observation, _, terminated, _, info = env.step(action)
        assert valid_state(info["state"])
        if terminated:
            return step, True
    return limit, False


@pytest.mark.parametrize("seed", range(8))
def test_expert_solves_its_own_resets(seed):
    steps, solved = solve(seed)
    assert solved
    assert steps < 150


def test_expert_makes_up_for_noise():
    assert sum(solve(seed, noise=0.2)[1] for seed in range(5)) >= 4


@pytest.mark.parametrize("goal", [(150, 350, -2.0), (380, 160, 3.0)])
def test_expert_reaches_other_goals(goal):
    assert solve(1, goal=np.array(goal, float))[1]


def test_expert_is_deterministic():
    assert solve(2) == solve(2)


def test_shortest_path_goes_round_the_block():
    shape, radius = block_shape(), 22.0
    pose = np.array((256.0, 256.0, 0.0))
    start, end = np.array((0.0, -60.0)), np.array([(0.0, 160.0), (100.0, -60.0)])
    lengths, firsts = shortest_path(start, end, shape, radius, pose, (14.0, 497.0))
    assert lengths[0] > 230
    assert lengths[1] == pytest.approx(100.0)
    assert np.array_equal(firsts[1], end[1])
    way = start + np.linspace(0, 1, 50)[:, None] * (firsts[0] - start)
    assert clearance(way, shape).min() >= radius - 0.01
