"""`wmkit train` on a toy preset."""

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch

from wmkit import registry
from wmkit.scripts.main import main
from wmkit.training.overrides import apply_overrides

sys.path.append(str(Path(__file__).parents[1] / "wmkit" / "training"))
from toy import ToyRecipe


@dataclass(frozen=True)
class ToyPreset:
    steps: int = 30
    stop_at: int | None = None

    def recipe(self, data_dir, device, overrides):
        settings = apply_overrides(self, overrides)
        recipe = ToyRecipe(settings.steps)
        if settings.stop_at is not None and not (data_dir / "stopped").exists():
            (data_dir / "stopped").touch()
            stop = settings.stop_at
            recipe.stages[0].after_step = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == stop else None
        recipe.settings = {**asdict(settings), "fingerprint": "abc", "device": device}
        return recipe


PRESET = ToyPreset()


@pytest.fixture(autouse=True, scope="module")
def _registered():
    if "toy" not in registry.names("presets"):
        registry.register("presets", "toy", f"{__name__}:PRESET")


@pytest.fixture
def train(tmp_path):
    threads = torch.get_num_threads()
    (tmp_path / "data").mkdir()

    def call(*words, preset="toy", data=tmp_path / "data"):
        return main(["train", preset, "--data", str(data), "--out", str(tmp_path / "run"), "--device", "cpu", *words])

    yield call
    torch.set_num_threads(threads)


def test_it_trains_and_leaves_a_model(train, tmp_path, capsys):
    assert train("--threads", "1", "--set", "steps=12", "--validate-every", "6") == 0
    assert "trained in" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"checkpoints", "metrics.jsonl", "model.safetensors", "run.json"}
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["config"] == {"preset": "toy", "steps": 12, "stop_at": None, "fingerprint": "abc", "device": "cpu"}
    assert run["steps"] == {"encoder": 12, "predictor": 12}
    assert run["finished"]
    assert run["threads"] == 1


def test_interrupted_it_exits_130_and_goes_on(train, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        train("--set", "stop_at=5")
    assert caught.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert train("--set", "stop_at=5") == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["sessions"] == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--set", "stps=3"), "unknown setting 'stps' (did you mean 'steps'?); known: steps, stop_at"),
        (("--set", "steps"), "'steps' must read name=value"),
        (("--threads", "0"), "--threads must be 1 or more, not 0"),
        (("--patience", "0"), "--patience must be 1 or more"),
        (("--device", "toaster"), "unknown device 'toaster'"),
    ],
)
def test_mistakes_are_one_line(train, tmp_path, capsys, words, text):
    assert train(*words) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_unknown_preset_is_answered_with_the_list(train, capsys):
    assert train(preset="lewm-tyni") == 2
    assert "did you mean 'lewm-tiny'" in capsys.readouterr().err


def test_missing_data_say_what_to_do(train, tmp_path, capsys):
    assert train(data=tmp_path / "nothing") == 2
    assert "wmkit collect" in capsys.readouterr().err


def test_other_settings_for_the_same_folder_are_refused(train, capsys):
    assert train("--set", "steps=4") == 0
    assert train("--set", "steps=5") == 2
    assert "config.steps was 4 and is now 5" in capsys.readouterr().err
