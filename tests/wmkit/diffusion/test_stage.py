"""The stage: exact resume with the average, frozen noise, validation that is the same each time."""

import json
import os

import pytest
import torch
from cart_task import build, features, record

from wmkit.data.latents import LatentWindows
from wmkit.diffusion.stage import SequenceSettings, SequenceStage
from wmkit.training.checkpoint import load_checkpoint
from wmkit.training.loop import Trainer

_SETTINGS = SequenceSettings(steps=12, batch=16, lr=3e-3, ema=0.8)


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """No waiting for the disk: no test cuts the power."""
    sync, os.fsync = os.fsync, lambda file: None
    yield
    os.fsync = sync


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    torch.set_num_threads(1)
    return record(tmp_path_factory.mktemp("cart") / "data", 12)


@pytest.fixture(scope="module")
def windows(store):
    return [LatentWindows(store, split, features(), 1) for split in ("train", "validation")]


class _Recipe:
    def __init__(self, windows, name, settings=_SETTINGS):
        module = build(name)
        everything = windows[0].all()
        module.features.fit(everything.latents, everything.actions)
        stage = SequenceStage("part", module, *windows, settings)
        self.model, self.stages, self.settings = stage.averaged, (stage,), {}


def _train(recipe, folder):
    every = max(4, recipe.stages[0].steps // 4)
    options = {"log_every": 5, "validate_every": every, "checkpoint_seconds": 1e9, "show": False}
    return Trainer(recipe, folder, 0, recipe.settings, **options).run()


class _DeadError(BaseException):
    pass


@pytest.mark.parametrize("name", ["diffusion", "diffusion-proposal"])
def test_resume_is_exact(windows, tmp_path, name):
    _train(_Recipe(windows, name), tmp_path / "whole")
    for step in (0, 7):
        recipe = _Recipe(windows, name)
        real = recipe.stages[0].loss

        def dying(at, generator, real=real, step=step):
            if at == step:
                raise _DeadError
            return real(at, generator)

        recipe.stages[0].loss = dying
        with pytest.raises(_DeadError):
            _train(recipe, tmp_path / str(step))
        _train(_Recipe(windows, name), tmp_path / str(step))
        one, other = (
            load_checkpoint(tmp_path / folder / "checkpoints" / "last.safetensors").tensors
            for folder in ("whole", str(step))
        )
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
        weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", str(step))]
        assert weights[0] == weights[1]


def test_what_is_saved_is_the_average(windows, tmp_path):
    recipe = _Recipe(windows, "diffusion-proposal")
    stage = recipe.stages[0]
    own = stage.module["own"]
    expected = None
    real = stage.after_step

    def following(step):
        nonlocal expected
        real(step)
        now = {name: value.detach().clone() for name, value in own.named_parameters()}
        expected = now if expected is None else {n: v.lerp(now[n], 1 - _SETTINGS.ema) for n, v in expected.items()}

    stage.after_step = following
    trainer = Trainer(recipe, tmp_path, 0, {}, validate_every=0, keep="last", show=False)
    trainer.run()
    saved = type(recipe.model).from_pretrained(tmp_path)
    for name, value in saved.named_parameters():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4)
    assert not torch.equal(dict(own.named_parameters())["network.exit.weight"], expected["network.exit.weight"])


def test_training_lowers_the_error(windows, tmp_path):
    result = _train(_Recipe(windows, "diffusion", SequenceSettings(steps=100, batch=32, lr=5e-3, ema=0.9)), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    validations = [row for row in rows if row["split"] == "validation"]
    assert result.scores["part"] < 0.6 * validations[0]["open_loop"]
    assert result.scores["part"] == min(row["score"] for row in validations)


def test_validation_repeats_itself(windows):
    stage = _Recipe(windows, "diffusion").stages[0]
    stage.module.eval()
    with torch.no_grad():
        one, other = (stage.validate(torch.Generator().manual_seed(3)) for _ in range(2))
    assert one == other
    assert set(one) == {"loss", "open_loop", "open_loop/1", "copy_last/1", "score"}


def test_the_error_of_staying_is_that_of_the_data(windows):
    stage = _Recipe(windows, "diffusion").stages[0]
    with torch.no_grad():
        found = stage.module.eval() and stage.validate(torch.Generator().manual_seed(0))
    batch, statistics = windows[1].all(), stage.averaged.features
    moved = (batch.latents[:, 1] - batch.latents[:, 0]) / statistics.change_std[0]
    assert found["copy_last/1"] == pytest.approx(float(moved.square().mean()), rel=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_noise_is_the_same_in_every_epoch(windows, frozen):
    stage = _Recipe(windows, "diffusion", SequenceSettings(steps=1, frozen_noise=frozen)).stages[0]
    batch = windows[0].sample(16, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(stage.module["own"].network.exit.weight)
    stage._train = type("Same", (), {"sample": lambda self, n, generator: batch})()
    losses = {float(stage.loss(0, torch.Generator().manual_seed(seed))[0].detach()) for seed in (1, 2)}
    assert (len(losses) == 1) == frozen


@pytest.mark.parametrize("changes", [{"steps": 0}, {"lr": 0.0}, {"ema": 1.0}, {"warmup": -1}, {"batch": 0}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="must be above 0"):
        SequenceSettings(**changes)
