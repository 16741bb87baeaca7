"""`wmkit eval`, end to end on TwoRoom with a small untrained model."""

import json

import pytest
import torch

from wmkit.data.collect import collect
from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import Settings
from wmkit.data.splits import load_splits, make_splits, save_splits
from wmkit.evaluation.manifest import load_manifest
from wmkit.models import LeWM, LeWMConfig
from wmkit.scripts.assembly import PLANNING, resolve_planning
from wmkit.scripts.main import main

FAST = ["--samples", "8", "--elites", "2", "--iterations", "1", "--horizon", "2", "--timed", "1"]

INVERSE = ["--proposal", "inverse"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`data`, and `model` that says it was trained on it."""
    folder = tmp_path_factory.mktemp("eval")
    settings = Settings("two-room", "expert", env={"image_size": 32, "cross_room": True})
    store = collect(settings, folder / "data", 30).store
    save_splits(store, make_splits(store, (40, 10, 50)))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    options = {"channels": (8, 8, 8), "hidden": 16}
    config = LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=1, encoder_options=options)
    model = LeWM(config)
    model.set_action_statistics([0, 0], [0.5, 0.5])
    splits = load_splits(store)
    metadata = {"data": {"fingerprint": store.fingerprint, "splits": splits.hashes}, "planning": {"objective": "mean"}}
    model.save_pretrained(folder / "model", metadata=metadata)
    return folder


def _eval(folder, *options, model="model"):
    return main(["eval", str(folder / model), "--env", "two-room", *FAST, *map(str, options)])


def test_the_whole_command(folder, capsys):
    options = ["--data", folder / "data", "--protocol", "cross", "--episodes", "6", "--bounds"]
    assert _eval(folder, *options) == 0
    text = capsys.readouterr().out
    out = folder / "model" / "eval" / "two-room-cross"
    result = json.loads((out / "result.json").read_text())
    assert [row["kind"] for row in result["rows"]] == ["model", "floor", "floor", "bound", "bound", "bound"]
    by_name = {row["name"]: row for row in result["rows"]}
    assert by_name["replay"]["successes"] == by_name["expert"]["successes"] == by_name["simulator"]["successes"] == 6
    assert by_name["hold still"]["successes"] == 0
    assert result["rows"][0]["decision"]["count"] > 1
    assert result["planning"]["objective"] == "mean"
    assert result["planning"]["samples"] == 8
    assert result["config"]["protocol"] == "cross"
    assert set(result["probes"])
    store = EpisodeStore.open(folder / "data")
    manifest = load_manifest(out / "manifest.json")
    assert manifest.fingerprint == store.fingerprint == result["fingerprint"]
    assert {pair.episode for pair in manifest.pairs} <= set(load_splits(store).heldout)
    assert (out / "rollouts.gif").read_bytes()[:4] == b"GIF8"
    assert text.count("6/6 (100 %)") >= 2
    assert "the model's own data" in " ".join(text.split())


def test_a_manifest_needs_no_data_and_gives_the_same_pairs(folder, tmp_path, capsys):
    options = ["--no-floors", "--no-gif", "--episodes", "4"]
    assert _eval(folder, "--data", folder / "data", *options, "--out", tmp_path / "a") == 0
    again = ["--manifest", tmp_path / "a" / "manifest.json", "--compare", tmp_path / "a", "--out", tmp_path / "b"]
    assert _eval(folder, *options, *again) == 0
    first, second = (json.loads((tmp_path / name / "result.json").read_text()) for name in "ab")
    assert first["manifest"] == second["manifest"]
    assert first["rows"][0]["outcomes"] == second["rows"][0]["outcomes"]
    assert second["probes"] == {}
    assert "only this one 0, only the other 0" in " ".join(capsys.readouterr().out.split())


def test_a_manifest_shipped_with_the_model_is_found(folder, tmp_path, capsys):
    options = ["--no-floors", "--no-gif", "--episodes", "3"]
    assert _eval(folder, "--data", folder / "data", *options, "--out", tmp_path) == 0
    shipped = folder / "model" / "manifest-two-room-short.json"
    shipped.write_bytes((tmp_path / "manifest.json").read_bytes())
    assert _eval(folder, *options, "--out", tmp_path / "again") == 0
    shipped.unlink()
    assert json.loads((tmp_path / "again" / "result.json").read_text())["pairs"] == 3


def _broken(folder, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"version": 1, "pairs": [')
    return ["--manifest", path]


def _training(folder, tmp_path):
    from wmkit.evaluation.manifest import Manifest, Pair, save_manifest

    pair = Pair((0.2, 0.2), (0.4, 0.4), 50, 0, 0, 25)
    save_manifest(Manifest("two-room", "short", "distance", 0, "train", "f", "s", (pair,)), tmp_path / "m.json")
    return ["--manifest", tmp_path / "m.json", "--episodes", "1"]


MISTAKES = {
    "no pairs": (lambda folder, tmp_path: [], "--data DIR or --manifest"),
    "broken manifest": (_broken, "not JSON"),
    "training split": (_training, "training may see"),
    "no data": (lambda folder, tmp_path: ["--data", tmp_path], "meta.json"),
    "unknown rule": (lambda folder, tmp_path: ["--data", folder / "data", "--rule", "nearly"], "known:"),
    "too many": (lambda folder, tmp_path: ["--data", folder / "data", "--protocol", "cross"], "ask for --episodes"),
    "bad planner": (lambda folder, tmp_path: ["--data", folder / "data", "--episodes", 2, "--elites", 99], "elites"),
    "no inverse": (
        lambda folder, tmp_path: ["--data", folder / "data", "--episodes", 2, "--proposal", "inverse"],
        "inverse",
    ),
    "batch": (lambda folder, tmp_path: ["--batch", 0], "--batch"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(folder, tmp_path, capsys, options, expected):
    assert _eval(folder, *options(folder, tmp_path)) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.startswith("wmkit: error: ")
    assert error.count("\n") == 1


def test_a_model_of_another_task_is_one_line(capsys):
    assert main(["eval", "pretrained:pusht-tiny", "--env", "two-room"]) == 2
    assert "pretrained:pusht-tiny was trained on pusht, not on two-room" in capsys.readouterr().err


def test_an_unknown_model_is_one_line(tmp_path, capsys):
    for name in ("pretrained:none", str(tmp_path)):
        assert main(["eval", name, "--env", "two-room"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_planner_settings_come_from_the_command_line_then_the_model_then_the_defaults():
    found = resolve_planning({"planning": {"samples": 7, "horizon": 3}}, {"samples": 9, "horizon": None, "env": "x"})
    assert found == PLANNING | {"samples": 9, "horizon": 3}
    with pytest.raises(ValueError, match="speed"):
        resolve_planning({"planning": {"speed": 1}}, {})
