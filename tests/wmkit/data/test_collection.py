"""Collecting: any number of processes, any interruption, one result."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wmkit.data.collect import collect
from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import Settings
from wmkit.data.splits import load_splits, make_splits, save_splits
from wmkit.data.validate import validate
from wmkit.errors import UserError

HERE = Path(__file__).parent
SETTINGS = Settings("point_task:POINT", noise=0.2, env={"wild": 0.2})
EPISODES, PER_SHARD = 10, 2


def _collect(folder, episodes=EPISODES, settings=SETTINGS, **keywords):
    return collect(
        settings, folder, episodes, episodes_per_shard=keywords.pop("episodes_per_shard", PER_SHARD), **keywords
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted run in one process gives."""
    return _collect(tmp_path_factory.mktemp("whole")).store


def _command(folder):
    """The same collection by two processes, as a program of its own."""
    code = (
        "from test_collection import SETTINGS, EPISODES, PER_SHARD\n"
        "from wmkit.data.collect import collect\n"
        "if __name__ == '__main__':\n"
        f"    collect(SETTINGS, {str(folder)!r}, EPISODES, workers=2, episodes_per_shard=PER_SHARD)\n"
    )
    script = folder.parent / "program.py"
    script.write_text(code)
    return [sys.executable, str(script)]


def _environment(**more):
    return {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **more}


def test_report_and_splits(whole):
    assert len(whole) == EPISODES
    assert validate(whole.folder) == []
    assert len(load_splits(whole).episodes("all")) == EPISODES
    assert int(whole.values("attempt").sum()) > 0


def test_two_processes_give_the_same_bytes_as_one(whole, tmp_path):
    counts = []
    report = _collect(tmp_path, workers=2, progress=counts.append)
    assert report.store.fingerprint == whole.fingerprint
    assert sum(counts) == EPISODES
    assert report.redrawn == int(whole.values("attempt").sum())


@pytest.mark.parametrize("after", [1, 4, 7])
def test_an_interruption_loses_nothing_that_was_finished(whole, tmp_path, after):
    made = []

    def interrupt(count):
        made.extend([0] * count)
        if len(made) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _collect(tmp_path, progress=interrupt)
    partial = EpisodeStore.open(tmp_path, partial=True)
    assert len(partial) == (after - 1) // PER_SHARD * PER_SHARD
    assert not list(tmp_path.glob(".*.tmp"))
    report = _collect(tmp_path)
    assert report.resumed == len(partial)
    assert report.store.fingerprint == whole.fingerprint


def test_kill_and_resume_equals_uninterrupted(whole, tmp_path):
    folder = tmp_path / "data"
    process = subprocess.Popen(_command(folder), env=_environment(POINT_DELAY="0.02", POINT_MARK=str(tmp_path)))
    deadline = time.monotonic() + 120
    while not list(folder.glob("shard-*.h5")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the collection ended before it could be killed"
    partial = EpisodeStore.open(folder, partial=True)
    assert 0 < len(partial) < EPISODES
    for position in range(len(partial)):
        partial.episode(position)
    partial.close()
    _wait_until_gone(str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.h5")}
    (folder / ".shard-00004.h5.1.tmp").write_bytes(b"half")
    subprocess.run(_command(folder), env=_environment(), check=True)
    after = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.h5")}
    assert before.items() <= after.items()
    assert len(after) == EPISODES // PER_SHARD
    assert not list(folder.glob(".*.tmp"))
    assert EpisodeStore.open(folder).fingerprint == whole.fingerprint
    assert validate(folder) == []


def _wait_until_gone(mark):
    """Wait until the workers of a killed process have noticed; they must not go on."""
    deadline = time.monotonic() + 60
    while any(_has_mark(path, mark) for path in Path("/proc").glob("[0-9]*/environ")):
        assert time.monotonic() < deadline, "workers outlived the process that started them"
        time.sleep(0.05)


def _has_mark(path, mark):
    """Say whether a process was started with the mark in its environment."""
    try:
        return mark.encode() in path.read_bytes()
    except OSError:
        return False


def test_more_episodes_extend_the_store(whole, tmp_path):
    first = _collect(tmp_path, episodes=5)
    report = _collect(tmp_path)
    assert report.resumed == 4
    assert first.store.fingerprints == report.store.fingerprints[:5]
    assert report.store.fingerprint == whole.fingerprint
    assert load_splits(report.store).fingerprint == whole.fingerprint
    with pytest.raises(UserError, match="episodes is 10 there and 4 here"):
        _collect(tmp_path, episodes=4)


def test_a_split_of_ones_own_is_kept(tmp_path):
    store = _collect(tmp_path).store
    own = make_splits(store, (50, 20, 30))
    save_splits(store, own)
    _collect(tmp_path)
    assert load_splits(store) == own
    assert load_splits(_collect(tmp_path, episodes=12).store).fingerprint != store.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"noise": 0.1}, "noise is 0.2 there and 0.1 here"),
        ({"env": {"wild": 0.1}}, r"env is \{'wild': 0.2\} there and \{'wild': 0.1\} here"),
        ({"linger": 0}, "linger is 5 there and 0 here"),
    ],
)
def test_other_settings_are_refused(whole, change, message):
    before = (whole.folder / "meta.json").read_bytes()
    with pytest.raises(UserError, match=message):
        _collect(whole.folder, settings=dataclasses.replace(SETTINGS, **change))
    assert (whole.folder / "meta.json").read_bytes() == before


def test_other_sharding_and_lost_metadata_are_refused(whole, tmp_path):
    with pytest.raises(UserError, match="episodes_per_shard is 2 there and 3 here"):
        _collect(whole.folder, episodes_per_shard=3)
    _collect(tmp_path, episodes=2)
    (tmp_path / "meta.json").unlink()
    with pytest.raises(UserError, match=r"shards but no meta\.json"):
        _collect(tmp_path, episodes=2)


def test_a_second_writer_is_refused(tmp_path):
    def again(count):
        _collect(tmp_path)

    with pytest.raises(UserError, match="another process is writing to"):
        _collect(tmp_path, progress=again)


def test_metadata_are_plain_json(whole):
    content = json.loads((whole.folder / "meta.json").read_text())
    assert content["env"] == {"wild": 0.2}
    assert content["task"] == "point"
    assert content["columns"][0]["shape"] == [8, 8, 3]


def test_full_disk_is_one_line_and_a_repeat_goes_on(whole, tmp_path):
    big = dataclasses.replace(SETTINGS, policy="random", noise=0.0, env={"image_size": 96})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
        with pytest.raises(UserError, match=r"cannot write .*shard-00000\.h5: File too large") as caught:
            _collect(tmp_path, 2, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob(".*.tmp"))
    assert len(_collect(tmp_path, 2, big).store) == 2


def test_bad_requests(tmp_path):
    with pytest.raises(UserError, match="workers=0"):
        _collect(tmp_path, workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        _collect(tmp_path / "file")
