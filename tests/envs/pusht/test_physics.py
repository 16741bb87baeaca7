"""PushT's physics against trajectories recorded from gym-pusht (`record_reference.py` says how), and exact resets."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.envs.pusht import PushTEnv, PushTSimulator, as_state, coverage, make_variation

REFERENCE = Path(__file__).with_name("reference.npz")


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as file:
        return {key: file[key] for key in file.files}


def test_reference_is_rich_in_contact(reference):
    start = reference["start"][:, None, 2:]
    assert reference["state"].shape == (24, 60, 5)
    assert (np.abs(reference["state"][:, :, 2:] - start).max(axis=1)[:, :2].max(axis=1) > 30).all()
    assert ((reference["coverage"] > 0.05) & (reference["coverage"] < 0.95)).sum() > 100


def test_rollout_equals_gym_pusht(reference):
    simulator = PushTSimulator("absolute")
    states = simulator.rollout(as_state(reference["start"]), reference["action"][:, None])[:, 0]
    assert np.abs(states[..., :5] - reference["state"]).max() < 1e-6
    assert np.abs(states[..., 5:7] - reference["agent_velocity"]).max() < 1e-6


def test_environment_equals_gym_pusht(reference):
    env = PushTEnv(obs_type="state", action_mode="absolute")
    env.reset(options={"state": reference["start"][-1]})
    for action, state, cover in zip(*(reference[k][-1] for k in ("action", "state", "coverage")), strict=True):
        observation, reward, _, _, info = env.step(action)
        assert np.abs(observation["state"][:5] - state).max() < 1e-6
        assert info["coverage"] == pytest.approx(cover, abs=1e-6)
        assert reward == pytest.approx(min(cover / 0.95, 1.0), abs=1e-6)


def test_coverage_equals_gym_pusht(reference):
    measured = coverage(reference["state"][..., 2:], (256, 256, np.pi / 4))
    assert np.abs(measured - reference["coverage"]).max() < 1e-6


def test_relative_and_absolute_actions_agree():
    rng = np.random.default_rng(0)
    state, relative = as_state((200, 200, 260, 280, 0.4)), rng.uniform(-1, 1, (1, 20, 2))
    states = PushTSimulator("relative").rollout(state, relative)[0]
    before = np.concatenate((state[None], states[:-1]))
    absolute = np.clip(before[:, :2] + 100 * relative[0], 0, 512)
    assert np.abs(PushTSimulator("absolute").rollout(state, absolute[None])[0] - states).max() < 1e-9


def test_batched_rollout_equals_looped():
    rng = np.random.default_rng(1)
    starts = as_state(rng.uniform((100, 100, 200, 200, -3), (400, 400, 300, 300, 3), (3, 5)))
    actions = rng.uniform(-1, 1, (3, 4, 6, 2))
    simulator = PushTSimulator()
    together = simulator.rollout(starts, actions)
    assert together.shape == (3, 4, 6, 10)
    for b in range(3):
        assert np.array_equal(together[b], simulator.rollout(starts[b], actions[b]))


def test_rollout_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="actions must be"):
        PushTSimulator().rollout(np.zeros(10), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="5, 7 or 10"):
        PushTSimulator().rollout(np.zeros(6), np.zeros((1, 5, 2)))


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(60, 450)] * 4, st.floats(-7, 7), *[st.floats(-300, 300)] * 5),
    st.sampled_from((5, 7, 10)),
)
def test_reset_sets_the_state_exactly(values, length):
    env = PushTEnv(obs_type="state")
    observation, info = env.reset(options={"state": values[:length]})
    expected = np.zeros(10)
    expected[:length] = values[:length]
    assert np.array_equal(observation["state"], expected)
    assert np.array_equal(info["state"], expected)
    world = env._scenes._worlds[0]
    assert world is not None
    assert np.abs(np.array(world.read()) - expected).max() < 1e-9


def test_untouched_block_stays_and_agent_reaches_its_target():
    state = as_state((100, 100, 300, 300, 1.0))
    states = PushTSimulator("absolute").rollout(state, np.tile((150.0, 80.0), (1, 30, 1)))[0]
    assert np.array_equal(states[-1, 2:5], state[2:5])
    assert np.abs(states[-1, :2] - (150, 80)).max() < 1e-3


def test_sizes_change_the_physics():
    state, actions = as_state((256, 480, 256, 256, 0.0)), np.tile((0.0, -0.6), (1, 10, 1))
    plain = PushTSimulator().rollout(state, actions)[0, -1]
    for named in ({"block.scale": 20.0}, {"agent.radius": 25.0}, {"block.shape": "I"}):
        other = PushTSimulator(variation=make_variation(named)).rollout(state, actions)[0, -1]
        assert np.abs(other - plain)[2:5].max() > 1.0, named
