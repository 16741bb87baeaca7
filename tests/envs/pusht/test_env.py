"""The environments: Gymnasium's checks, options, the vector form, goals, and replay of recorded actions."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import wmkit.envs  # noqa: F401
from wmkit.envs.pusht import (
    VARIATIONS,
    PushTEnv,
    PushTExpert,
    PushTSimulator,
    PushTVectorEnv,
    Variation,
    make_variation,
    pose_success,
    render_states,
    sample_variation,
)
from wmkit.envs.pusht.starts import DEFAULT_GOAL


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("obs_type", ["pixels", "state", "pixels_state"])
@pytest.mark.parametrize("action_mode", ["relative", "absolute"])
def test_gymnasium_checks(obs_type, action_mode):
    check_env(PushTEnv(obs_type=obs_type, action_mode=action_mode, render_mode="rgb_array"), skip_render_check=False)


STANDARD = np.array([[256, 256, np.pi / 4]])


def test_registered_ids_make_both_forms():
    env = gymnasium.make("wmkit/PushT-v0", obs_type="state")
    assert isinstance(env.unwrapped, PushTEnv)
    envs = gymnasium.make_vec("wmkit/PushT-v0", num_envs=2, vectorization_mode="vector_entry_point", obs_type="state")
    assert isinstance(envs.unwrapped, PushTVectorEnv)


@pytest.mark.parametrize("keyword", ["obs_type", "action_mode", "success", "render_mode"])
def test_unknown_choices_are_refused_with_the_list(keyword):
    with pytest.raises(ValueError, match=r"unknown .*'nonsense'; choose from"):
        PushTEnv(**{keyword: "nonsense"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sate": np.zeros(5)}, r"unknown reset option 'sate'; known: state, goal, variation"),
        ({"variation": {"block.colour": (1, 2, 3)}}, r"unknown PushT variation 'block.colour'; known: .*block\.color"),
        ({"variation": {"block.color": (1, 2, 300)}}, r"block\.color: expected three numbers from 0 to 255"),
        ({"variation": {"block.scale": 500}}, r"block\.scale: expected a number from 15 to 40"),
        ({"variation": {"block.shape": "Q"}}, r"block\.shape: expected one of T, L"),
        ({"state": np.zeros(4)}, "5, 7 or 10"),
        ({"goal": np.zeros(4)}, "block pose"),
        ({"state": np.zeros((2, 5))}, "one row"),
    ],
)
def test_bad_reset_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PushTEnv(obs_type="state").reset(options=options)


def test_bad_actions_are_refused_and_large_ones_clipped():
    env = PushTEnv(obs_type="state")
    state = (100, 100, 300, 300, 1)
    env.reset(options={"state": state})
    with pytest.raises(ValueError, match="finite"):
        env.step(np.array((np.nan, 0.0)))
    clipped = env.step(np.array((5.0, 0.0)))[0]["state"]
    env.reset(options={"state": state})
    assert np.array_equal(env.step(np.array((1.0, 0.0)))[0]["state"], clipped)


def test_default_starts_are_gym_pushts_when_nothing_overlaps():
    env, kept = PushTEnv(obs_type="state"), 0
    for seed in range(30):
        state = env.reset(seed=seed)[0]["state"]
        rng = gymnasium.utils.seeding.np_random(seed)[0]
        draw = [rng.integers(50, 450), rng.integers(50, 450), rng.integers(100, 400), rng.integers(100, 400)]
        angle = rng.uniform(-np.pi, np.pi)
        center = np.array((0.0, 45.0))
        turned = np.array((-np.sin(angle), np.cos(angle))) * 45
        if np.array_equal(state[:2], draw[:2]):
            kept += 1
            assert np.allclose(state[2:5], (*(np.array(draw[2:]) + center - turned), angle))
    assert kept > 15


def test_success_rules_and_termination():
    goal = np.array((400, 400, 256, 256, 0.5))
    near = goal + np.array((0, 0, 5, 5, 0.1))
    moved = goal + np.array((60, 0, 0, 0, 0))
    coverage_rule, pose_rule = (PushTEnv(obs_type="state", success=rule) for rule in ("coverage", "pose"))
    for env, expected in ((coverage_rule, False), (pose_rule, True)):
        env.reset(options={"state": near, "goal": goal})
        _, reward, terminated, truncated, info = env.step(np.zeros(2))
        assert terminated is expected
        assert info["success"] is expected
        assert not truncated
        assert 0.5 < reward == info["coverage"] / 0.95
    env.reset(options={"state": moved, "goal": goal})
    assert env.step(np.zeros(2))[2] is False
    coverage_rule.reset(options={"state": moved, "goal": goal})
    assert coverage_rule.step(np.zeros(2))[1:3] == (1.0, True)


def test_goal_pixels_show_the_goal_state():
    env = PushTEnv(obs_type="pixels_state")
    goal = np.array((120, 130, 300, 200, 2.0))
    _, info = env.reset(seed=0, options={"goal": goal})
    assert np.array_equal(info["goal_state"][:5], goal)
    assert np.array_equal(info["goal_pixels"], render_states(info["goal_state"], 64, goals=STANDARD)[0])


def test_the_marker_moves_to_a_block_pose_and_does_not_give_a_whole_state_away():
    env = PushTEnv(obs_type="pixels")
    start = np.array((400, 400, 150, 350, 0.5))
    goal = np.array((120, 130, 300, 200, 2.0))
    whole, _ = env.reset(seed=0, options={"state": start, "goal": goal})
    assert np.array_equal(whole["pixels"], render_states(start, 64, goals=STANDARD)[0])
    marked, _ = env.reset(seed=0, options={"state": start, "goal": goal[2:]})
    assert np.array_equal(marked["pixels"], render_states(start, 64, goals=goal[None, 2:])[0])
    assert "goal_pixels" not in env.step(np.zeros(2))[4]
    _, info = env.reset(seed=0, options={"goal": goal[2:]})
    assert np.array_equal(info["goal_state"][:2], info["state"][:2])


@pytest.mark.parametrize("obs_type", ["pixels_state", "state"])
def test_vector_equals_looped_single(obs_type):
    rng = np.random.default_rng(0)
    variations = [sample_variation(rng) for _ in range(3)]
    envs = PushTVectorEnv(3, obs_type, success="pose", autoreset_mode="disabled")
    batch, info = envs.reset(seed=5, options={"variation": variations})
    singles = [PushTEnv(obs_type, success="pose") for _ in range(3)]
    results = [e.reset(seed=5 + i, options={"variation": variations[i]}) for i, e in enumerate(singles)]
    for _ in range(12):
        for key in batch:
            assert np.array_equal(batch[key], np.stack([r[0][key] for r in results]))
        for key in info:
            assert np.array_equal(info[key], np.stack([r[-1][key] for r in results]))
        actions = rng.uniform(-1, 1, (3, 2))
        batch, rewards, terminated, _, info = envs.step(actions)
        results = [e.step(a) for e, a in zip(singles, actions, strict=True)]
        assert np.array_equal(rewards, [r[1] for r in results])
        assert np.array_equal(terminated, [r[2] for r in results])


def test_vector_reset_with_states_goals_and_mask():
    envs = PushTVectorEnv(3, "state", autoreset_mode=AutoresetMode.DISABLED)
    states = np.array([(100, 100, 200 + 30 * i, 250, 0.1 * i) for i in range(3)])
    goals = np.array([(256, 256, 0.2), (200, 256, 0.2), (256, 200, 0.2)])
    observation, info = envs.reset(options={"state": states, "goal": goals})
    assert np.array_equal(observation["state"][:, :5], states)
    assert np.array_equal(info["goal_state"][:, 2:5], goals)
    envs.step(np.ones((3, 2)))
    mask = np.array((False, True, False))
    observation, _ = envs.reset(options={"state": states, "goal": goals[0], "reset_mask": mask})
    assert np.array_equal((observation["state"][:, :5] == states).all(axis=1), mask)
    with pytest.raises(ValueError, match=r"state: expected one row or 3"):
        envs.reset(options={"state": states[:2]})


def test_next_step_autoreset_and_time_limit():
    envs = PushTVectorEnv(2, "state", max_episode_steps=3)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    envs.reset(seed=0)
    flags = [envs.step(np.full((2, 2), 0.1))[3].all() for _ in range(3)]
    assert flags == [False, False, True]
    before = envs.step(np.zeros((2, 2)))
    assert not before[3].any()
    assert (before[1] == 0).all()
    assert (before[0]["state"][:, 5:7] == 0).all()
    with pytest.raises(ValueError, match="choose from next_step, disabled"):
        PushTVectorEnv(2, autoreset_mode=AutoresetMode.SAME_STEP)


def test_replaying_recorded_actions_reaches_the_recorded_goal():
    """From mid-episode, in a fresh space, 25 recorded actions: what the contacts had cached hardly matters."""
    env, starts, goals, actions = PushTEnv(obs_type="state"), [], [], []
    for seed in range(6):
        state, rng, expert = env.reset(seed=seed)[0]["state"], np.random.default_rng(seed), PushTExpert(seed)
        expert.reset(state, DEFAULT_GOAL)
        states, taken = [state], []
        for _ in range(120):
            taken.append(np.clip(expert.act(state) + 0.2 * rng.standard_normal(2), -1, 1))
            state = env.step(taken[-1])[0]["state"]
            states.append(state)
        for first in range(0, 96, 5):
            if np.abs(states[first] - states[first + 25])[2:4].max() > 10:
                starts.append(states[first])
                goals.append(states[first + 25])
                actions.append(taken[first : first + 25])
    reached = PushTSimulator().rollout(np.array(starts), np.array(actions)[:, None])[:, 0, -1]
    assert len(starts) > 60
    assert pose_success(reached, np.array(goals)).mean() >= 0.98


def test_sampled_variations_are_accepted():
    rng = np.random.default_rng(0)
    drawn = [make_variation(sample_variation(rng, tuple(VARIATIONS))) for _ in range(20)]
    assert all(isinstance(variation, Variation) for variation in drawn)
    assert len({repr(variation) for variation in drawn}) == 20


def test_human_mode_without_pygame_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)
    with pytest.raises(ValueError, match="needs pygame"):
        PushTEnv(render_mode="human").reset(seed=0)
