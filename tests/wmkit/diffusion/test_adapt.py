"""Adaptation: the dynamics learns the changed robot, everything else and the original run stay as they are."""

import json
import shutil

import cart_task
import pytest
import torch

from wmkit.data.episodes import EpisodeStore
from wmkit.diffusion import adapt as module
from wmkit.diffusion.adapt import AdaptSettings, adapt
from wmkit.diffusion.runs import folder_hash, load_part
from wmkit.errors import UserError

FEW = AdaptSettings(steps=40, lr=3e-3, batch=32, ema=0.9)


@pytest.fixture(scope="module")
def weak(tmp_path_factory):
    """Data of a cart with a third of the gain."""
    folder = tmp_path_factory.mktemp("weak")
    cart_task.record(folder, episodes=12, gain=0.3, seed=5)
    return folder


def test_only_the_dynamics_changes(cart_run, weak, tmp_path):
    run, out = cart_run[0], tmp_path / "new"
    hashes = folder_hash(run)
    result = adapt(run, weak, out, FEW, show=False)
    assert result.finished
    assert result.report["after"]["open_loop"] < 0.5 * result.report["before"]["open_loop"]
    assert folder_hash(run) == hashes
    assert folder_hash(out / "proposal") == folder_hash(run / "proposal")
    old, new = load_part("dynamics", run / "dynamics"), load_part("dynamics", out / "dynamics")
    for name, buffer in old.features.named_buffers():
        torch.testing.assert_close(dict(new.features.named_buffers())[name], buffer, rtol=0, atol=0)
    assert any((a != b).any() for a, b in zip(old.parameters(), new.parameters(), strict=True))
    written = json.loads((out / "adapt.json").read_text())
    assert written["finished"]
    assert written["fingerprint"] == EpisodeStore.open(weak).fingerprint
    assert new.metadata["adaptation"]["fingerprint"] == written["fingerprint"]
    again = adapt(run, weak, out, FEW, show=False)
    assert again.report["dynamics"] == result.report["dynamics"]


def test_an_interrupted_adaptation_goes_on_and_ends_the_same(cart_run, weak, tmp_path, monkeypatch):
    whole = adapt(cart_run[0], weak, tmp_path / "whole", FEW, show=False)
    with monkeypatch.context() as patch:
        after, count = module.SequenceStage.after_step, []

        def fail(self, step):
            after(self, step)
            count.append(step)
            if len(count) == 23:
                raise RuntimeError("killed")

        patch.setattr(module.SequenceStage, "after_step", fail)
        with pytest.raises(RuntimeError, match="killed"):
            adapt(cart_run[0], weak, tmp_path / "parts", FEW, show=False)
    assert not json.loads((tmp_path / "parts" / "adapt.json").read_text())["finished"]
    with pytest.raises(UserError, match="cannot resume"):
        adapt(cart_run[0], weak, tmp_path / "parts", AdaptSettings(steps=41), show=False)
    resumed = adapt(cart_run[0], weak, tmp_path / "parts", FEW, show=False)
    assert resumed.report["after"] == whole.report["after"]
    weights = [(tmp_path / name / "dynamics" / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_the_amount_of_data_counts_all_that_is_used(cart_run, weak, tmp_path):
    settings = AdaptSettings(episodes=4, steps=2, batch=4)
    report = adapt(cart_run[0], weak, tmp_path / "new", settings, show=False).report
    assert report["episodes"] == {"train": 3, "validation": 1}


def _other(tmp_path, **changes):
    """Return data of a cart that differs."""
    folder = tmp_path / "data"
    cart_task.record(folder, episodes=4)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seconds_per_step": 0.05}, "same rate"),
        ({"action_low": [-1.0], "action_high": [1.0]}, "actions of 1 numbers, the model takes 2"),
        ({"action_high": [2.0, 2.0]}, "action bounds"),
        ({"task": "trolley"}, "data of trolley, the dynamics is of cart"),
    ],
)
def test_data_that_do_not_fit_are_refused(cart_run, tmp_path, changes, text):
    with pytest.raises(UserError, match=text):
        adapt(cart_run[0], _other(tmp_path, **changes), tmp_path / "new", FEW, show=False)
    assert not (tmp_path / "new").exists()


def test_too_few_episodes_are_refused(cart_run, weak, tmp_path):
    cart_task.record(tmp_path / "two", episodes=2)
    with pytest.raises(UserError, match="holds 2 episodes; a split needs at least 3"):
        adapt(cart_run[0], tmp_path / "two", tmp_path / "new", FEW, show=False)
    for count in (0, 1, 99):
        with pytest.raises(UserError, match=f"{count} episodes cannot be split"):
            adapt(cart_run[0], weak, tmp_path / "new", AdaptSettings(episodes=count), show=False)
    assert not (tmp_path / "new").exists()


def test_no_other_run_is_written_over(cart_run, weak, tmp_path):
    run = cart_run[0]
    hashes = folder_hash(run)
    for out in (run, run / "dynamics", run.parent, run / ".." / run.name):
        with pytest.raises(UserError, match="never changed"):
            adapt(run, weak, out, FEW, show=False)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    with pytest.raises(UserError, match="already holds dynamics, proposal and no adapt"):
        adapt(run, weak, other, FEW, show=False)
    assert folder_hash(run) == folder_hash(other) == hashes


def test_what_is_no_run_is_refused(cart_run, weak, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no folder"):
        adapt(tmp_path / "nothing", weak, tmp_path / "new", FEW)
    with pytest.raises(UserError, match="is no run"):
        adapt(tmp_path / "empty", weak, tmp_path / "new", FEW)
    shutil.copytree(cart_run[0] / "proposal", tmp_path / "half" / "proposal")
    with pytest.raises(UserError, match="no dynamics to adapt"):
        adapt(tmp_path / "half", weak, tmp_path / "new", FEW)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": -1.0}, {"ema": 1.0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        AdaptSettings(**wrong)
