"""A preset is not trained under symmetries that its task has not."""

from dataclasses import replace

import pytest

from wmkit import registry
from wmkit.errors import UserError
from wmkit.models.lewm import presets


def check(preset, task):
    presets._check_views(preset, registry.load("environments", task))


def test_a_tilted_camera_has_no_symmetry():
    with pytest.raises(UserError, match=r"push-cube has not the symmetry representation\.views=dihedral.*to none$"):
        check(presets.TINY, "push-cube")
    check(presets.CUBE, "push-cube")


def test_rooms_may_be_flipped_but_not_turned():
    check(presets.ROOMS, "two-room")
    with pytest.raises(UserError, match="to none or flip"):
        check(presets.TINY, "two-room")
    check(presets.TINY, "pusht")


def test_five_or_six_numbers_are_not_turned_like_two():
    for task in ("ogbench-cube", "walker"):
        with pytest.raises(UserError, match=r"to none$"):
            check(presets.TINY, task)


def test_who_says_nothing_is_let_be():
    mine = replace(registry.load("environments", "pusht"), symmetries=None)
    presets._check_views(presets.TINY, mine)
    with pytest.raises(UserError, match=r"to none$"):
        presets._check_views(presets.TINY, replace(mine, action_low=(-1.0,) * 4, action_high=(1.0,) * 4))
