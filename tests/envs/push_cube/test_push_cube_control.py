"""What the hand does for an action, in the real physics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wmkit.envs.push_cube import PushCubeEnv, PushCubeVectorEnv, hand_position
from wmkit.envs.push_cube.control import HEIGHT, HIGH, HOME, LOW, REACH, joint_speeds, joints_at
from wmkit.envs.push_cube.kinematics import JOINT_LIMITS, hand_pose

MIDDLE = (0.5 * (LOW + HIGH)) * (1, 1, 0) + (0, 0, 0.09)
DOWN = np.diag((1.0, -1.0, -1.0))
COAST = 0.008
"""Metres by which a hand at full speed may run on: the servos take 20 ms to stop it."""


def _at(place):
    """A state with the hand at a place and the cube out of its way."""
    state = np.zeros(25)
    state[:6], state[6:9], state[9] = joints_at(place)[0], (0.9, 0.9, 0.025), 1.0
    return state


def _env(mode, place):
    env = PushCubeEnv(obs_type="state", action_mode=mode)
    env.reset(options={"state": _at(place), "goal": (0.4, 0.0)})
    return env


def _poses(env, actions):
    joints = np.stack([env.step(action)[-1]["state"][:6] for action in actions])
    return (*hand_pose(joints), joints)


@pytest.mark.parametrize(
    ("mode", "action"),
    [
        ("plane", (1.0, 0.0)),
        ("plane", (-0.5, 0.8)),
        ("plane", (0.1, -0.05)),
        ("space", (0.3, -0.9, 0.2)),
        ("space", (0.0, 0.0, 0.5)),
        ("space", (0.0, 0.0, -0.5)),
    ],
)
def test_displacements_are_followed(mode, action):
    start = MIDDLE * (1, 1, 0) + (0, 0, HEIGHT if mode == "plane" else MIDDLE[2])
    idle = np.zeros(len(action))
    places, turns, _ = _poses(_env(mode, start), [action] * 4 + [idle] * 3)
    asked = REACH * np.pad(action, (0, 3 - len(action)))
    np.testing.assert_allclose(np.diff(places, axis=0)[1:3], np.tile(asked, (2, 1)), atol=1e-3)
    np.testing.assert_allclose(places[-1] - start, 4 * asked, atol=1e-3)
    assert np.abs(turns[-1] - DOWN).max() < 1e-3
    assert np.abs(places[-1] - places[-2]).max() < 3e-4


@settings(deadline=None, max_examples=12)
@given(st.sampled_from([2, 3]).flatmap(lambda size: arrays(np.float64, (6, size), elements=st.floats(-3, 3))))
def test_arbitrary_actions_leave_neither_the_workspace_nor_the_joints_limits(blocks):
    mode = "plane" if blocks.shape[1] == 2 else "space"
    places, turns, joints = _poses(_env(mode, (*MIDDLE[:2], HEIGHT)), np.repeat(blocks, 5, axis=0))
    assert ((places > LOW - COAST) & (places < HIGH + COAST)).all()
    assert ((joints >= JOINT_LIMITS[:, 0]) & (joints <= JOINT_LIMITS[:, 1])).all()
    assert np.abs(turns - DOWN).max() < 0.03
    if mode == "plane":
        assert np.abs(places[:, 2] - HEIGHT).max() < 1e-3


@pytest.mark.parametrize("corner", [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])
def test_every_corner_of_the_workspace_is_reached_and_held(corner):
    places, turns, _ = _poses(_env("space", MIDDLE), [np.array(corner)] * 25)
    expected = np.where(np.array(corner) > 0, HIGH, LOW)
    np.testing.assert_allclose(places[-3:], np.tile(expected, (3, 1)), atol=1e-3)
    assert np.abs(turns[-1] - DOWN).max() < 1e-3


def test_the_plane_brings_the_hand_back_to_its_height_and_space_leaves_it():
    for mode, height in (("plane", HEIGHT), ("space", 0.12)):
        env = _env(mode, (*MIDDLE[:2], 0.12))
        places = _poses(env, np.zeros((12, env.action_space.shape[0])))[0]
        assert places[-1][2] == pytest.approx(height, abs=1e-3)


@pytest.mark.parametrize("size", [2, 3])
def test_rows_do_not_depend_on_each_other(drawn, size):
    joints = drawn["state"][:20, :6]
    actions = np.random.default_rng(0).uniform(-1, 1, (20, size))
    speeds = joint_speeds(joints, actions)
    for row in range(20):
        np.testing.assert_array_equal(joint_speeds(joints[row : row + 1], actions[row : row + 1])[0], speeds[row])


def test_speeds_are_bounded_wherever_the_joints_are():
    rng = np.random.default_rng(0)
    joints = rng.uniform(*JOINT_LIMITS.T.clip(-3, 6), (200, 6))
    speeds = joint_speeds(joints, rng.uniform(-1, 1, (200, 2)))
    assert np.abs(speeds).max() == pytest.approx(1.5)


def test_actions_are_clipped():
    far, full = (_env("plane", (*MIDDLE[:2], HEIGHT)).step(np.full(2, size))[0]["state"] for size in (7.0, 1.0))
    np.testing.assert_array_equal(far, full)


def test_hands_are_put_where_they_are_asked_for():
    places = np.random.default_rng(0).uniform(LOW, HIGH, (50, 3))
    found, turns = hand_pose(joints_at(places))
    np.testing.assert_allclose(found, places, atol=1e-4)
    assert np.abs(turns - DOWN).max() < 1e-3
    np.testing.assert_array_equal(joints_at(places[7]), joints_at(places)[7:8])
    assert np.abs(hand_position(HOME)[:2] - MIDDLE[:2]).max() < 0.2


def test_a_place_out_of_reach_is_refused_with_the_ranges():
    with pytest.raises(ValueError, match=r"the hand cannot be at \[2.0, 0.0, 0.05\]; x, y, z range from"):
        joints_at((2.0, 0.0, 0.05))


def test_the_hand_goes_the_same_way_for_every_cube_it_does_not_touch(far):
    env = PushCubeVectorEnv(3, obs_type="state", autoreset_mode="disabled")
    cubes = [{}, {"cube.mass": 1.0, "cube.size": 0.04}, {"cube.friction": 0.2}]
    env.reset(options={"state": far[0], "variation": cubes})
    for _ in range(5):
        joints = env.step(np.tile((0.5, -0.7), (3, 1)))[-1]["state"][:, :6]
        np.testing.assert_array_equal(joints, np.tile(joints[0], (3, 1)))
