"""What the mouse does to a scene is possible in it, and outlines lie where the pictures have the things."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from wmkit import registry
from wmkit.envs.pusht import PushTSimulator, block_shape, valid_state
from wmkit.envs.pusht.playground import PushTPlayground
from wmkit.envs.pusht.render import render_states
from wmkit.envs.pusht.starts import draw_start
from wmkit.envs.pusht.variations import Variation
from wmkit.envs.two_room import is_free
from wmkit.envs.two_room import render_states as render_rooms
from wmkit.envs.two_room.playground import TwoRoomPlayground
from wmkit.envs.two_room.world import Scene

PLACES = st.floats(-0.3, 1.3)
SEEDS = st.integers(0, 10_000)
BLOCK, ROOMS = PushTPlayground(), TwoRoomPlayground()


def start(seed):
    state = draw_start(np.random.default_rng(seed), Variation())
    state[5:] = 30.0
    return state


def clearance(state):
    """Distance of the agent's rim from the block, by sampling the block's area densely; px."""
    inside = []
    for left, top, right, bottom in block_shape().rectangles:
        x, y = np.meshgrid(np.linspace(left, right, 61), np.linspace(top, bottom, 61))
        inside.append(np.stack((x.ravel(), y.ravel()), axis=1))
    points, cos, sin = np.concatenate(inside), np.cos(state[4]), np.sin(state[4])
    points = points @ np.array([[cos, sin], [-sin, cos]]) + state[2:4]
    return np.hypot(*(points - state[:2]).T).min() - Variation().agent_radius


def centre(playground, state, handle):
    return np.concatenate(list(playground.outline(state, handle))).mean(axis=0)


@given(SEEDS, st.sampled_from(["block", "agent"]), PLACES, PLACES)
def test_what_is_dragged_in_pusht_ends_free_and_at_rest(seed, handle, x, y):
    before = start(seed)
    after = BLOCK.drag(before, handle, x, y)
    assert valid_state(after, margin=0.0)
    assert clearance(after) >= 0.0
    assert not after[5:].any()
    other = slice(0, 2) if handle == "block" else slice(2, 5)
    np.testing.assert_array_equal(after[other], before[other])
    assert after[4] == before[4]


@given(SEEDS, st.sampled_from(["block", "agent"]))
def test_a_free_place_is_taken_exactly(seed, handle):
    before, wanted = start(seed), np.array([0.5, 0.5])
    other = centre(BLOCK, before, "agent" if handle == "block" else "block")
    wanted = wanted if np.hypot(*(other - wanted)) > 0.35 else (other + 0.45) % 1.0 * 0.4 + 0.3
    if np.hypot(*(other - wanted)) <= 0.3:
        return
    after = BLOCK.drag(before, handle, *wanted)
    np.testing.assert_allclose(centre(BLOCK, after, handle), wanted, atol=1e-9)
    assert BLOCK.grab(after, *(wanted if handle == "agent" else after[2:4] / 512)) == handle


def test_a_block_dragged_onto_the_agent_stays_near():
    before = start(3)
    after = BLOCK.drag(before, "block", *(before[:2] / 512))
    assert clearance(after) >= 0.0
    assert 512 * np.hypot(*(centre(BLOCK, after, "block") - before[:2] / 512)) < 110


@given(SEEDS, st.floats(-7, 7))
def test_a_turn_is_possible_and_about_the_middle(seed, radians):
    before = BLOCK.drag(BLOCK.drag(start(seed), "block", 0.5, 0.4), "agent", 0.1, 0.9)
    after = BLOCK.spin(before, radians)
    assert after[4] == pytest.approx(before[4] + radians)
    np.testing.assert_allclose(centre(BLOCK, after, "block"), centre(BLOCK, before, "block"), atol=1e-9)
    assert valid_state(after, margin=0.0)


def test_a_turn_is_clockwise_in_the_picture():
    before = np.array([50.0, 50.0, 256.0, 256.0 - 45.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])  # the stem points down
    stem = BLOCK.outline(BLOCK.spin(before, np.pi / 2), "block")[0][4:6].mean(axis=0)
    np.testing.assert_allclose(stem, (0.5 - 75 / 512, 0.5), atol=1e-9)


@given(SEEDS, PLACES, PLACES, st.booleans())
def test_a_goal_is_possible_and_takes_its_agent_along(seed, x, y, with_agent):
    goal = start(seed)
    goal[:2] = goal[:2] if with_agent else np.nan
    moved = BLOCK.goal(goal, x, y)
    assert np.isnan(moved[:2]).all() != with_agent
    assert valid_state(np.nan_to_num(moved, nan=256.0), margin=0.0)
    assert moved[4] == goal[4]
    if with_agent:
        assert clearance(moved) >= 0.0


def test_a_goal_goes_where_it_is_put_with_its_agent_beside_it():
    goal = BLOCK.drag(BLOCK.drag(start(1), "block", 0.4, 0.4), "agent", 0.4, 0.7)
    moved = BLOCK.goal(goal, 0.6, 0.5)
    np.testing.assert_allclose(centre(BLOCK, moved, "block"), (0.6, 0.5), atol=1e-9)
    np.testing.assert_allclose(centre(BLOCK, moved, "agent"), (0.6, 0.8), atol=1e-9)


def test_a_dragged_scene_stays_where_it_is_under_the_physics():
    after = BLOCK.drag(start(5), "block", 0.98, 0.02)
    later = PushTSimulator().rollout(after[None], np.zeros((1, 1, 5, 2)))[0, 0, -1]
    np.testing.assert_allclose(later[2:5], after[2:5], atol=0.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_outlines_of_pusht_cover_the_picture(seed):
    state = start(seed)
    picture = render_states(state[None], 256)[0].astype(int)
    quantities = {
        "agent": state[:2],
        "block": state[2:4],
        "angle": 3.0 * np.array([np.sin(state[4]), np.cos(state[4])]),
    }
    block, agent = BLOCK.sketch(quantities)
    blue = picture[..., 2] - picture[..., 0] > 80
    grey = (picture.sum(axis=-1) < 600) & ~blue
    grey[:6], grey[-6:], grey[:, :6], grey[:, -6:] = False, False, False, False
    assert overlap(agent, blue) > 0.85
    assert overlap(block, grey) > 0.85


def overlap(outline, mask):
    """Intersection over union of a polygon in [0, 1] and a picture's mask."""
    image = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(image).polygon([tuple(point) for point in outline * len(mask)], fill=1)
    drawn = np.asarray(image)
    return (drawn & mask).sum() / (drawn | mask).sum()


def test_a_sketch_draws_what_is_known():
    assert len(BLOCK.sketch({"agent": np.zeros(2)})) == 1
    assert len(BLOCK.sketch({"block": np.zeros(2)})) == 0
    assert len(ROOMS.sketch({})) == 0


@given(PLACES, PLACES)
def test_what_is_dragged_in_two_room_slides_out_of_the_walls(x, y):
    before = np.array([0.2, 0.2])
    for after in (ROOMS.drag(before, "agent", x, y), ROOMS.goal(before, x, y)):
        assert is_free(after)
        if is_free(np.array([x, y])):
            np.testing.assert_allclose(after, (x, y))
    np.testing.assert_array_equal(before, (0.2, 0.2))


@pytest.mark.parametrize(("x", "side"), [(0.49, -1), (0.51, 1)])
def test_a_place_in_the_wall_goes_to_the_nearer_side(x, side):
    after = ROOMS.drag(np.array([0.2, 0.2]), "agent", x, 0.2)
    assert np.sign(after[0] - 0.5) == side
    assert after[0] == pytest.approx(0.5 + side * (7 + 7) / 224, abs=1e-3)
    assert after[1] == pytest.approx(0.2)


def test_the_outline_of_two_room_covers_the_picture():
    state = np.array([0.3, 0.7])
    picture = render_rooms(state[None], 256, Scene())[0].astype(int)
    assert overlap(ROOMS.outline(state, "agent")[0], picture[..., 0] - picture[..., 2] > 80) > 0.85
    np.testing.assert_array_equal(ROOMS.spin(state, 1.0), state)
    assert ROOMS.grab(state, 0.31, 0.69) == "agent"
    assert ROOMS.grab(state, 0.5, 0.5) is None


@pytest.mark.parametrize(
    "name", [n for n in registry.names("environments") if registry.load("environments", n).playground]
)
def test_every_playground_moves_what_can_be_grabbed(name):
    task = registry.load("environments", name)
    playground, env = task.playground(), task.make_vector(num_envs=1, obs_type="state")
    _, info = env.reset(seed=3)
    env.close()
    state = np.asarray(info["state"][0], float)
    for handle in playground.handles:
        moved = playground.drag(state, handle, 0.7, 0.3)
        assert moved.shape == state.shape
        assert playground.grab(moved, *centre(playground, moved, handle)) == handle
    with pytest.raises(ValueError, match="unknown handle 'wall'"):
        playground.drag(state, "wall", 0.5, 0.5)


def test_the_tasks_that_have_a_window_have_a_playground():
    names = {n for n in registry.names("environments") if registry.load("environments", n).playground}
    assert {"pusht", "two-room"} <= names
