"""`wmkit surprise`, end to end on TwoRoom with a small untrained model."""

import json
import shutil

import numpy as np
import pytest
import torch

from wmkit.data.collect import collect
from wmkit.data.recording import Settings
from wmkit.data.splits import load_splits, make_splits, save_splits
from wmkit.evaluation.manifest import load_manifest
from wmkit.evaluation.violation_report import load_traces
from wmkit.models import LeWM, LeWMConfig
from wmkit.scripts.main import main

FAST = {"planner": "cem", "samples": 8, "elites": 2, "iterations": 1, "horizon": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`data`, and `model` that says it was trained on it, calibrated on `nominal`."""
    folder = tmp_path_factory.mktemp("surprise")
    env = {"image_size": 32}
    store = collect(Settings("two-room", "expert", env=env, max_steps=60), folder / "data", 12).store
    save_splits(store, make_splits(store, (40, 10, 50)))
    nominal = collect(Settings("two-room", "expert", env=env, max_steps=40, seed=7), folder / "nominal", 40).store
    save_splits(nominal, make_splits(nominal, (40, 10, 50)))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    options = {"channels": (8, 8, 8), "hidden": 16}
    model = LeWM(LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=1, encoder_options=options))
    model.set_action_statistics([0, 0], [0.5, 0.5])
    splits = load_splits(store)
    metadata = {"data": {"fingerprint": store.fingerprint, "splits": splits.hashes}, "planning": FAST}
    model.save_pretrained(folder / "model", metadata=metadata)
    calibrate = ["calibrate", str(folder / "model"), "--data", str(folder / "nominal"), "--false-alarms", "0.2"]
    assert main([*calibrate, "--false-alarms-episode", "0.2", "--source", "recorded"]) == 0
    return folder


def _surprise(folder, *options, model="model", env="two-room"):
    return main(["surprise", str(folder / model), "--env", env, "--protocol", "short", *map(str, options)])


def _error(capsys):
    text = capsys.readouterr().err
    assert text.startswith("wmkit: error: ")
    assert text.count("\n") == 1
    return text


def test_the_whole_command(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    options = ["--data", folder / "data", "--episodes", 6, "--batch", 4, "--out", tmp_path]
    chosen = ["--perturbations", "teleport,colour", "weak-actuator", "--strength", "teleport=1"]
    assert _surprise(folder, *options, *chosen) == 0
    text = capsys.readouterr().out
    assert "teleport 1" in text
    assert "weak-actuator 0.5" in text
    content = (tmp_path / "result.json").read_text()
    assert str(folder) not in content
    assert str(tmp_path) not in content
    result = json.loads(content)
    assert list(result["conditions"]) == ["teleport", "colour", "weak-actuator"]
    assert result["conditions"]["teleport"]["strength"] == 1.0
    assert result["conditions"]["teleport"]["detection"]["ever"]["of"] == 6
    assert result["calibration"]["promised_per_step"] == 0.2
    assert result["planning"]["samples"] == 8
    assert result["manifest"] == load_manifest(tmp_path / "manifest.json").sha256
    assert result["pairs_from"].startswith("held-out pairs of the model's own data")
    traces, moments = load_traces(tmp_path / "traces.npz")
    assert list(traces) == ["nominal", "teleport", "colour", "weak-actuator"]
    assert all(trace.score.shape == (6, 11) for trace in traces.values())
    assert ((moments >= 5) & (moments <= 20)).all()
    assert (tmp_path / "surprise.png").read_bytes()[:4] == b"\x89PNG"
    for row, moment in enumerate(moments):
        before = traces["nominal"].steps <= moment
        first, second = (traces[name].score[row, before] for name in ("teleport", "nominal"))
        np.testing.assert_array_equal(first, second)


def test_the_expert_can_act_and_the_figure_be_left_out(folder, tmp_path):
    options = ["--data", folder / "data", "--episodes", 2, "--out", tmp_path, "--policy", "expert", "--no-figure"]
    assert _surprise(folder, *options, "--perturbations", "lighting", "--noise", 0.1) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["expert"] == {"noise": 0.1}
    assert "planning" not in result
    assert "told_apart" not in result
    assert not (tmp_path / "surprise.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--perturbations", "earthquake"], "'earthquake' is unknown to two-room; known there: teleport"),
        (["--perturbations", "mass"], "'mass' is not supported by two-room"),
        (["--strength", "teleport"], "give NAME=NUMBER"),
        (["--strength", "teleport=2"], "above 0 and up to 1"),
        (["--strength", "colour=1", "--perturbations", "teleport"], "not among the --perturbations teleport"),
        (["--moment", "0.5", "0.4"], "--moment 0.5 0.4"),
        (["--episodes", "0"], "--episodes must be 1 or more"),
        (["--data", "nowhere"], "nowhere"),
        ([], "needs held-out episodes; give --data"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, options, words):
    assert _surprise(folder, *options) == 2
    assert words in _error(capsys)


def test_a_model_without_calibration_says_how_to_get_one(folder, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "bare")
    for name in ("surprise.json", "surprise.safetensors"):
        (tmp_path / "bare" / name).unlink()
    assert _surprise(tmp_path, "--data", folder / "data", model="bare") == 2
    assert "wmkit calibrate" in _error(capsys)
    more = ["--calibration", folder / "model", "--episodes", 1, "--perturbations", "teleport", "--no-figure"]
    assert _surprise(tmp_path, "--data", folder / "data", *more, model="bare") == 0


def test_a_calibration_for_another_environment(folder, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "other")
    file = tmp_path / "other" / "surprise.json"
    content = json.loads(file.read_text())
    content["facts"]["task"] = "pusht"
    file.write_text(json.dumps(content))
    assert _surprise(tmp_path, "--data", folder / "data", model="other") == 2
    assert "calibrated for pusht, not for two-room" in _error(capsys)
