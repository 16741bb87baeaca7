"""`wmkit adapt` and `wmkit distil` as a user runs them."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "wmkit" / "diffusion"))
import cart_task

from wmkit.diffusion.runs import folder_hash
from wmkit.scripts.main import main


@pytest.fixture(scope="module")
def cart(tmp_path_factory):
    """Folders of a run and of its data."""
    torch.set_num_threads(1)
    return cart_task.make_run(tmp_path_factory.mktemp("cart"))


def _refused(capsys, *words):
    """Run a command that must fail, and return its one line."""
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_from_play_to_adapted_dynamics(cart, tmp_path, capsys):
    run, play, out = cart[0], tmp_path / "play", tmp_path / "new"
    words = ["collect", "cart_task:CART", "--proposal", run, "--noise", "0.3", "--env", "gain=0.3", "--episodes", "8"]
    assert main([str(word) for word in [*words, "--out", play]]) == 0
    words = ["adapt", run, "--data", play, "--out", out, "--steps", "30", "--lr", "0.003", "--batch", "32"]
    assert main([str(word) for word in words]) == 0
    assert "copied: proposal" in capsys.readouterr().out
    report = json.loads((out / "adapt.json").read_text())
    assert report["after"]["open_loop"] < report["before"]["open_loop"]
    assert report["copied"] == {"proposal": folder_hash(run / "proposal")}
    assert "never changed" in _refused(capsys, "adapt", run, "--data", play, "--out", run)
    assert "cannot resume" in _refused(capsys, "adapt", run, "--data", play, "--out", out, "--steps", "31")
    assert "there is no meta.json" in _refused(capsys, "adapt", run, "--data", tmp_path, "--out", tmp_path / "x")
    assert "--threads must be" in _refused(capsys, "adapt", run, "--data", play, "--out", out, "--threads", "0")


def test_few_step_students(cart, tmp_path, capsys):
    run, data = cart
    out = tmp_path / "new"
    words = ["distil", run, "--data", data, "--out", out, "--steps", "2", "--teacher-steps", "4", "--updates", "3"]
    assert main([str(word) for word in words]) == 0
    shown = capsys.readouterr().out
    assert shown.count("student  ddim   2") == 2
    report = json.loads((out / "distil.json").read_text())
    assert [row["steps"] for row in report["parts"]["dynamics"]] == [10, 2, 2]
    assert "already holds distil.json, dynamics, proposal and no adapt.json" in _refused(
        capsys, "adapt", run, "--data", data, "--out", out
    )
    assert "cannot be halved" in _refused(
        capsys, "distil", run, "--data", data, "--out", tmp_path / "x", "--steps", "3", "--teacher-steps", "8"
    )


def test_two_policies_are_refused(cart, tmp_path, capsys):
    words = ["collect", "cart_task:CART", "--proposal", cart[0], "--policy", "random", "--out", tmp_path / "x"]
    assert "two policies" in _refused(capsys, *words)
