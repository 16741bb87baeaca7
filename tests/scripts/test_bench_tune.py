"""`wmkit bench plan RUN --deadline-ms`: end to end on small models, with few decisions."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wmkit.data.collect import collect
from wmkit.data.recording import Settings
from wmkit.data.splits import make_splits, save_splits
from wmkit.errors import UserError
from wmkit.models import LeWM, LeWMConfig, SimulatorModel
from wmkit.scripts import bench_tune, tune_subject
from wmkit.scripts.assembly import PLANNING, resolve_planning
from wmkit.scripts.bench_plan import PlanBench, run
from wmkit.scripts.bench_tune import TuneOptions, tune
from wmkit.scripts.parts import Parts
from wmkit.scripts.tune_subject import flags
from wmkit.tuning import Setting, Way

FEW = TuneOptions(problems=4, decisions=10, verify=1, long=1.0)
OWN = {"objective": "mean", "horizon": 2, "samples": 12, "elites": 4, "iterations": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`model`, `data` and `short`, data without episodes as long as a plan."""
    folder = tmp_path_factory.mktemp("tune")
    store = collect(Settings("two-room", "expert", env={"image_size": 32}, max_steps=40), folder / "data", 12).store
    save_splits(store, make_splits(store, (40, 10, 50)))
    short = collect(Settings("two-room", "random", env={"image_size": 32}, max_steps=6), folder / "short", 12).store
    save_splits(short, make_splits(short, (40, 10, 50)))
    torch.manual_seed(0)
    options = {"channels": (8, 8, 8), "hidden": 16}
    model = LeWM(LeWMConfig(32, 8, 5, (-1, -1), (1, 1), 0.25, history=2, encoder_options=options))
    model.set_action_statistics([0, 0], [0.5, 0.5])
    model.save_pretrained(folder / "model", {"planning": OWN, "task": "two-room"})
    return folder


def _request(folder, **options):
    """Return a request for the model with one thread and 12 candidates."""
    own = {name: options.pop(name) for name in list(options) if name in TuneOptions.__dataclass_fields__}
    given = {"samples": 12, "iterations": 2, "threads": 1, "dtypes": ("float32",), "paths": ("fast",)} | options
    deadline = given.pop("deadline_ms", 5000.0)
    return PlanBench(str(folder / "model"), deadline_ms=deadline, tuning=replace(FEW, **own), **given)


def test_the_whole_command(folder, tmp_path, capsys):
    before = torch.get_num_threads()
    trade = tune(_request(folder, out=tmp_path / "new" / "tuned.json", data=folder / "data"))
    text = capsys.readouterr().out
    result = json.loads((tmp_path / "new" / "tuned.json").read_text())
    setting = trade.chosen.setting
    assert trade.chosen.made
    assert setting.samples == 12
    assert setting.iterations in (1, 2)
    assert setting.way == Way("fast", "float32", 1)
    assert result["problems"] == "4 starts of held-out episodes, goals 2 model steps ahead"
    assert result["planning"]["iterations"] == setting.iterations
    assert result["settings"]["data"] == "data"
    assert len(result["tuning"]["rows"]) == len(trade.rows)
    assert str(tmp_path) not in json.dumps(result)
    assert "<- chosen" in text
    assert f"OMP_NUM_THREADS=1 wmkit eval {folder / 'model'} --env two-room --samples 12" in text
    assert "--rollout-path fast" in text
    assert torch.get_num_threads() == before


def test_the_command_line_it_gives_is_one_that_eval_reads(folder, capsys):
    import tyro

    from wmkit.scripts.eval import Eval

    tune(_request(folder, data=folder / "data"))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("chosen: "))
    words = shlex.split(line.removeprefix("chosen: "))
    assert words[:3] == ["OMP_NUM_THREADS=1", "wmkit", "eval"]
    config = tyro.cli(Eval, args=words[3:])
    assert config.samples == 12
    resolve_planning({"planning": OWN}, vars(config))


def test_without_data_the_environment_gives_the_problems(folder, capsys):
    trade = tune(_request(folder, json=True))
    result = json.loads(capsys.readouterr().out)
    assert result["problems"] == "4 pairs of start and goal, two-room full"
    assert result["tuning"]["chosen"]["samples"] == trade.chosen.setting.samples == 12
    row = result["tuning"]["rows"][0]
    assert 10 <= len(row["seconds"]) < 100
    assert row["slowest"] == max(row["seconds"])
    assert "p99" not in row


def test_without_an_environment_observations_are_random_and_the_result_says_so(folder, capsys, tmp_path):
    model = LeWM.from_pretrained(folder / "model")
    model.save_pretrained(tmp_path / "model", {"planning": OWN})
    tune(_request(tmp_path))
    assert "quality on 4 random observations" in capsys.readouterr().out
    with pytest.raises(UserError, match="give --env"):
        tune(_request(tmp_path, manifest=Path("pairs.json")))


def test_saved_settings_are_the_models_own_from_then_on(folder, tmp_path, capsys):
    LeWM.from_pretrained(folder / "model").save_pretrained(tmp_path / "model", {"planning": OWN, "task": "two-room"})
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    trade = tune(_request(tmp_path, samples=8, iterations=1, save=True))
    assert "saved in" in capsys.readouterr().out
    assert trade.chosen.setting.samples == 8
    planning = resolve_planning(LeWM.from_pretrained(tmp_path / "model").metadata, {})
    assert (planning["samples"], planning["iterations"], planning["elites"]) == (8, 1, 4)
    assert planning["objective"] == "mean"
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
    assert not [path for path in (tmp_path / "model").iterdir() if path.name.startswith("tmp")]


def test_models_that_ship_are_not_saved_over():
    with pytest.raises(UserError, match="no folder of yours"):
        tune(PlanBench("pretrained:pusht-tiny", deadline_ms=5000.0, tuning=replace(FEW, save=True)))


def test_a_deadline_that_nothing_meets_is_one_line(folder):
    with pytest.raises(UserError, match=r"within 0\.01 ms.*ms at p99.*12 candidates and 1 iteration") as raised:
        tune(_request(folder, deadline_ms=0.01))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"deadline_ms": 0.0}, "--deadline-ms must be positive"),
        ({"deadline_ms": float("inf")}, "--deadline-ms must be positive"),
        ({"problems": 1}, "--problems must be 2 or more, not 1"),
        ({"decisions": 0}, "--decisions must be positive"),
        ({"agreement": 1.5}, "--agreement must be a share"),
        ({"dtypes": ("bfloat16",), "paths": ("reference",)}, "leave nothing"),
        ({"reward": "walk"}, "--reward: for environments without goals"),
        ({"data": "short"}, "no window fits"),
        ({"env": "walker"}, "task"),
    ],
)
def test_bad_options_are_refused(folder, options, text):
    if "data" in options:
        options = {"data": folder / options["data"]}
    with pytest.raises(UserError, match=text):
        run(_request(folder, **options))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"peer": "stable-worldmodel", "rounds": 9}, "--peer, --rounds: not with --deadline-ms"),
        ({"peer_dtypes": ("float32",)}, "--peer-dtypes: not with"),
        ({"parts": ("plan",)}, "--parts: not with"),
        ({"paths": ("fast-eager",)}, "--paths: not with -eager"),
    ],
)
def test_options_that_a_deadline_has_no_use_for_are_refused(folder, options, text):
    with pytest.raises(UserError, match=text):
        run(_request(folder, **options))


def test_a_missing_gpu_is_refused(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device"):
        run(_request(folder, device="cuda"))


@pytest.mark.parametrize(("load", "said"), [(50.0, True), (0.1, False)])
def test_a_busy_machine_is_said_to_be_one(folder, capsys, monkeypatch, load, said):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    tune(_request(folder, iterations=1))
    assert ("other programs were busy here" in capsys.readouterr().out) == said
    with pytest.raises(UserError) as raised:
        tune(_request(folder, iterations=1, deadline_ms=0.01))
    assert ("other programs were busy here" in str(raised.value)) == said


def test_a_task_of_rewards_through_its_simulator(monkeypatch, tmp_path, capsys):
    parts = Parts(SimulatorModel.from_task("walker"), None, None, tmp_path)
    monkeypatch.setattr("wmkit.scripts.parts.load_run", lambda name: parts)
    options = replace(FEW, env="walker")
    request = PlanBench(str(tmp_path), deadline_ms=20000.0, samples=6, horizon=3, threads=1, tuning=options)
    trade = tune(replace(request, tuning=replace(request.tuning, reward="jump", problems=2, decisions=2)))
    text = capsys.readouterr().out
    assert trade.chosen.setting == Setting(6, 1, Way(None, "float32", 1))
    assert "2 starts of the environment walker" in text
    assert "--env walker --reward jump --horizon 3 --samples 6 --iterations 1" in text


def test_elites_stay_the_same_share_of_the_candidates():
    planning = PLANNING | {"samples": 64, "elites": 8}
    assert flags(planning, Setting(256, 5))[:6] == ["--samples", "256", "--iterations", "5", "--elites", "32"]
    assert flags(planning, Setting(8, 5))[4:6] == ["--elites", "4"]
    assert flags(planning, Setting(2, 5))[4:6] == ["--elites", "2"]
    assert "--elites" not in flags(planning | {"elites": None}, Setting(2, 5))


def test_elites_that_are_given_are_of_the_candidates_that_are_given(folder):
    subject = tune_subject.read_subject(_request(folder, samples=20, elites=10))
    assert tune_subject.chosen(subject.planning, Setting(8, 1))["elites"] == 4
    with pytest.raises(UserError, match="elites is 21"):
        tune_subject.read_subject(_request(folder, samples=20, elites=21))


def test_the_command_line_is_that_of_bench_plan():
    import tyro

    words = ["runs/x", "--deadline-ms", "20", "--data", "data/x", "--agreement", "0.9", "--save"]
    config = tyro.cli(PlanBench, args=words)
    assert (config.deadline_ms, config.tuning.agreement, config.tuning.save) == (20.0, 0.9, True)


def test_without_a_name_the_papers_model_is_tuned():
    subject = tune_subject.read_subject(PlanBench(deadline_ms=5.0))
    assert subject.name.startswith("LeWM at paper size")
    assert subject.folder is None
    assert (subject.planning["samples"], subject.planning["iterations"]) == (300, 30)
    assert bench_tune._grid(PlanBench(deadline_ms=5.0), subject).samples[-4:] == (300, 512, 1024, 2048)
