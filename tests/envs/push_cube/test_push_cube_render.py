"""PushCube's pictures: what is in them and what is not, and what happens where they cannot be drawn."""

import os
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wmkit.envs.push_cube import PushCubeEnv, PushCubeVectorEnv
from wmkit.envs.push_cube.control import joints_at
from wmkit.envs.push_cube.kinematics import CUBE
from wmkit.envs.push_cube.model import CAMERAS
from wmkit.errors import UserError

CUBES_RED = (200, 40, 40)
NO_OPENGL = r"PushCube's pixels need OpenGL.*apt-get install libegl1 libgl1 libgles2.*obs_type='state'"


def _draws_pixels():
    try:
        PushCubeEnv(image_size=16).reset(seed=0)
    except UserError as error:
        return "libegl1 libgl1 libgles2" not in str(error)
    return True


needs_opengl = pytest.mark.skipif(not _draws_pixels(), reason="no OpenGL here")


def _state(cube=(0.5, 0.1), hand=(0.35, -0.1)):
    state = np.zeros(25)
    state[:6], state[CUBE], state[9] = joints_at((*hand, 0.05))[0], (*cube, 0.025), 1.0
    return state


def _seen(camera="front", variation=None, goal=(0.4, 0.1), state=None, **arguments):
    """What is seen of a scene, int (64, 64, 3)."""
    options = {"state": _state() if state is None else state, "goal": goal, "variation": variation or {}}
    env = PushCubeEnv(cameras=camera, **arguments)
    frame = env.reset(options=options)[0]["pixels"].astype(int)
    env.close()
    return frame


def _reddish(frame):
    return (frame[..., 0] > 1.6 * frame[..., 1]) & (frame[..., 0] > 1.6 * frame[..., 2])


def _changed(left, right):
    """Where two pictures differ, bool (S, S)."""
    return (left != right).any(axis=2)


@needs_opengl
@pytest.mark.parametrize("obs_type", ["pixels", "pixels_state", "pixels_proprioception"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_check_env_has_nothing_to_say_of_pictures(obs_type):
    env = PushCubeEnv(obs_type, 32, ("front", "top"), render_mode="rgb_array", randomise="all")
    check_env(env, skip_render_check=True)
    assert env.render().shape == (480, 480, 3)
    env.close()


@needs_opengl
def test_a_seed_fixes_the_pictures_and_a_batch_shows_what_each_shows_alone():
    batch = PushCubeVectorEnv(3, "pixels_state", cameras=("front", "side"), randomise="all", autoreset_mode="disabled")
    singles = [PushCubeEnv("pixels_state", cameras=("front", "side"), randomise="all") for _ in range(3)]
    seen, info = batch.reset(seed=5)
    alone = [env.reset(seed=5 + i) for i, env in enumerate(singles)]
    again = batch.reset(seed=5)
    for key in ("pixels", "pixels_side"):
        np.testing.assert_array_equal(again[0][key], seen[key])
        np.testing.assert_array_equal(again[1][f"goal_{key}"], info[f"goal_{key}"])
    assert (seen["pixels"][0] != seen["pixels"][1]).any()
    for step in range(4):
        for i, (one, _) in enumerate(alone):
            for key in ("pixels", "pixels_side", "state"):
                np.testing.assert_array_equal(seen[key][i], one[key], err_msg=f"{key} at {step}")
        for i in range(3) if step == 0 else ():
            np.testing.assert_array_equal(info["goal_pixels_side"][i], alone[i][1]["goal_pixels_side"])
        actions = np.random.default_rng(step).uniform(-1, 1, (3, 2))
        seen = batch.step(actions)[0]
        alone = [env.step(action)[:2] for env, action in zip(singles, actions, strict=True)]


@needs_opengl
def test_further_cameras_have_keys_of_their_own():
    env = PushCubeEnv("pixels_state", 48, "side,front,top")
    observation, info = env.reset(options={"state": _state(), "goal": (0.4, 0.1)})
    assert set(observation) == {"pixels", "pixels_front", "pixels_top", "state"} == set(env.observation_space)
    assert {"goal_pixels", "goal_pixels_front", "goal_pixels_top"} <= set(info)
    for key, camera in (("pixels", "side"), ("pixels_front", "front"), ("pixels_top", "top")):
        assert observation[key].shape == (48, 48, 3)
        np.testing.assert_array_equal(observation[key], _seen(camera, image_size=48))
    assert not {key for key in env.step((0, 0))[-1] if key.startswith("goal_pixels")}


@needs_opengl
@pytest.mark.parametrize(
    ("camera", "forward", "left"), [("front", (1, 0), (0, 1)), ("top", (1, 0), (0, 1)), ("side", (0, 1), (-1, 0))]
)
def test_cameras_show_the_cube_where_it_is(camera, forward, left):
    """`forward` and `left`: where the cube goes in the picture, in rows and columns, as it goes along x and y."""

    def middle(cube):
        return np.argwhere(_reddish(_seen(camera, state=_state(cube, hand=(0.30, 0.19))))).mean(axis=0)

    place = middle((0.46, -0.05))
    for moved, way in ((middle((0.54, -0.05)), forward), (middle((0.46, -0.11)), (-left[0], -left[1]))):
        along = (moved - place) @ way
        across = abs((moved - place) @ (-way[1], way[0]))
        assert along > 3 * across
        assert along > 3


@needs_opengl
def test_hand_and_arm_are_seen_but_for_pushed_joints_nothing_else_moves():
    near, far = _seen("top", state=_state(hand=(0.35, -0.1))), _seen("top", state=_state(hand=(0.40, -0.1)))
    assert _changed(near, far).sum() > 50
    np.testing.assert_array_equal(_reddish(near), _reddish(far))


@needs_opengl
def test_the_goals_picture_is_the_picture_at_the_goal():
    env = PushCubeEnv("pixels_state", cameras=("front", "top"))
    info = env.reset(seed=2)[1]
    seen = env.reset(options={"state": info["goal_state"], "goal": (0.4, 0.0)})[0]
    np.testing.assert_array_equal(seen["pixels"], info["goal_pixels"])
    np.testing.assert_array_equal(seen["pixels_top"], info["goal_pixels_top"])


@needs_opengl
def test_show_target_only_moves_the_mark():
    hidden, other = _seen(goal=(0.4, 0.1)), _seen(goal=(0.55, -0.1))
    np.testing.assert_array_equal(hidden, other)
    shown, moved = _seen(goal=(0.4, 0.1), show_target=True), _seen(goal=(0.55, -0.1), show_target=True)
    marks = [_changed(frame, hidden) for frame in (shown, moved)]
    assert all(4 < mark.sum() < 100 for mark in marks)
    assert not (marks[0] & marks[1]).any()
    env, plain = (PushCubeEnv("pixels_state", show_target=show) for show in (True, False))
    states = [one.reset(seed=0)[0]["state"] for one in (env, plain)]
    states += [one.step((0.3, 0.1))[0]["state"] for one in (env, plain)]
    np.testing.assert_array_equal(states[::2], states[1::2])


@needs_opengl
def test_colours_change_what_they_name():
    plain = _seen()
    blue = _seen(variation={"cube.color": (40, 40, 200)})
    where = _changed(blue, plain)
    assert where.sum() > 20
    assert (_reddish(plain) <= where).all()
    table = _changed(_seen(variation={"table.color": (90, 90, 90)}), plain)
    assert table.mean() > 0.4
    assert not (table & _reddish(plain)).any()
    np.testing.assert_array_equal(_seen(variation={"target.color": (9, 9, 9)}), plain)
    marked = [_seen(show_target=True, variation={"target.color": color}) for color in ((9, 9, 9), (250, 250, 9))]
    assert 4 < _changed(*marked).sum() < 100


@needs_opengl
def test_size_is_seen_and_mass_and_friction_are_not():
    plain = _seen("top")
    np.testing.assert_array_equal(_seen("top", variation={"cube.mass": 1.0, "cube.friction": 0.2}), plain)
    areas = [_reddish(_seen("top", variation={"cube.size": size}, image_size=128)).sum() for size in (0.04, 0.06)]
    assert areas[1] / areas[0] == pytest.approx((0.06 / 0.04) ** 2, rel=0.2)


@needs_opengl
def test_a_colour_changed_in_the_middle_lasts_until_it_is_restored_and_leaves_the_goal():
    env = PushCubeVectorEnv(2, "pixels", autoreset_mode="disabled")
    first, info = env.reset(seed=0)
    env.set_variation({"cube.color": (40, 40, 200)}, [False, True])
    changed = env.observe()["pixels"]
    np.testing.assert_array_equal(changed[0], first["pixels"][0])
    assert (changed[1] != first["pixels"][1]).any()
    env.set_variation(None)
    np.testing.assert_array_equal(env.observe()["pixels"], first["pixels"])
    _, after = env.reset(options={"reset_mask": [True, False]})
    np.testing.assert_array_equal(after["goal_pixels"][1], info["goal_pixels"][1])


@needs_opengl
def test_people_are_shown_the_target():
    env = PushCubeEnv("state", cameras="top", render_mode="rgb_array")
    frames = []
    for goal in ((0.4, 0.1), (0.55, -0.1)):
        env.reset(options={"state": _state(), "goal": goal})
        frames.append(env.render())
    assert frames[0].shape == (480, 480, 3)
    assert frames[0].dtype == np.uint8
    green = [np.argwhere((f[..., 1] > 1.3 * f[..., 0]) & (f[..., 1] > 1.3 * f[..., 2])) for f in frames]
    rows, columns = green[1].mean(axis=0) - green[0].mean(axis=0)
    assert rows > 100
    assert columns < -100
    assert PushCubeEnv("state").render() is None
    env.close()


@needs_opengl
def test_states_are_drawn_as_the_environment_draws_them():
    from wmkit.envs.push_cube.render import render_states

    states = np.stack((_state(), _state((0.4, 0.0), (0.6, 0.1))))
    for camera in CAMERAS:
        frames = render_states(states, 32, camera)
        for frame, state in zip(frames, states, strict=True):
            np.testing.assert_array_equal(frame, _seen(camera, state=state, image_size=32))
    with pytest.raises(ValueError, match="unknown camera 'back'; choose from front, side, top"):
        render_states(states, camera="back")


def test_without_opengl_states_work_and_pixels_name_the_packages(monkeypatch):
    monkeypatch.setattr("wmkit.envs.opengl._gl_context", lambda size: 1 / 0)
    for obs_type in ("state", "proprioception"):
        env = PushCubeEnv(obs_type, render_mode="rgb_array")
        env.reset(seed=0)
        env.step((0.1, 0.2))
        with pytest.raises(UserError, match=NO_OPENGL):
            env.render()
    with pytest.raises(UserError, match=NO_OPENGL) as caught:
        PushCubeEnv("pixels").reset(seed=0)
    assert "\n" not in str(caught.value)


_SEES = """
from wmkit.envs.push_cube import PushCubeEnv, PushCubeSimulator
from wmkit.errors import UserError
for obs_type in ("state", "pixels", "pixels"):
    try:
        env = PushCubeEnv(obs_type)
        env.reset(seed=0)
        env.step((0.0, 0.1))
        print("fine")
    except UserError as error:
        print(error)
"""


def _run(code, **environment):
    """The lines that a program of its own prints."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    environment.pop("DISPLAY", None)
    done = subprocess.run(command, env=environment, check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_display_that_is_not_there_stops_pictures_alone():
    """Where MuJoCo is told to use a window system without a display."""
    pytest.importorskip("glfw")
    state, *pixels = _run(_SEES, MUJOCO_GL="glfw")
    assert state == "fine"
    assert len(pixels) == 2
    assert pixels[0] == pixels[1]
    assert "apt-get install libegl1 libgl1 libgles2" in pixels[0]


@pytest.mark.parametrize("kind", ["nonsense", "osmesa"])
def test_opengl_of_a_kind_that_cannot_be_had_stops_pictures_alone(kind):
    state, *pixels = _run(_SEES, MUJOCO_GL=kind)
    assert state == "fine"
    for line in pixels if kind == "nonsense" or pixels[0] != "fine" else ():
        assert f"MUJOCO_GL={kind!r}" in line
        assert "apt-get install libegl1 libgl1 libgles2" in line


@pytest.mark.parametrize(
    ("missing", "remedy"), [("dm_control", "pip install 'wmkit[dm-control]'"), ("mujoco", "pip install 'mujoco")]
)
def test_a_missing_package_is_one_line_with_the_remedy(missing, remedy):
    code = f"""
import sys
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more)
if {missing!r} == "mujoco":
    sys.modules["mujoco"] = None
{_SEES}"""
    lines = _run(code)
    assert len(lines) == 3
    assert all(remedy in line for line in lines)


def test_collecting_without_opengl_exits_with_one_line(tmp_path):
    code = """
import sys
from wmkit.envs import opengl
from wmkit.scripts.main import main
opengl._gl_context = lambda size: 1 / 0
sys.argv = ["wmkit", "collect", "push-cube", "--out", sys.argv[1], "--episodes", "2"]
sys.exit(main())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    done = subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "apt-get install libegl1 libgl1 libgles2" in done.stderr
    assert not (tmp_path / "data").exists()
