"""LeWM's stages and presets on a handful of recorded episodes."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from wmkit import registry
from wmkit.data.collect import collect
from wmkit.data.prefetch import Prefetcher
from wmkit.data.recording import Settings
from wmkit.errors import UserError
from wmkit.models.lewm import training
from wmkit.models.lewm.model import LeWM
from wmkit.models.lewm.presets import MICRO, TINY
from wmkit.training.step import take_step

SMALL = {"representation.steps": 6, "representation.batch": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pusht"
    collect(Settings("pusht", "random", max_steps=60, env={"image_size": 64}), path, 50)
    return path


def take(stage, steps):
    """Run a stage as the loop does; return its losses."""
    stage.begin()
    optimizers = stage.optimizers()
    stage.module.train()
    losses = []
    for step in range(steps):
        loss, terms = stage.loss(step, torch.Generator().manual_seed(step))
        assert all(value.isfinite() and not value.requires_grad for value in terms.values())
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(loss.detach()))
    stage.module.eval()
    return losses


def test_training_lowers_the_loss_and_the_model_survives_its_folder(folder, tmp_path):
    torch.manual_seed(0)
    recipe = TINY.recipe(folder, overrides={"representation.steps": 40, "representation.batch": 32})
    losses = take(recipe.stages[0], 40)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5]), losses
    recipe.model.save_pretrained(tmp_path / "model")
    again = LeWM.from_pretrained(tmp_path / "model")
    assert again.metadata["data"]["fingerprint"] == recipe.settings["fingerprint"]
    pixels = {"pixels": torch.randint(0, 255, (2, 1, 64, 64, 3), dtype=torch.uint8)}
    assert torch.equal(again.encode(pixels), recipe.model.encode(pixels))


def test_the_second_stage_leaves_the_encoder_alone(folder):
    torch.manual_seed(0)
    recipe = TINY.recipe(folder, overrides=SMALL)
    take(recipe.stages[0], 2)
    before = {name: value.clone() for name, value in recipe.model.state_dict().items() if value.is_floating_point()}
    take(recipe.stages[1], 3)
    after = recipe.model.state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"predictor", "inverse_head"}


def test_the_same_step_draws_the_same_batch(folder):
    torch.manual_seed(0)
    stage = TINY.recipe(folder, overrides=SMALL).stages[0]
    first, second = (stage.loss(0, torch.Generator().manual_seed(5))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_a_batch_drawn_ahead_gives_the_same_loss(folder):
    torch.manual_seed(0)
    stage = TINY.recipe(folder, overrides=SMALL).stages[0]
    plain = stage.loss(3, torch.Generator().manual_seed(5))[0]
    stage._ahead = Prefetcher(stage._draw, torch.device("cpu"))
    generator = torch.Generator().manual_seed(5)
    stage.prefetch(3, generator)
    assert torch.equal(stage.loss(3, generator)[0], plain)


def test_compiled_networks_are_the_stages_own(folder, monkeypatch):
    compiled = []

    def fake(function, dynamic):
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", fake)
    torch.manual_seed(0)
    stage = TINY.recipe(folder, overrides=SMALL | {"representation.compile": "true"}).stages[0]
    loss = stage.loss(0, torch.Generator().manual_seed(0))[0]
    assert compiled == ["embed", "step"]
    torch.manual_seed(0)
    plain = TINY.recipe(folder, overrides=SMALL).stages[0]
    assert torch.equal(plain.loss(0, torch.Generator().manual_seed(0))[0], loss)
    assert compiled == ["embed", "step"]


@pytest.mark.parametrize(
    ("steps", "device", "expected"), [(9999, "cuda", False), (10000, "cuda", True), (10**6, "cpu", False)]
)
def test_compilation_is_chosen_where_it_pays(steps, device, expected, model, monkeypatch):
    monkeypatch.setattr(training, "compiled", lambda function: "compiled")
    monkeypatch.setattr(training.torch, "tensor", lambda values, device: values)
    windows = SimpleNamespace(device=torch.device(device))
    corpus = training.Corpus(windows, windows, {}, torch.device(device))
    stage = training.RepresentationStage(model, corpus, training.RepresentationSettings(steps=steps))
    assert (stage._embed == "compiled") == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("stage", [0, 1])
def test_a_step_on_a_gpu_never_waits_for_it(folder, stage):
    recipe = TINY.recipe(folder, "cuda", SMALL | {"representation.compile": "false"})
    taken = recipe.stages[stage]
    taken.begin()
    optimizers = taken.optimizers()
    taken.module.train()
    take_step(taken, optimizers, 0, torch.Generator().manual_seed(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        take_step(taken, optimizers, 1, torch.Generator().manual_seed(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_groups_of_one_episode_reach_sigreg_and_contrast(folder):
    torch.manual_seed(0)
    overrides = {"representation.per_episode": 8, "representation.contrast": 1.0, "representation.slowness": 0.1}
    _, terms = MICRO.recipe(folder, overrides=SMALL | overrides).stages[0].loss(0, torch.Generator().manual_seed(0))
    assert {"prediction", "inverse", "sigreg", "slowness", "contrast"} == set(terms)


def test_validation_reports_the_probes_and_a_score(folder):
    torch.manual_seed(0)
    recipe = TINY.recipe(folder, overrides=SMALL)
    recipe.model.eval()
    numbers = recipe.stages[1].validate(torch.Generator())
    assert {"score", "effective_rank", "open_loop/5", "copy_last/1", "change_per_step"} <= set(numbers)
    assert "score" not in recipe.stages[0].validate(torch.Generator())


def test_wrong_images_are_refused_before_any_training(folder):
    with pytest.raises(UserError, match=r"64.*224"):
        registry.load("presets", "lewm").recipe(folder)


@pytest.mark.parametrize("name", [name for name in registry.names("presets") if name.startswith("lewm")])
def test_every_preset_names_itself_and_plans_with_known_settings(name):
    from wmkit.scripts.assembly import resolve_planning

    preset = registry.load("presets", name)
    assert preset.name == name
    assert name in preset.describe()
    resolve_planning({"planning": dict(preset.planning)}, {})
    dataclasses.asdict(preset)
