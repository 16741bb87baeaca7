"""Rows, table, result files and their comparison."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from wmkit.errors import UserError
from wmkit.evaluation.manifest import Manifest, Pair
from wmkit.evaluation.report import compare_files, group_lines, make_row, save_result, table
from wmkit.evaluation.runner import Outcomes
from wmkit.evaluation.statistics import wilson

MANIFEST = Manifest("two-room", "short", "distance", 3, "heldout", "f", "s", (Pair((0,), (1,), 2),) * 4, {"trivial": 7})


def _outcomes(first, strict=(True, False, False, False)):
    return Outcomes(np.array(first), np.array(strict), np.zeros((4, 3, 1), np.float32), 1.5)


def test_a_row_sums_up():
    moved = np.array([True, True, False, False])
    row = make_row("mine", "model", _outcomes([3, -1, 5, 1]), moved=moved, times=[0.01, 0.03, 0.02])
    assert (row.successes, row.pairs, row.strict) == (3, 4, 1)
    assert row.interval == wilson(3, 4)
    assert row.strict_interval == wilson(1, 4)
    assert row.groups == {"object must move": (1, 2), "object stays": (2, 2)}
    assert row.decision == {"p50": 0.02, "p99": pytest.approx(0.0298), "count": 3}


def test_the_table_shows_success_interval_settling_and_times_in_80_columns():
    moved = np.array([True, False, False, False])
    rows = [
        make_row("mine", "model", _outcomes([3, -1, 5, 1]), moved=moved, times=[0.0123]),
        make_row("random", "floor", _outcomes([-1] * 4, [False] * 4), moved=moved),
    ]
    stream = io.StringIO()
    Console(file=stream, width=80).print(table("title", rows))
    mine, random = (
        next(line for line in stream.getvalue().splitlines() if name in line) for name in ("mine", "random")
    )
    for text in ("3/4 (75 %)", "30 to 95 %", "25 %", "12.3 ms"):
        assert text in mine
    for text in ("0/4 (0 %)", "0 to 49 %", "-"):
        assert text in random
    assert group_lines(rows) == [
        "object must move: mine 1/1 (100 %), random 0/1 (0 %)",
        "object stays: mine 2/3 (67 %), random 0/3 (0 %)",
    ]


def test_an_agents_name_is_not_crushed_by_full_success_of_many_pairs():
    outcomes = Outcomes(np.zeros(200, int), np.ones(200, bool), np.zeros((200, 3, 1), np.float32), 1.5)
    stream = io.StringIO()
    Console(file=stream, width=80).print(table("title", [make_row("hold still", "model", outcomes, times=[1.2345])]))
    assert "hold still" in stream.getvalue()
    assert "1234.5 ms" in stream.getvalue()


def test_a_result_holds_what_repeats_it(tmp_path):
    row = make_row("mine", "model", _outcomes([3, -1, 5, 1]))
    save_result(
        tmp_path / "a" / "result.json", MANIFEST, [row], rule="distance", config={"seed": 3}, probes={"agent": 0.9}
    )
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["manifest"] == MANIFEST.sha256
    assert result["excluded"] == {"trivial": 7}
    assert result["rows"][0]["outcomes"] == [3, -1, 5, 1]
    assert result["rows"][0]["settled"] == [True, False, False, False]
    assert {"fingerprint", "seed", "config", "probes", "cpu", "commit", "packages", "date"} <= result.keys()


def _save(path, first, manifest=MANIFEST, kind="model", rule="distance"):
    save_result(path, manifest, [make_row("x", kind, _outcomes(first))], rule=rule, config={})
    return path


def test_two_results_are_compared_pair_by_pair(tmp_path):
    a = _save(tmp_path / "a.json", [3, -1, 5, 1])
    b = _save(tmp_path / "b.json", [-1, -1, 5, -1])
    found = compare_files(a, b)
    assert (found["first"], found["second"]) == ((3, 4), (1, 4))
    assert (found["both"], found["only_first"], found["only_second"], found["neither"]) == (1, 2, 0, 1)
    assert found["p_value"] == 0.5


def test_results_that_do_not_belong_together_are_refused(tmp_path):
    a = _save(tmp_path / "a.json", [3, -1, 5, 1])
    other = _save(tmp_path / "b.json", [3, -1, 5, 1], dataclasses.replace(MANIFEST, seed=4))
    rule = _save(tmp_path / "c.json", [3, -1, 5, 1], rule="coverage")
    floor = _save(tmp_path / "d.json", [3, -1, 5, 1], kind="floor")
    (tmp_path / "e.json").write_text("{}")
    for path, text in ((other, "manifest"), (rule, "rule"), (floor, "no model"), (tmp_path / "e.json", "no result")):
        with pytest.raises(UserError, match=text) as caught:
            compare_files(a, path)
        assert "\n" not in str(caught.value)
