"""The walker against dm-control's own, and its options, forms and pictures."""

import importlib.util
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import wmkit.envs  # noqa: F401
from wmkit.envs.walker import WalkerEnv, WalkerSimulator, WalkerVectorEnv, features, make_model
from wmkit.errors import UserError

STANDING = np.zeros(18)


def _actions(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 6)).astype(np.float32)


def _draws_pixels():
    try:
        WalkerEnv(obs_type="pixels", image_size=16).reset(seed=0)
    except UserError as error:
        return "libegl1 libgl1 libgles2" not in str(error)
    return True


needs_opengl = pytest.mark.skipif(not _draws_pixels(), reason="no OpenGL here")


@pytest.mark.parametrize("task", ["stand", "walk", "run"])
def test_equals_dm_control(task):
    suite = pytest.importorskip("dm_control.suite")
    theirs = suite.load("walker", task, task_kwargs={"random": 3})
    theirs.reset()
    data = theirs.physics.data
    env = WalkerEnv(task=task, obs_type="features")
    env.reset(options={"state": np.concatenate([data.qpos, data.qvel])})
    for action in _actions(200):
        expected, (seen, reward, _, _, info) = theirs.step(action), env.step(action)
        np.testing.assert_array_equal(info["state"], np.concatenate([data.qpos, data.qvel]))
        assert reward == pytest.approx(expected.reward, abs=1e-12)
        np.testing.assert_allclose(seen["features"], np.hstack(list(expected.observation.values())), atol=1e-12)


def test_starts_are_drawn_as_dm_control_draws_them():
    states = np.stack([WalkerEnv().reset(seed=seed)[1]["state"] for seed in range(400)])
    model = make_model()
    low, high = model.jnt_range[3:].T
    assert not states[:, :2].any()
    assert not states[:, 9:].any()
    assert (np.abs(states[:, 2]) <= np.pi).all()
    assert ((states[:, 3:9] >= low) & (states[:, 3:9] <= high)).all()
    reach = np.concatenate([[2 * np.pi], high - low])
    np.testing.assert_allclose(np.ptp(states[:, 2:9], axis=0) / reach, 1.0, atol=0.03)
    np.testing.assert_allclose(states[:, 2:9].std(axis=0) / reach, 12**-0.5, atol=0.03)


def test_dm_control_is_never_imported():
    code = (
        "import sys, gymnasium, wmkit.envs; gymnasium.make('wmkit/Walker-v0').reset(seed=0); "
        "sys.exit(any(name.split('.')[0] in ('dm_control', 'torch') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_missing_package_is_one_line_with_the_remedy():
    code = (
        "import importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *more: None if name == 'dm_control' else find(name, *more); "
        "import wmkit.envs.walker as w\ntry: w.WalkerEnv()\nexcept ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert "pip install 'wmkit[dm-control]'" in done.stdout


def test_without_opengl_states_work_and_pixels_name_the_packages(monkeypatch):
    monkeypatch.setattr("wmkit.envs.opengl._gl_context", lambda size: 1 / 0)
    WalkerEnv(obs_type="state").reset(seed=0)
    with pytest.raises(UserError, match=r"OpenGL.*libegl1 libgl1 libgles2.*obs_type='state'"):
        WalkerEnv(obs_type="pixels").reset(seed=0)


@pytest.mark.parametrize("count", [2, 9])
def test_a_batch_equals_its_environments_bit_for_bit(count):
    variations = [{}, "weak_ankle", {"heavy_torso": 1.0, "slippery": 0.5}] * 3
    batch = WalkerVectorEnv(count, autoreset_mode=AutoresetMode.DISABLED)
    singles = [WalkerEnv() for _ in range(count)]
    starts = [env.reset(seed=7 + i, options={"variation": variations[i]}) for i, env in enumerate(singles)]
    observation, _ = batch.reset(seed=7, options={"variation": variations[:count]})
    np.testing.assert_array_equal(observation["state"], [start[0]["state"] for start in starts])
    for step in range(40):
        actions = _actions(count, seed=step)
        _, rewards, _, _, info = batch.step(actions)
        alone = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        np.testing.assert_array_equal(info["state"], [one[-1]["state"] for one in alone])
        np.testing.assert_array_equal(rewards, [one[1] for one in alone])


@pytest.mark.parametrize("variation", [None, {"weak_ankle": 0.7, "heavy_torso": 0.3}])
@pytest.mark.parametrize("threads", [1, 3])
def test_simulator_equals_the_environment_bit_for_bit(variation, threads):
    env, actions = (
        WalkerEnv(variation=variation),
        np.stack([[_actions(30, 2 * b + n) for n in range(2)] for b in (0, 1)]),
    )
    starts = np.stack([env.reset(seed=seed)[1]["state"] for seed in (0, 1)])
    found = WalkerSimulator(variation, threads).rollout(starts, actions)
    assert found.shape == (2, 2, 30, 18)
    for b in range(2):
        for n in range(2):
            env.reset(options={"state": starts[b]})
            states = [env.step(action)[-1]["state"] for action in actions[b, n]]
            np.testing.assert_array_equal(found[b, n], states)


def test_simulator_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"expected \(B, 18\) and \(B, N, H, 6\)"):
        WalkerSimulator().rollout(np.zeros((2, 18)), np.zeros((1, 3, 4, 6)))


def test_features_follow_the_observed_state():
    env = WalkerEnv(obs_type="features")
    seen, info = env.reset(seed=3)
    np.testing.assert_array_equal(seen["features"], features(info["state"]))


def test_actions_are_clipped():
    env = WalkerEnv()
    env.reset(options={"state": STANDING})
    far = env.step(np.full(6, 7.0))[-1]["state"]
    env.reset(options={"state": STANDING})
    np.testing.assert_array_equal(env.step(np.ones(6))[-1]["state"], far)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": STANDING}, "unknown reset option 'goal'; known: state, variation, task"),
        ({"state": np.zeros(9)}, "expected 18 finite numbers"),
        ({"state": np.full(18, np.nan)}, "expected 18 finite numbers"),
        ({"task": "fly"}, "unknown walker reward 'fly'; known: walk, stand, run"),
        ({"variation": {"weak_knee": 1}}, "unknown walker variation 'weak_knee'; known: weak_ankle"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WalkerEnv().reset(options=options)


@pytest.mark.parametrize("keyword", ["obs_type", "render_mode", "task"])
def test_unknown_choices_are_refused_with_the_list(keyword):
    with pytest.raises(ValueError, match=r"unknown .*'nonsense'; (choose from|known:)"):
        WalkerEnv(**{keyword: "nonsense"})


def test_a_diverged_simulation_is_an_error():
    env = WalkerEnv()
    env.reset(options={"state": np.concatenate([np.zeros(9), np.full(9, 1e12)])})
    with pytest.raises(ValueError, match="diverged"):
        env.step(np.zeros(6))


def test_a_step_before_the_reset_is_refused():
    with pytest.raises(ValueError, match="reset"):
        WalkerEnv().step(np.zeros(6))


def test_a_masked_reset_leaves_the_others_alone():
    env = WalkerVectorEnv(3, autoreset_mode="disabled", max_episode_steps=4)
    env.reset(seed=0)
    before = env.step(_actions(3))[-1]["state"]
    _, info = env.reset(options={"reset_mask": [False, True, False], "state": STANDING, "task": "stand"})
    np.testing.assert_array_equal(info["state"][[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(info["state"][1], STANDING)
    assert [env.step(np.zeros((3, 6)))[3].tolist() for _ in range(4)][2:] == [[True, False, True], [True, True, True]]


@needs_opengl
def test_pictures_show_where_the_walker_is():
    env = WalkerEnv(obs_type="pixels_state", image_size=96, render_mode="rgb_array")
    upright = env.reset(options={"state": STANDING})[0]["pixels"].astype(int)
    lying = env.reset(options={"state": np.eye(18)[2] * np.pi / 2 - np.eye(18)[0]})[0]["pixels"].astype(int)
    skin = [np.argwhere(frame[..., 0] > frame[..., 2] + 40) for frame in (upright, lying)]
    tall, wide = (np.ptp(pixels, axis=0) for pixels in skin)
    assert tall[0] > 3 * tall[1]
    assert wide[1] > 1.5 * wide[0]
    shot = env.render()
    assert shot.shape == (480, 480, 3)
    assert shot.std() > 10
    env.close()


@needs_opengl
def test_pictures_do_not_give_the_variation_away():
    env = WalkerEnv(obs_type="pixels", image_size=32)
    plain = env.reset(options={"state": STANDING})[0]["pixels"]
    heavy = env.reset(options={"state": STANDING, "variation": {"heavy_torso": 1.0, "broken_sensor": 1.0}})[0]["pixels"]
    np.testing.assert_array_equal(plain, heavy)


def test_registered_forms():
    assert isinstance(gymnasium.make("wmkit/Walker-v0").unwrapped, WalkerEnv)
    envs = gymnasium.make_vec("wmkit/Walker-v0", 2, vectorization_mode="vector_entry_point")
    assert isinstance(envs, WalkerVectorEnv)


@needs_opengl
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_triton_can_be_imported_after_rendering():
    code = "from wmkit.envs.walker.render import render_states as draw; import numpy; draw(numpy.zeros((1, 18)))"
    done = subprocess.run([sys.executable, "-c", f"{code}; import triton"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
