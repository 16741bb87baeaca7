"""Turns, ratios, and peers that live in another Python."""

import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit import timing
from wmkit.errors import UserError
from wmkit.timing import Peer, PeerPackage, Ratio, Timed, p99, per_unit, ratio, stopwatch, take_turns

PACKAGE = PeerPackage("other-package", "pip install other-package")

ANSWERING = """
import json, sys
print("loading", flush=True)
print("{not an answer", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    do = request.pop("do")
    if do == "add":
        print(json.dumps({"sum": request["a"] + request["b"], "seconds": 2}), flush=True)
    elif do == "fail":
        print(json.dumps({"error": "it is too hot"}), flush=True)
    elif do == "die":
        print("first\\nsecond\\nthe last words", file=sys.stderr)
        sys.exit(3)
"""


@pytest.fixture
def peer(tmp_path):
    """Return a function that starts a peer that runs the given code."""
    started = []

    def start(code: str = ANSWERING, python: Path = Path(sys.executable)) -> Peer:
        program = tmp_path / "program.py"
        program.write_text(code)
        started.append(Peer(PACKAGE, python, program))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_timed_tells_median_spread_and_rate():
    timed = Timed((3.0, 1.0, 2.0), work=10.0)
    assert (timed.median, timed.spread, timed.rate) == (2.0, (1.0, 3.0), 5.0)
    assert timed.to_json() == {"median": 2.0, "all": [3.0, 1.0, 2.0], "work": 10.0, "rate": 5.0}
    assert Timed((0.0,)).rate == float("inf")
    many = Timed(tuple(float(number) for number in range(200, 0, -1)))
    assert many.p99 == many.to_json()["p99"] == 198.0
    assert [p99(range(1, count + 1)) for count in (1, 99, 100, 101, 150)] == [1, 99, 99, 100, 149]


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=9), st.floats(0.5, 20.0), st.floats(0.1, 10.0))
def test_ratio_is_not_moved_by_a_machine_whose_speed_changes_between_turns(slowdowns, factor, work):
    fast = Timed(tuple(slowdowns), work)
    slow = Timed(tuple(factor * each for each in slowdowns), work)
    found = ratio(slow, fast)
    assert found.median == pytest.approx(factor)
    assert (found.low, found.high) == (pytest.approx(factor), pytest.approx(factor))


def test_ratio_is_for_the_same_work():
    assert ratio(Timed((4.0,), work=2.0), Timed((1.0,), work=8.0)).median == pytest.approx(16.0)


def test_ratio_tells_the_spread_of_the_turns():
    found = ratio(Timed((2.0, 9.0, 4.0)), Timed((1.0, 3.0, 4.0)))
    assert found == Ratio(2.0, 1.0, 3.0)
    assert str(found) == "2x (1 to 3)"
    assert found.to_json() == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_ratio_needs_as_many_turns_of_both():
    with pytest.raises(ValueError, match="1 runs cannot be paired with 2"):
        ratio(Timed((1.0,)), Timed((1.0, 2.0)))


def test_contestants_take_turns_and_the_warm_up_does_not_count():
    order, shown = [], []
    clock = iter(range(100))

    def contestant(name):
        def run():
            order.append(name)
            return float(next(clock))

        return run

    found = take_turns(
        {name: contestant(name) for name in "abc"},
        3,
        work={"b": 7.0},
        after=lambda name, seconds: shown.append((name, seconds)),
    )
    turns = [order[first : first + 3] for first in range(0, 12, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert {turn[0] for turn in turns[1:]} == {"a", "b", "c"}
    assert sorted(second for timed in found.values() for second in timed.seconds) == list(range(3, 12))
    assert [name for name, _ in shown] == order[3:]
    assert (found["a"].work, found["b"].work) == (1.0, 7.0)


@pytest.mark.parametrize(("names", "rounds"), [("", 1), ("a", 0)])
def test_nothing_to_time_is_refused(names, rounds):
    with pytest.raises(ValueError, match="nothing to time"):
        take_turns({name: lambda: 1.0 for name in names}, rounds)


@pytest.mark.parametrize("cost", [1e-5, 0.004, 3.0])
def test_short_things_are_repeated_until_a_run_is_long_enough(cost):
    counts = []

    def run(count):
        counts.append(count)
        return count * cost

    contestant = per_unit(run, 0.1)
    assert contestant() == pytest.approx(cost)
    assert counts[-1] == max(1, round(0.1 / cost))
    assert sum(counts[:-1]) <= counts[-1] + 1


def test_a_clock_that_stands_still_does_not_repeat_for_ever():
    assert per_unit(lambda count: 0.0, 1.0)() == 0.0


def test_stopwatch_tells_seconds():
    assert 0.02 <= stopwatch(lambda: time.sleep(0.02))() < 1.0


def test_a_peer_answers_past_what_else_it_prints(peer):
    found = peer()
    assert found.ask("add", a=2, b=3)["sum"] == 5
    assert found.ask("add", a=4, b=3)["sum"] == 7
    assert found.seconds("add", a=1, b=1)() == 2.0


def test_an_error_of_a_peer_names_what_was_asked(peer):
    found = peer()
    with pytest.raises(UserError, match=r"other-package could not fail: it is too hot"):
        found.ask("fail")
    assert found.ask("add", a=1, b=1)["sum"] == 2


def test_a_peer_that_dies_leaves_its_last_words(peer):
    found = peer()
    with pytest.raises(UserError, match=r"other-package ended with code 3 .* first \| second \| the last words"):
        found.ask("die")
    with pytest.raises(UserError, match="ended with code 3"):
        found.ask("add", a=1, b=1)


def test_a_peer_without_its_packages_names_how_to_install_them(peer):
    with pytest.raises(UserError, match=r"No module named 'surely_absent'.*pip install other-package"):
        peer("import surely_absent").ask("add", a=1, b=1)


@pytest.mark.parametrize("name", ["absent", "folder", "text"])
def test_what_is_no_python_is_named(peer, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no program")
    with pytest.raises(UserError, match=f"{name} is no Python that starts.*pip install other-package"):
        peer(python=tmp_path / name)


def test_a_peer_ends_with_its_block(peer):
    with peer() as found:
        found.ask("add", a=1, b=1)
        process = found._process
        assert process.poll() is None
    assert process.poll() == 0


def test_a_peer_that_does_not_listen_is_killed(peer, monkeypatch):
    monkeypatch.setattr(timing, "_PATIENCE", 0.1)
    found = peer("import sys, time\nprint('{}', flush=True)\nwhile True: time.sleep(1)")
    assert found.ask("anything") == {}
    found.close()
    assert found._process.poll() is not None
