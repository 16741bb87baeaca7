"""PushCube's environments: options, observations, rewards, masks and errors beyond what every environment must do."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wmkit.envs.push_cube import PushCubeEnv, PushCubeExpert, PushCubeVectorEnv, hand_position
from wmkit.envs.push_cube.kinematics import CUBE, CUBE_TURN
from wmkit.envs.push_cube.scenes import SceneOptions


def _actions(steps, size=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, size)).astype(np.float32)


def _towards_the_cube(state):
    """The action that moves the hand at the cube."""
    way = state[CUBE][:2] - hand_position(state)[:2]
    return way / np.abs(way).max()


@pytest.mark.parametrize("action_mode", ["plane", "space"])
@pytest.mark.parametrize("obs_type", ["state", "proprioception"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_check_env_has_nothing_to_say(obs_type, action_mode):
    check_env(PushCubeEnv(obs_type=obs_type, action_mode=action_mode), skip_render_check=True)


def test_registered_forms():
    env = gymnasium.make("wmkit/PushCube-v0", obs_type="state")
    assert isinstance(env.unwrapped, PushCubeEnv)
    assert env.spec.max_episode_steps == 150
    envs = gymnasium.make_vec("wmkit/PushCube-v0", 2, vectorization_mode="vector_entry_point", obs_type="state")
    assert isinstance(envs, PushCubeVectorEnv)


def test_proprioception_is_joints_speeds_and_hand_alone():
    env = PushCubeEnv(obs_type="proprioception")
    env.reset(seed=0)
    seen, *_, info = env.step((1.0, -0.5))
    state = info["state"]
    assert set(seen) == {"proprioception"}
    np.testing.assert_array_equal(seen["proprioception"], np.concatenate((state[:6], state[13:19], info["hand"])))
    assert np.abs(seen["proprioception"][6:12]).max() > 0.05
    np.testing.assert_array_equal(info["hand"], hand_position(state))


def test_proprioception_says_nothing_of_the_cube(far):
    env = PushCubeEnv(obs_type="proprioception")
    left, right = np.array(far[0]), np.array(far[0])
    right[CUBE] += (0.05, -0.1, 0)
    seen = [env.reset(options={"state": state})[0]["proprioception"] for state in (left, right)]
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("goal", [(0.5, 0.1), (0.5, 0.1, 0.03), None])
def test_reward_and_end_are_about_the_cubes_distance(goal):
    env = PushCubeEnv(obs_type="state")
    state = env.reset(seed=0)[1]["state"]
    state[CUBE] = 0.5, 0.0, 0.025
    goal = state + 0.1 * (np.arange(25) == 7) if goal is None else goal
    info = env.reset(options={"state": state, "goal": goal})[1]
    distance = np.linalg.norm(info["goal_state"][CUBE] - state[CUBE])
    assert distance == pytest.approx(0.1, abs=2e-4)
    reward = env.step((0.0, 0.0))[1]
    assert reward == pytest.approx(0.25 ** (distance / 0.1), rel=1e-3)


def test_success_ends_the_episode_at_the_tolerance_and_setting_the_state_up_is_seen():
    env = PushCubeEnv(obs_type="state")
    state = env.reset(seed=0)[1]["state"]
    state[:6] = env.reset(options={"goal": (0.4, 0.1)}, seed=0)[1]["goal_state"][:6]
    state[CUBE] = 0.5, -0.1, 0.025
    for off, expected in ((0.0249, True), (0.0251, False)):
        goal = state + off * (np.arange(25) == 6)
        assert env.reset(options={"state": state, "goal": goal})[1]["success"] is expected
        assert env.step((0.0, 0.0))[2] is expected
    env.set_state(goal)
    assert env.info()["success"]


def test_the_arrays_of_an_info_are_the_callers_own():
    env = PushCubeEnv(obs_type="state")
    observation, info = env.reset(seed=0)
    kept = info["state"].copy()
    for array in (observation["state"], info["state"], info["goal_state"], info["hand"]):
        array[:] = 7.0
    np.testing.assert_array_equal(env.info()["state"], kept)
    assert (env.info()["goal_state"] != 7.0).all()
    assert (env.info()["variation"]["cube.color"] == (200, 40, 40)).all()


@pytest.mark.parametrize(("count", "size"), [(2, 3), (9, 2)])
def test_a_batch_equals_its_environments_bit_for_bit(count, size):
    mode = {2: "plane", 3: "space"}[size]
    variations = [{}, {"cube.size": 0.06, "cube.mass": 0.5}, {"cube.friction": 0.2}] * 3
    batch = PushCubeVectorEnv(count, "state", action_mode=mode, autoreset_mode="disabled")
    singles = [PushCubeEnv("state", action_mode=mode) for _ in range(count)]
    starts = [env.reset(seed=7 + i, options={"variation": variations[i]})[1] for i, env in enumerate(singles)]
    info = batch.reset(seed=7, options={"variation": variations[:count]})[1]
    for key in ("state", "goal_state"):
        np.testing.assert_array_equal(info[key], [start[key] for start in starts])
    moved = info["state"][:, CUBE]
    for step in range(15):
        actions = _actions(count, size, seed=step)
        actions[:, :2] = [_towards_the_cube(state) for state in info["state"]]
        _, rewards, ends, _, info = batch.step(actions)
        alone = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        np.testing.assert_array_equal(info["state"], [one[-1]["state"] for one in alone])
        np.testing.assert_array_equal(rewards, [one[1] for one in alone])
        np.testing.assert_array_equal(ends, [one[2] for one in alone])
    assert (np.linalg.norm(info["state"][:, CUBE] - moved, axis=1) > 0.01).any()


def test_the_state_alone_fixes_what_follows():
    first, second = PushCubeEnv("state"), PushCubeEnv("state")
    state = first.reset(seed=3)[1]["state"]
    for _ in range(14):
        state = first.step(_towards_the_cube(state))[-1]["state"]
    assert np.abs(state[19:22]).max() > 0.01
    second.reset(seed=9)
    for action in _actions(5, seed=2):
        second.step(action)
    second.set_state(state)
    third = PushCubeEnv("state")
    third.reset(options={"state": state, "goal": (0.4, 0.0)})
    for action in _actions(8):
        after = [env.step(action)[0]["state"] for env in (first, second, third)]
        np.testing.assert_array_equal(after[0], after[1])
        np.testing.assert_array_equal(after[0], after[2])


def test_replaying_recorded_actions_reaches_the_recorded_state():
    env, expert = PushCubeEnv("state", randomise="cube.mass,cube.friction,cube.size"), PushCubeExpert()
    _, start = env.reset(seed=5)
    expert.reset(start["state"], start["goal_state"], start["variation"])
    actions, states = [], [start["state"]]
    for _ in range(40):
        actions.append(expert.act(states[-1]))
        states.append(env.step(actions[-1])[-1]["state"])
    assert np.linalg.norm(states[-1][CUBE] - states[0][CUBE]) > 0.05
    again = PushCubeEnv("state")
    again.reset(options={"state": states[0], "goal": states[-1], "variation": start["variation"]})
    for action, state in zip(actions, states[1:], strict=True):
        *_, info = again.step(action)
        np.testing.assert_array_equal(info["state"], state)
    assert info["success"]
    assert info["variation"].keys() == start["variation"].keys()


@pytest.mark.parametrize("mass", [0.03, 1.0])
@pytest.mark.parametrize("size", [0.04, 0.06])
def test_a_cube_at_rest_stays_at_rest(far, size, mass):
    env = PushCubeEnv("state")
    state = np.array(far[0])
    state[CUBE], state[CUBE_TURN] = (0.9, 0.9, size / 2), (np.cos(0.3), 0, 0, np.sin(0.3))
    env.reset(options={"state": state, "goal": (0.4, 0), "variation": {"cube.size": size, "cube.mass": mass}})
    states = np.stack([env.step((0.5, 0.3))[-1]["state"] for _ in range(50)])
    assert np.abs(states[:, 6:8] - state[6:8]).max() < 1e-4
    assert np.abs(states[:, 8] - state[8]).max() < 1e-3
    assert np.abs(states[:, CUBE_TURN] - state[CUBE_TURN]).max() < 1e-3
    assert np.abs(states[-1, 19:]).max() < 1e-3


def test_a_masked_reset_leaves_the_others_alone(far):
    env = PushCubeVectorEnv(3, "state", autoreset_mode="disabled", max_episode_steps=4)
    first = env.reset(seed=0, options={"goal": (0.4, 0.0)})[1]
    before = env.step(_actions(3))[-1]
    options = {"reset_mask": [False, True, False], "state": far[0], "goal": (0.5, 0.1)}
    info = env.reset(options=options | {"variation": {"cube.mass": 0.7}})[1]
    np.testing.assert_array_equal(info["state"][[0, 2]], before["state"][[0, 2]])
    np.testing.assert_array_equal(info["goal_state"][[0, 2]], first["goal_state"][[0, 2]])
    np.testing.assert_array_equal(info["state"][1], far[0])
    np.testing.assert_allclose(info["goal_state"][1, 6:8], (0.5, 0.1))
    assert info["variation"]["cube.mass"].tolist() == [0.1, 0.7, 0.1]
    assert [env.step(np.zeros((3, 2)))[3].tolist() for _ in range(4)][2:] == [[True, False, True], [True, True, True]]


def test_states_and_variations_are_set_by_mask(drawn):
    env = PushCubeVectorEnv(3, "state", autoreset_mode="disabled")
    before = env.reset(seed=0)[1]
    mask = np.array([True, False, True])
    env.set_state(np.where(mask[:, None], drawn["state"][10:13], np.nan), mask)
    env.set_variation([{"cube.mass": 0.2}, {"cube.mass": 5.0}, {"cube.friction": 0.3}], mask)
    info = env.info()
    np.testing.assert_array_equal(info["state"][mask], drawn["state"][10:13][mask])
    np.testing.assert_array_equal(info["state"][1], before["state"][1])
    np.testing.assert_array_equal(info["goal_state"], before["goal_state"])
    assert info["variation"]["cube.mass"].tolist() == [0.2, 0.1, 0.1]
    assert info["variation"]["cube.friction"].tolist() == [0.6, 0.6, 0.3]
    env.set_variation(None, np.array([True, False, False]))
    assert env.info()["variation"]["cube.mass"].tolist() == [0.1, 0.1, 0.1]


def test_a_seed_fixes_episodes_one_after_another():
    def run(seed):
        env = PushCubeVectorEnv(2, "state", randomise="all", max_episode_steps=2)
        info = env.reset(seed=seed)[1]
        history = [info]
        history += [env.step(np.zeros((2, 2)))[-1] for _ in range(4)]
        return [(one["state"], one["goal_state"], *one["variation"].values()) for one in history]

    first, again, other = run(4), run(4), run(5)
    for left, right in zip(first, again, strict=True):
        for one, two in zip(left, right, strict=True):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(first[0][0][1], other[0][0][0])
    assert (first[0][0] != first[-1][0]).any(axis=1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": np.zeros(9)}, r"state: expected 25 finite numbers, got shape \(9,\)"),
        ({"state": np.full(25, np.nan)}, r"state: expected 25 finite numbers, got shape \(25,\) with 25 not finite"),
        ({"state": "x"}, "state: expected an array of numbers, got 'x'"),
        ({"goal": np.full(25, np.inf)}, r"goal: expected 2, 3 or 25 finite numbers, got shape \(25,\) with 25 not"),
        ({"goal": np.zeros(25)}, "goal: the cube's quaternion"),
        ({"goal": (0.5, 0.0, 0.06)}, "goal: z = 0.06 m is more than 0.025 from 0.025, where the centre of a cube on"),
        ({"state": np.zeros(25)}, "quaternion"),
        ({"goal": (0.4,)}, r"goal: expected 2, 3 or 25 finite numbers, got shape \(1,\)"),
        ({"goal": (5.0, 0.0)}, r"goal: \(5, 0\) is out of the hand's reach, x from 0.28 to 0.66"),
        ({"goal": (0.4, np.nan)}, r"goal: expected 2, 3 or 25 finite numbers, got shape \(2,\) with 1 not finite"),
        ({"stat": np.zeros(25)}, "unknown reset option 'stat'; known: state, goal, variation"),
        ({"variation": {"cube.colour": (0, 0, 0)}}, "unknown PushCube variation 'cube.colour'; known: cube.color"),
        ({"variation": {"cube.mass": 3.0}}, "cube.mass: expected a number from 0.03 to 1, got 3.0"),
        ({"variation": 3}, "variation: expected a mapping of names to values, got 3; known: cube.color"),
        ({"variation": "red"}, "variation: expected a mapping of names to values, got 'red'"),
        ({"variation": {"cube.color": (0, 0, np.nan)}}, "cube.color: expected three numbers from 0 to 255"),
        ({"variation": {"cube.size": "big"}}, "cube.size: expected a number from 0.04 to 0.06, got 'big'"),
    ],
)
def test_bad_options_are_one_clear_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        PushCubeEnv("state").reset(options=options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"obs_type": "image"}, "unknown obs_type 'image'; choose from pixels, state, proprioception"),
        ({"obs_type": None}, "unknown obs_type None"),
        ({"action_mode": "joints"}, "unknown action_mode 'joints'; choose from plane, space"),
        ({"action_mode": ["plane"]}, r"unknown action_mode \['plane'\]; choose from plane, space"),
        ({"cameras": ("front", "back")}, "cameras is .*'back'.*; choose one or more, each once, of front, side, top"),
        ({"cameras": "top,top"}, "cameras is 'top,top'"),
        ({"cameras": ()}, "cameras is "),
        ({"cameras": None}, "cameras is None; give names, of front, side, top"),
        ({"cameras": 5}, "cameras is 5; give names, of front, side, top"),
        ({"randomise": None}, "randomise is None; give names, of all, cube.color, cube.size"),
        ({"randomise": True}, "randomise is True; give names, of all, cube.color, cube.size"),
        ({"cameras": ""}, "cameras is ''"),
        ({"randomise": "cube.weight"}, "unknown PushCube variation 'cube.weight'; known: cube.color, cube.size"),
        ({"randomise": ("cube.mass", "all")}, "unknown PushCube variation 'all'"),
        ({"image_size": 8}, "image_size must be a whole number from 16 to 1024, got 8"),
        ({"image_size": 64.5}, "image_size"),
        ({"render_mode": "human"}, "unknown render_mode 'human'; choose from None, rgb_array"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message):
    for make in (PushCubeEnv, PushCubeVectorEnv):
        with pytest.raises(ValueError, match=message) as caught:
            make(**({"obs_type": "state"} | arguments))
        assert "\n" not in str(caught.value)


def test_names_may_be_joined_with_blanks_and_all_is_all():
    assert SceneOptions(cameras="front, side").views == ("front", "side")
    assert SceneOptions(randomise="cube.mass, cube.size").randomised == ("cube.mass", "cube.size")
    assert SceneOptions(randomise=("all",)).randomised is SceneOptions(randomise="all").randomised is None


@pytest.mark.parametrize(
    ("action", "got"),
    [
        ((np.nan, 0.0), r"shape \(2,\) with 1 not finite"),
        ((np.inf, np.inf), r"shape \(2,\) with 2 not finite"),
        ((0.0,), r"shape \(1,\)"),
        ((0.0, 0.0, 0.0), r"shape \(3,\)"),
        (0.0, r"shape \(\)"),
    ],
)
def test_bad_actions_are_one_clear_line_and_change_nothing(action, got):
    env = PushCubeEnv("state")
    before = env.reset(seed=0)[1]["state"]
    with pytest.raises(ValueError, match=rf"actions must be finite and of shape \(2,\), got {got}$") as caught:
        env.step(action)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(env.info()["state"], before)


def test_a_batch_of_bad_actions_is_still_one_line():
    env = PushCubeVectorEnv(40, "state")
    env.reset(seed=0, options={"state": PushCubeEnv("state").reset(seed=0)[1]["state"], "goal": (0.4, 0.0)})
    with pytest.raises(ValueError, match="actions must be finite and of shape") as caught:
        env.step(np.full((40, 2), np.nan))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_refused_reset_changes_nothing():
    env = PushCubeVectorEnv(2, "state", autoreset_mode="disabled")
    before = env.reset(seed=0)[1]
    with pytest.raises(ValueError, match="mass"):
        env.reset(options={"variation": [{"cube.friction": 0.3}, {"cube.mass": 9.0}]})
    np.testing.assert_array_equal(env.info()["state"], before["state"])
    assert env.info()["variation"]["cube.friction"].tolist() == [0.6, 0.6]


@pytest.mark.parametrize(("change", "value"), [("step", (0, 0)), ("set_state", [1.0] * 25), ("set_variation", {})])
def test_what_comes_before_the_reset_is_refused(change, value):
    with pytest.raises(ValueError, match="call reset"):
        getattr(PushCubeEnv("state"), change)(value)


@pytest.mark.parametrize("count", [3, 9])
def test_a_diverged_simulation_is_a_silent_error_and_the_others_go_on(far, monkeypatch, tmp_path, capfd, count):
    """A cube that slides out of its goal says whether the others were measured."""
    monkeypatch.chdir(tmp_path)
    env = PushCubeVectorEnv(count, "state", autoreset_mode="disabled")
    states = far[:count].copy()
    states[1, 13:], states[2, 19] = 1e12, 1.0
    assert env.reset(options={"state": states, "goal": far[:count]})[1]["success"].all()
    with pytest.raises(ValueError, match="simulation of environment 1 diverged; reset it"):
        env.step(np.zeros((count, 2)))
    info = env.info()
    assert np.linalg.norm(info["state"][2, CUBE] - far[2, CUBE]) > 0.025
    assert info["success"].tolist() == [row not in (1, 2) for row in range(count)]
    assert not list(tmp_path.iterdir())
    assert not "".join(capfd.readouterr())
    env.reset(seed=0, options={"reset_mask": np.arange(count) == 1})
    assert np.isfinite(env.step(np.zeros((count, 2)))[0]["state"]).all()


@pytest.mark.parametrize(("index", "value"), [(1, 0.5), (8, -0.5)])
def test_a_state_without_sense_is_refused_and_changes_nothing(drawn, index, value):
    env = PushCubeVectorEnv(2, "state", autoreset_mode="disabled")
    before, states = env.reset(seed=0)[1]["state"], drawn["state"][:2].copy()
    states[1, index] = value
    for change in (lambda: env.set_state(states), lambda: env.reset(options={"state": states})):
        with pytest.raises(ValueError, match=r"^state: (joint_2 is|the cube's centre)") as caught:
            change()
        assert "\n" not in str(caught.value)
        np.testing.assert_array_equal(env.info()["state"], before)
