"""Reactions on made-up surprises: when they answer, with what, and that rows do not know of each other."""

import logging

import numpy as np
import pytest

from wmkit.monitor.reactions import by_kind, hand_over, hold, log, replan, slow_down, together
from wmkit.monitor.report import Response, Surprise


def surprises(alarms, row=0, kinds=None):
    """Return the surprises of one row, an alarm where there is a 1, of kind "state" by default."""
    found, before = [], False
    for step, mark in enumerate(alarms):
        alarm = mark == "1"
        kind = (kinds[step] if kinds else "state") if alarm else None
        found.append(Surprise(row, step, 2.0 * alarm, alarm, alarm and not before, kind, text="moved" * alarm))
        before = alarm
    return found


def marks(reaction, sequence, of):
    """Return a 1 for each surprise whose response has the property."""
    return "".join(str(int(bool(response and of(response)))) for response in map(reaction, sequence))


def planned(response):
    return response.replan


def test_replan_answers_the_beginning_or_all_of_an_alarm():
    assert marks(replan(), surprises("0111011"), planned) == "0100010"
    assert marks(replan(lasting=True), surprises("0111011"), planned) == "0111011"


def test_slow_down_scales_while_the_alarm_is_on_and_then_plans_anew():
    reaction, sequence = slow_down(0.25), surprises("01100")
    responses = [reaction(surprise) for surprise in sequence]
    assert responses == [None, Response(scale=0.25), Response(scale=0.25), Response(replan=True), None]


def test_hold_without_an_action_is_the_action_zero_and_with_one_that_action():
    assert hold()(surprises("1")[0]) == Response(scale=0.0)
    reaction = hold([0.5, -1.0])
    policy = reaction(surprises("1")[0]).policy
    first = policy({"state": np.zeros(3)})
    first[:] = 9
    np.testing.assert_array_equal(policy({"state": np.ones(3)}), np.array([0.5, -1.0], np.float32))
    assert marks(reaction, surprises("01101"), lambda response: response.policy is not None) == "01101"


def test_hand_over_lasts_until_the_alarm_was_off_for_long_enough():
    def policy(observation):
        return np.zeros(2)

    reaction, sequence = hand_over(policy, calm=3), surprises("0100101000010")
    assert marks(reaction, sequence, lambda response: response.policy is policy) == "0111111110011"
    again = hand_over(policy, calm=3)
    assert marks(again, sequence, planned) == "0000000001000"


@pytest.mark.parametrize("make", [lambda: slow_down(0.5), lambda: hand_over(np.asarray, calm=4), lambda: log(), replan])
def test_rows_are_independent(make, caplog):
    caplog.set_level(logging.INFO)
    patterns = ["011100011", "000111000", "000000000"]
    alone = [list(map(make(), surprises(pattern, row))) for row, pattern in enumerate(patterns)]
    shared = make()
    mixed = [[shared(s) for s in step] for step in zip(*(surprises(p, r) for r, p in enumerate(patterns)), strict=True)]
    assert [list(column) for column in zip(*mixed, strict=True)] == alone


def test_a_new_episode_starts_without_what_was_remembered():
    reaction = hand_over(np.asarray, calm=9)
    assert marks(reaction, surprises("01"), lambda response: response.policy) == "01"
    assert marks(reaction, surprises("000"), lambda response: response.policy or response.replan) == "000"


def test_log_says_one_line_at_each_end(caplog, capsys):
    caplog.set_level(logging.INFO)
    reaction = log()
    for surprise in [*surprises("01110"), *surprises("01"), *surprises("00")]:
        assert reaction(surprise) is None
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "row 0, step 1: moved"),
        ("INFO", "row 0, step 4: the alarm is over, after 3 model steps"),
        ("WARNING", "row 0, step 1: moved"),
        ("INFO", "row 0, step 0: the alarm is over, with its episode"),
    ]
    assert capsys.readouterr().out == ""


def test_by_kind_asks_the_one_whose_kind_it_is():
    reaction = by_kind({"state": replan(), "dynamics": slow_down(0.5)})
    kinds = ["", "looks", "looks", "state", "dynamics", ""]
    responses = [reaction(surprise) for surprise in surprises("011110", kinds=kinds)]
    assert responses == [None, None, None, Response(replan=True), Response(scale=0.5), Response(replan=True)]


def test_by_kind_has_a_default_and_asks_a_shared_reaction_once():
    class Seen(list):
        def react(self, surprise):
            self.append(surprise.alarm)

    seen = Seen()
    reaction = by_kind({"state": seen.react, "looks": seen.react}, default=slow_down(0.1))
    assert marks(reaction, surprises("011", kinds=["", "state", "sensor"]), lambda r: r.scale == 0.1) == "001"
    assert seen == [False, True, False]


def test_a_reaction_for_two_kinds_is_not_told_of_a_second_beginning():
    shared = replan()
    reaction = by_kind({"state": shared, "dynamics": shared})
    assert marks(reaction, surprises("0111", kinds=["", "state", "dynamics", "state"]), planned) == "0100"


def test_together_joins_the_answers():
    def policy(observation):
        return np.zeros(1)

    reaction = together(replan(), slow_down(0.5), slow_down(0.2), hand_over(policy), hold([1.0]))
    assert reaction(surprises("1")[0]) == Response(True, 0.2, policy)
    assert reaction(Surprise(1, 3, 0.1, False, False)) is None


def test_what_records_is_told_of_each_step_through_any_composition():
    class Recorder:
        def __init__(self):
            self.seen = []

        def __call__(self, surprise):
            return None

        def record(self, observation, actions):
            self.seen.append((observation, actions))

    recorder = Recorder()
    reaction = by_kind({"dynamics": together(log(), recorder)}, default=log())
    reaction.record("observation", "actions")
    assert recorder.seen == [("observation", "actions")]


def test_wrong_numbers_and_names_are_refused():
    with pytest.raises(ValueError, match=r"factor is 1\.5; give a number in \[0, 1\]"):
        slow_down(1.5)
    with pytest.raises(ValueError, match="calm is 0"):
        hand_over(np.asarray, calm=0)
    with pytest.raises(ValueError, match="unknown kind 'colour'; known: looks, state"):
        by_kind({"colour": replan()})
