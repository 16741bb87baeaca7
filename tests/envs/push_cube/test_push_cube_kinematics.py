"""PushCube's states: the hand against MuJoCo's own, the success rule, and what a state must be."""

import subprocess
import sys

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.envs.push_cube import hand_position, is_success
from wmkit.envs.push_cube.kinematics import (
    CUBE,
    JOINT_LIMITS,
    STATE_NAMES,
    as_state,
    cube_yaw,
    cube_yaw_features,
    hand_jacobian,
    hand_pose,
)
from wmkit.envs.push_cube.model import make_model

SITE = "jaco_hand_gripsite"
MODEL = make_model()
joints = st.lists(st.floats(-7, 7), min_size=6, max_size=6).map(np.array)


def _state(yaw=0.0, cube=(0.45, 0.05, 0.025)):
    state = np.zeros(25)
    state[CUBE] = cube
    state[9:13] = np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)
    state[1:3] = 3.0
    return state


@settings(deadline=None, max_examples=40)
@given(joints)
def test_hand_and_jacobian_equal_mujocos(angles):
    data = mujoco.MjData(MODEL)
    data.qpos[:6] = angles
    mujoco.mj_kinematics(MODEL, data)
    mujoco.mj_comPos(MODEL, data)
    place, turn, jacobian = hand_jacobian(angles)
    np.testing.assert_allclose(place, data.site(SITE).xpos, atol=1e-12)
    np.testing.assert_allclose(turn, data.site(SITE).xmat.reshape(3, 3), atol=1e-12)
    moves, turns = np.zeros((2, 3, MODEL.nv))
    mujoco.mj_jacSite(MODEL, data, moves, turns, MODEL.site(SITE).id)
    np.testing.assert_allclose(jacobian, np.concatenate((moves, turns))[:, :6], atol=1e-12)


def test_the_model_has_these_states_and_limits():
    names = [MODEL.joint(number).name.removeprefix("jaco_") for number in range(MODEL.njnt)]
    assert names == [*STATE_NAMES[:6], "cube"]
    assert (MODEL.nq, MODEL.nv, len(STATE_NAMES)) == (13, 12, 25)
    limits = np.where(MODEL.jnt_limited[:6, None] == 1, MODEL.jnt_range[:6], (-np.inf, np.inf))
    np.testing.assert_array_equal(limits, JOINT_LIMITS)


def test_batches_of_any_shape_equal_their_rows():
    angles = np.random.default_rng(0).uniform(-3, 3, (4, 5, 6))
    together = (*hand_pose(angles), hand_jacobian(angles)[2])
    for index in np.ndindex(4, 5):
        alone = (*hand_pose(angles[index]), hand_jacobian(angles[index])[2])
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, all_[index])
    states = np.zeros((4, 5, 25))
    states[..., :6] = angles
    np.testing.assert_array_equal(hand_position(states), together[0])


@pytest.mark.parametrize(("strict", "reach"), [(False, 0.025), (True, 0.0125)])
@pytest.mark.parametrize("way", [(1, 0, 0), (0, -1, 0), (0, 0, 1), (0.6, 0.8, 0)])
def test_success_ends_at_its_distance(strict, reach, way):
    goal = _state(cube=(0, 0, 0))
    near, beyond = (_state(1.0, np.array(way) * reach * share) for share in (1 - 1e-12, 1 + 1e-9))
    assert is_success(near, goal, strict)
    assert not is_success(beyond, goal, strict)
    np.testing.assert_array_equal(is_success(np.stack((near, beyond)), goal, strict), [True, False])


def test_success_is_about_the_cubes_place_alone():
    goal, other = _state(), _state(2.0)
    other[:6], other[13:] = 1.0, 3.0
    assert is_success(other, goal, strict=True)


@given(st.floats(-3.1, 3.1))
def test_cubes_angle_and_its_features(yaw):
    state = _state(yaw)
    assert cube_yaw(state) == pytest.approx(yaw, abs=1e-9)
    np.testing.assert_allclose(cube_yaw_features(_state(yaw + np.pi / 2)), cube_yaw_features(state), atol=1e-9)
    np.testing.assert_allclose(cube_yaw_features(state), (np.sin(4 * yaw), np.cos(4 * yaw)), atol=1e-9)


def test_states_are_copied_and_quaternions_brought_to_length_one():
    given_state = _state(1.0)
    given_state[9:13] *= 3
    found = as_state(given_state)
    np.testing.assert_allclose(found, _state(1.0), atol=1e-15)
    assert np.linalg.norm(given_state[9:13]) == pytest.approx(3)
    exact = _state(0.3)
    np.testing.assert_array_equal(as_state(exact), exact)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (np.zeros(24), "expected 25 finite numbers"),
        (3.0, "expected 25 finite numbers"),
        (np.full(25, np.nan), r"state: expected 25 finite numbers, got shape \(25,\) with 25 not finite$"),
        (np.full((2, 25), np.inf), r"expected 25 finite numbers, got shape \(2, 25\) with 50 not finite$"),
        ("x", "state: expected an array of numbers, got 'x'"),
        (_state(0.3) + 6 * (np.arange(25) == 1), r"state: joint_2 is 9 rad; its limits are 0.820305 and 5.46288"),
        (
            _state(0.3) - 0.5 * (np.arange(25) == 8),
            "state: the cube's centre, z = -0.475 m, lies below the table's top",
        ),
        (np.zeros(25), r"quaternion .* is zero; give \(1, 0, 0, 0\)"),
    ],
)
def test_bad_states_are_refused(state, message):
    with pytest.raises(ValueError, match=message):
        as_state(state)


def test_recorded_states_mean_something_without_mujoco():
    code = (
        "import sys; sys.modules['mujoco'] = sys.modules['dm_control'] = None; import numpy as np; "
        "from wmkit.envs.push_cube.task import PUSH_CUBE as t; s = np.zeros((2, 25)); s[:, 9] = 1; "
        "rule = s, 'position'; "
        "print(len(t.probes), t.success(s, *rule, True).all(), t.distance(s, *rule).max(), t.valid(s)); "
        "[probe(s) for probe in t.probes.values()]"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True, text=True)
    assert done.stdout == "3 True 0.0 [False False]\n", done.stderr
