"""TwoRoom's environments: options, variations, masks and errors beyond what every environment must do."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from wmkit.envs.two_room import SUCCESS_DISTANCE, VARIATIONS, Scene, TwoRoomEnv, TwoRoomVectorEnv, room_of


def _frame(name, value):
    options = {"state": (0.3, 0.5), "goal": (0.7, 0.5), "variation": {name: value}}
    return TwoRoomEnv().reset(options=options)[0]["pixels"]


@pytest.mark.parametrize("name", [name for name in VARIATIONS if name != "agent.speed"])
def test_every_variation_changes_the_picture(name):
    variation = VARIATIONS[name]
    low, high = (np.full(variation.shape, value) for value in (variation.low, variation.high))
    assert not np.array_equal(_frame(name, low), _frame(name, high))


def test_speed_changes_the_step():
    env = TwoRoomEnv(obs_type="state")
    env.reset(options={"state": (0.3, 0.5), "goal": (0.7, 0.5), "variation": {"agent.speed": 0.01}})
    np.testing.assert_allclose(env.step(np.array([1.0, 0.0]))[0]["state"], [0.31, 0.5], atol=1e-12)


def test_a_variation_lasts_one_episode():
    env = TwoRoomEnv()
    plain = env.reset(options={"state": (0.3, 0.5), "goal": (0.7, 0.5)})[0]["pixels"]
    env.reset(options={"variation": {"door.position": 0.3}})
    np.testing.assert_array_equal(env.reset(options={"state": (0.3, 0.5), "goal": (0.7, 0.5)})[0]["pixels"], plain)


def test_the_info_restores_an_episode_with_a_random_door():
    env = TwoRoomVectorEnv(20, door="random", obs_type="pixels_state")
    observation, info = env.reset(seed=0)
    assert len(np.unique(info["door.position"])) == 20
    assert info["door.position"].min() >= 0.2
    assert info["door.position"].max() <= 0.8
    again = TwoRoomVectorEnv(20, obs_type="pixels_state")
    options = {
        "state": info["state"],
        "goal": info["goal_state"],
        "variation": {"door.position": info["door.position"]},
    }
    restored, restored_info = again.reset(options=options)
    np.testing.assert_array_equal(restored["pixels"], observation["pixels"])
    np.testing.assert_array_equal(restored_info["goal_pixels"], info["goal_pixels"])


def test_a_random_door_is_drawn_anew_each_episode():
    env = TwoRoomVectorEnv(3, door="random", max_episode_steps=1)
    _, first = env.reset(seed=0)
    env.step(np.zeros((3, 2)))
    *_, second = env.step(np.zeros((3, 2)))
    assert (first["door.position"] != second["door.position"]).all()
    assert "goal_pixels" in second


@pytest.mark.parametrize("by_option", [False, True])
def test_cross_room(by_option):
    env = TwoRoomVectorEnv(200, obs_type="state", cross_room=not by_option)
    _, info = env.reset(seed=0, options={"cross_room": True} if by_option else None)
    assert (room_of(info["state"]) != room_of(info["goal_state"])).all()
    clear = 0.5 * Scene().wall_thickness + Scene().agent_radius
    assert (np.abs(info["state"][:, 0] - 0.5) >= clear).all()


def test_the_goal_picture_is_the_picture_at_the_goal():
    _, info = (env := TwoRoomEnv()).reset(seed=1)
    at_goal = env.reset(options={"state": info["goal_state"], "goal": info["state"]})[0]["pixels"]
    np.testing.assert_array_equal(info["goal_pixels"], at_goal)


def test_reset_mask_leaves_the_others_alone():
    env = TwoRoomVectorEnv(4, obs_type="pixels_state", autoreset_mode=AutoresetMode.DISABLED)
    before, info = env.reset(seed=0)
    mask = np.array([True, False, False, True])
    states = np.tile([0.2, 0.3], (4, 1))
    options = {"reset_mask": mask, "state": states, "variation": {"wall.color": (0, 90, 0)}}
    after, after_info = env.reset(options=options)
    np.testing.assert_array_equal(after["state"][mask], states[mask])
    for key in before:
        np.testing.assert_array_equal(after[key][~mask], before[key][~mask])
    np.testing.assert_array_equal(after_info["goal_state"][~mask], info["goal_state"][~mask])
    assert (after["pixels"][mask][:, 0, 0] == [0, 90, 0]).all()


def test_success_ends_the_episode_and_reward_is_minus_the_distance():
    env = TwoRoomEnv(obs_type="state")
    env.reset(options={"state": (0.3, 0.3), "goal": (0.3 + SUCCESS_DISTANCE + 0.02, 0.3)})
    _, reward, terminated, _, info = env.step(np.array([0.0, 0.0]))
    assert (terminated, info["success"]) == (False, False)
    assert reward == pytest.approx(-SUCCESS_DISTANCE - 0.02)
    _, reward, terminated, _, info = env.step(np.array([1.0, 0.0]))
    assert (terminated, info["success"]) == (True, True)
    assert reward == pytest.approx(-SUCCESS_DISTANCE - 0.02 + Scene().agent_speed)


def test_a_refused_reset_changes_nothing():
    env = TwoRoomVectorEnv(2, obs_type="state", autoreset_mode=AutoresetMode.DISABLED)
    observation, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match="wall"):
        env.reset(options={"state": (0.3, 0.3), "goal": (0.5, 0.1)})
    np.testing.assert_array_equal(env.step(np.zeros((2, 2)))[0]["state"], observation["state"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": (0.5, 0.2)}, "overlaps a wall"),
        ({"goal": (np.nan, 0.2)}, "not finite"),
        ({"state": (0.2, 0.2, 0.0)}, "expected"),
        ({"variation": {"door.position": 0.9}}, r"allowed are \[0.2, 0.8\]"),
        ({"variation": {"door.position": np.nan}}, "allowed"),
        ({"variation": {"agent.color": 7}}, r"shape \(\)"),
        ({"variation": {"dor.position": 0.5}}, "door.position, door.size"),
        ({"reset_mask": np.ones(2)}, "reset_mask"),
        ({"reset_mask": np.array([True, False])}, "first reset"),
        ({"colour": 1}, "known: state, goal"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TwoRoomVectorEnv(2).reset(options=options)


@pytest.mark.parametrize(
    "arguments",
    [
        {"obs_type": "image"},
        {"door": "open"},
        {"render_mode": "ansi"},
        {"image_size": 8},
        {"num_envs": 0},
        {"autoreset_mode": AutoresetMode.SAME_STEP},
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TwoRoomVectorEnv(**arguments)


def test_stepping_before_reset_is_refused():
    with pytest.raises(ValueError, match="call reset"):
        TwoRoomVectorEnv(1).step(np.zeros((1, 2)))


def test_disabled_autoreset_goes_on_after_success():
    env = TwoRoomVectorEnv(1, obs_type="state", autoreset_mode=AutoresetMode.DISABLED)
    env.reset(options={"state": (0.3, 0.3), "goal": (0.3, 0.3)})
    for _ in range(3):
        observation, _, terminated, _, _ = env.step(np.array([[1.0, 0.0]]))
        assert terminated.all()
    assert observation["state"][0, 0] == pytest.approx(0.3 + 3 * Scene().agent_speed)


def test_rendering_for_people():
    env = gymnasium.make_vec("wmkit/TwoRoom-v0", 2, vectorization_mode="vector_entry_point", render_mode="rgb_array")
    env.reset(seed=0)
    frames = env.render()
    assert frames is not None
    assert [frame.shape for frame in frames] == [(224, 224, 3)] * 2
