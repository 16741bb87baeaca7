"""Readouts: what they can and cannot read, and what they refuse to be loaded with."""

import json

import pytest
import torch

from wmkit.errors import UserError
from wmkit.model_folder import save_folder
from wmkit.readout import Readout, score
from wmkit.training.diagnostics import linear_probe


@pytest.fixture(scope="module")
def scene():
    """Latents (F, 4) of 40 episodes, and targets that are linear in them, folded, and not there at all."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    latents = torch.rand(2000, 4, generator=generator) * 2 + torch.tensor([10.0, 0.0, 0.0, -3.0])
    angle = 4 * latents[:, 1]
    targets = {
        "place": latents[:, :2] * 50 + 200,
        "angle": torch.stack([angle.sin(), angle.cos()], dim=1),
        "absent": torch.randn(2000, 1, generator=generator),
    }
    return latents, torch.arange(40).repeat_interleave(50), targets


@pytest.fixture(scope="module")
def fitted(scene):
    return {kind: Readout.fit(*scene, kind=kind) for kind in ("linear", "mlp")}


@pytest.fixture
def folder(tmp_path):
    save_folder(tmp_path / "model", "test", {}, {"w": torch.zeros(2)})
    return tmp_path / "model"


def test_linear_reads_the_linear_and_an_mlp_the_folded_too(fitted):
    linear, mlp = fitted["linear"].scores, fitted["mlp"].scores
    assert linear["place"]["r2"] > 0.999
    assert linear["angle"]["r2"] < 0.6
    assert mlp["angle"]["r2"] > 0.98
    assert mlp["angle"]["degrees"] < 6 < linear["angle"]["degrees"]
    assert max(linear["absent"]["r2"], mlp["absent"]["r2"]) < 0.1
    assert "degrees" not in linear["place"]


def test_values_come_in_the_targets_units_and_shapes(scene, fitted):
    latents, _, targets = scene
    for readout in fitted.values():
        found = readout(latents[:24].reshape(2, 3, 4, 4))
        assert {name: values.shape[3:] for name, values in found.items()} == {
            "place": (2,),
            "angle": (2,),
            "absent": (1,),
        }
        assert (found["place"].reshape(24, 2) - targets["place"][:24]).abs().max() < 5


def test_a_linear_readout_is_the_linear_probe(scene, fitted):
    expected = linear_probe(*scene)
    for name, r2 in expected.items():
        assert fitted["linear"].scores[name]["r2"] == pytest.approx(r2, abs=1e-4)


def test_scores_are_of_episodes_that_it_was_not_fitted_to():
    """Latents that only say which episode it is read their own episodes perfectly, and no other."""
    episodes = torch.arange(16).repeat_interleave(30)
    latents = torch.nn.functional.one_hot(episodes, 16).float()
    value = torch.randn(16, 1, generator=torch.Generator().manual_seed(0))[episodes]
    readout = Readout.fit(latents, episodes, {"x": value})
    assert score(readout(latents)["x"], value)["r2"] > 0.5 > readout.scores["x"]["r2"]


def test_the_same_seed_gives_the_same_mlp_and_leaves_the_global_generator_alone(scene, monkeypatch):
    monkeypatch.setattr("wmkit.readout._STEPS", 200)
    latents, episodes, targets = (scene[0][:500], scene[1][:500], {"place": scene[2]["place"][:500]})
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (
        Readout.fit(latents, episodes, targets, "mlp", seed)(latents)["place"] for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_score_against_closed_forms():
    truth = torch.tensor([[0.0, 7.0], [2.0, 7.0], [4.0, 7.0]])
    found = score(truth * torch.tensor([-1.0, 1.0]), truth)
    assert found["r"] == pytest.approx(-1)  # the constant column does not count
    assert found["r2"] == pytest.approx(1 - (0 + 16 + 64) / 8)
    assert found["error"] == pytest.approx(2)
    angles = torch.deg2rad(torch.tensor([175.0, -175.0, 10.0]))
    turned = angles + torch.deg2rad(torch.tensor([10.0, -10.0, 40.0]))
    sine_cosine = lambda a: torch.stack([a.sin(), a.cos()], dim=1)  # noqa: E731
    assert score(sine_cosine(turned) * 0.3, sine_cosine(angles))["degrees"] == pytest.approx(20, abs=1e-4)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_what_is_saved_is_what_is_loaded(kind, scene, fitted, folder):
    fitted[kind].save(folder)
    loaded = Readout.load(folder)
    assert loaded.scores == fitted[kind].scores
    for name, values in fitted[kind](scene[0]).items():
        assert torch.equal(loaded(scene[0])[name], values)
    assert not any(path.name.endswith(".tmp") for path in folder.iterdir())


def test_other_weights_are_refused_in_one_line(fitted, folder, tmp_path):
    fitted["linear"].save(folder)
    save_folder(folder, "test", {}, {"w": torch.ones(2)})
    with pytest.raises(UserError, match=r"other weights.*wmkit inspect"):
        Readout.load(folder)
    fitted["linear"].save(tmp_path, weights="a" * 64)
    assert Readout.load(tmp_path, weights="a" * 64).sizes == fitted["linear"].sizes
    with pytest.raises(UserError, match="other weights"):
        Readout.load(tmp_path, weights="b" * 64)


def test_a_missing_one_says_how_to_get_it(folder):
    with pytest.raises(UserError, match=r"no readout\.json.*`wmkit inspect .*model --data DIR`"):
        Readout.load(folder)


@pytest.mark.parametrize("damage", ["weights", "json", "kind", "gone"])
def test_damaged_files_are_refused(damage, fitted, folder):
    fitted["linear"].save(folder)
    document, weights = folder / "readout.json", folder / "readout.safetensors"
    if damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    elif damage == "json":
        document.write_text("[]")
    elif damage == "kind":
        document.write_text(json.dumps(json.loads(document.read_text()) | {"kind": "mlp"}))
    else:
        weights.unlink()
    with pytest.raises(UserError, match="wmkit inspect"):
        Readout.load(folder)


def test_what_cannot_be_fitted_is_named(scene):
    latents, episodes, targets = scene
    with pytest.raises(ValueError, match="no probes"):
        Readout.fit(latents, episodes, {})
    with pytest.raises(ValueError, match="'place'"):
        Readout.fit(latents, episodes, {"place": targets["place"][:-1]})
    with pytest.raises(ValueError, match="not finite"):
        Readout.fit(latents.clone().index_fill_(0, torch.tensor([3]), torch.nan), episodes, targets)
    with pytest.raises(ValueError, match="2 episodes"):
        Readout.fit(latents, torch.zeros(2000), targets)
    with pytest.raises(ValueError, match="'linear' or 'mlp'"):
        Readout.fit(latents, episodes, targets, kind="forest")


def test_the_shipped_readout_is_for_the_shipped_weights():
    from wmkit.model_folder import resolve

    readout = Readout.load(resolve("pretrained:pusht-tiny"))
    assert set(readout.sizes) == {"agent", "block", "angle"}
    assert min(found["r"] for found in readout.scores.values()) > 0.99
