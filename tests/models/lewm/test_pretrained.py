"""Model folders: what is written is what is read, and what is damaged is said in one line."""

import functools
import json
import pickle

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from wmkit import model_folder
from wmkit.contracts import Context
from wmkit.errors import UserError
from wmkit.models import LeWM

_METADATA = {"data": {"fingerprint": "abc123"}, "training": {"steps": 7, "val_loss": 0.25}}


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model", _METADATA)
    return tmp_path / "model"


def _outputs(model: LeWM) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 16, 16, 3), dtype=np.uint8)
    latents = model.encode({"pixels": pixels})
    actions = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return latents, model.rollout(Context(latents, torch.zeros(2, 0, 4)), actions).latents


def test_loaded_model_is_the_saved_one(model, folder):
    loaded = LeWM.from_pretrained(folder)
    assert loaded.config == model.config
    assert loaded.metadata == _METADATA
    assert not loaded.training
    for found, expected in zip(_outputs(loaded), _outputs(model), strict=True):
        assert torch.equal(found, expected)


def test_folder_holds_three_files_and_the_card_the_facts(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]
    card = (folder / "README.md").read_text()
    assert "abc123" in card
    assert "library_name: wmkit" in card
    assert "registry.load('models', 'lewm').from_pretrained('model')" in card


def test_saving_again_keeps_metadata_and_other_files(folder, build):
    (folder / "log.jsonl").write_text("kept")
    loaded = LeWM.from_pretrained(folder)
    torch.nn.init.normal_(loaded.encoder.patches.weight)
    loaded.save_pretrained(folder)
    again = LeWM.from_pretrained(folder)
    assert again.metadata == _METADATA
    assert torch.equal(again.encoder.patches.weight, loaded.encoder.patches.weight)
    assert (folder / "log.jsonl").read_text() == "kept"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_storage(model, folder, dtype):
    full = (folder / "model.safetensors").stat().st_size
    model.save_pretrained(folder, dtype=dtype)
    stored = load_file(folder / "model.safetensors")
    assert stored["encoder.patches.weight"].dtype == dtype
    assert stored["action_std"].dtype == torch.float32
    assert (folder / "model.safetensors").stat().st_size < 0.8 * full
    loaded = LeWM.from_pretrained(folder)
    assert loaded.encoder.patches.weight.dtype == torch.float32
    torch.testing.assert_close(_outputs(loaded)[1], _outputs(model)[1], rtol=0.1, atol=0.1)


def test_integers_are_refused_as_storage(model, folder):
    with pytest.raises(UserError, match=r"cannot be stored as torch.int8"):
        model.save_pretrained(folder, dtype=torch.int8)


@pytest.mark.parametrize("metadata", [{"loss": float("nan")}, {"path": object()}])
def test_metadata_that_is_no_json_leaves_the_folder_as_it_was(model, folder, metadata):
    before = (folder / "model.safetensors").read_bytes(), (folder / "config.json").read_bytes()
    torch.nn.init.normal_(model.encoder.patches.weight)
    with pytest.raises(ValueError, match="plain JSON"):
        model.save_pretrained(folder, metadata)
    assert ((folder / "model.safetensors").read_bytes(), (folder / "config.json").read_bytes()) == before


@pytest.mark.parametrize("failing", ["model.safetensors", "README.md", "config.json"])
def test_failure_while_writing_leaves_the_folder_as_it_was(model, folder, failing, monkeypatch):
    """A full disk, say, while any of the files is written aside."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real = model_folder.Path.open

    def broken(self, *args, **kwargs):
        if self.name == failing:
            raise OSError("No space left on device")
        return real(self, *args, **kwargs)

    torch.nn.init.normal_(model.encoder.patches.weight)
    with monkeypatch.context() as patch:
        patch.setattr(model_folder.Path, "open", broken)
        with pytest.raises(OSError, match="No space left"):
            model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]


def test_folder_between_two_versions_is_refused(model, folder, build, tmp_path):
    """Killed after the weights were replaced and before the configuration was."""
    build(seed=1).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        LeWM.from_pretrained(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_damage_is_one_clear_line(folder, name, damage):
    content = bytearray((folder / name).read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 2 - 1 :] = bytes(byte ^ 0x55 for byte in content[len(content) // 2 - 1 :])
    elif damage == "empty":
        content = bytearray()
    (folder / name).write_bytes(content)
    if damage == "remove":
        (folder / name).unlink()
    with pytest.raises(UserError, match=str(folder)) as error:
        LeWM.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_pickles_are_never_loaded(folder, tmp_path):
    """Weights that are a pickle would create a file on loading."""

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    content = pickle.dumps(Bomb())
    (folder / "model.safetensors").write_bytes(content)
    document = json.loads((folder / "config.json").read_text())
    document["sha256"] = model_folder.hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="no safetensors file"):
        LeWM.from_pretrained(folder)
    assert not (tmp_path / "executed").exists()


def _edit(folder, function) -> None:
    document = json.loads((folder / "config.json").read_text())
    function(document)
    (folder / "config.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda d: d.update(format="other"), "not of a lewm: its format is 'other'"),
        (lambda d: d.update(version=2), "of version 2; this wmkit reads version 1"),
        (lambda d: d.pop("sha256"), "lacks 'sha256'"),
        (lambda d: d["config"].update(extra=1), "unknown LeWM option extra"),
        (lambda d: d["config"].pop("latent_size"), "lacks latent_size"),
        (lambda d: d["config"].update(latent_size=24), "do not fit: .*size mismatch"),
        (lambda d: d["config"].update(projector=None), "do not fit: .*Unexpected key"),
        (lambda d: d["config"].update(encoder="os:system"), "unknown encoder 'os:system'"),
        (lambda d: d["config"].update(seconds_per_step="x"), "do not fit"),
    ],
)
def test_configuration_that_does_not_fit_is_refused(folder, edit, text):
    _edit(folder, edit)
    with pytest.raises(UserError, match=text) as error:
        LeWM.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no-such-folder", "no model folder no-such-folder; give a folder, pretrained:NAME, or owner/name"),
        ("/no/such/folder", "no model folder /no/such/folder"),
        ("pretrained:no-such-model", "no model pretrained:no-such-model ships with wmkit; known: "),
        ("pretrained:../lewm", "ships with wmkit"),
    ],
)
def test_unknown_names_are_refused(name, text):
    with pytest.raises(UserError, match=text):
        LeWM.from_pretrained(name)


def test_file_in_place_of_the_folder_is_refused(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        model.save_pretrained(tmp_path / "file")


def test_packaged_models_load_by_name(folder, monkeypatch):
    monkeypatch.setattr(model_folder, "files", lambda _: folder.parent)
    assert LeWM.from_pretrained("pretrained:model").metadata == _METADATA


def test_hub_models_are_downloaded(model, folder, monkeypatch):
    asked = []

    def download(name, allow_patterns):
        asked.append((name, sorted(allow_patterns)))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    loaded = LeWM.from_pretrained("someone/some-model")
    name, patterns = asked[0]
    assert name == "someone/some-model"
    assert {"README.md", "config.json", "model.safetensors"} <= set(patterns)
    assert torch.equal(_outputs(loaded)[1], _outputs(model)[1])


def test_hub_models_come_from_the_local_cache_offline(model, folder, tmp_path, monkeypatch):
    """A cache as huggingface_hub lays it out, read by the real library without a network."""
    cached = tmp_path / "hub" / "models--someone--some-model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots").mkdir()
    folder.rename(cached / "snapshots" / ("0" * 40))
    offline = functools.partial(huggingface_hub.snapshot_download, cache_dir=tmp_path / "hub", local_files_only=True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    assert torch.equal(_outputs(LeWM.from_pretrained("someone/some-model"))[1], _outputs(model)[1])
    with pytest.raises(UserError, match="no folder someone/another, and the Hugging Face hub gave none"):
        LeWM.from_pretrained("someone/another")


def test_weights_saved_elsewhere_with_extra_tensors_are_refused(folder):
    state = load_file(folder / "model.safetensors") | {"extra": torch.zeros(1)}
    save_file(state, folder / "model.safetensors")
    content = (folder / "model.safetensors").read_bytes()
    _edit(folder, lambda d: d.update(sha256=model_folder.hashlib.sha256(content).hexdigest()))
    with pytest.raises(UserError, match=r'Unexpected key.*"extra"'):
        LeWM.from_pretrained(folder)
