"""`wmkit collect` as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wmkit.data.episodes import EpisodeStore
from wmkit.errors import UserError
from wmkit.scripts.collect import Collect, run

TASKS = Path(__file__).parents[1] / "wmkit" / "data"
TASK = "point_task:POINT"


@pytest.fixture(autouse=True)
def _tasks(monkeypatch):
    monkeypatch.syspath_prepend(str(TASKS))


def _arguments(folder, *more):
    options = ["--episodes", "6", "--noise", "0.2", "--episodes-per-shard", "2", "--image-size", "8", *more]
    return [sys.executable, "-m", "wmkit.scripts.main", "collect", TASK, "--out", str(folder), *options]


def _environment(**more):
    return {**os.environ, "PYTHONPATH": str(TASKS), "OMP_NUM_THREADS": "1", **more}


def test_options_reach_the_data(tmp_path, capsys):
    config = Collect(TASK, tmp_path, episodes=3, image_size=16, env=("wild=0.25",), linger=2, seed=4, max_steps=7)
    run(config)
    metadata = EpisodeStore.open(tmp_path).metadata
    assert metadata.env == {"image_size": 16, "wild": 0.25}
    assert (metadata.linger, metadata.seed, metadata.max_steps) == (2, 4, 7)
    assert "3 episodes (0 were there)" in capsys.readouterr().out
    run(config)
    assert "3 episodes (3 were there)" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("door",), ("=3",), ("wild=1", "wild=2"), ("a b=1",)])
def test_malformed_keywords_are_refused(tmp_path, words):
    with pytest.raises(UserError, match="must read key=value"):
        run(Collect(TASK, tmp_path / "data", env=words))
    assert not (tmp_path / "data").exists()


def test_command_line_and_its_refusal(tmp_path):
    done = subprocess.run(_arguments(tmp_path, "--workers", "2"), env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(EpisodeStore.open(tmp_path)) == 6
    again = subprocess.run(_arguments(tmp_path, "--seed", "1"), env=_environment(), capture_output=True, text=True)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "seed is 0 there and 1 here" in again.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_with_130_and_no_traceback(tmp_path, workers):
    command = _arguments(tmp_path, "--workers", workers)
    process = subprocess.Popen(
        command, env=_environment(POINT_DELAY="0.02"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("shard-*.h5")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert 0 < len(EpisodeStore.open(tmp_path, partial=True)) < 6
    assert not list(tmp_path.glob(".*.tmp"))
