"""`wmkit eval` on an environment without goals: a run of simulator and value, and one with a part of every kind."""

import json
from pathlib import Path

import pytest
import torch

from wmkit.contracts import Rollout
from wmkit.data.collect import collect
from wmkit.data.recording import Settings, load_task
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig
from wmkit.errors import UserError
from wmkit.evaluation import find_reward
from wmkit.models import DiffusionDynamics, SequenceConfig, SimulatorModel
from wmkit.planners import TerminalValue
from wmkit.planners.proposals.diffusion import DiffusionProposal
from wmkit.planners.proposals.learned import ProposalConfig
from wmkit.planners.terminal_value import ValueConfig
from wmkit.scripts import eval_returns
from wmkit.scripts.eval import Eval
from wmkit.scripts.main import main
from wmkit.scripts.parts import Parts, load_run

FAST = ["--samples", "6", "--horizon", "4", "--episodes", "2", "--steps", "6", "--timed", "0", "--no-gif"]


def _value(reward="walk", size=18):
    torch.manual_seed(0)
    value = TerminalValue(ValueConfig(FeatureConfig(size, 6, horizon=1), 1, 0.025, reward, 0.9, width=8))
    value.features.fit(torch.randn(50, 2, size), torch.randn(50, 1, 6))
    return value.eval()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the folder of a run whose dynamics are the simulator and whose value is of walking."""
    folder = tmp_path / "run"
    folder.mkdir()

    def fake(name, device):
        assert Path(name) == folder
        return Parts(SimulatorModel.from_task("walker"), None, _value(), folder)

    monkeypatch.setattr(eval_returns, "load_run", fake)
    return folder


def _eval(run, *options):
    return main(["eval", str(run), "--env", "walker", *FAST, *map(str, options)])


def test_the_whole_command(run, tmp_path, capsys):
    data = tmp_path / "data"
    collect(Settings("walker", "random", reward="walk", max_steps=8), data, 3)
    assert _eval(run, "--reward", "target-speed=0.5", "--data", data, "--variation", "weak_ankle=0.25") == 0
    text = " ".join(capsys.readouterr().out.split())
    result = json.loads((run / "eval" / "walker-target-speed=0.5-weak_ankle=0.25" / "result.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["run", "random", "hold still", "data policy"]
    assert [row["episodes"] for row in result["rows"]] == [2, 2, 2, 3]
    assert result["reward"] == "target-speed=0.5"
    assert result["variation"] == {"weak_ankle": 0.25}
    assert result["planning"]["planner"] == "sample-score-rank"
    assert (result["planning"]["execute"], result["planning"]["samples"]) == (1, 6)
    assert result["shows"] == ["speed"]
    assert "speed *, m/s: run" in text
    assert "the run's value, of 'walk', is left out" in text


def test_the_value_counts_for_its_own_reward(run, capsys):
    assert _eval(run, "--no-floors", "--out", run / "with") == 0
    assert "the run's value of 'walk' counts, weight 1" in " ".join(capsys.readouterr().out.split())
    assert _eval(run, "--no-floors", "--value-weight", "0", "--out", run / "without") == 0
    found = [json.loads((run / name / "result.json").read_text())["rows"][0]["returns"] for name in ("with", "without")]
    assert found[0] != found[1]


def test_planning_through_the_simulator_beats_the_floors(run):
    options = ["--planner", "mppi", "--samples", "24", "--iterations", "1", "--horizon", "12", "--steps", "40"]
    assert _eval(run, "--reward", "target-height=0.4", *options, "--std", "0.7", "--out", run / "out") == 0
    rows = json.loads((run / "out" / "result.json").read_text())["rows"]
    assert rows[0]["mean"] > max(row["mean"] for row in rows[1:])


def test_a_function_of_the_users_own_and_times(run, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("def high(states, actions=None):\n    return states[..., 0]\n")
    assert _eval(run, "--reward", f"{file}:high", "--no-floors", "--timed", "1", "--out", run / "out") == 0
    (row,) = json.loads((run / "out" / "result.json").read_text())["rows"]
    assert row["reward"] == f"{file}:high"
    assert row["decision"]["count"] == 10
    assert 0 < row["decision"]["p50"] <= row["decision"]["p99"]


_EFFORT = """
WEIGHTS = range(1, 7)

def effort(states, actions):
    return sum(weight * actions[..., joint] for joint, weight in enumerate(WEIGHTS)) + 0 * actions[..., -6]

def exact(states, actions):
    if actions.shape[-1] != 6:
        raise IndexError(f"{actions.shape[-1]} numbers")
    return states[..., 0] - actions[..., 0] ** 2
"""


def test_a_function_that_reads_actions_gets_those_of_one_environment_step(run, tmp_path, monkeypatch):
    """Like the environment, the recorded data and the trial call, the planner gives (..., action_size)."""
    file = tmp_path / "own.py"
    file.write_text(_EFFORT)
    parts = Parts(SimulatorModel.from_task("walker", action_repeat=2), None, None, run)
    monkeypatch.setattr(eval_returns, "load_run", lambda name, device: parts)
    assert _eval(run, "--reward", f"{file}:exact", "--no-floors", "--out", run / "out") == 0
    reward = find_reward(load_task("walker"), f"{file}:effort")
    objective, _ = eval_returns.cost_of(Eval("run", "walker"), parts, reward)
    blocks = torch.randn(1, 3, 2, 12, generator=torch.Generator().manual_seed(0))
    found = objective.cost(Rollout(torch.zeros(1, 3, 2, 18)), blocks)
    expected = -(blocks[..., 6:] * torch.arange(1, 7)).sum(dim=(-1, -2))
    torch.testing.assert_close(found, expected)


def test_a_function_that_fails_while_planning_is_one_line(run, tmp_path, capsys):
    file = tmp_path / "own.py"
    file.write_text("def few(states, actions):\n    return states[..., 0] * (1 / (states.shape[-2] != 3))\n")
    assert _eval(run, "--horizon", "3", "--reward", f"{file}:few", "--no-floors") == 2
    text = capsys.readouterr().err
    assert "the function 'few' of 'state' fails with ZeroDivisionError" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dynamics-sampler", "ddim"], "--dynamics-sampler and --dynamics-sampling-steps are for diffusion dynamics"),
        (["--dynamics-sampling-steps", "2"], "--dynamics-sampling-steps are for diffusion dynamics"),
        (["--reward", "hop"], "unknown reward 'hop' of walker; known: walk, stand, run, jump"),
        (["--reward", "target-speed=x"], "'x' is no number"),
        (["--variation", "rusty"], "unknown walker variation 'rusty'; known: weak_ankle"),
        (["--variation", "slippery=much"], "--variation slippery=much: 'much' is no number"),
        (["--rule", "pose"], "--rule: for environments with goals; walker has rewards"),
        (["--bounds"], "--bounds: for environments with goals"),
        (["--steps", "0"], "--steps must be 1 or more, not 0"),
        (["--reward", "jump", "--value-weight", "1"], "the run's value is of 'walk', not 'jump'"),
        (["--value-weight", "-1"], "give 0 to leave the value out, or more"),
        (["--planner", "hopeful"], "unknown name 'hopeful' among planners"),
    ],
)
def test_mistakes_are_one_line(run, capsys, options, message):
    assert _eval(run, "--no-floors", *options) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1
    assert not (run / "eval").exists()


def test_rewards_are_for_tasks_without_goals(capsys):
    for options in (
        ["--reward", "jump"],
        ["--variation", "slippery"],
        ["--dynamics-sampler", "ddim"],
        ["--dynamics-sampling-steps", "2"],
        ["--value-weight", "0"],
    ):
        assert main(["eval", "pretrained:pusht-tiny", "--env", "pusht", *options]) == 2
        text = capsys.readouterr().err
        assert f"{options[0]}: for environments without goals, and pusht has goals" in text
        assert text.count("\n") == 1


def test_a_folder_without_dynamics_is_no_run(tmp_path):
    _value().save_pretrained(tmp_path / "value")
    with pytest.raises(UserError, match="holds no finished dynamics/ and is no model"):
        load_run(str(tmp_path))
    with pytest.raises(UserError, match="no model folder"):
        load_run(str(tmp_path / "none"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a run with small untrained parts of the trained kinds."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    features = FeatureConfig(18, 6, horizon=8, invariant=(1,), angles=(2,))
    network = {"width": 16, "depth": 1, "heads": 2, "mlp_size": 16, "patch": 4}
    common = {
        "action_low": (-1.0,) * 6,
        "action_high": (1.0,) * 6,
        "action_repeat": 1,
        "seconds_per_step": 0.025,
        "network": network,
        "diffusion": DiffusionConfig(train_steps=20),
    }
    torch.manual_seed(0)
    dynamics = DiffusionDynamics(SequenceConfig(features=features, task="walker", **common))
    proposal = DiffusionProposal(ProposalConfig(features=features, **common))
    for part in (dynamics, proposal):
        part.features.fit(torch.randn(20, 9, 18), torch.randn(20, 8, 6))
    dynamics.metadata = {"task": "walker", "planning": {"planner": "sample-score-rank", "samples": 5, "horizon": 8}}
    dynamics.save_pretrained(folder / "dynamics")
    proposal.save_pretrained(folder / "proposal")
    _value().save_pretrained(folder / "value")
    return folder


def _planning(out):
    return json.loads((out / "result.json").read_text())["planning"]


def test_a_run_of_trained_parts(trained, tmp_path):
    parts = load_run(str(trained))
    assert type(parts.dynamics).__name__ == "DiffusionDynamics"
    assert type(parts.proposal).__name__ == "DiffusionProposal"
    assert parts.value.config.reward == "walk"
    words = ["--env", "walker", "--episodes", "2", "--steps", "5", "--timed", "0", "--no-gif", "--no-floors"]
    assert main(["eval", str(trained), *words, "--out", str(tmp_path / "a")]) == 0
    found = _planning(tmp_path / "a")
    assert found["proposal"] == str(trained / "proposal")
    assert (found["samples"], found["horizon"], found["execute"]) == (5, 8, 1)
    words += ["--sampling-steps", "3", "--dynamics-sampling-steps", "2", "--proposal", "gaussian", "--execute", "2"]
    assert main(["eval", str(trained / "dynamics"), *words, "--out", str(tmp_path / "b")]) == 0
    assert (_planning(tmp_path / "b")["proposal"], _planning(tmp_path / "b")["execute"]) == ("gaussian", 2)


def test_samplers_that_do_not_fit_are_one_line(trained, capsys):
    for option in ("--sampling-steps", "--dynamics-sampling-steps"):
        assert main(["eval", str(trained), "--env", "walker", option, "50"]) == 2
        text = capsys.readouterr().err
        assert "the schedule has no more" in text
        prefix = option.removesuffix("sampling-steps")
        assert f"{prefix}sampler and {prefix}sampling-steps: " in text
        assert text.count("\n") == 1


def test_parts_that_do_not_fit_each_other_are_refused(trained, tmp_path):
    folder = tmp_path / "run"
    load_run(str(trained)).dynamics.save_pretrained(folder / "dynamics")
    _value(size=12).save_pretrained(folder / "value")
    with pytest.raises(UserError, match="TerminalValue is for models with latent_size 12, and this one has 18"):
        load_run(str(folder))
