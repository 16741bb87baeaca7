"""Every environment registered in the namespace ``wmkit``, single and batched, against one set of rules."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import wmkit.envs
from wmkit import registry
from wmkit.errors import UserError

IDS = sorted(name for name in gymnasium.registry if name.startswith("wmkit/"))
TASKS = {task.env_id: task for task in (registry.load("environments", name) for name in registry.names("environments"))}
every_id = pytest.mark.parametrize("env_id", IDS)


def _can_draw(env_id: str) -> bool:
    try:
        gymnasium.make(env_id, obs_type="pixels").reset(seed=0)
    except UserError as error:
        return "OpenGL" not in str(error)
    return True


DRAWN = [pytest.param(name, marks=pytest.mark.skipif(not _can_draw(name), reason="no OpenGL here")) for name in IDS]
every_drawn_id = pytest.mark.parametrize("env_id", DRAWN)
every_id_with_goals = pytest.mark.parametrize("env_id", [name for name in IDS if TASKS[name].has_goals])


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def _vector(env_id: str, num_envs: int = 3, **kwargs: Any) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def _starts(env_id: str, count: int) -> dict[str, np.ndarray]:
    """Options of a reset: states and, where there are any, goals that the environment itself draws, each (count, S)."""
    env = gymnasium.make(env_id, obs_type="state").unwrapped
    infos = [env.reset(seed=seed)[1] for seed in range(count)]
    options = {"state": np.stack([i["state"] for i in infos])}
    return options | ({"goal": np.stack([i["goal_state"] for i in infos])} if TASKS[env_id].has_goals else {})


def _row(options: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    return {key: value[row] for key, value in options.items()}


def _idle(env: gymnasium.vector.VectorEnv) -> np.ndarray:
    return np.zeros(env.action_space.shape, np.float32)


def _assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def test_every_environment_is_registered():
    assert set(IDS) == set(wmkit.envs.ENVIRONMENTS)


def test_registering_again_changes_nothing():
    before = dict(gymnasium.registry)
    wmkit.envs.register_environments()
    assert dict(gymnasium.registry) == before


def test_importing_the_registry_loads_no_environment():
    code = (
        "import sys, wmkit.envs; "
        "assert not [m for m in sys.modules if m.startswith('wmkit.envs.')], 'loaded'; "
        "assert not {'torch', 'pygame', 'pymunk'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_make_imports_the_module_named_before_the_colon():
    code = "import gymnasium; gymnasium.make('wmkit.envs:wmkit/TwoRoom-v0').reset(seed=0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@every_drawn_id
@pytest.mark.parametrize("obs_type", ["pixels", "state", "pixels_state"])
def test_check_env_has_nothing_to_say(env_id, obs_type):
    env = gymnasium.make(env_id, obs_type=obs_type)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    said = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    assert not said


@every_id
def test_time_limit_is_the_same_in_both_forms(env_id):
    limit = wmkit.envs.ENVIRONMENTS[env_id][2]
    spec = gymnasium.make(env_id, obs_type="state").spec
    assert spec is not None
    assert spec.max_episode_steps == limit
    env = _vector(env_id, 1, obs_type="state", max_episode_steps=7, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    truncated = [bool(env.step(_idle(env))[3][0]) for _ in range(7)]
    assert truncated == [False] * 6 + [True]


@every_drawn_id
@pytest.mark.parametrize("image_size", [64, 96])
def test_batches_stay_in_their_spaces(env_id, image_size):
    env = _vector(env_id, obs_type="pixels_state", image_size=image_size)
    observations, info = env.reset(seed=0)
    env.action_space.seed(0)
    if TASKS[env_id].has_goals:
        assert info["goal_pixels"].shape == (3, image_size, image_size, 3)
    for _ in range(5):
        assert observations in env.observation_space
        observations, rewards, terminated, truncated, info = env.step(env.action_space.sample())
        success = info["success"] if TASKS[env_id].has_goals else terminated
        assert rewards.shape == terminated.shape == truncated.shape == success.shape == (3,)
        assert terminated.dtype == truncated.dtype == success.dtype == bool


@every_drawn_id
def test_a_seed_fixes_everything(env_id):
    def run(seed: int) -> list[Any]:
        env = _vector(env_id, obs_type="pixels_state")
        observation, info = env.reset(seed=seed)
        history = [observation["state"], observation["pixels"], info.get("goal_state", 0)]
        env.action_space.seed(1)
        for _ in range(4):
            history.append(env.step(env.action_space.sample())[0]["state"])
        return history

    for left, right in zip(run(3), run(3), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(run(3)[0], run(4)[0])


@every_id
def test_environments_of_a_batch_differ(env_id):
    states = _vector(env_id, 4, obs_type="state").reset(seed=0)[0]["state"]
    assert len(np.unique(states, axis=0)) == 4


@every_drawn_id
def test_reset_sets_state_and_goal_exactly(env_id):
    options = _starts(env_id, 3)
    env = _vector(env_id, 3, obs_type="pixels_state")
    observation, info = env.reset(seed=9, options=options)
    np.testing.assert_array_equal(observation["state"], options["state"])
    np.testing.assert_array_equal(info["state"], options["state"])
    if TASKS[env_id].has_goals:
        np.testing.assert_array_equal(info["goal_state"], options["goal"])


@every_drawn_id
def test_a_batch_equals_its_environments_one_by_one(env_id):
    options = _starts(env_id, 3)
    batch = _vector(env_id, 3, obs_type="pixels_state", autoreset_mode=AutoresetMode.DISABLED)
    singles = [gymnasium.make(env_id, obs_type="pixels_state").unwrapped for _ in range(3)]
    observations, info = batch.reset(options=options)
    for i, env in enumerate(singles):
        observation, single_info = env.reset(options=_row(options, i))
        _assert_same(observation, {key: value[i] for key, value in observations.items()})
        if TASKS[env_id].has_goals:
            np.testing.assert_array_equal(single_info["goal_pixels"], info["goal_pixels"][i])
    batch.action_space.seed(0)
    for _ in range(10):
        actions = batch.action_space.sample()
        observations, rewards, terminated, _, info = batch.step(actions)
        for i, env in enumerate(singles):
            observation, reward, done, _, single_info = env.step(actions[i])
            _assert_same(observation, {key: value[i] for key, value in observations.items()})
            assert (reward, done) == (rewards[i], terminated[i])
            assert "success" not in info or single_info["success"] == info["success"][i]


@every_drawn_id
def test_observations_are_not_reused(env_id):
    env = _vector(env_id, 2, obs_type="pixels_state")
    observation, info = env.reset(seed=0)
    kept = {key: value.copy() for key, value in (observation | {"info": info["state"]}).items()}
    for _ in range(3):
        env.step(_idle(env) + 1)
    _assert_same(observation | {"info": info["state"]}, kept)


@every_id_with_goals
def test_the_picture_shows_no_goal(env_id):
    options = _starts(env_id, 2)
    env = gymnasium.make(env_id, obs_type="pixels").unwrapped
    frames = [env.reset(options=_row(options, 0) | {"goal": goal})[0]["pixels"] for goal in options["goal"]]
    np.testing.assert_array_equal(frames[0], frames[1])


@every_id
@pytest.mark.parametrize(("first", "extra"), [(0.0, 1), (np.nan, 0), (np.inf, 0)])
def test_bad_actions_are_refused(env_id, first, extra):
    env = gymnasium.make(env_id, obs_type="state").unwrapped
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape[0] + extra)
    action[0] = first
    with pytest.raises(ValueError, match="action"):
        env.step(action)


@pytest.mark.parametrize("env_id", [name for name in IDS if name != "wmkit/TwoRoom-v0"])
@pytest.mark.parametrize("num_envs", [-1, 0, 1.5])
def test_bad_numbers_of_environments_are_one_clear_line(env_id, num_envs):
    with pytest.raises(ValueError, match=f"num_envs must be a whole number of 1 or more, got {num_envs}$"):
        _vector(env_id, num_envs, obs_type="state")


@every_id
def test_unknown_variations_are_answered_with_the_list(env_id):
    module = importlib.import_module(gymnasium.spec(env_id).entry_point.split(":")[0])
    known = next(iter(module.VARIATIONS), "has none")
    with pytest.raises(ValueError, match=re.escape(known)):
        _vector(env_id, obs_type="state").reset(options={"variation": {"no.such.thing": 1.0}})


@every_id
@pytest.mark.parametrize("options", [{"state": np.zeros(9)}, {"goal": np.zeros((7, 2))}, {"stat": np.zeros(2)}])
def test_bad_options_are_refused(env_id, options):
    with pytest.raises(ValueError, match=r"state|goal"):
        _vector(env_id, obs_type="state").reset(options=options)


@every_id
def test_next_step_autoreset(env_id):
    env = _vector(env_id, 2, obs_type="state", max_episode_steps=3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    env.reset(seed=0)
    idle, keys = _idle(env), [key for key in ("state", "goal_state") if TASKS[env_id].has_goals or key == "state"]
    for _ in range(3):
        *_, truncated, info = env.step(idle)
    assert truncated.all()
    before = np.concatenate([info[key] for key in keys], axis=1)
    _, rewards, terminated, truncated, info = env.step(idle)
    after = np.concatenate([info[key] for key in keys], axis=1)
    assert not (terminated | truncated).any()
    assert not rewards.any()
    assert (before != after).any(axis=1).all()
    assert [bool(env.step(idle)[3].any()) for _ in range(3)] == [False, False, True]
