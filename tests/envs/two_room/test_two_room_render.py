"""TwoRoom's pictures: the dot is where the state says, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.envs.two_room import Scene, render_states
from wmkit.envs.two_room.render import render_backgrounds
from wmkit.envs.two_room.starts import draw_states

PLAIN = {"background_color": (0, 0, 0), "wall_color": (0, 0, 0), "agent_color": (250, 250, 250)}


@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([48, 64, 96, 224]))
@settings(max_examples=30, deadline=None)
def test_the_dots_centroid_and_area_are_the_states(seed, size):
    rng = np.random.default_rng(seed)
    scene = Scene(agent_radius=rng.uniform(5 / 224, 12 / 224, 20), **PLAIN)
    states = draw_states(rng, scene, 20)
    ink = render_states(states, size, scene)[..., 0] / 250.0
    axis = (np.arange(size) + 0.5) / size
    area = ink.sum(axis=(1, 2))
    centroid = np.stack([(ink * axis).sum(axis=(1, 2)), (ink * axis[:, None]).sum(axis=(1, 2))], axis=1) / area[:, None]
    assert np.abs(centroid - states).max() * size < 0.1  # of a pixel; the smallest dot is two pixels wide
    np.testing.assert_allclose(area, np.pi * (scene.agent_radius * size) ** 2, rtol=0.12)


@pytest.mark.parametrize("size", [64, 224])
def test_only_the_dot_differs_from_the_background(size):
    scene = Scene()
    states = draw_states(np.random.default_rng(0), scene, 50)
    changed = (render_states(states, size, scene) != render_backgrounds(size, scene)).any(axis=-1)
    axis = (np.arange(size) + 0.5) / size
    distance = np.hypot(axis[None, None, :] - states[:, :1, None], axis[None, :, None] - states[:, 1:, None])
    assert not changed[distance > scene.agent_radius + 0.51 / size].any()
    assert changed[distance < scene.agent_radius].all()


def test_walls_are_where_the_physics_has_them():
    """At 224 pixels the default walls lie on whole pixels, so the picture is two flat colours."""
    picture = render_backgrounds(224, Scene())[0]
    wall = (picture == [40, 44, 52]).all(axis=-1)
    assert (wall | (picture == 255).all(axis=-1)).all()
    expected = np.zeros((224, 224), bool)
    expected[:7] = expected[-7:] = expected[:, :7] = expected[:, -7:] = True
    expected[:84, 105:119] = expected[140:, 105:119] = True
    np.testing.assert_array_equal(wall, expected)


def test_a_batch_of_scenes_equals_its_pictures_one_by_one():
    rng = np.random.default_rng(1)
    scene = Scene(door_position=rng.uniform(0.2, 0.8, 5), wall_color=rng.uniform(0, 255, (5, 3)))
    states = draw_states(rng, scene, 5)
    batch = render_states(states, 64, scene)
    for i in range(5):
        one = Scene(door_position=scene.door_position[i], wall_color=scene.wall_color[i])
        np.testing.assert_array_equal(render_states(states[i : i + 1], 64, one)[0], batch[i])


def test_brightness_falls_smoothly_as_the_dot_moves():
    """Moving by a twentieth of a pixel changes no pixel by more than a tenth of the range: no jumps."""
    x = np.arange(0.25, 0.28, 0.05 / 64)
    frames = render_states(np.stack([x, np.full_like(x, 0.3)], axis=1), 64, Scene(**PLAIN)).astype(int)
    assert np.abs(np.diff(frames, axis=0)).max() <= 25
    assert (np.diff(frames, axis=0) != 0).any(axis=(1, 2, 3)).all()
