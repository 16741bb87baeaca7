"""`wmkit quickstart`: every stage in small with a recipe of its own, and a page that fetches nothing."""

import json
import re

import numpy as np
import pytest
import torch
from rich.console import Console

from wmkit import registry
from wmkit.data.episodes import EpisodeStore
from wmkit.data.splits import load_splits
from wmkit.models import LeWM, LeWMConfig, SIGReg
from wmkit.scripts import quickstart
from wmkit.scripts.main import main

BLOCK, STEPS = 5, 3


class Stage:
    """Three imagined steps without stop-gradient, and SIGReg."""

    name, clip = "world", 1.0

    def __init__(self, model, store, splits, steps, batch):
        self.module, self.steps, self.batch = model, steps, batch
        self.sigreg = SIGReg(num_projections=64)
        rows = [p for p, index in enumerate(store.episodes.tolist()) if index in set(splits.train)]
        self.pixels = [torch.as_tensor(store.read("pixels", [p])) for p in rows]
        self.actions = [torch.as_tensor(store.read("action", [p])) for p in rows]
        windows = [(e, s) for e, a in enumerate(self.actions) for s in range(len(a) - BLOCK * STEPS + 1)]
        self.windows = torch.tensor(windows)

    def begin(self):
        pass

    def optimizers(self):
        return [torch.optim.AdamW(self.module.parameters(), lr=1e-3, weight_decay=1e-3)]

    def schedule(self, step):
        return min(1.0, (step + 1) / 20, 2 * (1 - step / self.steps))

    def after_step(self, step):
        pass

    def loss(self, step, generator):
        chosen = self.windows[torch.randint(len(self.windows), (self.batch,), generator=generator)].tolist()
        frames = torch.stack([self.pixels[e][s : s + BLOCK * STEPS + 1 : BLOCK] for e, s in chosen])
        actions = torch.stack([self.actions[e][s : s + BLOCK * STEPS] for e, s in chosen]).unflatten(1, (STEPS, BLOCK))
        latents = self.module.embed(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        imagined, loss = latents[:, :1], 0.0
        for h in range(STEPS):
            imagined = self.module.predict(imagined, actions[:, h : h + 1].flatten(2))
            loss = loss + (imagined[:, 0] - latents[:, h + 1]).square().mean()
        regular = self.sigreg(latents.flatten(0, 1), generator)
        return loss + 0.05 * regular, {"prediction": loss.detach(), "sigreg": regular.detach()}

    def validate(self, generator):
        return {"score": 1.0, "probe/agent": 0.5, "open_loop/1": 0.1, "open_loop/2": 0.2, "copy_last/2": 0.9}


class Preset:
    """Stands in for a registered preset."""

    def __init__(self, steps, batch):
        self.steps, self.batch = steps, batch

    def recipe(self, data, device="cpu", overrides=None):
        store = EpisodeStore.open(data)
        splits = load_splits(store)
        config = LeWMConfig(64, 32, BLOCK, (-1, -1), (1, 1), 0.25, history=1, background=(255.0, 255.0, 255.0))
        model = LeWM(config)
        actions = np.concatenate([store.read("action", [p]) for p in range(len(store))])
        model.set_action_statistics(actions.mean(axis=0), actions.std(axis=0))
        model.metadata = {"data": {"fingerprint": store.fingerprint, "splits": splits.hashes}}
        stage = Stage(model, store, splits, self.steps, self.batch)
        return type("Recipe", (), {"model": model, "stages": [stage], "settings": {"fingerprint": store.fingerprint}})()


def use(monkeypatch, preset):
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda kind, name: preset if kind == "presets" else load(kind, name))


def test_it_goes_through_and_a_second_call_trains_nothing(tmp_path, monkeypatch, capsys):
    torch.set_num_threads(1)
    use(monkeypatch, Preset(steps=3, batch=8))
    command = ["quickstart", "--out", str(tmp_path / "run"), "--episodes", "20", "--pairs", "3", "--workers", "1"]
    assert main(command) == 0
    text = capsys.readouterr().out
    for number, stage in enumerate(("collect", "train", "evaluate", "report"), start=1):
        assert f"{number}/4 {stage}" in text
    document = (tmp_path / "run" / "report.html").read_text()
    assert "data:image/gif;base64," in document
    assert document.count("<svg") >= 3
    assert not re.search(r'(?:src|href)="(?!data:)', document)
    result = json.loads((tmp_path / "run" / "model" / "eval" / "two-room-cross" / "result.json").read_text())
    assert result["pairs"] == 3
    assert result["fingerprint"] in document
    assert "model's own data" in result["pairs_from"]
    weights = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    quickstart._train(quickstart.Quickstart(tmp_path / "run"), Console(quiet=True), [])
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("option", [["--episodes", "3"], ["--pairs", "0"]])
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, option):
    use(monkeypatch, Preset(steps=1, batch=2))
    assert main(["quickstart", "--out", str(tmp_path / "run"), *option]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wmkit: error")]
    assert len(error) == 1
