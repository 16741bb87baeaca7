"""`wmkit bench env` and `wmkit bench data`: rates, alone and beside a peer."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from wmkit.data.collect import collect
from wmkit.data.recording import Settings
from wmkit.scripts import main, peers

FAKES = Path(__file__).parent / "fake_peers"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put programs in place of the peer's."""
    for file in [*FAKES.glob("*.py"), peers.PROGRAMS / "serving.py"]:
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(peers, "PROGRAMS", tmp_path)
    monkeypatch.setenv("WMKIT_PEER_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "recorded"
    env = {"image_size": 16, "obs_type": "pixels"}
    collect(Settings("two-room", policy="random", env=env, max_steps=30), folder, 5)
    return folder


def test_environments_are_measured_beside_a_peer_that_has_them(fake, tmp_path, capsys):
    out = tmp_path / "env.json"
    words = ["--cases", "pusht/state", "walker", "--peer", "stable-worldmodel", "--seconds", "0.02", "--rounds", "3"]
    assert main.main(["bench", "env", *words, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert set(found["rates"]) == {"pusht/state", "walker/state"}
    assert list(found["ratios"]) == ["pusht/state"]
    times = found["seconds_a_frame"]["pusht/state"]
    assert times["stable-worldmodel"]["rate"] == pytest.approx(100.0)
    assert len(times["wmkit"]["all"]) == 3
    assert found["ratios"]["pusht/state"]["low"] == pytest.approx(0.01 / max(times["wmkit"]["all"]))
    first, second = capsys.readouterr().out.splitlines()
    assert "100 /s stable-worldmodel" in first
    assert second.split()[0] == "walker/state"


def test_batched_frames_are_counted(capsys):
    assert main.main(["bench", "env", "--cases", "two-room/pixels/64", "--seconds", "0.05", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    case = "two-room/pixels/64/batch 128"
    assert found["seconds_a_frame"][case]["wmkit"]["work"] == 128
    assert found["rates"][case] > found["rates"]["two-room/pixels/64"]


def test_data_are_measured_beside_a_peer_with_the_same_frames(fake, data, tmp_path, capsys):
    out = tmp_path / "data.json"
    words = ["--data", str(data), "--episodes", "3", "--batch", "8", "--frames", "3", "--seconds", "0.02"]
    words += ["--rounds", "2", "--peer", "stable-worldmodel", "--peer-workers", "0", "1", "--threads", "1"]
    assert main.main(["bench", "data", *words, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert str(data) not in out.read_text()
    names = [f"stable-worldmodel {form}, {workers} workers" for form in ("hdf5", "memory") for workers in (0, 1)]
    assert list(found["rates"]) == [*names, "wmkit memory", "wmkit disk"]
    assert found["rates"][names[0]] == pytest.approx(8 / 0.2)
    assert found["compared_with"] == found["memory"]["compared_with"] == names[3]
    assert [found["ratios"][name]["median"] for name in names[:3]] == pytest.approx([0.25, 0.5, 0.5])
    assert found["memory"]["ratio"] == found["ratios"]["wmkit memory"]
    assert found["rates"]["wmkit memory"] > found["rates"]["wmkit disk"] > 0
    assert found["opening_seconds"][names[0]] == 0.25
    asked = {"batch": 8, "frames": 3, "device": "cpu", "threads": 1}
    assert found["peer"]["packages"] == asked
    shown = capsys.readouterr().out
    assert "against stable-worldmodel memory, 1 workers" in shown
    assert "memory against memory, stable-worldmodel memory, 1 workers:" in shown


def test_data_are_recorded_where_none_are_given(capsys):
    words = ["--env", "two-room", "--episodes", "1", "--image-size", "16", "--batch", "4", "--seconds", "0.01"]
    assert main.main(["bench", "data", *words, "--rounds", "1", "--caches", "memory", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["image"] == [16, 16, 3]
    assert found["compared_with"] == "wmkit memory"
    assert found["ratios"] == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["env", "--cases", "chess"], "no case begins with 'chess'; known: two-room/pixels/64"),
        (["env", "--seconds", "0"], "--seconds must be positive, not 0.0"),
        (["env", "--peer", "other"], "unknown peer 'other'; known: stable-worldmodel"),
        (["data", "--data", "/nowhere"], "/nowhere holds no data"),
        (["data", "--peer-workers", "-1"], "--peer-workers must be 0 or more, not -1"),
        (["data", "--peer-formats", "lance"], "--peer-formats: only with --peer; leave it out"),
        (["data", "--data", "/nowhere", "--env", "two-room"], "--env: not with --data"),
        (["data", "--caches"], "--caches, --peer-formats and --peer-workers need at least one each"),
    ],
)
def test_a_mistake_is_one_line(words, expected, capsys):
    assert main.main(["bench", *words]) == 2
    shown = capsys.readouterr().err
    assert expected in shown
    assert shown.count("\n") == 1


@pytest.mark.skipif("WMKIT_PEER_PYTHON" not in os.environ, reason="needs a peer's Python")
def test_the_real_peer_steps_and_reads(data, capsys):
    peer = ["--peer", "stable-worldmodel", "--seconds", "0.05", "--rounds", "1", "--json"]
    assert main.main(["bench", "env", "--cases", "pusht/state", *peer]) == 0
    assert json.loads(capsys.readouterr().out)["seconds_a_frame"]["pusht/state"]["stable-worldmodel"]["rate"] > 0
    words = ["--data", str(data), "--batch", "4", "--peer-formats", "hdf5", "--peer-workers", "0", "--threads", "1"]
    assert main.main(["bench", "data", *words, *peer]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rates"]["stable-worldmodel hdf5, 0 workers"] > 0
    assert found["peer"]["packages"]["stable-worldmodel"]
