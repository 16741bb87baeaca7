"""The rasteriser: batches, places, colours and anti-aliasing."""

import numpy as np
import pytest

from wmkit.envs.pusht import PushTEnv, as_state, block_shape, make_variation, render_states
from wmkit.envs.pusht.variations import VARIATIONS

GOAL = np.array([[256.0, 256.0, np.pi / 4]])


def random_states(count, seed=0):
    rng = np.random.default_rng(seed)
    return as_state(rng.uniform((10, 10, 80, 80, -4), (500, 500, 430, 430, 4), (count, 5)))


@pytest.mark.parametrize("size", [64, 96, 224])
def test_batched_frames_equal_single_ones(size):
    states = random_states(6)
    batch = render_states(states, size, goals=GOAL)
    assert batch.shape == (6, size, size, 3)
    assert batch.dtype == np.uint8
    for state, frame in zip(states, batch, strict=True):
        assert np.array_equal(render_states(state, size, goals=GOAL)[0], frame)


def test_mixed_variations_in_one_batch_equal_single_frames():
    variations = [
        make_variation({"block.shape": n, "block.color": (i, 9, 9)}) for i, n in enumerate(("T", "cross", "I"))
    ]
    states, goals = random_states(3, seed=2), random_states(3, seed=3)
    batch = render_states(states, 64, variations, goals)
    for i in range(3):
        assert np.array_equal(render_states(states[i], 64, variations[i], goals[i : i + 1])[0], batch[i])


def test_frames_equal_environment_observations():
    env = PushTEnv(obs_type="pixels_state", image_size=96)
    env.reset(seed=3)
    for action in np.random.default_rng(0).uniform(-1, 1, (8, 2)):
        observation, *_ = env.step(action)
        assert np.array_equal(observation["pixels"], render_states(observation["state"], 96, goals=GOAL)[0])


def test_bodies_are_where_the_state_says():
    red, blue = (255, 0, 0), (0, 0, 255)
    named = {"block.color": red, "agent.color": blue, "goal.visible": False, "frame.color": (255, 255, 255)}
    for state in random_states(10, seed=1):
        if np.linalg.norm(state[:2] - state[2:4]) < 150 or min(state[:2].min(), 512 - state[:2].max()) < 20:
            continue
        frame = render_states(state, 224, make_variation(named))[0].astype(float)
        y, x = np.mgrid[:224, :224]
        at = np.stack((x + 0.5, y + 0.5), axis=-1) * 512 / 224
        for channel, where, area in ((0, state[:2], np.pi * 15**2), (2, block_center(state), 6300.0)):
            ink = 1 - frame[..., channel] / 255
            center = (at * ink[..., None]).sum(axis=(0, 1)) / ink.sum()
            assert np.abs(center - where).max() < 1.0
            assert 0.75 * area < ink.sum() * (512 / 224) ** 2 < 1.25 * area


def block_center(state):
    shape = block_shape()
    areas = shape.halves.prod(axis=1)
    corners = shape.world_corners(state[2:5]).mean(axis=1)
    return (corners * areas[:, None]).sum(axis=0) / areas.sum()


def test_edges_are_smooth_when_the_block_moves_by_less_than_a_pixel():
    state = as_state((60, 60, 256, 256, 0.3))
    frames = [render_states(state + np.eye(10)[2] * dx, 64)[0].astype(int) for dx in (0.0, 0.5, 1.0)]
    assert 0 < np.abs(frames[1] - frames[0]).sum() < np.abs(frames[2] - frames[0]).sum()


def test_nothing_is_drawn_outside_the_image():
    far = as_state((-300, 900, -500, -500, 1.0))
    assert np.array_equal(render_states(far, 64), render_states(far - 1e3 * np.eye(10)[0], 64))


CHANGES = {
    "agent.color": (200, 0, 0),
    "agent.radius": 25.0,
    "background.color": (10, 20, 30),
    "block.color": (200, 0, 0),
    "block.scale": 22.0,
    "block.shape": "L",
    "frame.color": (0, 0, 0),
    "goal.color": (200, 0, 0),
    "goal.visible": False,
    "stem.color": (200, 0, 0),
}


@pytest.mark.parametrize("name", sorted(set(VARIATIONS) - {"floor.slip"}))
def test_every_variation_of_looks_and_shapes_changes_the_picture(name):
    env = PushTEnv()
    state = (100, 100, 330, 330, 1.0)
    plain, _ = env.reset(options={"state": state})
    changed, _ = env.reset(options={"state": state, "variation": {name: CHANGES[name]}})
    assert (plain["pixels"] != changed["pixels"]).any()
    default, _ = env.reset(options={"state": state, "variation": {name: VARIATIONS[name].default}})
    assert np.array_equal(plain["pixels"], default["pixels"])
