"""What each variation does, and that it does nothing else."""

import numpy as np
import pytest

from wmkit.envs.walker import (
    VARIATIONS,
    WalkerEnv,
    WalkerVectorEnv,
    center_of_mass_velocity,
    make_model,
    make_variation,
)

STANDING = np.zeros(18)
PUSH = np.array([0.3, -0.2, 1.0, 0.1, -0.3, 0.2])


def _states(env, steps=30, action=PUSH):
    return np.stack([env.step(action)[-1]["state"] for _ in range(steps)])


def _from_standing(variation, steps=30, action=PUSH):
    env = WalkerEnv(variation=variation)
    env.reset(options={"state": STANDING})
    return _states(env, steps, action)


def test_models_differ_from_dm_controls_only_where_they_should():
    plain, heavy = make_model(), make_model({"heavy_torso": 1.0})
    assert heavy.body("torso").mass[0] == 2 * plain.body("torso").mass[0]
    np.testing.assert_array_equal(heavy.body("torso").inertia, 2 * plain.body("torso").inertia)
    np.testing.assert_array_equal(heavy.body_mass[2:], plain.body_mass[2:])
    assert heavy.body_subtreemass[1] == pytest.approx(plain.body_subtreemass[1] + plain.body("torso").mass[0])
    np.testing.assert_array_equal(make_model({"broken_sensor": 1.0}).geom_friction, plain.geom_friction)


def test_a_model_is_the_callers_own():
    make_model("heavy_torso").body_mass[:] = 1.0
    assert make_model("heavy_torso").body("torso").mass[0] > 10


def test_weak_ankle_limits_one_torque_and_nothing_below_the_limit():
    gentle, strong = PUSH * [1, 1, 0.4, 1, 1, 1], PUSH
    np.testing.assert_array_equal(
        _from_standing({"weak_ankle": 0.5}, action=gentle), _from_standing(None, action=gentle)
    )
    limited = _from_standing({"weak_ankle": 0.5}, action=strong)
    np.testing.assert_allclose(limited, _from_standing(None, action=PUSH * [1, 1, 0.5, 1, 1, 1]), atol=1e-9)
    assert not np.allclose(limited, _from_standing(None, action=strong), atol=1e-3)


def test_slippery_floor_lets_a_slide_go_on():
    def speed(strength):
        env = WalkerEnv(variation={"slippery": strength})
        env.reset(options={"state": 2 * np.eye(18)[9 + 1]})
        return center_of_mass_velocity(_states(env, 6, np.zeros(6))[-1])

    assert speed(0.0) + 0.05 < speed(0.5) < speed(1.0) - 0.05


@pytest.mark.parametrize("name", ["weak_ankle", "heavy_torso", "slippery"])
def test_strength_zero_is_dm_controls_walker(name):
    np.testing.assert_array_equal(_from_standing({name: 0.0}), _from_standing(None))
    assert not np.allclose(_from_standing({name: 1.0}), _from_standing(None), atol=1e-6)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_broken_sensor_changes_two_observed_numbers_alone(zero, strength):
    env = WalkerEnv()
    start = env.reset(seed=4)[1]["state"]
    env.set_variation({"broken_sensor": strength, "broken_sensor.joint": "left_knee", "broken_sensor.zero": zero})
    for _ in range(5):
        observation, _, _, _, info = env.step(PUSH)
    true, stuck = info["state"], 0.0 * start if zero else start
    expected = true.copy()
    expected[[7, 16]] = (strength * stuck + (1 - strength) * true)[[7, 16]]
    np.testing.assert_allclose(observation["state"], expected, atol=1e-12)
    env.set_variation(None)
    observation, _, _, _, info = env.step(PUSH)
    np.testing.assert_array_equal(observation["state"], info["state"])


def test_a_sensor_freezes_anew_at_every_reset():
    env = WalkerEnv(variation={"broken_sensor": 1.0})
    for seed in (0, 1):
        start = env.reset(seed=seed)[1]["state"]
        np.testing.assert_array_equal(env.step(PUSH)[0]["state"][[4, 13]], start[[4, 13]])


def test_switching_mid_episode_continues_from_the_same_state():
    env = WalkerEnv()
    env.reset(options={"state": STANDING})
    before = _states(env, 5)
    assert env.step(PUSH)[-1]["variation"]["weak_ankle"] == 0
    env.set_variation("weak_ankle")
    _, _, _, _, info = env.step(PUSH)
    assert info["variation"]["weak_ankle"] == 0.5
    switched = _from_standing(None, 7)
    np.testing.assert_array_equal(before, switched[:5])
    assert 0 < np.abs(info["state"] - switched[6]).max() < 1.0
    assert env.reset(seed=0)[1]["variation"]["weak_ankle"] == 0


def test_the_constructors_variation_holds_for_every_reset_that_names_none():
    env = WalkerEnv(variation={"slippery": 0.25})
    assert env.reset(seed=0)[1]["variation"]["slippery"] == 0.25
    assert env.reset(options={"variation": "heavy_torso"})[1]["variation"] == make_variation("heavy_torso").named()
    assert env.reset()[1]["variation"]["slippery"] == 0.25


def test_a_batch_switches_by_mask():
    env = WalkerVectorEnv(3)
    env.reset(options={"state": STANDING})
    env.set_variation({"heavy_torso": 1.0}, mask=[True, False, False])
    _, _, _, _, info = env.step(np.tile(PUSH, (3, 1)))
    assert info["variation"]["heavy_torso"].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(info["state"][1], info["state"][2])
    assert not np.array_equal(info["state"][0], info["state"][1])


@pytest.mark.parametrize(
    ("variation", "message"),
    [
        ({"slippery": 1.5}, "'slippery' is 1.5; give a strength from 0 to 1"),
        ({"slippery": "much"}, "give a strength from 0 to 1"),
        ({"weak_ankle": float("nan")}, "give a strength"),
        ({"broken_sensor.joint": "elbow"}, "a whole number from 0 to 8, or one of rootz"),
        ({"broken_sensor.zero": 0.5}, "a whole number from 0 to 1"),
        ("weak_knee", "unknown walker variation 'weak_knee'; known: weak_ankle"),
        (3, "give a name or a mapping"),
    ],
)
def test_bad_variations_are_refused(variation, message):
    with pytest.raises(ValueError, match=message):
        make_variation(variation)


def test_names_round_trip():
    given = {"weak_ankle": 0.1, "heavy_torso": 0.2, "slippery": 0.3, "broken_sensor": 0.4}
    given |= {"broken_sensor.joint": 7.0, "broken_sensor.zero": 1.0}
    assert set(given) == set(VARIATIONS)
    assert make_variation(given).named() == given
    assert make_variation(make_variation(given).named()) == make_variation(given)
