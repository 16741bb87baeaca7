"""`wmkit calibrate`, end to end on TwoRoom with a small untrained model."""

import shutil

import numpy as np
import pytest
import torch

from wmkit.data.collect import collect
from wmkit.data.episodes import EpisodeStore
from wmkit.data.recording import Settings
from wmkit.data.splits import load_splits, make_splits, save_splits
from wmkit.models import LeWM, LeWMConfig
from wmkit.monitor.calibration import Calibration, episodes_for
from wmkit.monitor.signals import Signals
from wmkit.monitor.traces import Table, played, recorded
from wmkit.scripts.calibrate import Calibrate, run
from wmkit.scripts.main import main

RATE = ["--false-alarms", "0.2", "--false-alarms-episode", "0.3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`data`, of which `model` says that it was trained on it, and `nominal`, other data."""
    folder = tmp_path_factory.mktemp("calibrate")
    torch.set_num_threads(1)
    for name, seed in (("data", 0), ("nominal", 1)):
        env = {"image_size": 32, "cross_room": True}
        store = collect(Settings("two-room", "expert", env=env, seed=seed), folder / name, 20).store
        save_splits(store, make_splits(store, (60, 10, 30)))
    store = EpisodeStore.open(folder / "data")
    torch.manual_seed(0)
    options = {"channels": (8, 8, 8), "hidden": 16}
    model = LeWM(LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=1, encoder_options=options))
    model.set_action_statistics([0, 0], [0.5, 0.5])
    data = {"fingerprint": store.fingerprint, "splits": load_splits(store).hashes}
    planning = {"horizon": 2, "samples": 4, "iterations": 1, "elites": 2}
    model.save_pretrained(folder / "model", metadata={"data": data, "planning": planning})
    return folder


def _calibrate(folder, *options, model=None, data="nominal"):
    return main(["calibrate", str(model or folder / "model"), "--data", str(folder / data), *map(str, options)])


def test_plays_saves_beside_the_model_and_says_what_it_promises(folder, tmp_path, capsys):
    model = shutil.copytree(folder / "model", tmp_path / "model")
    assert _calibrate(folder, *RATE, "--protocol", "short", model=model) == 0
    text = capsys.readouterr().out
    assert "played by the model's controller, protocol short" in text
    assert "20.00% promised" in text
    found = Calibration.load(model)
    assert found.facts["task"] == "two-room"
    assert found.facts["episodes"] == {"normal": 10, "thresholds": 10}
    assert found.nominal.looks_mean.size > 0


def test_episodes_end_where_the_task_does(folder, tmp_path, monkeypatch):
    """TwoRoom holds for numbers that are finite."""
    ends = []

    def watched(signals, begin, budgets, **options):
        table = begin(np.array([0, 1]))
        ends.append(table.finished(np.array([[0.2, 0.2], [np.nan, 0.2]])))
        table.env.close()
        return played(signals, begin, budgets, **options)

    monkeypatch.setattr("wmkit.monitor.traces.played", watched)
    assert _calibrate(folder, *RATE, "--protocol", "short", "--out", tmp_path) == 0
    assert ends[0].tolist() == [False, True]


def test_recorded_episodes_are_taken_as_they_are(folder, tmp_path):
    assert _calibrate(folder, *RATE, "--source", "recorded", "--out", tmp_path) == 0
    assert Calibration.load(tmp_path).facts["source"] == "recorded by the expert policy"


def test_episodes_that_the_model_was_trained_on_do_not_count(folder, capsys):
    assert _calibrate(folder, *RATE, data="data") == 2
    assert f"needs {episodes_for(0.2)} nominal episodes" in capsys.readouterr().err
    assert not (folder / "model" / "surprise.json").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--false-alarms", "0.001"], f"needs {episodes_for(0.001)} nominal episodes"),
        (["--false-alarms", "1"], "above 0 and below 1"),
        (["--false-alarms-episode", "0"], "above 0 and below 1"),
        ([*RATE, "--k", "1"], "2 or more model steps"),
        ([*RATE, "--protocol", "shirt"], "known: short"),
    ],
)
def test_bad_options_are_one_line(folder, capsys, options, text):
    assert _calibrate(folder, *options) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_frames_of_another_size_are_one_line(folder, tmp_path, capsys):
    env = {"image_size": 16, "cross_room": True}
    collect(Settings("two-room", "expert", env=env), tmp_path / "small", 20)
    assert _calibrate(tmp_path, *RATE, "--source", "recorded", model=folder / "model", data="small") == 2
    assert "shape (32, 32, 3)" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_calibration(folder, tmp_path):
    model = str(folder / "model")
    for name in ("a", "b"):
        config = Calibrate(model, folder / "nominal", 0.2, 0.3, protocol="short", seed=3, out=tmp_path / name)
        run(config)
    first, second = ((tmp_path / name / "surprise.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


class _Still:
    """A controller that holds still."""

    def act(self, seen):
        return np.zeros((len(seen["pixels"]), 2))


def test_what_is_played_and_ended_equals_what_is_recorded(folder):
    """An agent at rest sees the recorded first frame for ever; `finished` ends one at step 3, its budget the other."""
    from wmkit.data.recording import load_task

    model = LeWM.from_pretrained(folder / "model")
    task, store = load_task("two-room"), EpisodeStore.open(folder / "nominal")
    env = task.make_vector(num_envs=2, obs_type="pixels", image_size=32)
    starts = np.stack([store.read("state", [p])[0] for p in (0, 1)])
    seen, _ = env.reset(options={"state": starts})
    count = [0]

    def finished(states):
        count[0] += 1
        return np.array([count[0] >= 3, False])

    long, short = Signals(model), Signals(model)
    first, second = played(long, lambda rows: Table(env, _Still(), seen, finished), np.array([20, 15]))
    assert (len(first), len(second)) == (1, 4)
    np.testing.assert_allclose(first[0].looks, recorded(short, store, [0], longest=1)[0][0].looks)
    assert second[1].frozen.all()
