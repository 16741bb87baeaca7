"""OGBench's cube: its own trajectories and pictures bit for bit, and wmkit's conventions round them."""

import functools
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from wmkit.envs.ogbench import OGBenchCubeEnv, OGBenchCubeVectorEnv, is_success
from wmkit.envs.ogbench.engine import load_ogbench, shared_engine
from wmkit.envs.ogbench.scenes import make_start
from wmkit.envs.ogbench.state import (
    COLUMNS,
    CUBE,
    CUBE_TURN,
    HAND,
    POSITIONS,
    SHORT_SIZE,
    STATE_SIZE,
    SUCCESS_DISTANCE,
    VELOCITIES,
)
from wmkit.envs.ogbench.task import OGBENCH_CUBE
from wmkit.errors import UserError

pytest.importorskip("ogbench")


@functools.lru_cache
def _raw():
    """OGBench's own environment, untouched by wmkit; recording with a random cube and target."""
    cube = load_ogbench("envs.cube_env")
    return cube.CubeEnv("single", ob_type="states", visualize_info=False, mode="data_collection")


_DRAW = """
import sys, numpy, ogbench.manipspace.envs.cube_env as cube
env = cube.CubeEnv("single", ob_type="pixels", width=64, height=64, visualize_info=False, mode="data_collection")
numpy.save(sys.argv[1], env.reset(seed=int(sys.argv[2]))[0])
"""


def _picture_of_ogbench(folder, seed):
    """OGBench's own first picture, from a process of its own: OpenGL is as MUJOCO_GL says when mujoco is imported."""
    environment = os.environ | {"MUJOCO_GL": os.environ.get("MUJOCO_GL") or "egl"}
    subprocess.run(
        [sys.executable, "-c", _DRAW, folder / "own.npy", str(seed)], env=environment, check=True, timeout=120
    )
    return np.load(folder / "own.npy")


@functools.lru_cache
def _can_draw():
    try:
        OGBenchCubeEnv().reset(seed=0)
    except UserError as error:
        return "OpenGL" not in str(error)
    return True


def _actions(count, steps=40, seed=0):
    """Random actions that bring the hand down to the table."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, count, 5))
    actions[..., 2] -= 0.5
    return np.clip(actions, -1, 1).astype(np.float32)


def _vector(count=2, **options):
    return OGBenchCubeVectorEnv(count, **({"obs_type": "state", "autoreset_mode": "disabled"} | options))


def test_a_trajectory_is_ogbenchs_own():
    engine, raw = shared_engine(), _raw()
    state, goal = engine.draw(7)
    _, info = raw.reset(seed=7)
    np.testing.assert_array_equal(state[POSITIONS], info["qpos"])
    for action in _actions(1, 60)[:, 0]:
        info = raw.step(action)[-1]
        state = engine.advance(state, action)
        np.testing.assert_array_equal(state[POSITIONS], info["qpos"])
        np.testing.assert_array_equal(state[VELOCITIES], info["qvel"])
        said = engine.describe(state, goal)
        for key in ("proprio/effector_pos", "proprio/effector_yaw", "proprio/gripper_opening"):
            np.testing.assert_array_equal(said[key], info[key])
        for key in ("proprio/gripper_contact", "privileged/block_0_pos", "privileged/target_block_pos"):
            np.testing.assert_array_equal(said[key], info[key])


def test_success_is_ogbenchs_own():
    engine, raw = shared_engine(), _raw()
    state, goal = engine.draw(3)
    raw.reset(seed=3)
    expert, said = OGBENCH_CUBE.expert(0), []
    expert.reset(state, goal, {})
    for _ in range(120):
        action = expert.act(state)
        said.append(raw.step(action)[-1]["success"])
        state = engine.advance(state, action)
        assert said[-1] == is_success(state, goal)
    assert {True, False} == set(said)


def test_strict_halves_the_tolerance():
    states = np.zeros((3, STATE_SIZE))
    states[:, CUBE.start] = SUCCESS_DISTANCE * np.array([0.49, 0.51, 1.01])
    goal = np.zeros(STATE_SIZE)
    assert OGBENCH_CUBE.success(states, goal, "position", False).tolist() == [True, True, False]
    assert OGBENCH_CUBE.success(states, goal, "position", True).tolist() == [True, False, False]
    assert OGBENCH_CUBE.distance is not None
    far = OGBENCH_CUBE.distance(states, goal, "position")
    assert far[0] < far[1] < far[2]


def test_a_state_restores_exactly_in_the_middle_of_an_episode():
    env, actions = _vector(1), _actions(1)
    env.reset(seed=5)
    history = [env.step(action)[0]["state"][0] for action in actions]
    other = OGBenchCubeEnv("state")
    other.reset(seed=0)
    other.set_state(history[19])
    for action, expected in zip(actions[20:, 0], history[20:], strict=True):
        np.testing.assert_array_equal(other.step(action)[0]["state"], expected)


def test_positions_and_velocities_alone_are_a_state_as_in_ogbenchs_set_state():
    full, raw = shared_engine().draw(1)[0], _raw()
    env = OGBenchCubeEnv("state")
    state = env.reset(options={"state": full[:SHORT_SIZE], "goal": full[:SHORT_SIZE]})[0]["state"]
    np.testing.assert_array_equal(state[:SHORT_SIZE], full[:SHORT_SIZE])
    raw.reset(seed=2)
    raw.set_state(full[POSITIONS], full[VELOCITIES])
    np.testing.assert_allclose(state[61:64], raw.compute_ob_info()["proprio/effector_pos"], atol=1e-12)
    assert env.info()["success"]


def test_a_seed_fixes_everything_and_a_batch_equals_its_environments():
    first, second = (_vector(3).reset(seed=4)[1] for _ in range(2))
    np.testing.assert_array_equal(first["state"], second["state"])
    np.testing.assert_array_equal(first["goal_state"], second["goal_state"])
    assert len(np.unique(first["state"], axis=0)) == 3
    batch, actions = _vector(3), _actions(3, 10)
    batch.reset(options={"state": first["state"], "goal": first["goal_state"]})
    singles = [OGBenchCubeEnv("state") for _ in range(3)]
    for env, state, goal in zip(singles, first["state"], first["goal_state"], strict=True):
        env.reset(options={"state": state, "goal": goal})
    for action in actions:
        states, rewards, terminated, _, info = batch.step(action)
        for i, env in enumerate(singles):
            observation, reward, done, _, said = env.step(action[i])
            np.testing.assert_array_equal(observation["state"], states["state"][i])
            assert (reward, done, said["success"]) == (rewards[i], terminated[i], info["success"][i])


def test_draws_are_ogbenchs_and_goals_have_the_hand_elsewhere():
    info = _vector(30).reset(seed=0)[1]
    cubes = np.concatenate([info["state"][:, CUBE], info["goal_state"][:, CUBE]])
    assert (cubes >= (0.3, -0.3, 0.0)).all()
    assert (cubes <= (0.55, 0.3, 0.03)).all()
    assert (np.ptp(cubes, axis=0)[:2] > (0.2, 0.5)).all()
    assert (np.abs(info["state"][:, 61:64] - info["goal_state"][:, 61:64]).max(axis=1) > 1e-3).all()


def test_no_start_is_solved():
    solved = [seed for seed in range(100) if is_success(*shared_engine().draw(seed))]
    assert solved

    class Unlucky:
        numbers = iter([*solved, 1234])

        def integers(self, high):
            return next(self.numbers)

    start = make_start(shared_engine(), {}, Unlucky())
    np.testing.assert_array_equal(start.goal, shared_engine().draw(1234)[1])
    assert not is_success(start.state, start.goal)


@pytest.mark.parametrize("given", ["state", "goal", "place"])
def test_what_is_drawn_to_what_is_given_is_not_solved(given):
    """The given half is the one that the first draw would solve."""

    class Draws:
        numbers = iter((0, 1, 2))

        def integers(self, high):
            return next(self.numbers)

    engine = shared_engine()
    (state, goal), other = engine.draw(0), engine.draw(1)
    options = {"state": {"state": goal}, "goal": {"goal": state}, "place": {"goal": state[CUBE] + (0.0, 0.01, 0.0)}}
    start = make_start(engine, options[given], Draws())
    np.testing.assert_array_equal(start.state, goal if given == "state" else other[0])
    expected = {"state": other[1], "goal": state, "place": state + 0.01 * (np.arange(STATE_SIZE) == CUBE.start + 1)}
    np.testing.assert_array_equal(start.goal[CUBE], expected[given][CUBE])
    assert not is_success(start.state, start.goal)


def test_nothing_is_drawn_where_both_are_given():
    state = shared_engine().draw(0)[0]
    info = OGBenchCubeEnv("state").reset(seed=0, options={"state": state, "goal": state})[1]
    np.testing.assert_array_equal(info["state"], state)
    np.testing.assert_array_equal(info["goal_state"], state)


def test_a_goal_that_is_a_place_has_the_cube_there_upright_and_the_hand_elsewhere():
    place = (0.4, 0.1, 0.02)
    info, plain = (_vector(4).reset(seed=2, options=options)[1] for options in ({"goal": place}, {}))
    goals = info["goal_state"]
    np.testing.assert_array_equal(goals[:, CUBE], np.tile(place, (4, 1)))
    np.testing.assert_array_equal(goals[:, CUBE_TURN], np.tile((1, 0, 0, 0), (4, 1)))
    np.testing.assert_array_equal(goals[:, :14], plain["goal_state"][:, :14])
    np.testing.assert_allclose(goals[:, HAND], plain["goal_state"][:, HAND], atol=1e-12)
    assert not goals[:, VELOCITIES].any()


def test_a_diverged_simulation_is_a_silent_error_and_nan_in_the_imagination(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    env, actions = _vector(3), np.zeros((3, 5))
    states = env.reset(seed=0)[1]["state"]
    states[1, VELOCITIES] = 1e12
    env.reset(options={"state": states})
    with pytest.raises(ValueError, match="simulation of environment 1 diverged; reset it"):
        env.step(actions)
    after = env.info()["state"]
    assert np.isnan(after[1]).all()
    assert (after[[0, 2]] != states[[0, 2]]).any(axis=1).all()
    imagined = shared_engine().rollout(states, np.zeros((3, 1, 2, 5)))[:, 0]
    np.testing.assert_array_equal(imagined[:, 0], after)
    assert np.isnan(imagined[1]).all()
    assert not list(tmp_path.iterdir())
    assert not "".join(capfd.readouterr())


def test_the_simulator_is_the_environment():
    assert OGBENCH_CUBE.simulator is not None
    env, actions = _vector(2), _actions(2, 6)
    start = env.reset(seed=8)[1]["state"]
    imagined = OGBENCH_CUBE.simulator({})(start, np.float64(actions).transpose(1, 0, 2)[:, None])
    real = np.stack([env.step(action)[0]["state"] for action in actions], axis=1)
    np.testing.assert_array_equal(imagined[:, 0], real)
    with pytest.raises(ValueError, match="has none"):
        OGBENCH_CUBE.simulator({"cube.color": 1})


def test_set_state_and_reset_mask_touch_their_rows_alone():
    env = _vector(3)
    before = env.reset(seed=0)[1]
    mask, new = np.array([False, True, False]), shared_engine().draw(99)[0]
    env.set_state(np.where(mask[:, None], new, np.nan), mask)
    np.testing.assert_array_equal(env.info()["state"], np.where(mask[:, None], new, before["state"]))
    np.testing.assert_array_equal(env.info()["goal_state"], before["goal_state"])
    after = env.reset(seed=50, options={"reset_mask": ~mask})[1]
    np.testing.assert_array_equal(after["state"][1], new)
    assert (after["state"][~mask] != before["state"][~mask]).any(axis=1).all()
    np.testing.assert_array_equal((after["goal_state"] != before["goal_state"]).any(axis=1), ~mask)


def test_next_step_autoreset_restarts_what_has_ended():
    env = _vector(2, max_episode_steps=3, autoreset_mode=AutoresetMode.NEXT_STEP)
    options = {
        "state": shared_engine().draw(0)[0],
        "goal": np.stack([shared_engine().draw(seed)[1] for seed in (1, 2)]),
    }
    env.reset(seed=0, options=options)
    truncated = [bool(env.step(np.zeros((2, 5)))[3].all()) for _ in range(3)]
    assert truncated == [False, False, True]
    before = env.info()["goal_state"]
    _, rewards, terminated, cut, info = env.step(np.zeros((2, 5)))
    assert not (rewards.astype(bool) | terminated | cut).any()
    assert (info["goal_state"] != before).any(axis=1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda env: env.reset(options={"variation": {"cube.color": 1}}),
            "unknown variation 'cube.color'; .* has none",
        ),
        (lambda env: env.set_variation({"cube.color": 1}), "unknown variation 'cube.color'; .* has none"),
        (
            lambda env: env.reset(options={"state": np.zeros(9)}),
            r"state: expected 74 or 41 finite numbers, got shape \(9,\)$",
        ),
        (lambda env: env.reset(options={"goal": np.zeros((7, STATE_SIZE))}), r"goal: expected one row or 2 .*, got 7"),
        (
            lambda env: env.reset(options={"goal": np.full(STATE_SIZE, np.nan)}),
            r"goal: expected 3, 41 or 74 finite numbers, got shape \(74,\) with 74 not finite$",
        ),
        (lambda env: env.reset(options={"goal": (0.4, 0.0, 5.0)}), r"goal: \(0.4, 0, 5\) is out of .*z 0.02 to 0.35 m"),
        (lambda env: env.reset(options={"state": "x"}), "state: expected an array of numbers, got 'x'"),
        (lambda env: env.reset(options={"stat": 1}), "unknown reset option 'stat'; known: state, goal, variation"),
        (
            lambda env: env.step(np.full((2, 5), np.nan)),
            r"actions must be finite and of shape \(2, 5\), got shape \(2, 5\) with 10 not finite$",
        ),
        (lambda env: env.step(np.zeros((2, 4))), r"actions must be finite and of shape \(2, 5\), got shape \(2, 4\)$"),
        (lambda env: _vector(2).step(np.zeros((2, 5))), r"call reset\(\) before step\(\)"),
        (lambda env: _vector(2).set_state(np.zeros((2, STATE_SIZE))), r"call reset\(\) before set_state\(\)"),
        (lambda env: env.set_state(np.zeros((3, STATE_SIZE))), "states: expected one row for each of 2 environments"),
        (
            lambda env: env.set_state(np.full((2, SHORT_SIZE), np.inf)),
            r"state: .* got shape \(41,\) with 41 not finite$",
        ),
        (lambda env: _vector(2, image_size=64.5), "image_size must be a whole number from 16 to 1024, got 64.5"),
        (lambda env: _vector(2, obs_type=["state"]), r"unknown obs_type \['state'\]; choose from state, pixels"),
        (lambda env: _vector(2, autoreset_mode=None), "unsupported autoreset_mode None"),
        (lambda env: OGBenchCubeEnv("state").step(np.zeros(3)), r"of shape \(5,\), got shape \(3,\)$"),
    ],
)
def test_mistakes_are_one_clear_line(change, message):
    env = _vector(2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message) as caught:
        change(env)
    assert "\n" not in str(caught.value)


def test_no_variation_is_no_mistake():
    env, single = _vector(2), OGBenchCubeEnv("state")
    env.reset(options={"variation": [{}, {}]})
    env.set_variation(None)
    single.reset(options={"variation": {}})
    assert env.variations() == [{}, {}]
    assert single.variation() == {}


def test_the_columns_are_named_and_units_tell_the_cube():
    assert len(COLUMNS) == STATE_SIZE
    assert len({column.name for column in COLUMNS}) == STATE_SIZE
    assert OGBENCH_CUBE.columns(("cube_x", "cube_y", "cube_z")) == tuple(range(CUBE.start, CUBE.stop))
    assert OGBENCH_CUBE.columns(("hand_x", "hand_z", "gripper_contact")) == (61, 63, 73)


def test_check_env_has_nothing_to_say():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(OGBenchCubeEnv("state"), skip_render_check=True)
    assert not [str(one.message) for one in caught if issubclass(one.category, UserWarning)]


def test_the_picture_is_ogbenchs_own_and_shows_no_goal(tmp_path):
    if not _can_draw():
        pytest.skip("no OpenGL here")
    expected = _picture_of_ogbench(tmp_path, 11)
    state, goal = shared_engine().draw(11)
    other = shared_engine().draw(12)[1]
    env = _vector(2, obs_type="pixels_state")
    observation, info = env.reset(options={"state": state, "goal": np.stack([goal, other])})
    assert observation in env.observation_space
    np.testing.assert_array_equal(observation["pixels"][0], expected)
    np.testing.assert_array_equal(observation["pixels"][0], observation["pixels"][1])
    assert (info["goal_pixels"][0] != info["goal_pixels"][1]).any()
    env.reset(options={"state": goal})
    np.testing.assert_array_equal(env.observe()["pixels"][0], info["goal_pixels"][0])
    env.close()
