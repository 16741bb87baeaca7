"""What every environment of the registry lets one change in the middle of an episode: state and variation."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from wmkit import registry
from wmkit.errors import UserError

TASKS = {name: registry.load("environments", name) for name in registry.names("environments") if name != "ogbench-cube"}
"""OGBench's cube has no variations; its own tests put it into other states."""
every_task = pytest.mark.parametrize("name", sorted(TASKS))
LOOKS = {
    "push-cube": {"cube.color": (20, 20, 200)},
    "pusht": {"block.color": (200, 30, 30)},
    "two-room": {"agent.color": (20, 20, 200)},
}
"""A variation that changes pictures alone."""
DYNAMICS = {
    "push-cube": {"cube.friction": 0.3},
    "pusht": {"floor.slip": 0.8},
    "two-room": {"agent.speed": 0.01},
    "walker": {"weak_ankle": 0.5},
}
"""A variation that changes physics alone."""
SIDE_PUSH = (np.array([150.0, 165.0, 250.0, 150.0, 0.0]), (0.7, 0.0))
"""PushT's agent left of the block's bar, and the action that pushes it."""


def _can_draw(name: str) -> bool:
    try:
        TASKS[name].make(obs_type="pixels").reset(seed=0)
    except UserError as error:
        return "OpenGL" not in str(error)
    return True


def _env(name: str, count: int = 3, obs_type: str = "state") -> Any:
    env = TASKS[name].make_vector(num_envs=count, obs_type=obs_type)
    env.reset(seed=0)
    return env


def _states(name: str, count: int, seed: int = 10) -> np.ndarray:
    """States (count, S) that the environment draws itself."""
    return TASKS[name].make_vector(num_envs=count, obs_type="state").reset(seed=seed)[0]["state"]


def _same(left: Any, right: Any) -> None:
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def _actions(env: Any, steps: int) -> np.ndarray:
    low, high = env.single_action_space.low, env.single_action_space.high
    return np.random.default_rng(1).uniform(low, high, (steps, env.num_envs, len(low)))


@every_task
def test_a_state_put_in_mid_episode_goes_on_as_after_a_reset_to_it(name):
    states, mask = _states(name, 3), np.array([True, False, True])
    moved, untouched, fresh = _env(name), _env(name), _env(name)
    goals = moved.info().get("goal_state")
    for action in _actions(moved, 4):
        moved.step(action)
        untouched.step(action)
    moved.set_state(np.where(mask[:, None], states, np.nan), mask)
    np.testing.assert_array_equal(moved.observe()["state"][mask], states[mask])
    fresh.reset(options={"state": states})
    for action in _actions(moved, 6):
        seen, expected, other = (env.step(action)[0]["state"] for env in (moved, fresh, untouched))
        np.testing.assert_array_equal(seen[mask], expected[mask])
        np.testing.assert_array_equal(seen[~mask], other[~mask])
    np.testing.assert_array_equal(moved.info().get("goal_state"), goals)


@every_task
def test_observe_and_info_repeat_the_last_step(name):
    env = _env(name)
    for action in _actions(env, 3):
        observation, *_, info = env.step(action)
    _same(env.observe(), observation)
    _same(
        {k: v for k, v in env.info().items() if k != "variation"}, {k: v for k, v in info.items() if k != "variation"}
    )


@every_task
def test_one_environment_is_changed_as_a_batch_is(name):
    task, state = TASKS[name], _states(name, 1)
    single, batch = task.make(obs_type="state"), _env(name, 1)
    single.reset(options={"state": state[0]})
    batch.reset(options={"state": state})
    new = _states(name, 1, seed=11)
    for _ in range(2):
        single.set_state(new[0])
        batch.set_state(new)
        single.set_variation(DYNAMICS[name])
        batch.set_variation(DYNAMICS[name])
        assert single.variation() == batch.variations()[0]
        np.testing.assert_array_equal(single.info()["state"], batch.info()["state"][0])
        np.testing.assert_array_equal(single.observe()["state"], batch.observe()["state"][0])
        for action in _actions(batch, 4):
            np.testing.assert_array_equal(single.step(action[0])[0]["state"], batch.step(action)[0]["state"][0])


@every_task
def test_variations_are_complete_and_a_reset_can_take_them(name):
    env = _env(name)
    env.set_variation(DYNAMICS[name], np.array([False, True, False]))
    variations = env.variations()
    for key, value in DYNAMICS[name].items():
        assert variations[1][key] == value != variations[0][key]
    other = TASKS[name].make(obs_type="state")
    other.reset(options={"variation": variations[1]})
    assert other.variation() == variations[1]


@every_task
def test_a_list_gives_each_environment_its_own(name):
    env, plain = _env(name), _env(name).variations()[0]
    env.set_variation([{}, DYNAMICS[name], DYNAMICS[name]], np.array([True, True, False]))
    key, value = next(iter(DYNAMICS[name].items()))
    assert [one[key] for one in env.variations()] == [plain[key], value, plain[key]]


@pytest.mark.parametrize("name", sorted(LOOKS))
def test_looks_change_pictures_alone_until_they_are_restored(name):
    if not _can_draw(name):
        pytest.skip("no OpenGL here")
    plain, changed = (_env(name, obs_type="pixels_state") for _ in range(2))
    goal, mask = changed.reset(seed=0)[1]["goal_pixels"], np.array([False, True, False])
    plain.reset(seed=0)
    for step, action in enumerate(_actions(plain, 6)):
        if step == 1:
            changed.set_variation(LOOKS[name], mask)
        if step == 4:
            changed.set_variation(None, mask)
        (seen, expected), on = (env.step(action)[0] for env in (changed, plain)), mask & (1 <= step < 4)
        np.testing.assert_array_equal(seen["state"], expected["state"])
        np.testing.assert_array_equal((seen["pixels"] != expected["pixels"]).any(axis=(1, 2, 3)), on)
    changed.set_variation(LOOKS[name])
    _, info = changed.reset(options={"reset_mask": np.array([True, False, False])})
    np.testing.assert_array_equal(info["goal_pixels"][1:], goal[1:])


@pytest.mark.parametrize("name", sorted(LOOKS))
def test_names_that_are_not_given_stay_and_none_restores_the_resets(name):
    env = _env(name)
    env.reset(options={"variation": LOOKS[name]})
    first = env.variations()
    env.set_variation(DYNAMICS[name])
    assert env.variations()[0] == first[0] | DYNAMICS[name]
    env.set_variation(None)
    assert env.variations() == first


@pytest.mark.parametrize(
    ("name", "variation", "message"),
    [
        ("pusht", {"block.shape": "L"}, "block.shape cannot change in the middle"),
        ("pusht", {"block.scale": 20.0, "floor.slip": 0.1}, "block.scale cannot change"),
        ("pusht", {"floor.slip": 1.0}, "0 to 0.9"),
        ("two-room", {"wall.position": 0.3}, "a wall would stand on the agent"),
        ("two-room", {"door.position": 0.3}, "a wall would stand on the agent"),
        ("two-room", {"wall.colour": (0, 0, 0)}, "wall.color"),
        ("walker", {"weak_knee": 1.0}, "weak_ankle"),
        ("push-cube", {"cube.size": 0.06, "cube.mass": 0.5}, "cube.size cannot change in the middle"),
    ],
)
def test_what_cannot_change_is_refused_and_changes_nothing(name, variation, message):
    env = _env(name)
    places = {"two-room": {"state": (0.5, 0.5), "goal": (0.3, 0.2)}}.get(name, {})
    env.reset(options=places)
    before = env.variations()
    with pytest.raises(ValueError, match=message):
        env.set_variation([{}, {}, variation])
    assert env.variations() == before


@every_task
@pytest.mark.parametrize("change", ["set_state", "set_variation"])
def test_bad_shapes_are_refused(name, change):
    env = _env(name)
    good = _states(name, 3) if change == "set_state" else {}
    bad = good[:2] if change == "set_state" else [{}, {}]
    with pytest.raises(ValueError, match="expected"):
        getattr(env, change)(bad)
    with pytest.raises(ValueError, match="mask"):
        getattr(env, change)(good, np.ones(2, bool))


@every_task
def test_a_state_before_the_first_reset_is_refused(name):
    env = TASKS[name].make_vector(num_envs=1, obs_type="state")
    with pytest.raises(ValueError, match="call reset"):
        env.set_state(_states(name, 1))


def test_an_agent_is_not_put_into_a_wall():
    env = _env("two-room")
    with pytest.raises(ValueError, match="overlaps a wall"):
        env.set_state(np.array([[0.2, 0.2], [0.5, 0.1], [0.2, 0.2]]))


def test_setting_success_up_is_seen_at_once():
    env = _env("pusht", 1)
    env.reset(options={"state": [100, 100, 200, 200, 0], "goal": [300, 300, 1.0]})
    assert not env.info()["success"][0]
    env.set_state(np.array([[100, 100, 300, 300, 1.0]]))
    assert env.info()["success"][0]
    assert env.info()["coverage"][0] == pytest.approx(1.0)


def _glide(slip: float | None) -> np.ndarray:
    """Block positions (10,) to the right, after a push has stopped."""
    state, action = SIDE_PUSH
    env = gymnasium.make("wmkit/PushT-v0", obs_type="state").unwrapped
    env.reset(options={"state": state, "variation": {} if slip is None else {"floor.slip": slip}})
    for _ in range(8):
        env.step(action)
    return np.array([env.step((-1.0, 0.0))[0]["state"][2] for _ in range(10)])


def test_a_slippery_floor_lets_the_block_slide_on_and_none_is_bit_equal():
    np.testing.assert_array_equal(_glide(0.0), _glide(None))
    moved = {slip: np.diff(_glide(slip))[4:] for slip in (0.0, 0.5)}
    assert not moved[0.0].any()
    np.testing.assert_allclose(moved[0.5][1:] / moved[0.5][:-1], 0.5, rtol=0.01)
