"""Checkpoints that `LeWM.from_lewm` refuses, unsafe, damaged or of another architecture, in one line that names it."""

import os
from pathlib import Path

import pytest
import torch

from wmkit.errors import UserError
from wmkit.models.lewm import LeWM


class _Evil:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (os.fspath(self.path), "w")


@pytest.mark.parametrize("among_tensors", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_and_nothing_runs(rewrite, folder, tmp_path, among_tensors):
    made = tmp_path / "made"
    rewrite[0](lambda state: (state if among_tensors else {}) | {"encoder.evil": _Evil(made)})
    with pytest.raises(UserError, match=r"wants to run code \(\S*open\) and was refused; nothing of it ran") as caught:
        LeWM.from_lewm(folder)
    assert "\n" not in str(caught.value)
    assert not made.exists()
    torch.load(folder / "weights.pt", weights_only=False)
    assert made.exists(), "the file would have made something, had it been loaded carelessly"


def test_a_whole_pickled_model_is_refused(folder):
    torch.save(torch.nn.Linear(2, 2), folder / "weights.pt")
    with pytest.raises(UserError, match=r"wants to run code \(torch.nn.modules.linear.Linear\) and was refused"):
        LeWM.from_lewm(folder)


@pytest.mark.parametrize("content", ["half", "empty", "text", "list", "number"])
def test_files_that_are_no_weights(folder, content):
    path = folder / "weights.pt"
    whole = path.read_bytes()
    if content in ("list", "number"):
        torch.save([1, 2] if content == "list" else {"a": 1}, path)
    else:
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"hello world" * 50}[content])
    text = {"list": "holds a list, not tensors by name", "number": r"holds more than tensors \(a\)"}
    with pytest.raises(UserError, match=text.get(content, "holds no readable tensors")) as caught:
        LeWM.from_lewm(folder)
    assert "\n" not in str(caught.value)


_NORM = "predictor.transformer.norm.weight"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: {n: t for n, t in s.items() if n != _NORM}, rf"1 missing \({_NORM}\)"),
        (
            lambda s: {n: t for n, t in s.items() if not n.startswith("projector")},
            r"9 missing \(projector.net.0.weight, projector.net.0.bias, projector.net.1.weight and 6 more\)",
        ),
        (lambda s: s | {"extra.weight": torch.ones(2)}, r"1 unknown \(extra.weight\)"),
        (lambda s: s | {_NORM: torch.ones(9)}, rf"1 of another shape \({_NORM} \(9,\) instead of \(8,\)\)"),
        (
            lambda s: {n: t for n, t in s.items() if n != _NORM} | {"extra": torch.ones(1)},
            r"1 missing \(.*\); 1 unknown \(extra\)",
        ),
        (lambda s: s | {_NORM: torch.ones(8, dtype=torch.int8)}, rf"1 no floating-point numbers \({_NORM}\)"),
        (lambda s: s | {_NORM: torch.ones(8).to_sparse()}, rf"holds more than tensors \({_NORM}\)"),
        (lambda s: s | {_NORM: torch.ones(8, device="meta")}, rf"holds more than tensors \({_NORM}\)"),
        (lambda s: s | {_NORM: torch.full((8,), torch.nan)}, rf"hold NaN or infinity: {_NORM};"),
        (lambda s: s | {f"model.{_NORM}": s[_NORM]}, f"one weight twice: {_NORM} and model.{_NORM}"),
    ],
)
def test_weights_that_do_not_fit_are_named(rewrite, folder, change, text):
    rewrite[0](change)
    with pytest.raises(UserError, match=text) as caught:
        LeWM.from_lewm(folder, action_repeat=2)
    assert "\n" not in str(caught.value)


def _set(path: str, value):
    """Return a function that sets one option, given as section.name, or deletes it with None."""

    def change(document):
        *sections, name = path.split(".")
        for section in sections:
            document = document[section]
        document.pop(name) if value is None else document.update({name: value})

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_set("_target_", "stable_worldmodel.wm.pldm.PLDM"), "config._target_ of the LeWM checkpoint is .*pldm.PLDM"),
        (
            _set("encoder._target_", "timm.create_model"),
            "encoder._target_ .* is 'timm.create_model'; supported: stable",
        ),
        (_set("predictor._target_", "os.system"), "predictor._target_ .* is 'os.system'"),
        (_set("encoder", None), "lacks config.encoder"),
        (_set("predictor.depth", None), "lacks predictor.depth"),
        (_set("predictor.depth", "6"), "predictor.depth .* is '6'; expected a whole number from 1"),
        (_set("predictor.depth", True), "predictor.depth .* is True"),
        (_set("predictor.depth", 10**9), "predictor.depth .* is 1000000000"),
        (_set("predictor.num_frames", "${history_size}"), "predictor.num_frames is .*: resolve the configuration's"),
        (_set("predictor.rotary", True), "not supported: predictor.rotary"),
        (_set("use_proprio", False), "not supported: config.use_proprio"),
        (_set("encoder.hidden_act", "relu"), "encoder.hidden_act .* is 'relu'; only 'gelu' is supported"),
        (_set("encoder.size", "giant"), "encoder.size .* is 'giant'; known: tiny"),
        (_set("encoder.pretrained", True), "encoder.pretrained .* is True; only False"),
        (_set("predictor.output_dim", 12), "predictor.output_dim .* is 12 and predictor.input_dim 8"),
        (
            _set("projector.norm_fn", None),
            "projector.norm_fn .* is 'torch.nn.LayerNorm'; supported: torch.nn.BatchNorm1d",
        ),
        (_set("projector.norm_fn.eps", 0.1), "projector.norm_fn .* with eps; supported"),
        (_set("pred_proj.act_fn", "torch.nn.ReLU"), "pred_proj.act_fn .* is 'torch.nn.ReLU'"),
        (_set("pred_proj.hidden_dim", 11), "pred_proj.hidden_dim .* is 11 and projector.hidden_dim 10"),
        (_set("pred_proj", None), "one projector of two"),
        (_set("encoder.image_size", 20), "encoder.patch_size 8 must divide encoder.image_size 20"),
        (_set("encoder.num_attention_heads", 5), "num_attention_heads 5 the width 12"),
        (_set("encoder.num_hidden_layers", 2), "16 missing"),
        (_set("predictor.num_frames", 4), r"1 of another shape \(predictor.pos_embedding \(1, 3, 8\) instead of"),
    ],
)
def test_options_that_are_not_supported_are_named(rewrite, folder, change, text):
    rewrite[1](change)
    with pytest.raises(UserError, match=text) as caught:
        LeWM.from_lewm(folder, action_repeat=2)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_checkpoint(folder, tmp_path):
    for name, text in (
        ("absent", "no LeWM checkpoint"),
        (tmp_path, "holds no .pt file and none of weights.safetensors"),
    ):
        with pytest.raises(UserError, match=text):
            LeWM.from_lewm(name)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not readable JSON"):
        LeWM.from_lewm(folder)
    (folder / "config.json").write_text('{"format": "wmkit.lewm"}')
    with pytest.raises(UserError, match="model folder of wmkit; load it with from_pretrained"):
        LeWM.from_lewm(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config of the LeWM checkpoint is \[\]; expected a mapping"):
        LeWM.from_lewm(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is missing beside weights\.pt"):
        LeWM.from_lewm(folder)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "blocks have 4 numbers, which action_repeat 5 does not divide"),
        ({"action_repeat": 2, "action_low": [-1.0]}, "action_low has 1 numbers, .* 4 / 2 = 2"),
        ({"action_repeat": 2, "action_mean": [0.0, 0.0]}, "action_mean and action_std go together"),
        (
            {"action_repeat": 2, "action_mean": [0.0], "action_std": [1.0]},
            "action mean is .*; expected 2 finite numbers",
        ),
        ({"action_repeat": 2, "action_low": [2.0, 2.0]}, "action_low .* is not below action_high"),
        ({"action_repeat": 2, "seconds_per_step": 0.0}, "seconds_per_step is 0.0; give seconds above 0"),
    ],
)
def test_what_the_caller_says_must_fit(folder, options, text):
    with pytest.raises(ValueError, match=text):
        LeWM.from_lewm(folder, **options)


def test_an_action_encoder_that_is_too_wide_is_named(rewrite, folder):
    """`LeWM`'s has 4 times the predictor's width."""
    rewrite[1](_set("action_encoder.mlp_scale", 5))
    wide = {"action_encoder.embed.0.weight": (40, 10), "action_encoder.embed.0.bias": (40,)}
    wide["action_encoder.embed.2.weight"] = (8, 40)
    rewrite[0](lambda state: state | {name: torch.ones(shape) for name, shape in wide.items()})
    with pytest.raises(UserError, match=r"mlp_scale \* emb_dim .* is 40; supported: at most .* 32"):
        LeWM.from_lewm(folder, action_repeat=2)
