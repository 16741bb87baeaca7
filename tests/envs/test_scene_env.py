"""The forms around a batch of scenes, with a batch that only counts."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from wmkit.envs.scene_env import SceneEnv, SceneVectorEnv


class _Counters:
    """B numbers that actions are added to; a success is 3 and more. Options: "state" (1,), "variation", a name."""

    render_size = 4
    observation_space = spaces.Dict({"state": spaces.Box(-100, 100, (1,))})
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, count):
        self.states, self.draws, self.names = np.zeros((count, 1)), np.zeros(count), ["plain"] * count
        self.closed = 0

    @property
    def successes(self):
        return self.states[:, 0] >= 3

    def begin(self, options, rngs):
        for row, one in options.items():
            self.draws[row] = rngs[row].random()
            self.states[row] = one.get("state", 0.0)
            self.names[row] = one.get("variation") or "plain"

    def step(self, actions, active=None):
        rows = slice(None) if active is None else active
        self.states[rows] += np.asarray(actions, float)[rows]

    def rewards(self):
        return self.states[:, 0].copy()

    def observation(self):
        return {"state": self.states.astype(np.float32)}

    def info(self, with_goal_pixels):
        found = {"state": self.states.copy(), "success": self.successes, "draw": self.draws.copy()}
        found["variation"] = {"name": np.array(self.names), "size": np.ones((len(self.names), 3))}
        return found | ({"goal_pixels": np.zeros((len(self.names), 2, 2, 3), np.uint8)} if with_goal_pixels else {})

    def set_states(self, rows, states):
        if states.shape[1:] != (1,):
            raise ValueError("state: expected 1 number")
        self.states[rows] = states

    def set_variations(self, changes):
        for row, name in changes.items():
            self.names[row] = name

    def variations(self):
        return [{"name": name} for name in self.names]

    def render(self, index, size):
        return np.full((size, size, 3), index, np.uint8)

    def close(self):
        self.closed += 1


class _Single(SceneEnv):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012


def _vector(count=3, mode=None, limit=None, autoreset="next_step"):
    return SceneVectorEnv(_Counters(count), count, mode, 10, limit, autoreset)


def test_a_seed_counts_up_and_lists_give_each_its_own():
    env = _vector()
    whole = env.reset(seed=5)[1]["draw"]
    assert len(set(whole)) == 3
    for seed in (np.int64(5), [5, 6, 7], (5, 6, 7), np.array([5, 6, 7])):
        np.testing.assert_array_equal(env.reset(seed=seed)[1]["draw"], whole)
    some = env.reset(seed=[5, None, 7])[1]["draw"]
    assert (some == whole).tolist() == [True, False, True]
    again = env.reset()[1]["draw"]
    assert not set(again) & set(whole)
    with pytest.raises(ValueError, match="seed: expected one number or 3, got 2"):
        env.reset(seed=[1, 2])


def test_a_mask_restarts_and_reseeds_its_rows_alone():
    env = _vector(autoreset="disabled")
    env.reset(seed=5)
    following = [_vector() for _ in range(2)]
    for one in following:
        one.reset(seed=5)
    env.step(np.ones((3, 1)))
    info = env.reset(seed=5, options={"reset_mask": [True, False, False], "state": (2.0,)})[1]
    np.testing.assert_array_equal(info["state"][:, 0], (2, 1, 1))
    np.testing.assert_array_equal(env.reset()[1]["draw"], following[0].reset()[1]["draw"])
    with pytest.raises(ValueError, match=r"reset_mask: expected shape \(3,\), got \(2,\)"):
        env.reset(options={"reset_mask": [True, False]})


def test_an_option_is_for_all_or_has_a_row_for_each():
    env = _vector()
    np.testing.assert_array_equal(env.reset(options={"state": (2.0,)})[1]["state"][:, 0], (2, 2, 2))
    rows = [[0.0], [1.0], [2.0]]
    np.testing.assert_array_equal(env.reset(options={"state": rows})[1]["state"], rows)
    with pytest.raises(ValueError, match=r"state: expected one row or 3 \(the number of environments\), got 2"):
        env.reset(options={"state": rows[:2]})


def test_a_name_is_no_list_of_letters():
    env = _vector(3)
    assert env.reset(options={"variation": "red"})[1]["variation"]["name"].tolist() == ["red"] * 3
    env.set_variation("wet", [True, False, True])
    assert [one["name"] for one in env.variations()] == ["wet", "red", "wet"]
    env.set_variation(["one", "two", "six"], [True, True, False])
    assert [one["name"] for one in env.variations()] == ["one", "two", "wet"]


@pytest.mark.parametrize(("change", "value"), [("set_state", np.zeros((2, 1))), ("set_variation", ["red", "wet"])])
def test_what_is_set_has_a_row_for_each(change, value):
    env = _vector()
    env.reset()
    with pytest.raises(ValueError, match="expected"):
        getattr(env, change)(value)
    with pytest.raises(ValueError, match=r"mask: expected shape \(3,\)"):
        env.set_state(np.zeros((3, 1)), [True])


def test_an_ended_environment_is_restarted_by_the_step_after_and_nothing_else_moves_it():
    env = _vector(3, limit=4)
    env.reset(options={"state": [[2.0], [0.0], [0.0]]})
    _, rewards, terminated, truncated, info = env.step([[1.0], [0.5], [0.0]])
    assert terminated.tolist() == [True, False, False]
    assert "goal_pixels" not in info
    observation, rewards, terminated, truncated, info = env.step([[1.0], [0.5], [0.0]])
    assert rewards.tolist() == [0.0, 1.0, 0.0]
    assert observation["state"][:, 0].tolist() == [0.0, 1.0, 0.0]
    assert not (terminated | truncated).any()
    assert "goal_pixels" in info
    ends = [env.step(np.zeros((3, 1)))[3].tolist() for _ in range(4)]
    assert ends == [[False] * 3, [False, True, True], [False] * 3, [True, False, False]]


def test_without_autoreset_an_ended_environment_goes_on():
    env = _vector(1, limit=2, autoreset=AutoresetMode.DISABLED)
    env.reset(options={"state": (2.5,)})
    for total in (3.5, 4.5, 5.5):
        observation, _, terminated, truncated, _ = env.step([[1.0]])
        assert observation["state"][0, 0] == total
        assert terminated[0]
        assert truncated[0] == (total > 4)


def test_one_scene_has_no_axis_and_pythons_own_numbers():
    env = _Single(_Counters(1), "rgb_array")
    observation, info = env.reset(seed=3, options={"state": (2.0,), "variation": "red"})
    assert info["variation"]["name"] == "red"
    assert info["variation"]["size"].shape == (3,)
    assert info["goal_pixels"].shape == (2, 2, 3)
    assert observation["state"].tolist() == [2.0]
    observation, reward, terminated, truncated, info = env.step((1.0,))
    assert (reward, terminated, truncated) == (3.0, True, False)
    assert [type(value) for value in (reward, terminated, info["success"], info["draw"])] == [float, bool, bool, float]
    env.set_state((0.5,))
    assert (env.observe()["state"].item(), env.info()["success"]) == (0.5, False)
    env.set_variation("wet")
    assert env.variation() == {"name": "wet"}
    for bad in (0.5, [[0.5]], (0.5, 0.5)):
        with pytest.raises(ValueError, match="state: expected"):
            env.set_state(bad)


def test_people_see_what_is_asked_for():
    assert _vector().render() is None
    envs, env = _vector(mode="rgb_array"), _Single(_Counters(1), "rgb_array")
    envs.reset()
    env.reset()
    assert [frame[0, 0, 0] for frame in envs.render()] == [0, 1, 2]
    assert env.render().shape == (4, 4, 3)
    assert _Single(_Counters(1), None).render() is None


@pytest.mark.parametrize("look", ["observe", "info", "render"])
def test_there_is_nothing_to_see_before_the_reset(look):
    envs = _vector(mode="rgb_array")
    envs.reset(options={"reset_mask": [True, False, True]})
    for env in (_Single(_Counters(1), "rgb_array"), envs):
        with pytest.raises(ValueError, match=r"call reset\(\) first"):
            getattr(env, look)()
        env.reset()
        assert getattr(env, look)() is not None


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (
            np.full((3, 1), np.nan),
            r"actions must be finite and of shape \(3, 1\), got shape \(3, 1\) with 3 not finite$",
        ),
        (np.zeros(3), r"actions must be finite and of shape \(3, 1\), got shape \(3,\)$"),
        ("left", "actions: expected an array of numbers, got 'left'"),
    ],
)
def test_bad_actions_are_refused(actions, message):
    env = _vector()
    env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(actions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "max_episode_steps must be a whole number of 1 or more, got 0"),
        ({"limit": 1.5}, "max_episode_steps must be a whole number of 1 or more, got 1.5"),
        ({"autoreset": None}, "unsupported autoreset_mode None; choose from next_step, disabled"),
        ({"mode": "human"}, "unknown render_mode 'human'; choose from None, rgb_array"),
        ({"autoreset": "same_step"}, "unsupported autoreset_mode 'same_step'; choose from next_step, disabled"),
        ({"autoreset": AutoresetMode.SAME_STEP}, "unsupported autoreset_mode"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        _vector(**arguments)


def test_closing_frees_the_scenes():
    scenes = _Counters(1)
    SceneVectorEnv(scenes, 1, None, 10, None, "disabled").close()
    assert scenes.closed == 1
