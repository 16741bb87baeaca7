"""What each perturbation does, in the numbers that it states, and what one costs that is off."""

import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from wmkit import registry
from wmkit.envs.perturbations import PerturbedEnv, PerturbedVectorEnv

TASKS = {name: registry.load("environments", name) for name in registry.names("environments")}
PUSHING = np.array([150.0, 165.0, 250.0, 150.0, 0.0])
"""PushT's agent about to push the block."""


def _make(task: str, count: int = 1) -> PerturbedVectorEnv:
    obs_type = "state" if task == "walker" else "pixels_state"
    return PerturbedVectorEnv(TASKS[task].make_vector(num_envs=count, obs_type=obs_type), TASKS[task], seed=7)


def _ways(name: str, strength: float, asked: Any, steps: int = 4, actuator: int | None = None) -> np.ndarray:
    """How far (steps, 2) TwoRoom's agent moves at each step, in shares of its speed, for actions (steps, 2)."""
    env = _make("two-room", 1)
    places = [env.reset(options={"state": (0.25, 0.25)})[1]["state"][0]]
    env.switch(name, strength, actuator=actuator)
    places += [env.step(action[None])[-1]["state"][0] for action in np.broadcast_to(asked, (steps, 2))]
    return np.diff(places, axis=0) * 224 / 5


@pytest.mark.parametrize(
    ("name", "strength", "actuator", "expected"),
    [
        ("weak-actuator", 0.5, None, (0.2, 0.4)),
        ("weak-actuator", 1.0, None, (0.0, 0.0)),
        ("weak-actuator", 0.25, 0, (0.3, 0.8)),
        ("action-gain", 0.2, None, (0.48, 0.96)),
        ("action-gain", 1.0, None, (0.8, 1.0)),
        ("friction", 0.4, None, (0.28, 0.56)),
    ],
)
def test_motors_do_the_stated_share(name, strength, actuator, expected):
    moved = _ways(name, strength, np.array((0.4, 0.8)), actuator=actuator)
    np.testing.assert_allclose(moved, np.tile(expected, (4, 1)), atol=1e-9)


@pytest.mark.parametrize(("strength", "late"), [(0.01, 1), (0.2, 2), (0.5, 5), (1.0, 10)])
def test_delay_shifts_the_actions(strength, late):
    asked = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    moved = _ways("action-delay", strength, asked, 20)
    np.testing.assert_allclose(moved[:late], 0.0, atol=1e-12)
    np.testing.assert_allclose(moved[late:], asked[:-late], atol=1e-9)


def test_a_delay_that_begins_mid_episode_repeats_what_was_asked_before():
    env = _make("two-room", 1)
    env.reset(options={"state": (0.25, 0.25)})
    asked = np.random.default_rng(0).uniform(-1, 1, (12, 1, 2))
    places = []
    for step, action in enumerate(asked):
        if step == 6:
            env.switch("action-delay", 0.3)
        places.append(env.step(action)[-1]["state"][0])
    np.testing.assert_allclose(np.diff(places, axis=0)[5:] * 224 / 5, asked[3:9, 0], atol=1e-9)


@pytest.mark.parametrize("task", ["pusht", "two-room"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_teleport_is_a_real_one_and_leaves_the_rest(task, strength):
    env = _make(task, 20)
    before = env.reset(seed=1)[1]["state"]
    goal = env.info()["goal_state"]
    env.switch("teleport", strength, mask=np.arange(20) < 15)
    after = env.info()["state"]
    np.testing.assert_array_equal(env.observe()["state"], after)
    np.testing.assert_array_equal(env.info()["goal_state"], goal)
    place, least = (slice(2, 4), 100.0) if task == "pusht" else (slice(0, 2), 0.2)
    assert TASKS[task].valid(after).all()
    moved = np.linalg.norm((after - before)[:, place], axis=1)
    assert (moved[:15] >= least * strength - 1e-9).all()
    np.testing.assert_array_equal(after[15:], before[15:])
    if task == "pusht":
        np.testing.assert_array_equal(after[:, :2], before[:, :2])


def test_the_walker_is_put_into_another_pose_above_the_floor():
    env = _make("walker", 10)
    before = env.reset(seed=1)[1]["state"]
    env.switch("teleport", 1.0)
    after = env.info()["state"]
    assert (np.abs(after - before)[:, 3:9].mean(axis=1) >= 0.4).all()
    assert not after[:, 9:].any()
    np.testing.assert_array_equal(after[:, 1:3], before[:, 1:3])
    for _ in range(3):
        *_, info = env.step(np.zeros((10, 6)))
    assert np.abs(info["state"][:, 9:]).max() < 30


@pytest.mark.parametrize("task", ["pusht", "two-room"])
def test_colours_are_clearly_others(task):
    env = _make(task, 12)
    plain = env.reset(options={"state": PUSHING if task == "pusht" else (0.3, 0.3)})[0]["pixels"].astype(int)
    key = "block.color" if task == "pusht" else "agent.color"
    first = np.array(env.variations()[0][key])
    env.switch("colour", 1.0)
    colors = np.array([one[key] for one in env.variations()])
    assert (np.abs(colors - first).max(axis=1) > 80).all()
    assert len(np.unique(colors, axis=0)) == 12
    assert (np.abs(env.observe()["pixels"] - plain).max(axis=(1, 2, 3)) > 60).all()


def test_pictures_are_darkened_covered_and_blackened_as_stated():
    def seen(name: str, strength: float) -> np.ndarray:
        env = _make("two-room", 1)
        env.reset(options={"state": (0.3, 0.3)})
        env.switch(name, strength)
        return env.observe()["pixels"][0].astype(int)

    plain = seen("lighting", 0.0)
    np.testing.assert_allclose(seen("lighting", 1.0), 0.15 * plain, atol=0.51)
    covered = (seen("occlusion", 0.5) == 40).all(axis=2)
    assert covered.sum() == pytest.approx((0.3 * 64) ** 2, abs=20)
    np.testing.assert_array_equal(seen("occlusion", 0.5)[~covered], plain[~covered])
    noise = (seen("sensor-noise", 0.5) - plain)[(plain > 100) & (plain < 200)]
    assert noise.size == 0 or 15 < noise.std() < 45
    assert not seen("dropped-frame", 1.0).any()


def test_the_patch_stays_and_the_noise_does_not():
    env = _make("two-room", 1)
    env.reset(options={"state": (0.3, 0.3)})
    env.switch("occlusion", 0.5)
    first, second = (env.step(np.zeros((1, 2)))[0]["pixels"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    env.switch("sensor-noise", 0.5)
    first, again, second = env.observe(), env.observe(), env.step(np.zeros((1, 2)))[0]
    np.testing.assert_array_equal(first["pixels"], again["pixels"])
    assert (first["pixels"] != second["pixels"]).mean() > 0.3
    assert (first["state"] != second["state"]).all()


def test_a_frozen_frame_is_the_last_one_seen_in_every_key():
    env = _make("pusht", 2)
    env.reset(options={"state": PUSHING})
    last = env.step(np.full((2, 2), 0.4))[0]
    env.switch("frozen-frame", 0.1, mask=np.array([True, False]))
    for _ in range(3):
        seen, *_, info = env.step(np.full((2, 2), 0.4))
        for key in seen:
            np.testing.assert_array_equal(seen[key][0], last[key][0])
            assert (seen[key][1] != last[key][1]).any()
        assert (info["state"][0] != last["state"][0]).any()
    env.switch("frozen-frame", 0.0)
    np.testing.assert_array_equal(env.observe()["state"], info["state"])


def test_frames_are_dropped_with_the_stated_probability():
    env = _make("two-room", 40)
    env.reset(seed=0)
    env.switch("dropped-frame", 0.25)
    dropped = np.array([~env.step(np.zeros((40, 2)))[0]["state"].any(axis=1) for _ in range(25)])
    assert 0.2 < dropped.mean() < 0.3
    assert (dropped.mean(axis=0) < 0.7).all()


class _Stranger(gymnasium.Env):
    """An environment that wmkit does not know; it observes the last action."""

    observation_space = gymnasium.spaces.Dict({"last": gymnasium.spaces.Box(-9, 9, (2,), np.float64)})
    action_space = gymnasium.spaces.Box(1.0, 3.0, (2,), np.float64)

    def reset(self, *, seed=None, options=None):
        return {"last": np.zeros(2)}, {}

    def step(self, action):
        return {"last": np.array(action)}, 0.0, False, False, {}


def test_any_environment_can_be_perturbed_about_its_least_action():
    env = PerturbedEnv(_Stranger())
    assert env.names == (
        "sensor-noise",
        "frozen-frame",
        "dropped-frame",
        "action-delay",
        "action-gain",
        "weak-actuator",
    )
    env.reset()
    env.switch("weak-actuator", 0.5)
    np.testing.assert_allclose(env.step((2.0, 3.0))[0]["last"], (1.5, 2.0))
    env.switch("weak-actuator", 0.0)
    env.switch("action-gain", 1.0)
    np.testing.assert_allclose(env.step((1.5, 2.5))[0]["last"], (2.0, 3.0))


def test_switched_off_it_costs_next_to_nothing():
    class Still(gymnasium.vector.VectorEnv):
        metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012
        num_envs = 64
        single_observation_space = gymnasium.spaces.Dict(
            {"pixels": gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)}
        )
        single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        frames = {"pixels": np.zeros((64, 64, 64, 3), np.uint8)}  # noqa: RUF012

        def reset(self, *, seed=None, options=None):
            return self.frames, {}

        def step(self, actions):
            return self.frames, 0.0, False, False, {"actions": actions}

    env, actions = PerturbedVectorEnv(Still()), np.zeros((64, 2), np.float32)
    env.reset()
    observation, *_, info = env.step(actions)
    assert observation is Still.frames
    assert info["actions"] is actions
    took = []
    for _ in range(200):
        before = time.perf_counter()
        env.step(actions)
        took.append(time.perf_counter() - before)
    assert np.median(took) < 100e-6
