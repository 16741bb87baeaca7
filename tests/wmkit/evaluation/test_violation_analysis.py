"""The study's arithmetic on traces with known answers."""

import dataclasses
import json

import numpy as np
import pytest

from wmkit.evaluation.statistics import wilson
from wmkit.evaluation.violation import Trace
from wmkit.evaluation.violation_analysis import (
    analyse,
    delays,
    detection,
    false_alarms,
    kinds_after,
    told_apart,
)
from wmkit.evaluation.violation_effects import Timing, aggregate, effects, separation
from wmkit.monitor.report import KINDS

STEPS = np.arange(11) * 5
LOOKS, STATE, DYNAMICS = (KINDS.index(name) for name in ("looks", "state", "dynamics"))


def _trace(alarms, score=None, kinds=None, **signals):
    """A trace from the places of each row's alarms."""
    alarm = np.zeros((len(alarms), len(STEPS)), bool)
    for row, places in enumerate(alarms):
        alarm[row, list(places)] = True
    kind = np.where(alarm, LOOKS, -1) if kinds is None else np.asarray(kinds)
    score = np.where(alarm, 2.0, 0.5) if score is None else score
    return Trace(STEPS, score, alarm, kind, signals)


def _timing(moments, window=20):
    return Timing(STEPS, np.asarray(moments), second=10, window=window)


def test_an_alarm_counts_from_the_first_observation_that_can_show_the_change():
    timing = _timing([10, 10, 12, 12])
    delay, already = delays(_trace([{2}, {3}, {3}, {9}]).alarm, timing)
    np.testing.assert_array_equal(delay, [np.nan, 5, 3, 33])
    np.testing.assert_array_equal(already, [True, False, False, False])


def test_an_episode_in_alarm_before_the_change_is_not_detected_even_if_a_new_alarm_begins():
    delay, already = delays(_trace([{1, 2, 5}, {1, 5}]).alarm, _timing([12, 12]))
    np.testing.assert_array_equal(delay, [np.nan, 13])
    np.testing.assert_array_equal(already, [True, False])


def test_detection_rates_by_hand():
    found = detection(_trace([{3}, {4}, {5}, {9}, {2, 3}]), _timing([12] * 5))
    assert [found[key]["count"] for key in ("next", "second", "steps_20", "ever")] == [1, 2, 3, 4]
    assert found["ever"]["of"] == 4
    assert found["ever"]["wilson"] == list(wilson(4, 4))
    assert found["already"] == 1
    assert found["delay_median"] == pytest.approx((8 + 13) / 2)
    assert found["delay_90"] == pytest.approx(np.quantile([3, 8, 13, 33], 0.9))


def test_nothing_detected_has_no_delay():
    found = detection(_trace([set(), set()]), _timing([12, 12]))
    assert found["ever"]["count"] == 0
    assert found["delay_median"] is None
    json.dumps(found, allow_nan=False)


def test_false_alarms_count_judged_observations_only():
    score = np.full((4, len(STEPS)), 0.5)
    score[:, 0] = np.nan
    score[0, 3] = 2.0
    found = false_alarms(_trace([{3, 4}, set(), {7}, set()], score))
    assert found["steps"] == 40
    assert found["on"]["count"] == 3
    assert found["on"]["share"] == pytest.approx(3 / 40)
    assert found["exceeding"]["count"] == 1
    assert found["rises"]["count"] == 2
    assert found["per_episode"]["count"] == 2
    assert found["per_episode"]["wilson"] == list(wilson(2, 4))
    low, high = found["on"]["bootstrap"]
    assert low == 0.0
    assert 3 / 40 < high <= 2 / 10


def test_the_bootstrap_draws_episodes_not_steps():
    together = false_alarms(_trace([set(range(1, 11)), *[set()] * 19]))["on"]
    apart = false_alarms(_trace([*[{5}] * 10, *[set()] * 10]))["on"]
    assert together["share"] == apart["share"]
    assert together["bootstrap"][1] > 2 * apart["bootstrap"][1]


def test_the_kind_is_the_first_or_the_last_within_the_window_under_an_alarm():
    kinds = np.full((3, len(STEPS)), -1)
    kinds[0, 3], kinds[0, 5], kinds[0, 8] = STATE, DYNAMICS, LOOKS
    kinds[1, 8] = LOOKS
    kinds[2, 2:5] = STATE
    trace = _trace([{3, 4, 5, 8}, {8}, {2, 3, 4}], kinds=kinds)
    timing = _timing([12, 12, 12])
    assert kinds_after(trace, timing, "first").tolist() == [STATE, -1, -1]
    assert kinds_after(trace, timing, "last").tolist() == [DYNAMICS, -1, -1]


def test_told_apart_by_hand():
    found = told_apart(np.array([LOOKS, LOOKS, STATE, -1]), np.array([STATE, STATE, STATE, DYNAMICS]))
    assert (found["alarmed"]["count"], found["alarmed"]["of"]) == (5, 7)
    assert (found["all"]["count"], found["all"]["of"]) == (5, 8)
    assert found["confused"]["count"] == 1
    assert (found["looks"]["count"], found["looks"]["of"]) == (2, 3)
    assert (found["state"]["count"], found["state"]["of"]) == (3, 4)


def test_episodes_over_before_their_change_count_for_false_alarms_alone():
    timing = _timing([12, 12, 12])
    ends = np.array([50, 12, 15])
    nominal, changed = (
        dataclasses.replace(_trace(alarms), ends=ends) for alarms in ([set(), {1}, set()], [{3}, {1}, set()])
    )
    result = analyse(nominal, {"mass": changed}, timing, {"mass": 0.5})
    assert result["over_before"] == 1
    assert result["false_alarms"]["per_episode"]["count"] == 1
    found = result["conditions"]["mass"]
    assert (found["detection"]["ever"]["count"], found["detection"]["ever"]["of"]) == (1, 2)
    assert found["detection"]["already"] == 0
    assert found["same_before"]["count"] == 2
    assert found["kinds_last"] == {"none": 1, "looks": 1}
    assert found["effects"]["score"]["pairs"] == 2


def test_nothing_to_tell_apart():
    assert told_apart(np.array([-1]), np.array([-1]))["alarmed"] is None


def test_aggregators_by_hand():
    window = np.full((2, 25), np.nan)
    window[0, :20] = np.arange(20)
    found = aggregate(window, tail_from=17.0)
    assert found["mean"][0] == pytest.approx(9.5)
    assert found["maximum"][0] == 19
    assert found["worst tenth"][0] == pytest.approx(18.5)
    assert found["tail"][0] == pytest.approx(1 + 2)
    assert all(np.isnan(values[1]) for values in found.values())


def _noise(seed, rows=40, scale=1.0):
    score = np.exp(np.random.default_rng(seed).normal(0, 0.2, (rows, len(STEPS))))
    score[:, 4:7] *= scale
    return score


def test_separation_looks_at_the_window_alone():
    timing = _timing([18] * 40, window=15)
    nominal = _trace([set()] * 40, _noise(0), other=_noise(1))
    changed = _trace([set()] * 40, _noise(2, scale=20.0), other=_noise(3))
    found = separation(nominal, changed, timing)
    assert found["score"] == {"mean": 1.0, "maximum": 1.0, "worst tenth": 1.0, "tail": 1.0}
    assert 0.3 < found["other"]["maximum"] < 0.7
    outside = separation(nominal, changed, _timing([33] * 40, window=15))
    assert 0.3 < outside["score"]["maximum"] < 0.7


def test_effects_are_paired_and_logarithmic_and_corrected():
    timing = _timing([18] * 40, window=15)
    base = _noise(0)
    doubled = _trace([set()] * 40, 2 * base * _noise(4) ** 0.01)
    found = effects(_trace([set()] * 40, base), {"a": doubled, "b": _trace([set()] * 40, _noise(5))}, timing)
    one, other = found["a"]["score"], found["b"]["score"]
    assert one["logarithm"]
    assert one["ratio"] == pytest.approx(2.0, rel=0.02)
    assert one["d_z"] > 20
    assert one["wilcoxon"] < 1e-8
    assert one["wilcoxon_holm"] == pytest.approx(2 * one["wilcoxon"])
    assert one["t"] < 1e-20
    assert other["wilcoxon"] > 0.01
    assert abs(other["d_z"]) < 0.5


def test_a_signal_that_reaches_zero_is_compared_as_it_is():
    timing = _timing([18] * 40, window=15)
    zero, some = np.zeros((40, len(STEPS))), _noise(0)
    found = effects(_trace([set()] * 40, zero), {"a": _trace([set()] * 40, some)}, timing)["a"]["score"]
    assert not found["logarithm"]
    assert found["difference"] > 0.5


def test_signals_unknown_everywhere_give_none_and_plain_json():
    timing = _timing([18] * 4)
    unknown = np.full((4, len(STEPS)), np.nan)
    quiet = _trace([set()] * 4, _noise(0, 4), disagreement=unknown)
    result = analyse(quiet, {"teleport": quiet, "colour": quiet}, timing, {"teleport": 1.0, "colour": 0.5})
    assert result["conditions"]["colour"]["auroc"]["disagreement"]["mean"] is None
    assert result["conditions"]["colour"]["effects"]["disagreement"]["d_z"] is None
    assert result["conditions"]["colour"]["auroc"]["score"]["maximum"] == 0.5
    assert result["told_apart"]["alarmed"] is None
    assert json.loads(json.dumps(result, allow_nan=False))["conditions"]["teleport"]["strength"] == 1.0
