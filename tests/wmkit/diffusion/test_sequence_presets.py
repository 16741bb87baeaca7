"""Presets of parts and of whole runs: what follows from the data, what is written down, and mistakes in one line."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import cart_task
import numpy as np
import pytest
import torch

from wmkit import registry
from wmkit.data.splits import load_splits
from wmkit.diffusion.runs import load_part, parts_of
from wmkit.errors import UserError
from wmkit.models.autoregressive import AutoregressiveDynamics
from wmkit.scripts.main import main
from wmkit.tasks import Task

TURNING = replace(
    cart_task.CART,
    name="cart",
    invariant=("x",),
    angles=("y",),
    rewards={"right": lambda states, actions: states[..., 0]},
)
_NAMES = ("diffusion-dynamics", "autoregressive-dynamics", "diffusion-proposal", "regression-proposal")
_SMALL = {"horizon": "4", "width": "16", "depth": "1", "heads": "2", "mlp_size": "32", "steps": "4", "batch": "8"}
_WORDS = [f"{name}={value}" for name, value in _SMALL.items()]


@pytest.fixture(scope="module", autouse=True)
def _registered():
    torch.set_num_threads(1)
    if "cart" not in registry.names("environments"):
        registry.register("environments", "cart", f"{__name__}:TURNING")
    sync, os.fsync = os.fsync, lambda file: None
    yield
    os.fsync = sync


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    store = cart_task.record(tmp_path_factory.mktemp("cart") / "data", 12)
    named = replace(store.metadata, reward="right")
    named.save(store.folder)
    return store.folder


def _recipe(name, data, **changes):
    return registry.load("presets", name).recipe(data, overrides=_SMALL | changes)


@pytest.mark.parametrize("name", _NAMES)
def test_a_part_says_where_it_is_from(data, tmp_path, name):
    model = _recipe(name, data, episodes="3").model
    model.save_pretrained(tmp_path / "part")
    kind = "models" if "dynamics" in name else "proposals"
    metadata = registry.load(kind, model.kind).from_pretrained(tmp_path / "part").metadata
    store = cart_task.EpisodeStore.open(data)
    assert metadata["preset"] == name
    assert metadata["task"] == "cart"
    assert metadata["planning"] == {"planner": "sample-score-rank", "samples": 64, "horizon": 4, "execute": 1}
    assert metadata["data"]["fingerprint"] == store.fingerprint
    assert metadata["data"]["splits"] == load_splits(store).hashes
    assert metadata["data"]["episodes"] == 3


def test_statistics_are_of_the_chosen_training_episodes(data):
    whole, few = (_recipe("regression-proposal", data, episodes=count).model.features for count in ("none", "2"))
    store = cart_task.EpisodeStore.open(data)
    chosen = load_splits(store).train[:2]
    actions = store.read("action", np.searchsorted(store.episodes, chosen).tolist())
    assert not torch.equal(whole.action_mean, few.action_mean)
    assert torch.allclose(few.action_mean, torch.tensor(actions).mean(0), atol=0.1)
    assert few.fitted


def test_columns_come_from_the_task(data):
    features = _recipe("diffusion-dynamics", data).model.config.features
    assert features.invariant == (0,)
    assert features.angles == (1,)
    assert not features.goal


def test_the_horizon_follows_from_what_is_predicted():
    preset = registry.load("presets", "diffusion-dynamics")
    states, latents = preset._resolved(None), preset._resolved(SimpleNamespace())
    assert (states.horizon, states.patch, states.execute) == (16, 2, 1)
    assert (latents.horizon, latents.patch, latents.execute) == (5, 1, 1)
    assert replace(preset, horizon=5)._resolved(None).patch == 1


def test_goals_are_shown_to_proposals_of_tasks_with_goals(data, monkeypatch):
    monkeypatch.setattr(f"{__name__}.TURNING", replace(TURNING, rules=("near",)))
    assert _recipe("diffusion-proposal", data).model.config.features.goal
    assert not _recipe("diffusion-proposal", data, goal="false").model.config.features.goal
    assert not _recipe("diffusion-dynamics", data).model.config.features.goal


@pytest.mark.parametrize("size", [{}, {"width": "64", "depth": "2", "mlp_size": "128"}])
def test_the_two_dynamics_are_of_one_size(data, size):
    sizes = [_recipe(name, data, **size).model.parameter_count() for name in _NAMES[:2]]
    assert isinstance(_recipe(_NAMES[1], data).model, AutoregressiveDynamics)
    assert abs(sizes[0] / sizes[1] - 1) < 0.05


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"episodes": "50"}, "episodes=50, but"),
        ({"horizon": "40"}, "no window fits"),
        ({"stps": "3"}, "unknown setting 'stps'"),
        ({"heads": "3"}, "cannot be built"),
        ({"diffusion.kind": "ddim"}, "'diffusion.kind' is 'ddim'"),
        ({"encoder": "nowhere"}, "no model folder nowhere"),
        ({"encoder": "pretrained:pusht-tiny", "horizon": "1"}, "no column 'pixels'"),
        ({"ema": "1.5"}, "ema"),
    ],
)
def test_mistakes_are_one_line(data, changes, text):
    with pytest.raises(UserError, match=text) as caught:
        _recipe("diffusion-dynamics", data, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["0", "-1"])
@pytest.mark.parametrize(
    "setting", ["history", "horizon", "reach", "width", "depth", "heads", "mlp_size", "patch", "samples", "execute"]
)
def test_sizes_and_counts_below_one_are_one_line(data, setting, value):
    for name in ("diffusion-dynamics", "regression-proposal"):
        with pytest.raises(UserError, match=rf"^{setting} is {value}; give 1 or more$"):
            _recipe(name, data, **{setting: value})


def test_other_columns_are_refused(data, monkeypatch):
    columns = (*TURNING.state, cart_task.Column("z", "m"))
    monkeypatch.setattr(f"{__name__}.TURNING", replace(TURNING, state=columns))
    with pytest.raises(UserError, match="holds states x, y, task cart has x, y, z"):
        _recipe("diffusion-dynamics", data)


def _dmpc(data, out, *words):
    extra = ["--set", *_WORDS, *words]
    return main(["train", "dmpc", "--data", str(data), "--out", str(out), "--device", "cpu", "--threads", "1", *extra])


def test_dmpc_makes_a_run_and_goes_on_where_it_stood(data, tmp_path, capsys):
    assert _dmpc(data, tmp_path / "run", "dynamics.steps=6") == 0
    parts = parts_of(tmp_path / "run")
    assert list(parts) == ["dynamics", "proposal", "value"]
    for name, folder in parts.items():
        load_part(name, folder)
        run = json.loads((folder / "run.json").read_text())
        assert run["finished"]
        assert run["steps"] == {name: 6 if name == "dynamics" else 4}
    weights = {name: (folder / "model.safetensors").read_bytes() for name, folder in parts.items()}
    (parts["proposal"] / "model.safetensors").unlink()
    assert _dmpc(data, tmp_path / "run", "dynamics.steps=6") == 0
    assert {name: (folder / "model.safetensors").read_bytes() for name, folder in parts.items()} == weights
    assert _dmpc(data, tmp_path / "run", "dynamics.steps=7") == 2
    assert "config.steps was 6 and is now 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("dynamic.steps=3",), "unknown setting 'dynamic.steps'"),
        (("proposal.stps=3",), "unknown setting 'stps'"),
        (("speed=3",), "unknown setting 'speed'; give PART.name with a part of dynamics, proposal, value"),
    ],
)
def test_mistakes_in_a_run_are_one_line(data, tmp_path, capsys, words, text):
    assert _dmpc(data, tmp_path / "run", "dynamics.steps=1", "proposal.steps=1", *words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert text in error


def test_a_run_is_not_mixed_with_a_model(data, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert _dmpc(data, tmp_path) == 2
    assert "already holds config.json of one model" in capsys.readouterr().err


def test_a_task_without_rewards_gets_no_value(data, monkeypatch):
    monkeypatch.setattr(f"{__name__}.TURNING", replace(TURNING, rewards={}))
    parts = registry.load("presets", "dmpc").parts(data, {})
    assert [part.name for part in parts] == ["dynamics", "proposal"]


def test_walker_knows_its_columns():
    task: Task = registry.load("environments", "walker")
    names = [column.name for column in task.state]
    assert [names[i] for i in task.columns(task.invariant)] == ["rootx"]
    assert [names[i] for i in task.columns(task.angles)] == ["rooty"]
