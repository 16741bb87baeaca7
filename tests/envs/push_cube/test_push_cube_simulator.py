"""PushCube's dynamics alone against the environment."""

import numpy as np
import pytest

from wmkit.envs.push_cube import PushCubeEnv, PushCubeSimulator, hand_position
from wmkit.envs.push_cube.kinematics import CUBE

VARIED = {"cube.size": 0.058, "cube.mass": 0.6, "cube.friction": 0.3}


def _actions(state, steps, size, seed):
    """Actions (2, steps, size) that push the cube, each in its own way."""
    way = state[CUBE][:2] - hand_position(state)[:2]
    rng = np.random.default_rng(seed)
    found = 0.3 * rng.normal(size=(2, steps, size))
    found[..., :2] += way / np.abs(way).max()
    return found


@pytest.mark.parametrize(("variation", "size", "threads"), [(None, 2, 1), (VARIED, 2, 3), (VARIED, 3, 2)])
def test_equals_the_environment_bit_for_bit_also_in_the_middle_of_an_episode(variation, size, threads):
    env = PushCubeEnv("state", action_mode={2: "plane", 3: "space"}[size])
    starts = [env.reset(seed=seed, options={"variation": variation})[1]["state"] for seed in (2, 3)]
    env.reset(options={"state": starts[0], "variation": variation})
    for action in _actions(starts[0], 12, size, 5)[0]:
        starts[0] = env.step(action)[0]["state"]
    assert np.abs(starts[0][13:]).max() > 0.1
    actions = np.stack([_actions(start, 15, size, seed) for seed, start in enumerate(starts)])
    found = PushCubeSimulator(variation, threads).rollout(np.stack(starts), actions)
    assert found.shape == (2, 2, 15, 25)
    for b, n in np.ndindex(2, 2):
        env.reset(options={"state": starts[b], "variation": variation})
        np.testing.assert_array_equal(found[b, n], [env.step(action)[0]["state"] for action in actions[b, n]])
    assert np.abs(found[..., -1, CUBE] - np.stack(starts)[:, None, CUBE]).max() > 0.01


def test_a_variation_changes_the_future(drawn):
    start = drawn["state"][:1]
    actions = _actions(start[0], 15, 2, 0)[None]
    plain, varied = (PushCubeSimulator(variation, 1).rollout(start, actions) for variation in ({}, VARIED))
    assert np.abs(plain - varied)[..., CUBE].max() > 1e-4


def test_results_depend_on_neither_the_company_nor_the_number_of_threads(drawn):
    starts, simulator = drawn["state"][:6], PushCubeSimulator(threads=2)
    actions = np.stack([_actions(start, 4, 2, seed) for seed, start in enumerate(starts)])
    together = simulator.rollout(starts, actions)
    np.testing.assert_array_equal(PushCubeSimulator(threads=1).rollout(starts, actions), together)
    np.testing.assert_array_equal(simulator.rollout(starts[4:5], actions[4:5]), together[4:5])
    single = actions.astype(np.float32)
    np.testing.assert_array_equal(simulator.rollout(starts, single), simulator.rollout(starts, np.float64(single)))


def test_actions_are_clipped(drawn):
    simulator, start = PushCubeSimulator(threads=1), drawn["state"][:1]
    far, full = (simulator.rollout(start, np.full((1, 1, 2, 2), size)) for size in (7.0, 1.0))
    np.testing.assert_array_equal(far, full)


def test_a_future_that_diverges_is_nan_from_there_on_and_spoils_no_other(far):
    starts = np.stack((far[0], far[1]))
    starts[0, 13:] = 1e12
    found = PushCubeSimulator(threads=1).rollout(starts, np.zeros((2, 2, 3, 2)))
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], PushCubeSimulator(threads=1).rollout(starts[1:], np.zeros((1, 2, 3, 2)))[0])


@pytest.mark.parametrize(
    ("states", "actions"),
    [((2, 25), (1, 3, 4, 2)), ((1, 24), (1, 3, 4, 2)), ((1, 25), (1, 3, 4, 6)), ((1, 25), (1, 4, 2)), ((25,), (2,))],
)
def test_shapes_that_do_not_fit_are_refused(states, actions):
    with pytest.raises(ValueError, match=r"expected \(B, 25\) and \(B, N, H, 2 \| 3\)"):
        PushCubeSimulator(threads=1).rollout(np.zeros(states), np.zeros(actions))
