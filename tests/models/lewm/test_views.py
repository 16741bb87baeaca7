"""A preset is not trained under symmetries that its task has not."""

import pytest

from wmkit import registry
from wmkit.errors import UserError
from wmkit.models.lewm import presets


def check(preset, task):
    presets._check_views(preset, registry.load("environments", task).symmetries, task)


def test_a_tilted_camera_has_no_symmetry():
    with pytest.raises(UserError, match=r"push-cube has not the symmetry representation\.views=dihedral.*to none$"):
        check(presets.TINY, "push-cube")
    check(presets.CUBE, "push-cube")


def test_rooms_may_be_flipped_but_not_turned():
    check(presets.ROOMS, "two-room")
    with pytest.raises(UserError, match="to none, flip"):
        check(presets.TINY, "two-room")
    check(presets.TINY, "pusht")


def test_who_says_nothing_is_let_be():
    presets._check_views(presets.TINY, None, "mine")
