"""Kinematics from states alone against MuJoCo's, and rewards that users replace."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.contracts import Rollout
from wmkit.envs.walker import (
    REWARDS,
    WalkerEnv,
    WalkerVectorEnv,
    center_of_mass_velocity,
    features,
    foot_clearance,
    get_reward,
    make_model,
    register_reward,
    torso_height,
    torso_upright,
)
from wmkit.planners import RewardObjective

MODEL = make_model()
numbers = st.lists(st.floats(-6, 6), min_size=18, max_size=18).map(np.array)


def _data(state):
    import mujoco

    data = mujoco.MjData(MODEL)
    data.qpos[:], data.qvel[:] = np.split(state, 2)
    mujoco.mj_forward(MODEL, data)
    return data


@settings(max_examples=60, deadline=None)
@given(state=numbers)
def test_kinematics_equal_mujocos(state):
    data = _data(state)
    torso = MODEL.body("torso").id
    assert center_of_mass_velocity(state) == pytest.approx(data.sensor("torso_subtreelinvel").data[0], abs=1e-9)
    assert torso_height(state) == pytest.approx(data.xpos[torso, 2], abs=1e-9)
    assert torso_upright(state) == pytest.approx(data.xmat[torso, 8], abs=1e-9)
    feet = [MODEL.geom(f"{side}_foot").id for side in ("right", "left")]
    sizes, tilts = MODEL.geom_size[feet], np.abs(data.geom_xmat[feet, 8])
    lowest = (data.geom_xpos[feet, 2] - tilts * sizes[:, 1] - sizes[:, 0]).min()
    assert foot_clearance(state) == pytest.approx(lowest, abs=1e-9)
    turns = data.xmat[1:][:, [0, 2]].ravel()
    np.testing.assert_allclose(features(state), [*turns, data.xpos[torso, 2], *data.qvel], atol=1e-9)


@pytest.mark.parametrize("name", [*REWARDS, "target-height=0.6", "target-speed=-2"])
def test_arrays_and_tensors_agree_with_any_leading_axes(name):
    states = np.random.default_rng(0).normal(size=(2, 3, 4, 18))
    rewards = REWARDS[name](states)
    assert rewards.shape == (2, 3, 4)
    assert ((rewards >= 0) & (rewards <= 1)).all()
    np.testing.assert_allclose(REWARDS[name](torch.from_numpy(states)).numpy(), rewards, atol=1e-12)
    np.testing.assert_array_equal(REWARDS[name](states[1, 2, 3]), rewards[1, 2, 3])


@pytest.mark.parametrize(("name", "speed"), [("walk", 1.0), ("run", 8.0)])
def test_speed_pays_up_to_the_tasks_own(name, speed):
    def at(velocity):
        return float(REWARDS[name](velocity * np.eye(18)[10]))

    assert at(0.0) == pytest.approx(1 / 6)
    assert at(speed / 2) == pytest.approx(3.5 / 6)
    assert at(speed) == at(2 * speed) == pytest.approx(1.0)
    assert at(-speed) == pytest.approx(1 / 6)


def test_rewards_differentiate():
    state = torch.full((18,), 0.1, requires_grad=True)
    REWARDS["run"](state).backward()
    assert state.grad is not None
    assert state.grad[10] > 0


def test_a_planners_objective_takes_them():
    states, actions = torch.randn(2, 5, 3, 18), torch.zeros(2, 5, 3, 6)
    cost = RewardObjective(get_reward("walk"), "state").cost(Rollout(states, None, {"state": states}), actions)
    torch.testing.assert_close(cost, -get_reward("walk")(states).sum(-1))


def test_the_reward_is_replaced_at_run_time():
    def ahead(states, actions=None):
        return states[..., 1] + actions.sum(-1)

    env = WalkerEnv(task="stand")
    env.reset(options={"state": np.zeros(18)})
    _, reward, _, _, info = env.step(np.zeros(6))
    assert reward == REWARDS["stand"](info["state"])
    env.set_reward(ahead)
    _, reward, _, _, info = env.step(np.full(6, 0.5))
    assert reward == info["state"][1] + 3.0
    env.reset(seed=1)
    assert env.step(np.full(6, -0.5))[1] == pytest.approx(-3.0, abs=1.0)
    env.reset(options={"task": "run"})
    _, reward, _, _, info = env.step(np.zeros(6))
    assert reward == REWARDS["run"](info["state"])


def test_each_of_a_batch_has_its_own_reward():
    env = WalkerVectorEnv(3, task="run")
    env.reset(seed=0)
    env.set_reward("stand", mask=[False, True, False])
    _, rewards, _, _, info = env.step(np.zeros((3, 6)))
    expected = [REWARDS[name](state) for name, state in zip(("run", "stand", "run"), info["state"], strict=True)]
    np.testing.assert_array_equal(rewards, expected)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda states, actions=None: states, r"'<lambda>' gave shape \(1, 18\) for states \(1, 18\), not \(1,\)"),
        (lambda states, actions=None: states[..., 0] * np.nan, "gave nan for the state"),
        (lambda states, actions=None: "much", "must give numbers"),
    ],
)
def test_a_bad_reward_is_one_clear_error(function, message):
    env = WalkerEnv()
    env.reset(seed=0)
    env.set_reward(function)
    with pytest.raises(ValueError, match=message):
        env.step(np.zeros(6))


def test_rewards_are_registered_by_name_once():
    name = "lean-in-a-test"
    register_reward(name, lambda states, actions=None: 1 - abs(states[..., 2] - 0.4))
    assert WalkerEnv(task=name).reset(seed=0)
    assert name in REWARDS
    with pytest.raises(ValueError, match="registered already"):
        register_reward(name, get_reward("run"))
    with pytest.raises(ValueError, match="give a function"):
        register_reward("other", 3.0)  # pyright: ignore[reportArgumentType]


def _at(reward, **columns):
    """Return a reward at rest, but for the given columns of the state."""
    state = np.zeros(18)
    for column, value in columns.items():
        state[{"height": 0, "pitch": 2, "speed": 10}[column]] = value
    return float(get_reward(reward)(state))


def test_jump_asks_for_both_feet_off_the_floor_of_an_upright_walker():
    assert _at("jump") == pytest.approx(0.25)
    assert _at("jump", height=0.125) == pytest.approx(0.25 + 0.75 / 2)
    assert _at("jump", height=0.3) == _at("jump", height=0.6) == pytest.approx(1.0)
    assert _at("jump", height=0.6, pitch=np.pi) == pytest.approx(0.0)
    state = np.zeros(18)
    state[[0, 3, 6]] = -0.5, np.pi, np.pi
    assert foot_clearance(state) > 0.5
    assert float(get_reward("jump")(state)) == 0.0


def test_lean_back_is_best_at_its_pitch_and_on_the_circle():
    best = _at("lean-back", pitch=-0.6)
    assert best == pytest.approx(1.0)
    assert _at("lean-back", pitch=-0.6 - 2 * np.pi) == pytest.approx(best)
    assert _at("lean-back", pitch=-0.3) == pytest.approx(_at("lean-back", pitch=-0.9))
    assert best > _at("lean-back", pitch=-0.3) > _at("lean-back") > _at("lean-back", pitch=0.3)


@given(speed=st.floats(-3, 3))
def test_walking_backward_is_walking_mirrored(speed):
    assert _at("walk-backward", speed=speed) == pytest.approx(_at("walk", speed=-speed))


@given(target=st.floats(0.3, 1.5), away=st.floats(0.01, 1.0))
def test_target_height_is_best_at_its_height(target, away):
    reward = f"target-height={target}"
    assert _at(reward, height=target - 1.3) == pytest.approx(1.0)
    above, below = _at(reward, height=target - 1.3 + away), _at(reward, height=target - 1.3 - away)
    assert above == pytest.approx(below)
    assert above < 1.0


@given(target=st.floats(-5, 5), away=st.floats(0.01, 3.0))
def test_target_speed_is_best_at_its_speed(target, away):
    reward = f"target-speed={target}"
    assert _at(reward, speed=target) == pytest.approx(1.0)
    faster, slower = _at(reward, speed=target + away), _at(reward, speed=target - away)
    assert faster == pytest.approx(slower)
    assert 1 / 6 < faster < 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hop", "unknown walker reward 'hop'; known: walk, stand, run, jump, lean-back, walk-backward, target-height"),
        ("hop=1", "unknown walker reward 'hop=1'; known: walk"),
        ("walk=3", "'walk' takes no number; these do: target-height, target-speed"),
        ("target-speed=fast", "'fast' is no number"),
        ("target-speed=nan", "give m/s from -10 to 10"),
        ("target-height=9", "give metres above 0, up to 2"),
    ],
)
def test_bad_names_and_numbers_are_answered(name, message):
    assert name not in REWARDS
    with pytest.raises(ValueError, match=message):
        get_reward(name)


def test_the_environment_takes_a_reward_with_a_number():
    env = WalkerVectorEnv(2, task="target-speed=0.5")
    env.reset(seed=0)
    _, rewards, _, _, info = env.step(np.zeros((2, 6)))
    np.testing.assert_array_equal(rewards, get_reward("target-speed=0.5")(info["state"]))
    assert get_reward("target-speed=0.5") is get_reward("target-speed=0.50")
