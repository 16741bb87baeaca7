"""LeWM's stages and presets on a handful of recorded episodes."""

import dataclasses

import pytest
import torch

from wmkit import registry
from wmkit.data.collect import collect
from wmkit.data.recording import Settings
from wmkit.errors import UserError
from wmkit.models.lewm.model import LeWM
from wmkit.models.lewm.presets import MICRO, TINY

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
