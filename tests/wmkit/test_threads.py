"""Threads are as many as there are processors to run them."""

import os

import pytest

from wmkit import threads
from wmkit.threads import usable_cpus

_ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("99900000 100000\n", _ALLOWED),
        ("max 100000\n", _ALLOWED),
        ("", _ALLOWED),
    ],
)
def test_quota_of_version_2(tmp_path, text, expected):
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cpus(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("100000", 1), ("-1", _ALLOWED)])
def test_quota_of_version_1(tmp_path, quota, expected):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cpus(tmp_path) == expected


def test_no_control_group(tmp_path):
    assert usable_cpus(tmp_path) == _ALLOWED


@pytest.mark.parametrize(
    ("quota", "given", "expected"),
    [(1, {}, "1"), (1, {"OMP_NUM_THREADS": "7"}, "7"), (10_000, {}, "None"), (10_000, {"OMP_NUM_THREADS": "7"}, "7")],
)
def test_only_a_quota_limits_and_the_users_choice_stands(monkeypatch, quota, given, expected):
    monkeypatch.setattr(threads, "_quota", lambda root: quota)
    monkeypatch.setattr(threads, "_allowed", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "gone")
    monkeypatch.delenv("OMP_NUM_THREADS")
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    threads.limit_threads()
    assert str(os.environ.get("OMP_NUM_THREADS")) == expected
