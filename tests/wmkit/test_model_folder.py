"""Model folders of any kind; that of a whole model, with every damage, is tested with LeWM."""

import hashlib
import json

import pytest
import torch

from wmkit import registry
from wmkit.errors import UserError
from wmkit.model_folder import kind_of, load_folder, resolve, save_folder, weights_sha256

_STATE = {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor([3]), "bias": torch.tensor([0.1])}


@pytest.fixture
def folder(tmp_path):
    save_folder(tmp_path / "part", "terminal-value", {"width": 2}, _STATE, {"reward": "jump"})
    return tmp_path / "part"


def test_what_is_read_is_what_was_written(folder):
    config, state, metadata = load_folder(folder, "terminal-value")
    assert (config, metadata) == ({"width": 2}, {"reward": "jump"})
    assert state.keys() == _STATE.keys()
    assert all(
        torch.equal(state[name], tensor) and state[name].dtype == tensor.dtype for name, tensor in _STATE.items()
    )
    assert resolve(str(folder)) == folder


def test_half_precision_is_of_matrices_alone(folder):
    save_folder(folder, "terminal-value", {}, _STATE, dtype=torch.float16)
    state = load_folder(folder, "terminal-value")[1]
    assert [state[name].dtype for name in _STATE] == [torch.float16, torch.int64, torch.float32]


def test_a_folder_tells_its_kind(folder):
    assert kind_of(folder) == "terminal-value"
    with pytest.raises(UserError, match=r"is not of a lewm: its format is 'wmkit\.terminal-value'"):
        load_folder(folder, "lewm")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "7"])
def test_a_folder_without_a_kind_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"no config\.json that names a format"):
        kind_of(tmp_path)


@pytest.mark.parametrize("kind", ["models", "proposals", "values"])
def test_the_card_says_how_to_load_it(tmp_path, kind):
    name = registry.names(kind)[0]
    save_folder(tmp_path / "part", name, {}, {})
    assert f"registry.load({kind!r}, {name!r}).from_pretrained('part')" in (tmp_path / "part" / "README.md").read_text()


def test_damaged_weights_are_refused(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        load_folder(folder, "terminal-value")


def test_a_newer_version_is_refused(folder):
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"version": 99}))
    with pytest.raises(UserError, match="of version 99; this wmkit reads version 1"):
        load_folder(folder, "terminal-value")


def test_a_download_takes_the_readout_and_the_calibration_along(monkeypatch, tmp_path):
    asked = {}

    def snapshot_download(name, allow_patterns):
        asked[name] = set(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve("some-one/some-model") == tmp_path
    beside = {f"{part}.{kind}" for part in ("readout", "surprise") for kind in ("json", "safetensors")}
    assert asked == {"some-one/some-model": beside | {"config.json", "model.safetensors", "README.md"}}


def test_the_weights_hash_is_the_configuration_s(tmp_path):
    save_folder(tmp_path / "m", "test", {}, {"w": torch.zeros(2)})
    weights = (tmp_path / "m" / "model.safetensors").read_bytes()
    assert weights_sha256(tmp_path / "m") == hashlib.sha256(weights).hexdigest()
    with pytest.raises(UserError, match="no model folder"):
        weights_sha256(tmp_path)
