"""Checkpoints of the published LeWM, as stable-worldmodel writes them.

`golden_official/` holds tiny checkpoints and what stable-worldmodel made of random inputs: two of the published form,
saved with transformers 4.57.1 and 5.23.0, and "unusual": a predictor wider than the latent, with one head and so no
output layer, no projectors, no biases of queries, and another epsilon. To write one again, with `config.json` of its
folder and a Python that has stable-worldmodel 0.1.1 and that version of transformers:

    PEER/bin/python benchmarks/peers/stable_worldmodel_lewm.py config.json OUT 24

and copy OUT/checkpoints/lewm/* and OUT/reference.safetensors here.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wmkit.contracts import Context
from wmkit.data.episodes import EpisodeStore
from wmkit.errors import UserError
from wmkit.models.lewm import LeWM
from wmkit.models.lewm.official import describe
from wmkit.scripts import main as program

_GOLDEN = Path(__file__).parent / "golden_official"
_CHECKPOINTS = ("transformers4", "transformers5", "unusual")
_STATISTICS = {"action_repeat": 2, "action_mean": [0.0, 0.0], "action_std": [1.0, 1.0]}
_TOLERANCE = {"rtol": 0, "atol": 1e-5}


def _reference(name: str = "transformers5") -> dict[str, torch.Tensor]:
    return load_file(_GOLDEN / name / "reference.safetensors")


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize("name", _CHECKPOINTS)
def test_outputs_are_stable_worldmodels(name, known):
    model, expected = LeWM.from_lewm(_GOLDEN / name, **_STATISTICS), _reference(name)
    actions, latents = expected[f"actions.{known}"], model.encode({"pixels": expected[f"pixels.{known}"]})
    torch.testing.assert_close(latents, expected[f"latents.{known}"], **_TOLERANCE)
    predictions = model.predict(latents, actions[:, 0, :known])
    torch.testing.assert_close(predictions.detach(), expected[f"predictions.{known}"], **_TOLERANCE)
    context = Context(latents, actions[:, 0, : known - 1])
    for rollout in (model.rollout, model.reference_rollout):
        imagined = rollout(context, actions[:, :, known - 1 :]).latents
        torch.testing.assert_close(imagined, expected[f"rollout.{known}"], **_TOLERANCE)


@pytest.mark.parametrize("name", _CHECKPOINTS)
def test_images_of_another_size_are_encoded_as_stable_worldmodel_does(name):
    model, expected = LeWM.from_lewm(_GOLDEN / name, action_repeat=2, image_size=24), _reference(name)
    latents = model.encode({"pixels": expected["pixels.other"]})
    torch.testing.assert_close(latents, expected["latents.other"], **_TOLERANCE)
    with pytest.raises(UserError, match="multiple of the checkpoint's patches, 8"):
        LeWM.from_lewm(_GOLDEN / name, action_repeat=2, image_size=20)


def test_every_weight_matters(rewrite, folder):
    """A weight that were ignored or put elsewhere twice would not change the outputs."""
    expected, weights = _reference(), rewrite[0]
    context = Context(expected["latents.2"], expected["actions.2"][:, 0, :1])
    state = torch.load(folder / "weights.pt", weights_only=True)
    indifferent = []
    for name, tensor in state.items():
        if tensor.is_floating_point():
            changed = 1.5 * tensor + 0.1 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(3))
            weights(lambda _, change={name: changed}: state | change)
            model = LeWM.from_lewm(folder, **_STATISTICS)
            latents = model.encode({"pixels": expected["pixels.2"]})
            rollout = model.rollout(context, expected["actions.2"][:, :, 1:]).latents
            same = torch.allclose(latents, expected["latents.2"], **_TOLERANCE)
            if same and torch.allclose(rollout, expected["rollout.2"], **_TOLERANCE):
                indifferent.append(name)
    assert indifferent == ["encoder.layers.0.attention.k_proj.bias"]  # softmax does not see it


def test_the_model_can_be_saved_and_loaded_as_any_other(tmp_path):
    model = LeWM.from_lewm(_GOLDEN / "transformers5", **_STATISTICS)
    model.save_pretrained(tmp_path / "mine")
    again, expected = LeWM.from_pretrained(tmp_path / "mine"), _reference()
    torch.testing.assert_close(again.encode({"pixels": expected["pixels.1"]}), expected["latents.1"], **_TOLERANCE)
    assert again.metadata["source"]["file"] == "weights.pt"


def test_the_published_repository_s_class_names_are_known(rewrite, folder):
    def rename(document):
        text = json.dumps(document).replace("stable_worldmodel.wm.lewm.LeWM", "jepa.JEPA")
        text = text.replace("stable_worldmodel.wm.lewm.module.Predictor", "module.ARPredictor")
        return json.loads(text.replace("stable_worldmodel.wm.lewm.module", "module"))

    rewrite[1](rename)
    assert "jepa.JEPA" in (folder / "config.json").read_text()
    assert LeWM.from_lewm(folder, action_repeat=2).config.latent_size == 8


@pytest.mark.parametrize("form", ["wrapped", "lightning", "safetensors", "bfloat16 file", "file"])
def test_forms_of_the_weights(rewrite, folder, form):
    name, path = folder, folder / "weights.pt"
    if form == "wrapped":
        rewrite[0](lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()})
    elif form == "lightning":
        unused = {"sigreg.t": torch.zeros(17), "model.encoder.embeddings.mask_token": torch.zeros(1, 1, 12)}
        rewrite[0](lambda state: {"state_dict": unused | {f"model.{name}": value for name, value in state.items()}})
    elif form == "safetensors":
        save_file(torch.load(path, weights_only=True), folder / "model.safetensors")
        path.write_bytes(b"not read")
    elif form == "bfloat16 file":
        rewrite[0](lambda state: {name: tensor.bfloat16() for name, tensor in state.items()})
    else:
        shutil.copy(path, folder / "weights_epoch_2.pt")
        with pytest.raises(UserError, match=r"holds 2 files of weights \(weights.pt, weights_epoch_2.pt\)"):
            LeWM.from_lewm(folder)
        name = folder / "weights_epoch_2.pt"
    model, expected = LeWM.from_lewm(name, action_repeat=2), _reference()
    latents, tolerance = model.encode({"pixels": expected["pixels.1"]}), 0.1 if form == "bfloat16 file" else 1e-5
    torch.testing.assert_close(latents, expected["latents.1"], rtol=0, atol=tolerance)
    assert latents.dtype == torch.float32
    assert len(model.metadata["source"]["unused"]) == (2 if form == "lightning" else 0)


def test_the_hub_is_asked_for_a_checkpoint_s_files_alone(monkeypatch):
    asked = {}

    def download(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(_GOLDEN / "transformers4")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert LeWM.from_lewm("quentinll/lewm-pusht", action_repeat=2).config.history == 3
    assert asked["name"] == "quentinll/lewm-pusht"
    assert asked["patterns"] == ["config.json", "weights.pt", "weights.safetensors", "model.safetensors"]


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def download(name, allow_patterns):
        raise OSError("no route\nto the host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(UserError, match=r"^no folder owner/name, and the Hugging Face hub gave none: no route$"):
        LeWM.from_lewm("owner/name")


def test_without_statistics_it_encodes_but_does_not_roll_out():
    model, expected = LeWM.from_lewm(_GOLDEN / "transformers5", action_repeat=2), _reference()
    latents = model.encode({"pixels": expected["pixels.1"]})
    context = Context(latents, torch.zeros(2, 0, 4))
    with pytest.raises(ValueError, match="no action statistics; call set_action_statistics"):
        model.rollout(context, expected["actions.1"])
    model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
    torch.testing.assert_close(
        model.rollout(context, expected["actions.1"]).latents, expected["rollout.1"], **_TOLERANCE
    )


def test_statistics_are_of_one_environment_action():
    given = {"action_mean": [10.0, -4.0], "action_std": [2.0, 8.0], "action_low": [0, -9], "action_high": [20, 9]}
    model, expected = LeWM.from_lewm(_GOLDEN / "transformers5", action_repeat=2, **given), _reference()
    actions = expected["actions.1"] * torch.tensor([2.0, 8.0, 2.0, 8.0]) + torch.tensor([10.0, -4.0, 10.0, -4.0])
    rollout = model.rollout(Context(expected["latents.1"], torch.zeros(2, 0, 4)), actions).latents
    torch.testing.assert_close(rollout, expected["rollout.1"], rtol=0, atol=1e-4)
    assert model.config.action_low == (0.0, -9.0)


def test_statistics_from_recorded_episodes(tmp_path):
    options = ["--episodes", "2", "--image-size", "16", "--workers", "1", "--out", str(tmp_path / "data")]
    assert program.main(["collect", "two-room", *options]) == 0
    store = EpisodeStore.open(tmp_path / "data")
    actions = torch.from_numpy(store.read("action", range(2))).double()
    data = {"action_repeat": 2, "statistics_from": tmp_path / "data", "action_high": [9, 9]}
    model = LeWM.from_lewm(_GOLDEN / "transformers5", **data)
    torch.testing.assert_close(model.action_mean, actions.mean(0).float())
    torch.testing.assert_close(model.action_std, actions.std(0, correction=0).float())
    assert model.config.action_low == store.metadata.action_low
    assert model.config.action_high == (9.0, 9.0)
    assert model.config.seconds_per_step == pytest.approx(2 * store.metadata.seconds_per_step)


def test_describe_reads_no_weights(folder):
    (folder / "weights.pt").write_bytes(b"abc")
    found = describe(folder)
    assert found is not None
    assert found["bytes"] == 3
    assert found["architecture"]["latent_size"] == 8
    (folder / "config.json").write_text('{"format": "wmkit.lewm"}')
    assert describe(folder) is None


def test_the_info_command_says_how_to_load_it(folder, capsys):
    assert program.main(["info", str(folder)]) == 0
    assert f"LeWM.from_lewm({str(folder)!r})" in capsys.readouterr().out
    (folder / "weights.pt").unlink()
    assert program.main(["info", str(folder)]) == 2
    assert "holds no .pt file" in capsys.readouterr().err
