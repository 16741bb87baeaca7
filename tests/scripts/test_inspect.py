"""`wmkit inspect`, end to end on TwoRoom with a small untrained model."""

import json
import os
import shutil

import pytest
import torch

from wmkit.data.collect import collect
from wmkit.data.recording import Settings
from wmkit.data.splits import load_splits, make_splits, save_splits
from wmkit.models import LeWM, LeWMConfig
from wmkit.readout import Readout
from wmkit.scripts.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`data`, and `model` that says it was trained on it."""
    folder = tmp_path_factory.mktemp("inspect")
    torch.set_num_threads(1)
    store = collect(
        Settings("two-room", "expert", env={"image_size": 32, "cross_room": True}), folder / "data", 12
    ).store
    save_splits(store, make_splits(store, (60, 10, 30)))
    torch.manual_seed(0)
    options = {"channels": (8, 8, 8), "hidden": 16}
    model = LeWM(LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=1, encoder_options=options))
    model.set_action_statistics([0, 0], [0.5, 0.5])
    data = {"fingerprint": store.fingerprint, "splits": load_splits(store).hashes}
    model.save_pretrained(folder / "model", metadata={"data": data})
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("wmkit.readout._STEPS", 200)


def _inspect(folder, *options, model=None, data="data"):
    fast = ["--decoder-steps", "2", "--horizon", "2"]
    return main(["inspect", str(model or folder / "model"), "--data", str(folder / data), *fast, *map(str, options)])


def test_the_whole_command(folder, tmp_path, capsys):
    model = shutil.copytree(folder / "model", tmp_path / "model")
    assert _inspect(folder, model=model) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "own data" in text
    assert "agent" in text
    result = json.loads((model / "inspect" / "result.json").read_text())
    readout = Readout.load(model)
    assert result["probes"][readout.kind] == readout.scores
    assert result["best"] == readout.kind
    assert result["environment"] == "two-room"
    assert result["config"]["horizon"] == 2
    assert {"open_loop/2", "copy_last/2", "effective_rank"} <= set(result["diagnostics"])
    assert {"wmkit", "cpu", "date", "fingerprint", "model_sha256"} <= set(result)
    page = (model / "inspect" / "inspection.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "imagined, decoded" in page


def test_a_second_time_gives_the_same_numbers(folder, tmp_path):
    model = shutil.copytree(folder / "model", tmp_path / "model")
    results = []
    for out in (tmp_path / "a", tmp_path / "b"):
        assert _inspect(folder, "--out", out, model=model) == 0
        results.append(json.loads((out / "result.json").read_text()))
    for name in ("probes", "diagnostics", "straightness", "quantities", "decoder"):
        assert results[0][name] == results[1][name]


def test_a_folder_that_cannot_be_written_keeps_the_readout_with_the_results(folder, tmp_path, monkeypatch, capsys):
    model = shutil.copytree(folder / "model", tmp_path / "model")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert _inspect(folder, "--out", tmp_path / "out", model=model) == 0
    assert not (model / "readout.json").exists()
    sha256 = json.loads((model / "config.json").read_text())["sha256"]
    assert Readout.load(tmp_path / "out", weights=sha256).sizes == {"agent": 2}
    assert f"saved in {tmp_path / 'out'};" in capsys.readouterr().out


def test_mistakes_are_one_line(folder, tmp_path, capsys):
    cases = {
        "no model folder": {"model": tmp_path / "nothing"},
        "--horizon must be 1 or more": {"options": ["--horizon", "0"]},
        "--episodes must be 2": {"options": ["--episodes", "1"]},
        "give a smaller --horizon": {"options": ["--horizon", "500"]},
        "meta.json": {"data": "absent"},
    }
    for text, case in cases.items():
        assert _inspect(folder, *case.pop("options", []), **case) == 2
        error = capsys.readouterr().err
        assert error.startswith("wmkit: error: ")
        assert error.count("\n") == 1
        assert text in error
