"""How PushCube's episodes start, what their goals are, and that the expert reaches them."""

import numpy as np
import pytest

from wmkit.envs.push_cube import (
    PushCubeEnv,
    PushCubeExpert,
    PushCubeVectorEnv,
    hand_position,
    is_success,
    make_variation,
)
from wmkit.envs.push_cube.control import HEIGHT, HIGH, LOW
from wmkit.envs.push_cube.kinematics import CUBE, JOINT_LIMITS, cube_yaw, hand_pose
from wmkit.envs.push_cube.starts import ZONE_HIGH, ZONE_LOW, clearance, is_valid, move_cube
from wmkit.envs.push_cube.task import PUSH_CUBE

_FLAT = [(8, 0.039, True), (8, 0.041, False), (10, 0.09, True), (10, 0.11, False)]
"""Number of a state, a value of it, and whether that is a cube flat on the table."""


def _solves(starts, share, steps=100):
    """Whether the expert solves such a share of scenes, stepped together until it has."""
    count = len(starts["state"])
    env = PushCubeVectorEnv(count, "state", autoreset_mode="disabled")
    variations = [{name: value[i] for name, value in starts["variation"].items()} for i in range(count)]
    info = env.reset(options={"state": starts["state"], "goal": starts["goal_state"], "variation": variations})[1]
    experts = [PushCubeExpert(seed) for seed in range(count)]
    for i, expert in enumerate(experts):
        expert.reset(info["state"][i], info["goal_state"][i], variations[i])
    done = np.zeros(count, bool)
    while done.mean() < share and (steps := steps - 1):
        actions = np.zeros((count, 2))
        for i in np.flatnonzero(~done):
            actions[i] = experts[i].act(info["state"][i])
        info = env.step(actions)[-1]
        done |= info["success"]
    env.close()
    return done.mean() >= share


def _flat(states, size):
    np.testing.assert_allclose(states[:, 8], size / 2, atol=1e-12)
    assert not states[:, 10:12].any()
    np.testing.assert_allclose(np.linalg.norm(states[:, 9:13], axis=1), 1.0, atol=1e-12)


def test_starts_lie_at_rest_within_their_zones(drawn):
    states = drawn["state"]
    hands, turns = hand_pose(states[:, :6])
    assert not states[:, 13:].any()
    assert ((states[:, 6:8] >= ZONE_LOW) & (states[:, 6:8] <= ZONE_HIGH)).all()
    assert ((hands[:, :2] >= LOW[:2] - 1e-4) & (hands[:, :2] <= HIGH[:2] + 1e-4)).all()
    np.testing.assert_allclose(hands[:, 2], HEIGHT, atol=1e-4)
    assert np.abs(turns - np.diag((1, -1, -1))).max() < 1e-3
    assert ((states[:, :6] >= JOINT_LIMITS[:, 0]) & (states[:, :6] <= JOINT_LIMITS[:, 1])).all()
    _flat(states, 0.05)
    assert is_valid(states).all()
    assert np.ptp(states[:, 6:8], axis=0) == pytest.approx(ZONE_HIGH - ZONE_LOW, rel=0.15)
    assert np.ptp(cube_yaw(states)) > 5.5


def test_goals_are_reachable_clear_and_never_solved_at_the_start(drawn):
    states, goals = drawn["state"], drawn["goal_state"]
    away = np.linalg.norm(goals[:, 6:8] - states[:, 6:8], axis=1)
    assert away.min() >= 0.08
    assert not is_success(states, goals).any()
    assert not drawn["success"].any()
    assert ((goals[:, 6:8] >= ZONE_LOW) & (goals[:, 6:8] <= ZONE_HIGH)).all()
    np.testing.assert_allclose(cube_yaw(goals), cube_yaw(states), atol=1e-12)
    _flat(goals, 0.05)
    hands, turns = hand_pose(goals[:, :6])
    assert ((hands[:, :2] >= LOW[:2] - 1e-4) & (hands[:, :2] <= HIGH[:2] + 1e-4)).all()
    assert np.abs(turns - np.diag((1, -1, -1))).max() < 1e-3
    assert min(clearance(goal, make_variation()) for goal in goals) > 0
    assert is_valid(goals).all()


@pytest.mark.parametrize("size", [0.04, 0.05, 0.06])
def test_nothing_touches_at_the_start_nor_at_the_goal(drawn, size):
    """The physics says so: scenes put there, with a cube of any size, stay as they are."""
    env, count = PushCubeVectorEnv(12, "state", autoreset_mode="disabled"), 12
    varied = {"cube.size": size}
    if size == 0.05:
        scenes = {key: drawn[key][:count] for key in ("state", "goal_state")}
    else:
        scenes = env.reset(seed=3, options={"variation": varied})[1]
    for key in ("state", "goal_state"):
        start = scenes[key]
        env.reset(options={"state": start, "goal": scenes["goal_state"], "variation": varied})
        for _ in range(3):
            states = env.step(np.zeros((count, 2)))[-1]["state"]
        assert np.abs(states[:, 6:8] - start[:, 6:8]).max() < 1e-4
        assert np.abs(hand_position(states) - hand_position(start)).max() < 5e-4
        assert min(clearance(one, make_variation(varied)) for one in start) > 0


@pytest.mark.parametrize("goal", [(0.5, 0.05), (0.5, 0.05, 0.03)])
def test_a_goal_that_is_a_place_is_where_the_cube_is_to_lie(goal):
    info = PushCubeEnv("state").reset(seed=0, options={"goal": goal})[1]
    expected = (*goal, 0.025)[:3]
    np.testing.assert_array_equal(info["goal_state"][CUBE], expected)


@pytest.mark.parametrize("as_place", [True, False])
def test_a_start_drawn_for_a_given_goal_is_never_solved(drawn, as_place):
    goal = drawn["state"][7]
    info = PushCubeVectorEnv(60, "state").reset(seed=0, options={"goal": goal[6:8] if as_place else goal})[1]
    assert np.linalg.norm(info["state"][:, 6:8] - goal[6:8], axis=1).min() >= 0.08
    if not as_place:
        np.testing.assert_array_equal(info["goal_state"], np.tile(goal, (60, 1)))


def test_nothing_is_drawn_where_both_are_given(drawn):
    state = drawn["state"][7]
    info = PushCubeEnv("state").reset(seed=0, options={"state": state, "goal": state})[1]
    np.testing.assert_array_equal(info["state"], state)
    np.testing.assert_array_equal(info["goal_state"], state)
    assert info["success"]


def test_the_cube_is_moved_elsewhere_flat_and_clear_of_the_hand(drawn):
    rng, variation = np.random.default_rng(0), {"cube.size": 0.06}
    for state in drawn["state"][:30]:
        moved = move_cube(state, 1.0, rng, variation)
        assert np.linalg.norm(moved[6:8] - state[6:8]) >= 0.08
        assert clearance(moved, make_variation(variation)) > 0
        assert ((moved[6:8] >= ZONE_LOW) & (moved[6:8] <= ZONE_HIGH)).all()
        np.testing.assert_array_equal(moved[:6], state[:6])
        assert moved[8] == 0.03
        assert not moved[19:].any()
    near = [np.linalg.norm(move_cube(s, 0.1, rng, {})[6:8] - s[6:8]) for s in drawn["state"][:30]]
    assert np.mean(near) < 0.05


@pytest.mark.parametrize(
    ("index", "value", "expected"),
    [
        (None, 0, True),
        (6, 0.9, False),
        (7, -0.3, False),
        (10, 0.5, False),
        (11, -0.5, False),
        (3, np.nan, False),
        *_FLAT,
    ],
)
def test_which_states_are_fit_for_data(drawn, index, value, expected):
    state = np.array(drawn["state"][0])
    if index is not None:
        state[index] = value
    assert is_valid(state) == expected


def test_the_expert_solves_nearly_all_scenes(drawn):
    assert _solves(drawn, 0.95)


def test_the_expert_goes_on_with_targets_of_its_own_within_the_bounds():
    env, expert, other = PushCubeEnv("state"), PushCubeExpert(1), PushCubeExpert(2)
    info = env.reset(seed=1)[1]
    for one in (expert, other):
        one.reset(info["state"], info["goal_state"][CUBE], info["variation"])
    state, differ, solved = info["state"], False, []
    for _ in range(100):
        action = expert.act(state)
        differ |= not np.array_equal(action, other.act(state))
        assert action.shape == (2,)
        assert action.dtype == np.float32
        assert np.abs(action).max() <= 1.0
        *_, info = env.step(action)
        state = info["state"]
        solved.append(info["success"])
    assert any(solved)
    assert not solved[-1]
    assert differ


def test_the_tasks_distance_is_nothing_near_the_goal_and_grows_away_from_it(drawn):
    goal = drawn["goal_state"][0]
    states = np.tile(goal, (4, 1))
    states[:, 6] += (0.0, 0.008, 0.025, 0.1)
    found = PUSH_CUBE.distance(states, goal, "position")
    np.testing.assert_allclose(found, (0.0, 0.0, 0.65, 3.65), atol=1e-9)
