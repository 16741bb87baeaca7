"""Coverage, success rules and validity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.envs.pusht import as_goal, as_state, block_shape, coverage, pose_success, valid_state
from wmkit.envs.pusht.geometry import SHAPES

poses = st.tuples(st.floats(200, 300), st.floats(200, 300), st.floats(-4, 4))


def sampled_coverage(pose, goal, name, count=60_000):
    """The measured share of random points of the goal that lie in the block."""
    shape, rng = block_shape(name), np.random.default_rng(0)
    low, high = shape.corners.min(axis=(0, 1)), shape.corners.max(axis=(0, 1))
    points = rng.uniform(low, high, (count, 2))

    def inside(p):
        return (np.abs(p[:, None] - shape.centers) < shape.halves).all(axis=-1).any(axis=-1)

    def turned(p, angle):
        cos, sin = np.cos(angle), np.sin(angle)
        return np.stack((cos * p[:, 0] - sin * p[:, 1], sin * p[:, 0] + cos * p[:, 1]), axis=1)

    points = points[inside(points)]
    world = turned(points, goal[2]) + np.array(goal[:2])
    return inside(turned(world - np.array(pose[:2]), -pose[2])).mean()


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=8, deadline=None)
@given(pose=poses, goal=poses)
def test_coverage_is_the_share_of_the_goal_covered(name, pose, goal):
    assert coverage(pose, goal, block_shape(name)) == pytest.approx(sampled_coverage(pose, goal, name), abs=0.015)


@settings(max_examples=50, deadline=None)
@given(pose=poses, goal=poses)
def test_coverage_is_symmetric_and_moves_with_the_frame(pose, goal):
    value = coverage(pose, goal)
    assert coverage(goal, pose) == pytest.approx(value, abs=1e-9)
    turn, shift = 0.7, np.array((13.0, -40.0))
    matrix = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    moved = [(*(matrix @ p[:2] + shift), p[2] + turn) for p in (np.array(pose), np.array(goal))]
    assert coverage(*moved) == pytest.approx(value, abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(pose=poses)
def test_coverage_of_itself_is_one(pose):
    assert coverage(pose, pose) == pytest.approx(1.0, abs=1e-7)
    assert coverage(np.add(pose, (0, 0, 2 * np.pi)), pose) == pytest.approx(1.0, abs=1e-7)


def test_coverage_of_known_overlaps():
    at = np.array((256.0, 256.0, 0.0))

    def shifted(*by):
        return at + np.array((*by, 0.0))

    assert coverage(shifted(120, 0), at) == pytest.approx(0.0, abs=1e-7)
    assert coverage(shifted(60, 0), at) == pytest.approx(60 * 30 / 6300, abs=1e-7)
    assert coverage(shifted(0, 30), at) == pytest.approx((30 * 30 + 60 * 30) / 6300, abs=1e-7)
    assert coverage(shifted(400, 0), at) == 0.0


def test_pose_success_needs_block_agent_and_angle():
    goal = as_state((100, 100, 200, 200, 3.1))
    offsets = {
        "same": ((0,) * 5, True, True),
        "agent far": ((15, 15, 0, 0, 0), False, False),
        "block far": ((0, 0, 15, 15, 0), False, False),
        "all a little off": ((12, 12, 12, 12, 0.3), True, False),
        "turned": ((0, 0, 0, 0, 0.36), False, False),
        "wrapped": ((0, 0, 0, 0, 2 * np.pi - 0.1), True, True),
    }
    for name, (offset, loose, strict) in offsets.items():
        state = goal.copy()
        state[:5] += offset
        assert pose_success(state, goal) == loose, name
        assert pose_success(state, goal, strict=True) == strict, name
    stacked = np.stack([goal, goal + 30])
    assert pose_success(stacked, goal).tolist() == [True, False]


def test_block_pose_goal_leaves_the_agent_free():
    state = as_state((500, 500, 200, 200, 0.0))
    assert pose_success(state, (205, 205, 0.1))
    assert not pose_success(state, (100, 100, 205, 205, 0.1))
    assert np.isnan(as_goal((205, 205, 0.1))[:2]).all()


def test_valid_state_keeps_the_block_inside_the_walls():
    states = as_state(
        [(256, 256, 256, 256, 0.3), (256, 256, 30, 256, 0), (256, 256, 256, 400, 0), (-1, 9, 256, 256, 0)]
    )
    assert valid_state(states).tolist() == [True, False, False, False]
    states[0, 7] = np.nan
    assert not valid_state(states[0])


@pytest.mark.parametrize("bad", [np.zeros(4), np.full(5, np.nan), 3.0])
def test_bad_states_are_refused(bad):
    with pytest.raises(ValueError, match="PushT state"):
        as_state(bad)
