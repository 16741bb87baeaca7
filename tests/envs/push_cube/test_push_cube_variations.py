"""What each variation of PushCube does, and that it does nothing else."""

import numpy as np
import pytest

from wmkit.envs.push_cube import VARIATIONS, PushCubeEnv, PushCubeVectorEnv, make_variation, sample_variation
from wmkit.envs.push_cube.changes import CHANGES
from wmkit.envs.push_cube.kinematics import CUBE, CUBE_TURN
from wmkit.envs.push_cube.model import make_model, shared_model
from wmkit.envs.push_cube.variations import Variation

CUBES_BODY, CUBES_FREEDOMS = {15}, set(range(6, 12))


def _model(**named):
    return make_model(make_variation({name.replace("_", "."): value for name, value in named.items()}))


def _changed(left, right):
    """Names of the arrays and numbers of two models that differ -> the rows that do."""
    found = {}
    for part in ("", "stat", "opt"):
        one, two = (getattr(model, part) if part else model for model in (left, right))
        for name in (name for name in dir(one) if not name.startswith("_")):
            a, b = getattr(one, name), getattr(two, name)
            if isinstance(a, np.ndarray | float | int) and not np.array_equal(a, b):
                differing = np.atleast_1d(np.asarray(a) != np.asarray(b))
                found[f"{part}.{name}".strip(".")] = set(np.argwhere(differing)[:, 0].tolist())
    return found


def _slide(speed, steps=15, **named):
    """How far in m the cube slides that begins at a speed in m/s, and its last state."""
    variation = {name.replace("_", "."): value for name, value in named.items()}
    env = PushCubeEnv("state")
    state = env.reset(seed=0)[1]["state"]
    state[CUBE] = 0.9, 0.9, variation.get("cube.size", 0.05) / 2
    state[CUBE_TURN], state[19] = (1, 0, 0, 0), speed
    env.reset(options={"state": state, "goal": (0.4, 0.0), "variation": variation})
    after = [env.step((0, 0))[0]["state"] for _ in range(steps)][-1]
    return after[6] - state[6], after


def test_a_models_changes_are_where_they_should_be():
    plain = make_model()
    assert _changed(plain, make_model(make_variation({}))) == {}
    cube, table = plain.geom("cube").id, plain.geom("table").id
    assert plain.body("cube").id in CUBES_BODY
    assert _changed(plain, _model(cube_color=(1, 2, 3))) == {"geom_rgba": {cube}}
    assert _changed(plain, _model(table_color=(1, 2, 3))) == {"geom_rgba": {table}}
    assert _changed(plain, _model(target_color=(1, 2, 3))) == {"geom_rgba": {plain.geom("target").id}}
    assert _changed(plain, _model(cube_friction=0.3)) == {"geom_friction": {cube}}


def test_mass_and_size_change_the_cube_alone():
    plain, heavy, large = make_model(), _model(cube_mass=0.5), _model(cube_size=0.06)
    for other in (heavy, large):
        for name, rows in _changed(plain, other).items():
            allowed = CUBES_FREEDOMS if name.startswith("dof_") else CUBES_BODY if name.startswith("body_") else None
            derived = name.startswith(("cam_", "light_", "bvh_", "geom_")) or name == "body_subtreemass"
            assert derived or (allowed is not None and rows <= allowed), name
    np.testing.assert_allclose(heavy.body_mass - plain.body_mass, np.eye(16)[15] * 0.4, atol=1e-12)
    np.testing.assert_array_equal(heavy.geom_size, plain.geom_size)
    np.testing.assert_array_equal(large.body_mass, plain.body_mass)
    np.testing.assert_array_equal(large.geom("cube").size, np.full(3, 0.03))
    for model, mass, size in ((plain, 0.1, 0.05), (heavy, 0.5, 0.05), (large, 0.1, 0.06)):
        assert model.body("cube").mass[0] == mass
        np.testing.assert_allclose(model.body("cube").inertia, mass * size**2 / 6, rtol=1e-12)
        assert model.geom("cube").rbound[0] == pytest.approx(size / 2 * 3**0.5)


def test_scenes_share_a_model_and_a_made_one_is_the_callers_own():
    assert shared_model(make_variation({"cube.mass": 0.2})) is shared_model(make_variation({"cube.mass": 0.2}))
    make_model().body_mass[:] = 1.0
    assert make_model().body("cube").mass[0] == 0.1


@pytest.mark.parametrize("friction", [0.2, 0.4, 0.6, 0.9])
def test_a_sliding_cube_stops_where_friction_says(friction):
    """At v^2 / (2 mu g), less a few percent: the push of the soft contact at the start."""
    distance, after = _slide(1.0, cube_friction=friction)
    assert distance == pytest.approx(1.0 / (2 * friction * 9.81), rel=0.08)
    assert np.abs(after[19:]).max() < 1e-6
    assert after[7] == pytest.approx(0.9, abs=1e-6)


def test_a_heavier_cube_slides_as_far():
    distances = [_slide(1.0, cube_mass=mass)[0] for mass in (0.03, 0.1, 1.0)]
    np.testing.assert_allclose(distances, distances[0], rtol=1e-6)


def test_colours_do_not_change_the_physics():
    plain, coloured = _slide(1.0), _slide(1.0, cube_color=(0, 0, 255), table_color=(9, 9, 9), target_color=(0, 0, 0))
    np.testing.assert_array_equal(plain[1], coloured[1])


@pytest.mark.parametrize("as_text", [False, True])
def test_randomise_draws_what_it_names_at_every_reset_within_the_ranges(drawn, as_text):
    names = ("cube.mass", "cube.color")
    env = PushCubeVectorEnv(20, "state", randomise=",".join(names) if as_text else names)
    places = {"state": drawn["state"][:20], "goal": drawn["goal_state"][:20]}
    first, second = (env.reset(seed=seed, options=places)[1]["variation"] for seed in (0, None))
    for name, spec in VARIATIONS.items():
        found = np.concatenate((first[name], second[name]))
        if name in names:
            assert len(np.unique(found, axis=0)) == 40
            assert ((found >= spec.low) & (found <= spec.high)).all()
        else:
            np.testing.assert_array_equal(found, np.broadcast_to(spec.default, found.shape))
    again = env.reset(seed=0, options=places)[1]["variation"]
    for name in VARIATIONS:
        np.testing.assert_array_equal(again[name], first[name])
    given = env.reset(seed=0, options=places | {"variation": {"cube.mass": 0.5}})[1]["variation"]
    assert set(given["cube.mass"]) == {0.5}
    np.testing.assert_array_equal(given["cube.color"], np.tile(VARIATIONS["cube.color"].default, (20, 1)))


def test_all_varies_all_over_their_ranges():
    rng = np.random.default_rng(0)
    drawn = [sample_variation(rng) for _ in range(400)]
    assert set(drawn[0]) == set(VARIATIONS)
    for name, spec in VARIATIONS.items():
        values = np.array([one[name] for one in drawn], float)
        assert values.min() >= spec.low
        assert values.max() <= spec.high
        np.testing.assert_allclose((values.min(), values.max()), (spec.low, spec.high), rtol=0.05)
    assert np.median([one["cube.mass"] for one in drawn]) == pytest.approx((0.03 * 1.0) ** 0.5, rel=0.15)


def test_without_randomise_a_variation_lasts_one_episode():
    env = PushCubeEnv("state")
    assert env.reset(seed=0, options={"variation": {"cube.mass": 0.5}})[1]["variation"]["cube.mass"] == 0.5
    env.set_variation({"cube.friction": 0.3})
    assert env.step((0, 0))[-1]["variation"]["cube.friction"] == 0.3
    assert make_variation(env.reset()[1]["variation"]) == make_variation()


def test_the_info_restores_a_scene_exactly():
    env = PushCubeEnv("state", randomise="all")
    info = env.reset(seed=8)[1]
    again = PushCubeEnv("state")
    options = {"state": info["state"], "goal": info["goal_state"], "variation": info["variation"]}
    restored = again.reset(options=options)[1]
    assert again.variation() == env.variation()
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 2)):
        np.testing.assert_array_equal(env.step(action)[0]["state"], again.step(action)[0]["state"])
    np.testing.assert_array_equal(restored["goal_state"], info["goal_state"])


def test_the_size_stays_in_the_middle_of_an_episode():
    env = PushCubeEnv("state")
    env.reset(seed=0, options={"variation": {"cube.size": 0.06}})
    with pytest.raises(ValueError, match=r"cube.size cannot change in the middle of an episode; pass it at reset"):
        env.set_variation({"cube.size": 0.04, "cube.mass": 0.2})
    assert (env.variation()["cube.size"], env.variation()["cube.mass"]) == (0.06, 0.1)
    env.set_variation({"cube.size": 0.06, "cube.mass": 0.2})
    assert env.variation()["cube.mass"] == 0.2


def test_a_change_is_felt_from_then_on(drawn):
    state, goal = drawn["state"][0], drawn["goal_state"][0]
    light, heavy = PushCubeEnv("state"), PushCubeEnv("state")
    for env in (light, heavy):
        state[13:] = 0
        env.reset(options={"state": state + 0.3 * (np.arange(25) == 19), "goal": goal})
    heavy.set_variation({"cube.friction": 0.2})
    slid = [env.step((0, 0))[0]["state"][6] - state[6] for env in (light, heavy)]
    assert slid[1] > 1.2 * slid[0] > 0


@pytest.mark.parametrize(("name", "variation"), [("mass", "cube.mass"), ("friction", "cube.friction")])
def test_perturbations_grow_with_their_strength_and_stay_in_the_range(name, variation):
    rng = np.random.default_rng(0)
    values = [CHANGES[name](strength, rng)[variation] for strength in (0.0, 0.5, 1.0)]
    assert values[0] == pytest.approx(VARIATIONS[variation].default)
    assert values == sorted(values, reverse=name == "friction")
    assert values[-1] == pytest.approx(VARIATIONS[variation].high if name == "mass" else VARIATIONS[variation].low)
    assert [make_variation({variation: value}) for value in values]


def test_another_colour_is_another_at_every_strength():
    default = VARIATIONS["cube.color"].default
    for strength in (0.3, 1.0):
        found = CHANGES["colour"](strength, np.random.default_rng(0))["cube.color"]
        assert make_variation({"cube.color": found}).cube_color == tuple(found) != default
    assert CHANGES["colour"](0.0, np.random.default_rng(0))["cube.color"] == default


def test_a_variation_made_by_hand_is_checked():
    with pytest.raises(ValueError, match=r"cube.mass: expected a number from 0.03 to 1, got -1"):
        PushCubeEnv("state").reset(options={"variation": Variation(cube_mass=-1)})
    found = make_variation(Variation(cube_color=[1, 2, 3]))
    assert shared_model(found) is shared_model(make_variation({"cube.color": (1, 2, 3)}))


def test_names_round_trip():
    given = sample_variation(np.random.default_rng(0))
    assert make_variation(given).named() == given
    assert make_variation({name: np.array(value) for name, value in given.items()}).named() == given
