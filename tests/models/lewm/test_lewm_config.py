"""The configuration round-trips and refuses what it does not know."""

import dataclasses
import json

import pytest

from wmkit.errors import UserError
from wmkit.models.lewm import LeWMConfig


def test_json_round_trip(small):
    config = LeWMConfig(**small, inverse={"width": 8}, background=(10, 20, 30))
    assert LeWMConfig.from_json(config.to_json()) == config
    assert set(json.loads(config.to_json())) == {field.name for field in dataclasses.fields(LeWMConfig)}


def test_unknown_option_is_answered_with_the_list(small):
    with pytest.raises(
        UserError, match=r"unknown LeWM option latent_dim; known: image_size, latent_size, .*pixel_scale"
    ):
        LeWMConfig.from_dict(small | {"latent_dim": 3})


def test_missing_option_is_named(small):
    del small["latent_size"]
    with pytest.raises(UserError, match="lacks latent_size;"):
        LeWMConfig.from_dict(small)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"latent_size": 2.0}, "latent_size is 2.0"),
        ({"history": True}, "history is True"),
        ({"seconds_per_step": float("nan")}, "seconds_per_step is nan"),
        ({"action_low": (0.0,)}, "action_low has 1 numbers"),
        ({"action_low": (1.0, 0.0)}, "not below"),
        ({"pixel_scale": (1.0, 0.0, 1.0)}, "pixel_scale"),
        ({"background": (1.0,)}, "background"),
    ],
)
def test_bad_values_are_refused(small, change, text):
    with pytest.raises(ValueError, match=text):
        LeWMConfig(**(small | change))


def test_spec_says_what_the_configuration_says(small):
    spec = LeWMConfig(**small, pixel_key="camera").spec
    assert spec.observations["camera"].shape == (16, 16, 3)
    assert (spec.latent_size, spec.history, spec.action_repeat, spec.block_size) == (12, 3, 2, 4)
    assert (spec.action_low, spec.action_high, spec.seconds_per_step) == ((-1.0, -2.0), (1.0, 2.0), 0.2)
