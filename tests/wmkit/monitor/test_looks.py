"""What describes a picture's looks: colours and roughness, wherever things are."""

import numpy as np
import pytest

from wmkit.contracts import ModelSpec, ObservationSpec
from wmkit.monitor.looks import BLANK, ROUGHNESS, Looks, fingerprint

SPEC = ModelSpec(
    {"pixels": ObservationSpec((32, 32, 3), "uint8", 0, 255), "state": ObservationSpec((2,), "float32", -1, 1)},
    (-1.0,),
    (1.0,),
    1,
    1,
    2,
    0.1,
)


def scene(x=5, y=5, color=(200, 30, 30)):
    picture = np.full((32, 32, 3), 255, np.uint8)
    picture[y : y + 8, x : x + 8] = color
    return picture


def looks(*pictures):
    return Looks(SPEC)({"pixels": np.stack(pictures)}, len(pictures))


def test_a_thing_elsewhere_looks_the_same_and_one_of_another_colour_does_not():
    here, there, blue = looks(scene(), scene(17, 9), scene(color=(30, 30, 200)))
    np.testing.assert_allclose(here, there, atol=1e-6)
    assert np.abs(here - blue).max() == pytest.approx(64 / 1024)


def test_shares_of_colours_add_up_to_one():
    assert looks(scene())[0, :ROUGHNESS].sum() == pytest.approx(1.0)


def test_noise_is_rough_and_an_empty_picture_has_no_contrast():
    noisy = (scene() * np.random.default_rng(0).uniform(0.5, 1, (32, 32, 1))).astype(np.uint8)
    plain, rough, blank = looks(scene(), noisy, np.zeros((32, 32, 3), np.uint8))
    assert rough[ROUGHNESS] > 5 * plain[ROUGHNESS]
    assert blank[BLANK] == 0 < plain[BLANK]


def test_a_model_without_pictures_has_no_looks():
    spec = ModelSpec({"state": SPEC.observations["state"]}, (-1.0,), (1.0,), 1, 1, 2, 0.1)
    assert Looks(spec)({"state": np.zeros((3, 2))}, 3).shape == (3, 0)
    assert np.isnan(Looks(SPEC)(None, 3)).all()


def test_fingerprints_are_equal_for_equal_observations_alone():
    pair = {"pixels": np.stack([scene(), scene(6)]), "state": np.zeros((2, 2))}
    again = {key: value.copy() for key, value in pair.items()}
    assert fingerprint(pair, 2).tolist() == fingerprint(again, 2).tolist()
    assert len(set(fingerprint(pair, 2))) == 2
    again["state"][0, 0] = 1e-9
    assert fingerprint(pair, 2)[0] != fingerprint(again, 2)[0]
