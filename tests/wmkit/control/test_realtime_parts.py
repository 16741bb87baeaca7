"""The parts of a real-time loop: buffer, intake, outlet, counters, clock."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmkit.control.realtime_buffer import ActionBuffer
from wmkit.control.realtime_clock import ManualClock, Metronome
from wmkit.control.realtime_counters import Histogram, Meter
from wmkit.control.realtime_intake import Intake, Seen
from wmkit.control.realtime_outlet import Outlet
from wmkit.linear_model import LinearModel

SAFE = np.float32([-1.0])
SPEC = LinearModel(torch.eye(1), torch.eye(1), action_repeat=2, history=3, bound=1.0).spec


def numbers(first, last):
    return np.arange(first, last, dtype=np.float32).reshape(-1, 1)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(-4, 6), st.integers(0, 6)),
            st.tuples(st.just("take"), st.integers(1, 4), st.just(0)),
        ),
        max_size=30,
    )
)
def test_buffer_equals_a_plain_list_of_what_was_planned_last(operations):
    """The reference is an array over all counts, written to from each plan's start on."""
    buffer, size = ActionBuffer(keep=200), 300
    reference, handed, label = np.full(size, np.nan), [], 0
    for name, number, length in operations:
        if name == "put":
            start, label = buffer.count + number, label + 100
            actions = numbers(label, label + length)
            lost = buffer.put(start, actions)
            assert lost == min(max(-number, 0), length)
            if lost < length:
                reference[max(start, 0) :] = np.nan
                placed = np.arange(start + lost, start + length)
                reference[placed] = actions[lost:, 0]
        else:
            for _ in range(number):
                expected, found = reference[buffer.count], buffer.next()
                assert (found is None) == np.isnan(expected)
                assert found is None or found[0] == expected
                handed.append(SAFE if found is None else found)
                buffer.take(handed[-1])
    window = buffer.window(0, buffer.count + 8, lambda before: SAFE)[:, 0]
    planned = reference[buffer.count : buffer.count + 8]
    assert window.tolist() == [a[0] for a in handed] + np.where(np.isnan(planned), SAFE[0], planned).tolist()
    gaps = np.flatnonzero(np.isnan(reference[buffer.count :]))
    assert buffer.left == gaps[0]


def test_window_holds_the_last_action_through_gaps():
    buffer = ActionBuffer(keep=10)
    buffer.take(np.float32([4]))
    buffer.put(2, numbers(7, 9))
    rest = np.float32([0])
    held = buffer.window(0, 6, lambda before: rest if before is None else before)
    assert held[:, 0].tolist() == [4, 4, 7, 8, 8, 8]
    assert buffer.window(3, 3, lambda before: rest).shape == (0, 1)


def test_clear_keeps_the_count_and_forgets_the_rest():
    buffer = ActionBuffer(keep=10)
    buffer.put(0, numbers(0, 5))
    buffer.take(np.float32([0]))
    buffer.clear()
    assert (buffer.count, buffer.origin, buffer.last, buffer.left) == (1, 1, None, 0)


def state(value=0.0):
    return {"state": np.float32([value])}


def intake(ticks=0, rate=10.0, max_age=0.5):
    found = Intake(SPEC, rate, max_age)
    for tick in range(ticks):
        found.acted(tick / rate)
    return found


@pytest.mark.parametrize(
    ("observation", "stamp", "reason"),
    [
        (state(), 4, "out of order"),
        (state(), 0.45, "stale"),
        (state(), 11, "future"),
        (state(), 1.2, "future"),
        (state(), 7, "repeated"),
        (state(), 6, "out of order"),
        (state(), float("nan"), "invalid"),
        (state(), "now", "invalid"),
        ({"state": np.zeros(2, np.float32)}, 9, "invalid"),
        ({"state": np.zeros((2, 1), np.float32)}, 9, "invalid"),
        ({"state": np.zeros(1, np.int64)}, 9, "invalid"),
        (state(float("nan")), 9, "invalid"),
        ({"pose": np.zeros(1, np.float32)}, 9, "invalid"),
        (None, 9, "invalid"),
    ],
)
def test_observations_are_refused_with_a_reason(observation, stamp, reason):
    found = intake(ticks=10)
    assert isinstance(found.take(state(), 7, 0.99), Seen)
    refused = found.take(observation, stamp, 0.99)
    assert not isinstance(refused, Seen)
    assert refused[0] == reason
    assert len(refused[1]) > 10
    assert isinstance(found.take(state(), 8, 0.99), Seen)


def test_stamps_in_seconds_become_counts():
    found = intake(ticks=10)
    counts = []
    for stamp in (0.61, 0.64, 0.66, 0.71, 0.90001, 0.949, 0.951, 0.999):
        seen = found.take(state(), stamp, 1.0)
        assert isinstance(seen, Seen)
        counts.append(seen.count)
    assert counts == [6, 6, 7, 7, 9, 9, 10, 10]


def test_history_ends_at_the_first_gap_and_at_a_reset():
    found = intake(rate=10.0, max_age=0.5)
    for tick in range(9):
        if tick != 3:
            seen = found.take(state(tick), tick, tick / 10)
            assert isinstance(seen, Seen)
            assert [each.count for each in found.history(seen)] == {
                0: [0], 1: [1], 2: [0, 2], 4: [0, 2, 4], 5: [5], 6: [2, 4, 6], 7: [5, 7], 8: [4, 6, 8],
            }[tick]  # fmt: skip
        found.acted(tick / 10)
    found.clear()
    seen = found.take(state(), 9, 0.9)
    assert isinstance(seen, Seen)
    assert len(found.history(seen)) == 1
    assert found.take(state(), 8, 0.9)[0] == "out of order"


def test_observations_are_copied():
    found, mine = intake(), state(1)
    seen = found.take(mine, None, 0.0)
    mine["state"][0] = 5
    assert isinstance(seen, Seen)
    assert seen.observation["state"].item() == 1


@pytest.mark.parametrize(
    ("safe", "expected"),
    [
        ("hold", [0.5]),
        ("zero", [0.0]),
        (np.array([0.25]), [0.25]),
        (np.array([7.0]), [1.0]),
        (lambda before: -before if before is not None else np.zeros(1), [-0.5]),
        (lambda before: np.zeros(1) if before is None else 1 / 0, [0.0]),
        (lambda before: np.zeros(1) if before is None else np.zeros(9), [0.0]),
    ],
)
def test_safe_actions(safe, expected):
    assert Outlet(SPEC, safe).safe(np.float32([0.5])).tolist() == expected


@pytest.mark.parametrize("safe", ["stop", np.zeros(2), np.array([np.nan]), lambda before: np.zeros(3)])
def test_unusable_safe_actions_are_refused(safe):
    with pytest.raises(ValueError, match="give"):
        Outlet(SPEC, safe)


@pytest.mark.parametrize(
    ("action", "expected", "changed"),
    [([0.5], [0.5], False), ([1.5], [1.0], True), ([np.nan], [0.0], True), ([0.0, 0.0], [0.0], True)],
)
def test_the_last_check(action, expected, changed):
    found, repaired = Outlet(SPEC, "zero").checked(np.float32(action))
    assert (found.tolist(), repaired) == (expected, changed)


@given(st.lists(st.floats(1e-5, 500), min_size=1, max_size=200), st.floats(0, 1))
def test_histogram_quantiles_are_right_to_a_bin(values, fraction):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = np.quantile(values, fraction, method="inverted_cdf")
    assert exact * 0.9999 <= histogram.quantile(fraction) <= exact * 1.0234
    assert sum(number for _, _, number in histogram.rows()) == len(values)


def test_counters_before_anything_happened():
    counters = Meter().snapshot()
    assert (counters.ticks, counters.safe, counters.miss_rate, dict(counters.refused)) == (0, 0, 0, {})
    assert np.isnan(counters.plan_p50)


def test_metronome_does_not_drift_and_leaves_out_what_is_past():
    clock = ManualClock(5.0)
    metronome, times = Metronome(10, clock), []
    for work in (0.03, 0.07, 0.0, 0.12, 0.02, 0.35, 0.0):
        metronome.wait()
        times.append(round(clock.now() - 5, 6))
        clock.sleep(work)
    assert times == [0.0, 0.1, 0.2, 0.3, 0.42, 0.5, 0.85]
    metronome.wait()
    assert round(clock.now() - 5, 6) == 0.9
    assert metronome.skipped == 2


def test_old_observations_are_stale_by_count_and_by_time():
    for stamp, fresh in ((4, 5), (0.48, 0.49)):
        found = intake(ticks=10)
        assert found.take(state(), stamp, 0.99)[0] == "stale"
        assert isinstance(found.take(state(), fresh, 0.99), Seen)
