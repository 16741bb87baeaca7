"""Distillation of a whole run: students sample as their teachers do, in fewer steps."""

import json

import cart_task
import pytest
import torch

from wmkit.data.episodes import EpisodeStore
from wmkit.data.latents import LatentWindows
from wmkit.diffusion import progressive
from wmkit.diffusion.distil import distil, lost
from wmkit.diffusion.progressive import DistilSettings
from wmkit.diffusion.runs import folder_hash, load_part
from wmkit.errors import UserError

SHORT = DistilSettings(steps=1, teacher_steps=4, updates=8, batch=16)


def test_a_student_is_nearer_to_its_teacher_than_the_teacher_in_as_few_steps(cart_run, tmp_path):
    run, data = cart_run
    hashes, settings = folder_hash(run), DistilSettings(steps=1, teacher_steps=4, updates=100, batch=64, lr=3e-3)
    result = distil(run, data, tmp_path / "new", settings, only=("proposal",), show=False)
    full, few, student = result.report["parts"]["proposal"]
    assert (full["steps"], few["steps"], student["steps"]) == (10, 1, 1)
    assert full["distance"] == 0
    assert student["distance"] < 0.7 * few["distance"]
    assert student["energy_score"] < few["energy_score"] - 0.05
    assert student["milliseconds"] < full["milliseconds"]
    assert folder_hash(run) == hashes
    assert folder_hash(tmp_path / "new" / "dynamics") == folder_hash(run / "dynamics")
    part = load_part("proposal", tmp_path / "new" / "proposal")
    assert (part.sampling.sampler, part.sampling.steps, part.sampling.spacing) == ("ddim", 1, "trailing")
    assert part.metadata["distillation"] == {"steps": 1, "rounds": [[4, 2], [2, 1]]}
    assert json.loads((tmp_path / "new" / "distil.json").read_text())["finished"]


def test_both_parts_are_distilled_and_statistics_kept(cart_run, tmp_path):
    run, data = cart_run
    result = distil(run, data, tmp_path / "new", SHORT, show=False)
    assert list(result.report["parts"]) == ["dynamics", "proposal"]
    for name in ("dynamics", "proposal"):
        old, new = load_part(name, run / name), load_part(name, tmp_path / "new" / name)
        assert new.sampling.steps == 1
        torch.testing.assert_close(new.features.change_std, old.features.change_std, rtol=0, atol=0)
        assert any((a != b).any() for a, b in zip(old.parameters(), new.parameters(), strict=True))


def test_a_killed_distillation_goes_on_and_ends_the_same(cart_run, tmp_path, monkeypatch):
    run, data = cart_run
    distil(run, data, tmp_path / "whole", SHORT, only=("dynamics",), show=False)
    with monkeypatch.context() as patch:
        done = []

        def fail(self, step):
            done.append(step)
            if len(done) == 12:
                raise RuntimeError("killed")

        patch.setattr(progressive.Round, "after_step", fail)
        with pytest.raises(RuntimeError, match="killed"):
            distil(run, data, tmp_path / "parts", SHORT, only=("dynamics",), show=False)
    distil(run, data, tmp_path / "parts", SHORT, only=("dynamics",), show=False)
    weights = [(tmp_path / name / "dynamics" / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_a_flow_is_distilled_too(cart_run, tmp_path):
    store = EpisodeStore.open(cart_run[1])
    part = cart_task.build("diffusion-proposal", diffusion=progressive.DiffusionConfig(kind="flow"))
    cart_task.trained(part, store, steps=20).save_pretrained(tmp_path / "run" / "proposal")
    result = distil(tmp_path / "run", cart_run[1], tmp_path / "new", SHORT, show=False)
    assert [row["sampler"] for row in result.report["parts"]["proposal"]] == ["flow-euler"] * 3


def test_a_copy_of_the_teacher_loses_nothing(cart_run):
    run, data = cart_run
    part = load_part("dynamics", run / "dynamics")
    windows = LatentWindows(EpisodeStore.open(data), "heldout", part.config.features, 1)
    full, _, same = lost(part, load_part("dynamics", run / "dynamics"), windows.all(most=16))
    assert same.distance == 0
    assert same.energy_score == full.energy_score


def test_what_lies_beyond_the_bounds_of_the_actions_is_no_loss(cart_run):
    """Sampled without bounds, the two were 20 apart; as they are used, they are the same."""
    store = EpisodeStore.open(cart_run[1])
    parts = [
        cart_task.trained(
            cart_task.build("diffusion-proposal", diffusion=progressive.DiffusionConfig(prediction="sample")), store, 0
        )
        for _ in range(2)
    ]
    for part, value in zip(parts, (20.0, 40.0), strict=True):
        torch.nn.init.zeros_(part.network.exit.weight)
        torch.nn.init.constant_(part.network.exit.bias, value)
    windows = LatentWindows(store, "heldout", parts[0].config.features, 1)
    for found in lost(*parts, windows.all(most=8), draws=2):
        assert found.distance == 0
        assert found.energy_score < 15


def _told(cart_run, folder, part="proposal", **metadata):
    """Return a run with one part, whose metadata are these."""
    model = load_part(part, cart_run[0] / part)
    model.save_pretrained(folder / part, metadata)
    return folder


@pytest.mark.parametrize("part", ["dynamics", "proposal"])
def test_data_of_another_task_are_refused(cart_run, tmp_path, part):
    run = _told(cart_run, tmp_path / "run", part, task="trolley")
    with pytest.raises(UserError, match=f"data of cart, the {part} is of trolley") as caught:
        distil(run, cart_run[1], tmp_path / "new", SHORT, only=(part,), show=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_proposal_whose_encoder_is_not_at_hand_is_refused(cart_run, tmp_path):
    run = _told(cart_run, tmp_path / "run", encoder="0" * 64)
    for _ in range(2):
        with pytest.raises(UserError, match="no dynamics with that encoder") as caught:
            distil(run, cart_run[1], tmp_path / "new", SHORT, only=("proposal",), show=False)
        assert "\n" not in str(caught.value)
        _told(cart_run, run, "dynamics")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "text"),
    [(DistilSettings(steps=3, teacher_steps=8), "cannot be halved"), (DistilSettings(steps=600), "has no more")],
)
def test_steps_that_cannot_be_are_refused(cart_run, tmp_path, settings, text):
    with pytest.raises(UserError, match=text):
        distil(cart_run[0], cart_run[1], tmp_path / "new", settings, show=False)
    assert not (tmp_path / "new").exists()


def test_a_run_without_diffusion_is_refused(cart_run, tmp_path):
    run, data = cart_run
    with pytest.raises(UserError, match="never changed"):
        distil(run, data, run, SHORT)
    regression = cart_task.build("regression-proposal", diffusion=None, network={"width": 8})
    cart_task.trained(regression, EpisodeStore.open(data), steps=1).save_pretrained(tmp_path / "run" / "proposal")
    with pytest.raises(UserError, match="no diffusion model among dynamics, proposal"):
        distil(tmp_path / "run", data, tmp_path / "new", SHORT)
