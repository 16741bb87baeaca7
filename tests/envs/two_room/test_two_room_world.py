"""TwoRoom's physics: what no action may do, and closed forms where there are any."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.envs.two_room import SUCCESS_DISTANCE, VARIATIONS, Scene, is_free, is_success, room_of, step_states
from wmkit.envs.two_room.starts import draw_goals, draw_states
from wmkit.envs.two_room.world import BORDER

GEOMETRY = {v.field: (v.low, v.high) for v in VARIATIONS.values() if not v.shape}
seeds = st.integers(0, 2**32 - 1)


def _scene(rng: np.random.Generator, count: int) -> Scene:
    return Scene(**{field: rng.uniform(low, high, count) for field, (low, high) in GEOMETRY.items()})


@given(seed=seeds, straight=st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_action_leads_into_a_wall_or_through_one(seed, straight):
    """200 agents in scenes of every allowed shape; who changes rooms does it at the height of the door's opening."""
    rng = np.random.default_rng(seed)
    scene = _scene(rng, 200)
    states = draw_states(rng, scene, 200)
    actions = rng.uniform(-1.5, 1.5, (200, 2))
    for _ in range(25):
        after = step_states(states, actions, scene)
        assert is_free(after, scene, slack=1e-9).all()
        crossed = room_of(after, scene) != room_of(states, scene)
        share = (scene.wall_position - states[:, 0]) / np.where(crossed, after[:, 0] - states[:, 0], 1.0)
        height = states[:, 1] + share * (after[:, 1] - states[:, 1])
        assert (np.abs(height - scene.door_position) < scene.door_size)[crossed].all()
        states = after
        if not straight:
            actions = rng.uniform(-1.5, 1.5, (200, 2))


def test_pushing_at_the_wall_from_every_height_only_the_door_lets_through():
    scene = Scene()
    y = np.linspace(BORDER + scene.agent_radius, 1 - BORDER - scene.agent_radius, 400)
    states = np.stack([np.full(400, 0.3), y], axis=1)
    for _ in range(40):
        states = step_states(states, np.tile([1.0, 0.0], (400, 1)))
    opening = np.abs(y - scene.door_position) <= scene.door_size - scene.agent_radius
    shut = np.abs(y - scene.door_position) >= scene.door_size
    assert room_of(states)[opening].all()
    assert not room_of(states)[shut].any()
    face = scene.wall_position - scene.wall_thickness / 2 - scene.agent_radius
    np.testing.assert_allclose(states[shut, 0], face, atol=1e-12)
    np.testing.assert_allclose(states[shut, 1], y[shut], atol=1e-12)


@pytest.mark.parametrize("vertical", [-1.0, 1.0])
def test_the_agent_slides_along_the_wall_at_full_speed(vertical):
    scene = Scene()
    face = scene.wall_position - scene.wall_thickness / 2 - scene.agent_radius
    start = np.array([face, 0.2])
    np.testing.assert_allclose(
        step_states(start, [1.0, vertical]), [face, 0.2 + vertical * scene.agent_speed], atol=1e-12
    )


def test_a_free_step_is_the_action_times_the_speed():
    actions = np.array([[1.0, -1.0], [0.25, 0.5], [9.0, 0.0]])
    moved = step_states(np.full((3, 2), 0.25), actions) - 0.25
    np.testing.assert_allclose(moved, np.clip(actions, -1, 1) * Scene().agent_speed, atol=1e-12)


def test_at_a_corner_of_the_door_the_disc_touches_the_corner():
    """Pressed diagonally into the corner's rounding, the centre stays one radius from the corner point."""
    scene = Scene()
    corner = np.array([scene.wall_position - scene.wall_thickness / 2, scene.door_position - scene.door_size])
    state = corner + scene.agent_radius * 1.2 * np.array([-1, 1]) / np.sqrt(2)
    state = step_states(state, [1.0, -1.0])
    assert np.linalg.norm(state - corner) == pytest.approx(scene.agent_radius, abs=1e-12)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_any_leading_axes_and_mirrored_worlds_agree(seed):
    rng = np.random.default_rng(seed)
    scene = _scene(rng, 6)
    states, actions = draw_states(rng, scene, 6), rng.uniform(-1, 1, (6, 2))
    after = step_states(states, actions, scene)
    for i in range(6):
        one = Scene(**{field: getattr(scene, field)[i] for field in GEOMETRY})
        np.testing.assert_array_equal(step_states(states[i], actions[i], one), after[i])
    first = Scene(**{field: getattr(scene, field)[0] for field in GEOMETRY})
    tiled = step_states(np.tile(states[0], (2, 3, 1)), np.tile(actions[0], (2, 3, 1)), first)
    np.testing.assert_array_equal(tiled, np.broadcast_to(after[0], (2, 3, 2)))
    mirror = Scene(**{field: getattr(scene, field) for field in GEOMETRY} | {"wall_position": 1 - scene.wall_position})
    mirrored = step_states(states * [-1, 1] + [1, 0], actions * [-1, 1], mirror)
    np.testing.assert_allclose(mirrored * [-1, 1] + [1, 0], after, atol=1e-12)


def test_free_space_by_its_definition():
    """`is_free` against the distance to the two wall rectangles, written out, on random places."""
    rng = np.random.default_rng(0)
    places, scene = rng.uniform(0, 1, (20000, 2)), Scene(door_position=0.35)
    radius, half = scene.agent_radius, scene.wall_thickness / 2
    free = ((places > BORDER + radius) & (places < 1 - BORDER - radius)).all(axis=1)
    for low, high in ((0.0, 0.35 - scene.door_size), (0.35 + scene.door_size, 1.0)):
        nearest = np.clip(places, [0.5 - half, low], [0.5 + half, high])
        free &= np.linalg.norm(places - nearest, axis=1) > radius
    np.testing.assert_array_equal(is_free(places, scene, slack=0.0), free)


def test_success_is_a_fixed_tolerance_and_strict_is_half_of_it():
    goals = np.full((4, 2), 0.5)
    states = goals + np.array([[0.49, 0], [0.51, 0], [0, 0.99], [1.01, 0]]) * SUCCESS_DISTANCE
    assert pytest.approx(16 / 224) == SUCCESS_DISTANCE
    assert is_success(states, goals).tolist() == [True, True, True, False]
    assert is_success(states, goals, strict=True).tolist() == [True, False, False, False]


@given(seed=seeds, cross_room=st.booleans())
@settings(max_examples=20, deadline=None)
def test_starts_and_goals(seed, cross_room):
    rng = np.random.default_rng(seed)
    scene = _scene(rng, 100)
    states = draw_states(rng, scene, 100, cross_room)
    goals = draw_goals(rng, scene, states, cross_room)
    assert (is_free(states, scene, 0.0) & is_free(goals, scene, 0.0) & ~is_success(states, goals)).all()
    assert (room_of(states, scene) != room_of(goals, scene)).all() or not cross_room


def test_starts_cover_the_free_space_evenly():
    states = draw_states(np.random.default_rng(0), Scene(), 20000)
    counts = np.histogram(states[states[:, 0] < 0.4][:, 1], bins=8, range=(BORDER + 7 / 224, 1 - BORDER - 7 / 224))[0]
    assert counts.min() > 0.9 * counts.mean()
    assert 0.48 < room_of(states).mean() < 0.52
