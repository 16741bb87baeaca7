"""`wmkit bench plan`: the same weights and candidates on both sides, and what is said of them."""

import dataclasses
import json
import os
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wmkit.contracts import Context
from wmkit.errors import UserError
from wmkit.models import LeWM, LeWMConfig
from wmkit.scripts import main, peers
from wmkit.scripts.bench_plan import PlanBench, planning_of, run
from wmkit.scripts.bench_tune import TuneOptions
from wmkit.scripts.plan_scene import make_scene, paper_model, read_model
from wmkit.scripts.plan_sides import OurSide, Way, agreement
from wmkit.scripts.tune_subject import read_subject

FAKES = Path(__file__).parent / "fake_peers"
SMALL = ["--samples", "12", "--iterations", "2", "--horizon", "3", "--elites", "4", "--rounds", "2"]


@pytest.fixture(scope="module")
def model() -> LeWM:
    torch.manual_seed(0)
    config = LeWMConfig(
        image_size=16,
        latent_size=12,
        action_repeat=2,
        action_low=(-1.0, -2.0),
        action_high=(1.0, 2.0),
        seconds_per_step=0.2,
        encoder="vit",
        encoder_options={"patch_size": 8, "depth": 1, "heads": 3},
        predictor="transformer",
        predictor_options={"depth": 1, "heads": 2, "head_size": 4, "mlp_size": 8},
        projector={"hidden_size": 8},
    )
    made = LeWM(config)
    for parameter in made.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    made.set_action_statistics([0.1, -0.3], [0.5, 0.9])
    return made.eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "saved"
    model.save_pretrained(path)
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch, folder):
    """Put programs in place of the peer's; they need nothing but what the tests need."""
    for file in [*FAKES.glob("*.py"), peers.PROGRAMS / "serving.py"]:
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(peers, "PROGRAMS", tmp_path)
    monkeypatch.setenv("WMKIT_PEER_PYTHON", sys.executable)
    monkeypatch.setenv("FAKE_MODEL", str(folder))


def test_beside_a_peer_both_cost_the_same_candidates_alike(fake, tmp_path, capsys):
    out = tmp_path / "plan.json"
    words = ["bench", "plan", "--peer", "stable-worldmodel", *SMALL, "--paths", "fast", "reference", "--out", str(out)]
    words += ["--parts", "decision", "plan", "iteration"]
    assert main.main(words) == 0
    found = json.loads(out.read_text())
    assert str(tmp_path) not in out.read_text()
    ours = ["wmkit float32 fast", "wmkit float32 reference", "wmkit bfloat16 fast"]
    theirs = ["stable-worldmodel float32", "stable-worldmodel bfloat16"]
    assert list(found["seconds"]["decision"]) == [*theirs, *ours]
    assert found["compared_with"] == "stable-worldmodel float32"
    assert found["seconds"]["decision"]["stable-worldmodel float32"]["all"] == [200.0, 200.0]
    assert found["seconds"]["iteration"]["stable-worldmodel float32"]["median"] == 100.0
    for kind, slow in (("decision", 200.0), ("plan", 180.0), ("iteration", 100.0)):
        for name in ours:
            times, ratio = found["seconds"][kind][name]["all"], found["ratios"][kind][name]
            assert ratio["low"] == pytest.approx(slow / max(times))
            assert ratio["high"] == pytest.approx(slow / min(times))
        same = found["ratios_of_dtype"][kind]
        assert same == {theirs[1]: {ours[2]: pytest.approx(found["ratios"][kind][ours[2]])}}
    assert found["iterations"] == dict.fromkeys(ours, 2)
    assert found["rollouts"] == {ours[0]: "fast", ours[1]: "reference", ours[2]: "fast"}
    assert found["agreement"]["encoder"]["largest_difference"] < 1e-5
    for name in ours[:2]:
        assert found["agreement"][name]["cost_difference"] < 1e-4
        assert found["agreement"][name]["elites_wide"] == found["agreement"][name]["elites_narrow"] == 1.0
        assert found["agreement"][name]["elites_reachable"] == 1.0
    assert 1e-4 < found["agreement"][ours[2]]["cost_difference"] < 0.1
    assert found["peer"]["packages"] == {"fake": "1"}
    shown = capsys.readouterr().out
    assert "against stable-worldmodel float32" in shown
    assert "wide 100.0%, narrow 100.0%, reachable 100.0%" in shown
    assert " against stable-worldmodel bfloat16" in shown
    assert "stable-worldmodel unknown on torch unknown, wmkit on torch 2" in shown
    assert "rollouts: wmkit float32 fast by fast, wmkit float32 reference by reference" in shown


def test_a_peer_of_other_costs_is_not_timed(fake, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_COSTS", "1.001")
    assert main.main(["bench", "plan", "--peer", "stable-worldmodel", *SMALL]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "wmkit: error: wmkit's reference: the costs of the same candidates differ by 0.001 of the peer's, more than "
        "0.0001, so nothing is timed"
    ]


def test_a_peer_that_dies_is_one_line(fake, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_DEATH", "1")
    assert main.main(["bench", "plan", "--peer", "stable-worldmodel", *SMALL]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[-1].startswith("wmkit: error: stable-worldmodel ended with code 9")


def test_a_peer_cannot_read_a_folder_of_wmkit(folder, capsys):
    assert main.main(["bench", "plan", str(folder), "--peer", "stable-worldmodel"]) == 2
    assert "stable-worldmodel cannot read" in capsys.readouterr().err


def test_alone_it_compares_with_the_reference(folder, capsys):
    words = [str(folder), *SMALL, "--dtypes", "float32", "--paths", "auto-eager", "--json"]
    assert main.main(["bench", "plan", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["name"] == "saved"
    assert found["peer"] is None
    assert found["ratios"] == {"decision": {}, "iteration": {}}
    assert found["agreement"]["wmkit float32 auto-eager"]["cost_difference"] < 1e-4
    assert found["settings"]["samples"] == 12
    assert len(found["seconds"]["decision"]["wmkit float32 auto-eager"]["all"]) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--samples", "0"], "--samples must be positive, not 0"),
        (["--deadline-ms", "-3"], "--deadline-ms must be positive, not -3.0"),
        (["--elites", "301"], "--elites must be at most the candidates, 300, not 301"),
        (["--paths", "reference", "--dtypes", "bfloat16"], "--paths reference is in the weights' precision"),
        (["--save", "--env", "pusht"], "--env, --save: only with --deadline-ms; leave them out"),
        (["--peer-dtypes", "float32"], "--peer-dtypes: only with --peer; leave it out"),
        (["--action-repeat", "2"], "--action-repeat: only with a checkpoint"),
        (["pretrained:pusht-tiny", "--action-repeat", "2"], "is no checkpoint of LeWM's authors"),
        (["--paths", "quick"], "unknown path 'quick'; known: auto, reference, fast, fused, each also with -eager"),
        (["--peer", "other"], "unknown peer 'other'; known: stable-worldmodel"),
        (["/nowhere/model"], "no model folder /nowhere/model"),
    ],
)
def test_a_mistake_is_one_line(words, expected, capsys):
    assert main.main(["bench", "plan", *words]) == 2
    shown = capsys.readouterr().err
    assert expected in shown
    assert shown.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("part", ["plan", "data"])
def test_a_device_that_is_not_there_is_named(part, capsys):
    assert main.main(["bench", part, "--device", "cuda"]) == 2
    assert "torch sees no CUDA device here" in capsys.readouterr().err


def test_a_deadline_goes_to_the_tuner(monkeypatch):
    seen = []
    monkeypatch.setattr("wmkit.scripts.bench_plan.tune", seen.append)
    config = PlanBench(deadline_ms=20.0)
    run(config)
    assert seen == [config]


def test_a_model_without_paths_and_dtypes_says_so(model):
    class Plain:
        spec = model.spec

    side = OurSide(Plain(), make_scene(model, 1, 4, 2, "cpu"), {}, "cpu")
    with pytest.raises(UserError, match="Plain has one path alone"):
        side.check(Way("float32", "fast"))
    with pytest.raises(UserError, match="Plain rolls out in its weights' dtype alone"):
        side.check(Way("bfloat16", "auto"))


def test_settings_are_those_given_then_the_models_then_the_papers(model):
    assert planning_of(PlanBench(), model)["samples"] == 300
    assert planning_of(PlanBench(samples=8), model)["elites"] == 8
    own = types.SimpleNamespace(metadata={"planning": {"samples": 64, "iterations": 4}})
    planning = planning_of(PlanBench(iterations=2), own)
    assert (planning["samples"], planning["iterations"]) == (64, 2)


def test_the_paper_model_is_as_large_as_published():
    model = paper_model()
    assert sum(parameter.numel() for parameter in model.parameters()) == 18_034_478
    scene = make_scene(model, 1, 8, 2, "cpu")
    context = Context(model.encode(scene.start), torch.zeros(1, 0, 10))
    latents = model.rollout(context, scene.candidates[0]).latents[0, :, -1]
    assert latents.std(dim=0).mean() > 0.3 * latents.square().mean().sqrt()


def test_a_scene_is_the_same_every_time_and_within_the_bounds(model):
    one, two = (make_scene(model, 2, 5, 3, "cpu") for _ in range(2))
    assert one.candidates.shape == (6, 2, 5, 3, 4)
    assert one.targets.shape == (6, 2, 1, 3, 4)
    assert torch.equal(one.candidates, two.candidates)
    assert torch.equal(one.goal["pixels"], two.goal["pixels"])
    assert not torch.equal(one.goal["pixels"], one.start["pixels"])
    low, high = model.spec.bounds()
    assert bool(((one.candidates >= low) & (one.candidates <= high)).all())
    spread = {kind: one.candidates[one.kinds.index(kind)].std(dim=1).mean() for kind in ("wide", "narrow")}
    assert spread["narrow"] < 0.3 * spread["wide"]


def test_a_trained_model_sees_its_own_task():
    model = LeWM.from_pretrained("pretrained:pusht-tiny")
    scene = make_scene(model, 2, 4, 3, "cpu")
    assert scene.start["pixels"].shape == (2, 1, 64, 64, 3)
    assert (scene.start["pixels"] == 255).float().mean() > 0.5
    assert not torch.equal(scene.start["pixels"], scene.goal["pixels"])


def test_the_goal_of_a_reachable_set_is_where_its_target_ends(model):
    scene = make_scene(model, 2, 5, 3, "cpu")
    side = OurSide(model, scene, {}, "cpu")
    goals, picture = side.goals(), model.encode(scene.goal)[:, 0]
    context = Context(model.encode(scene.start), torch.zeros(2, 0, 4))
    for goal, target, kind in zip(goals, scene.targets, scene.kinds, strict=True):
        reached = model.reference_rollout(context, target).latents[:, 0, -1]
        assert torch.allclose(goal, reached if kind == "reachable" else picture, atol=1e-6)
    more = dataclasses.replace(scene, candidates=torch.cat([scene.candidates, scene.targets], dim=2))
    costs = OurSide(model, more, {}, "cpu").costs(Way("float32", "reference"))
    chosen = costs.argmin(dim=2)[[kind == "reachable" for kind in scene.kinds]]
    assert bool((chosen == 5).all())


def test_agreement_tells_wrong_costs_of_either_kind():
    exact = torch.rand(2, 1, 10) + 1.0
    wrong = exact.clone()
    wrong[1] = -wrong[1]
    found = agreement(wrong, exact, ("wide", "narrow"), 3)
    assert found == {"cost_difference": pytest.approx(2.0), "elites_wide": 1.0, "elites_narrow": 0.0}
    assert agreement(exact * 1.001, exact, ("wide", "narrow"), 3)["cost_difference"] == pytest.approx(0.001, rel=1e-3)


@pytest.fixture(params=["folder", "file", "safetensors"])
def checkpoint(request, tmp_path) -> Path:
    """A checkpoint of LeWM's authors in each of its forms."""
    golden = Path(__file__).parents[1] / "models" / "lewm" / "golden_official" / "transformers5"
    copied = Path(shutil.copytree(golden, tmp_path / "checkpoint"))
    if request.param == "safetensors":
        save_file(torch.load(copied / "weights.pt", weights_only=True), copied / "model.safetensors")
        (copied / "weights.pt").unlink()
    return copied / "weights.pt" if request.param == "file" else copied


def test_a_checkpoint_is_planned_through_as_it_is(checkpoint, capsys):
    words = [str(checkpoint), "--action-repeat", "2", *SMALL, "--dtypes", "float32", "--parts", "iteration"]
    assert main.main(["bench", "plan", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["name"] == checkpoint.name
    assert found["settings"]["action_repeat"] == 2
    assert found["rollouts"] == {"wmkit float32 auto": "fast"}
    assert read_model(str(checkpoint), 2).spec.action_repeat == 2


def test_a_checkpoint_can_be_tuned_but_not_saved_in(checkpoint):
    options = TuneOptions(problems=2, decisions=2)
    config = PlanBench(str(checkpoint), action_repeat=2, deadline_ms=9.0, tuning=options)
    subject = read_subject(config)
    assert subject.folder is None
    assert subject.model.spec.action_repeat == 2
    with pytest.raises(UserError, match=r"--save: .* is no folder of yours"):
        run(dataclasses.replace(config, tuning=dataclasses.replace(options, save=True)))


def test_few_candidates_are_not_all_elites(folder, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "wmkit.scripts.plan_sides.agreement", lambda *args: asked.append(args[-1]) or {"cost_difference": 0.0}
    )
    for samples, elites in ((12, 12), (12, 2), (1, 1)):
        words = ["--samples", str(samples), "--elites", str(elites), "--iterations", "1", "--horizon", "2"]
        config = ["--rounds", "1", "--dtypes", "float32", "--parts", "iteration"]
        assert main.main(["bench", "plan", str(folder), *words, *config, "--json"]) == 0
    assert asked == [6, 2, 1]


def test_a_plan_that_stops_early_is_not_timed(model):
    planning = planning_of(PlanBench(samples=12, iterations=3, horizon=2), model) | {"certainty": 1e9}
    side = OurSide(model, make_scene(model, 1, 12, 2, "cpu"), planning, "cpu")
    with pytest.raises(UserError, match=r"stopped early \(certain\)"):
        side.plan(Way("float32", "auto"))()


@pytest.mark.skipif("WMKIT_PEER_PYTHON" not in os.environ, reason="needs a peer's Python")
def test_the_real_peer_has_the_same_costs(capsys):
    words = ["--peer", "stable-worldmodel", *SMALL, "--rounds", "1", "--parts", "decision", "--json"]
    assert main.main(["bench", "plan", *words, "--paths", "auto", "reference"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("wmkit float32 auto", "wmkit float32 reference"):
        assert found["agreement"][name]["cost_difference"] < 1e-4
    assert found["peer"]["parameters"] == found["model"]["parameters"] == 18_034_478
    assert found["peer"]["packages"]["torch"]
