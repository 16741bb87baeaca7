"""TwoRoom's expert reaches everything, in every scene, with and without noise."""

import numpy as np
import pytest

from wmkit.envs.two_room import VARIATIONS, Scene, TwoRoomExpert, is_free, is_success, room_of, step_states
from wmkit.envs.two_room.starts import draw_goals, draw_states

COUNT = 1000


def _run(variation: dict[str, np.ndarray], noise: float, cross_room: bool = False, steps: int = 150):
    rng = np.random.default_rng(0)
    scene = Scene(**{VARIATIONS[name].field: value for name, value in variation.items()})
    states = draw_states(rng, scene, COUNT, cross_room)
    goals = draw_goals(rng, scene, states, cross_room)
    expert = TwoRoomExpert()
    expert.reset(states, goals, variation)
    taken, reached = np.zeros(COUNT), np.zeros(COUNT, bool)
    start = states
    for _ in range(steps):
        actions = expert.act(states)
        assert np.abs(actions).max() <= 1.0
        states = step_states(states, actions + noise * rng.normal(size=actions.shape), scene)
        reached |= is_success(states, goals)
        taken += ~reached
    return start, states, goals, reached, taken


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("names", [(), ("door.position",), tuple(n for n in VARIATIONS if n.count("color") == 0)])
def test_every_goal_is_reached(names, noise):
    rng = np.random.default_rng(1)
    ranges = {name: (VARIATIONS[name].low, VARIATIONS[name].high) for name in names if name != "agent.speed"}
    variation = {name: rng.uniform(low, high, COUNT) for name, (low, high) in ranges.items()}
    assert _run(variation, noise)[3].all()


def test_without_noise_the_expert_settles_on_the_goal():
    _, states, goals, _, _ = _run({}, 0.0)
    assert np.linalg.norm(states - goals, axis=1).max() < 1e-6


def test_goals_in_the_doorway_and_at_its_corners_are_reached():
    rng = np.random.default_rng(2)
    drawn = rng.uniform([0.43, 0.37], [0.57, 0.63], (4 * COUNT, 2))
    places = drawn[is_free(drawn, Scene())]
    states, goals = rng.permutation(places), places
    expert = TwoRoomExpert()
    expert.reset(states, goals)
    for _ in range(60):
        states = step_states(states, expert.act(states))
    assert np.linalg.norm(states - goals, axis=1).max() < 1e-6


def test_paths_are_hardly_longer_than_they_must_be():
    """In one room the way is the straight line; across, at most a tenth longer than by way of the door's centre."""
    start, _, goals, _, taken = _run({}, 0.0, steps=80)
    door = np.array([0.5, 0.5])
    direct = np.abs(goals - start).max(axis=1)
    through = np.abs(door - start).max(axis=1) + np.abs(goals - door).max(axis=1)
    same = room_of(start) == room_of(goals)
    least = np.where(same, direct, 1.1 * through) / Scene().agent_speed
    assert (taken <= np.ceil(least)).all()


def test_one_environment_is_a_batch_of_one():
    expert, batched = TwoRoomExpert(), TwoRoomExpert()
    expert.reset([0.2, 0.2], [0.8, 0.7], {"door.position": 0.3})
    batched.reset([[0.2, 0.2]], [[0.8, 0.7]], {"door.position": [0.3]})
    np.testing.assert_array_equal(expert.act([0.2, 0.2]), batched.act([[0.2, 0.2]])[0])


def test_errors_say_what_to_do():
    expert = TwoRoomExpert()
    with pytest.raises(ValueError, match="reset"):
        expert.act([0.2, 0.2])
    with pytest.raises(ValueError, match="both be"):
        expert.reset([0.2, 0.2], [[0.8, 0.7]])
    with pytest.raises(ValueError, match=r"door\.position"):
        expert.reset([0.2, 0.2], [0.8, 0.7], {"door": 0.5})
