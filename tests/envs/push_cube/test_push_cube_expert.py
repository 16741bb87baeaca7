"""PushCube's expert: scenes that it has to solve, and how it goes about them."""

import numpy as np
import pytest

from wmkit.envs.push_cube import PushCubeEnv, PushCubeExpert, PushCubeVectorEnv, hand_position, is_success
from wmkit.envs.push_cube.control import HIGH, LOW, joints_at
from wmkit.envs.push_cube.kinematics import CUBE


def scene(hand, cube, size=0.05):
    """Return a state (25,) at rest with the hand and the cube at places in the plane."""
    state = np.zeros(25)
    state[:6] = joints_at((*hand, 0.05))[0]
    state[6:10] = *cube, size / 2, 1.0
    return state


def solved(state, goal, steps, **variation):
    """Return the step of the first success, 0 for none, and all states (steps + 1, 25)."""
    env, expert = PushCubeEnv("state"), PushCubeExpert(0)
    _, info = env.reset(options={"state": state, "goal": goal, "variation": variation})
    expert.reset(state, info["goal_state"], variation)
    states, first = [info["state"]], 0
    for step in range(steps):
        states.append(env.step(expert.act(states[-1]))[0]["state"])
        if not first and is_success(states[-1], info["goal_state"]):
            first = step + 1
    return first, np.stack(states)


@pytest.mark.parametrize(("noise", "randomise"), [(0.0, ()), (0.2, ()), (0.0, "all")])
def test_drawn_scenes_are_solved(noise, randomise):
    """Of 20 scenes at most one may fail; many more are for the benchmark."""
    env = PushCubeVectorEnv(20, obs_type="state", randomise=randomise, autoreset_mode="disabled")
    info, rng = env.reset(seed=11)[1], np.random.default_rng(0)
    experts, goals, hit = [PushCubeExpert(row) for row in range(20)], info["goal_state"], np.zeros(20, bool)
    for expert, state, goal, variation in zip(experts, info["state"], goals, env.variations(), strict=True):
        expert.reset(state, goal, variation)
    for _ in range(80):
        actions = np.stack([expert.act(state) for expert, state in zip(experts, info["state"], strict=True)])
        assert actions.dtype == np.float32
        assert np.abs(actions).max() <= 1
        info = env.step((actions + noise * rng.standard_normal(actions.shape)).clip(-1, 1))[-1]
        hit |= is_success(info["state"], goals)
    assert hit.sum() >= 19


@pytest.mark.parametrize(
    ("hand", "cube", "goal"),
    [
        ((0.44, 0.19), (0.549, 0.150), (0.50, 0.05)),
        ((0.66, 0.00), (0.608, 0.079), (0.583, 0.072)),
        ((0.30, -0.15), (0.37, -0.14), (0.47, 0.0)),
    ],
)
def test_a_hand_that_cannot_pass_between_cube_and_edge_goes_the_other_way(hand, cube, goal):
    first, states = solved(scene(hand, cube), goal, 120)
    assert first
    places = hand_position(states)[:, :2]
    assert ((places > LOW[:2] - 0.005) & (places < HIGH[:2] + 0.005)).all()


def test_the_hand_goes_round_without_touching_the_cube():
    state = scene((0.56, 0.0), (0.47, 0.0))
    _, states = solved(state, (0.56, 0.0), 60)
    moved = np.linalg.norm(states[:, CUBE] - state[CUBE], axis=1) > 0.002
    behind = hand_position(states)[:, 0] < 0.43
    assert moved.any()
    assert behind[moved.argmax()]


def test_an_arrived_expert_rests_and_then_takes_a_target_of_its_own():
    state = scene((0.40, 0.0), (0.47, 0.0))
    expert = PushCubeExpert(0)
    expert.reset(state, (0.47, 0.0))
    acts = np.stack([expert.act(state) for _ in range(8)])
    assert (acts[:6] == 0).all()
    assert np.abs(acts[6:]).max() > 0
