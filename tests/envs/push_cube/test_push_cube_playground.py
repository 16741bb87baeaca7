"""What the mouse does to PushCube is possible in it, and outlines lie where the camera sees the things."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from wmkit.envs.push_cube import PushCubeSimulator, hand_position
from wmkit.envs.push_cube.control import HEIGHT, HIGH, LOW
from wmkit.envs.push_cube.kinematics import CUBE, JOINTS, VELOCITIES, cube_yaw
from wmkit.envs.push_cube.model import CAMERAS
from wmkit.envs.push_cube.playground import PushCubePlayground, project, unproject
from wmkit.envs.push_cube.starts import ZONE_HIGH, ZONE_LOW, clearance, is_valid, make_start
from wmkit.envs.push_cube.task import PUSH_CUBE
from wmkit.envs.push_cube.variations import Variation

GROUND = PushCubePlayground()
PLACES = st.floats(-0.3, 1.3)
SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=25, deadline=None)


def start(seed, **variation):
    state = make_start({"variation": variation}, np.random.default_rng(seed)).state
    state[VELOCITIES] = 0.3
    return state


def sketch(state):
    return GROUND.sketch({name: read(state[None])[0] for name, read in PUSH_CUBE.probes.items()})


@given(st.floats(0.05, 0.95), st.floats(0.2, 0.95), st.floats(0.0, 0.1), st.sampled_from(sorted(CAMERAS)))
def test_a_place_of_the_picture_comes_back_from_the_table(x, y, height, camera):
    np.testing.assert_allclose(project(np.array([*unproject(x, y, height, camera), height]), camera), (x, y))


@pytest.mark.parametrize("camera", sorted(CAMERAS))
def test_the_cube_is_where_it_is_seen(camera):
    render = pytest.importorskip("wmkit.envs.push_cube.render").render_states
    state = start(0)
    state[: len(JOINTS)] = 0.0  # the arm is out of sight
    picture = render(state[None], 256, camera)[0].astype(int)
    red = np.argwhere(picture[..., 0] - picture[..., 2] > 80)[:, ::-1]
    assert len(red) > 200
    middle = (red.min(axis=0) + red.max(axis=0) + 1) / 2 / 256
    np.testing.assert_allclose(project(state[CUBE], camera), middle, atol=0.012)
    if camera == "front":
        np.testing.assert_allclose(GROUND.outline(state, "cube")[0].min(axis=0), red.min(axis=0) / 256, atol=0.006)
        np.testing.assert_allclose(GROUND.outline(state, "cube")[0].max(axis=0), red.max(axis=0) / 256, atol=0.006)


@pytest.mark.parametrize("size", [0.04, 0.05, 0.06])
def test_outlines_cover_the_picture(size):
    render = pytest.importorskip("wmkit.envs.push_cube.render").render_states
    state = start(3, **{"cube.size": size})
    picture = render(state[None], 256, variation=Variation(cube_size=size))[0].astype(int)
    red = picture[..., 0] - picture[..., 2] > 80
    image = Image.new("1", (256, 256))
    ImageDraw.Draw(image).polygon([tuple(point) for point in GROUND.outline(state, "cube")[0] * 256], fill=1)
    drawn = np.asarray(image)
    assert (drawn & red).sum() / (drawn | red).sum() > 0.85
    fingers = GROUND.outline(state, "hand")[0] * 256
    inside = picture[int(fingers[:, 1].min()) : int(fingers[:, 1].max()), int(fingers[:, 0].mean())]
    assert (np.abs(inside - np.array([222, 208, 190])).sum(axis=1) > 60).mean() > 0.6, "the hand, not the table"


@FEW
@given(SEEDS, st.sampled_from(["cube", "hand"]), PLACES, PLACES)
def test_what_is_dragged_is_free_within_reach_and_at_rest(seed, handle, x, y):
    before = start(seed)
    after = GROUND.drag(before, handle, x, y)
    assert clearance(after, Variation()) > 0.0
    assert is_valid(after)
    assert not after[VELOCITIES].any()
    if handle == "cube":
        np.testing.assert_array_equal(after[: len(JOINTS)], before[: len(JOINTS)])
        assert ((after[CUBE][:2] >= ZONE_LOW) & (after[CUBE][:2] <= ZONE_HIGH)).all()
        assert cube_yaw(after) == pytest.approx(cube_yaw(before))
    else:
        np.testing.assert_array_equal(after[6:13], before[6:13])
        hand = hand_position(after)
        assert hand[2] == pytest.approx(HEIGHT, abs=1e-3)
        assert ((hand[:2] > LOW[:2] - 1e-3) & (hand[:2] < HIGH[:2] + 1e-3)).all()


@FEW
@given(SEEDS, st.sampled_from(["cube", "hand"]))
def test_what_is_dragged_to_where_it_is_stays_there(seed, handle):
    before = start(seed)
    after = GROUND.drag(before, handle, *GROUND.place(before, handle))
    np.testing.assert_allclose(hand_position(after), hand_position(before), atol=2e-4)
    np.testing.assert_allclose(after[CUBE], before[CUBE], atol=1e-9)
    assert GROUND.grab(after, *GROUND.place(after, handle)) == handle


def test_a_free_place_is_taken_exactly():
    after = GROUND.drag(GROUND.drag(start(1), "hand", 0.75, 0.3), "cube", 0.4, 0.5)
    np.testing.assert_allclose(GROUND.place(after, "cube"), (0.4, 0.5), atol=1e-9)
    np.testing.assert_allclose(GROUND.place(after, "hand"), (0.75, 0.3), atol=1e-3)
    assert GROUND.grab(after, 0.1, 0.9) is None
    x, y = project(hand_position(after) + np.array([0.0, 0.0, 0.15]))
    assert GROUND.grab(after, x, y) == "hand", "by its palm"


@pytest.mark.parametrize(("handle", "other"), [("cube", "hand"), ("hand", "cube")])
def test_what_is_dragged_onto_the_other_stops_beside_it(handle, other):
    before = GROUND.drag(GROUND.drag(start(1), "hand", 0.5, 0.3), "cube", 0.5, 0.6)
    after = GROUND.drag(before, handle, *GROUND.place(before, other))
    assert 0.0 < clearance(after, Variation()) < 0.03


@FEW
@given(SEEDS, st.floats(-7, 7))
def test_a_turn_is_clockwise_and_leaves_the_place(seed, radians):
    before = GROUND.drag(GROUND.drag(start(seed), "hand", 0.8, 0.2), "cube", 0.4, 0.5)
    after = GROUND.spin(before, radians)
    np.testing.assert_allclose(after[CUBE], before[CUBE], atol=1e-12)
    turned = cube_yaw(before) - radians - cube_yaw(after)
    assert np.cos(turned) == pytest.approx(1.0)


def test_clockwise_is_meant_as_the_picture_shows_it():
    before = GROUND.drag(GROUND.drag(start(1), "hand", 0.75, 0.3), "cube", 0.4, 0.5)
    top = [GROUND.outline(GROUND.spin(before, angle), "cube")[1] for angle in (0.0, 0.1)]
    spokes = [corners - corners.mean(axis=0) for corners in top]
    assert (spokes[0][:, 0] * spokes[1][:, 1] - spokes[0][:, 1] * spokes[1][:, 0] > 0).all()


@FEW
@given(SEEDS, PLACES, PLACES)
def test_a_goal_is_possible_and_turned_as_before(seed, x, y):
    goal = make_start({}, np.random.default_rng(seed)).goal
    moved = GROUND.goal(goal, x, y)
    assert clearance(moved, Variation()) > 0.0
    assert is_valid(moved)
    assert cube_yaw(moved) == pytest.approx(cube_yaw(goal))


def test_a_goal_goes_where_it_is_put_with_the_hand_on_the_same_side():
    goal = GROUND.drag(GROUND.drag(start(1), "cube", 0.4, 0.4), "hand", 0.6, 0.4)
    moved = GROUND.goal(goal, 0.5, 0.6)
    np.testing.assert_allclose(GROUND.place(moved, "cube"), (0.5, 0.6), atol=1e-9)
    before, after = (hand_position(one)[:2] - one[CUBE][:2] for one in (goal, moved))
    assert before @ after / np.linalg.norm(before) / np.linalg.norm(after) > 0.98


def test_a_dragged_scene_stays_where_it_is_under_the_physics():
    after = GROUND.drag(GROUND.drag(start(5), "cube", 0.9, 0.1), "hand", 0.9, 0.1)
    later = PushCubeSimulator().rollout(after[None], np.zeros((1, 1, 5, 2)))
    states = later if isinstance(later, np.ndarray) else np.asarray(later["state"])
    np.testing.assert_allclose(states[0, 0, -1, CUBE], after[CUBE], atol=1e-3)


@FEW
@given(SEEDS)
def test_the_probes_draw_what_the_state_does(seed):
    state = GROUND.spin(start(seed), 0.0)
    drawn = [*GROUND.outline(state, "cube"), *GROUND.outline(state, "hand")]
    for found, wanted in zip(sketch(state), drawn, strict=True):
        assert np.abs(found[:, None] - wanted[None]).max(axis=-1).min(axis=1).max() < 1e-6


def test_a_sketch_draws_what_is_known():
    assert len(GROUND.sketch({"hand": np.array([0.4, 0.0])})) == 1
    assert len(GROUND.sketch({"cube": np.array([0.4, 0.0])})) == 0
    assert len(GROUND.sketch({})) == 0
