"""Alarms rise, stay and fall as the settings say."""

import numpy as np
import pytest

from wmkit.monitor.hysteresis import Debounce, Hysteresis

ROW = np.array([0])


def alarms(scores, first=5, **settings):
    one = Hysteresis(Debounce(**settings), 1)
    found = []
    for step, score in enumerate(scores):
        one.update(np.array([score]), np.array([first + step]), ROW)
        found.append(bool(one.on[0]))
    return found


def test_falls_only_after_so_many_calm_steps_and_calm_is_below_the_release():
    assert alarms([2, 0.5, 0.9, 0.5, 0.5, 0.5]) == [True, True, True, True, False, False]


def test_one_step_above_is_no_alarm_where_two_are_needed():
    assert alarms([2, 0, 2, 2, 0], raise_after=2, clear_after=1) == [False, False, False, True, False]


def test_cannot_rise_while_it_settles_but_steps_above_do_not_count_then_either():
    assert alarms([2, 2, 2], first=0, settle=2) == [False, False, True]
    assert alarms([2, 2, 2], first=0, settle=2, raise_after=2) == [False, False, False]


def test_a_score_that_is_not_known_is_calm():
    assert alarms([2, np.nan, np.nan]) == [True, True, False]


def test_says_when_it_rose_and_rows_do_not_mix():
    both = Hysteresis(Debounce(clear_after=1), 2)
    assert both.update(np.array([2.0]), np.array([9]), np.array([1])).tolist() == [True]
    assert both.on.tolist() == [False, True]
    assert both.update(np.array([2.0, 2.0]), np.array([9, 9]), np.arange(2)).tolist() == [True, False]
    both.reset(np.array([False, True]))
    assert both.on.tolist() == [True, False]


@pytest.mark.parametrize(
    "bad", [{"raise_after": 0}, {"clear_after": 0}, {"release": 0.0}, {"release": 1.1}, {"settle": -1}]
)
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="at least"):
        Debounce(**bad)
