"""The loop: exact resume after any death, best weights, early stop, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import ToyRecipe, train

from wmkit.errors import UserError
from wmkit.training import checkpoint, loop
from wmkit.training.checkpoint import load_checkpoint

_TOY = Path(__file__).parent / "toy.py"


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """One thread, and no waiting for the disk: no test cuts the power."""
    threads, sync = torch.get_num_threads(), os.fsync
    torch.set_num_threads(1)
    os.fsync = lambda file: None
    yield
    torch.set_num_threads(threads)
    os.fsync = sync


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def _rows(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def _check_same(one, other):
    a, b = (load_checkpoint(folder / "checkpoints" / "last.safetensors").tensors for folder in (one, other))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert _rows(one) == _rows(other)


class _DeadError(BaseException):
    pass


@pytest.mark.parametrize("when", ["before", "after"])
def test_resume_is_exact_after_a_death_at_any_save(whole, tmp_path, monkeypatch, when):
    real, deaths = checkpoint.save_checkpoint, 0

    def dying(path, tensors, state):
        calls.append(path.stem)
        if when == "after" or len(calls) != at:
            real(path, tensors, state)
        if len(calls) == at:
            raise _DeadError

    monkeypatch.setattr(checkpoint, "save_checkpoint", dying)
    for at in range(1, 100):
        calls = []
        try:
            train(tmp_path / str(at), checkpoint_seconds=1e9)
            break
        except _DeadError:
            deaths, calls = deaths + 1, [""] * at
            train(tmp_path / str(at), checkpoint_seconds=1e9)
            _check_same(whole, tmp_path / str(at))
    assert deaths >= 10
    assert set(calls) == {"best", "last"}


@pytest.mark.parametrize("step", [0, 7, 20, 33])
@pytest.mark.parametrize("stage", [0, 1])
def test_resume_is_exact_after_a_death_between_saves(whole, tmp_path, step, stage):
    recipe = ToyRecipe()
    part = recipe.stages[stage]
    real = part.loss

    def dying(at, generator):
        if at == step:
            raise _DeadError
        return real(at, generator)

    part.loss = dying
    with pytest.raises(_DeadError):
        train(tmp_path, recipe, checkpoint_seconds=0.0 if step % 2 else 1e9)
    train(tmp_path)
    _check_same(whole, tmp_path)


def test_kill_nine_at_any_time_changes_nothing(whole, tmp_path):
    command = [sys.executable, str(_TOY), str(tmp_path), "0.01"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for wanted in (2, 5):
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 300
        while not (tmp_path / "metrics.jsonl").exists() or len(_rows_so_far(tmp_path)) < wanted:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.003)
        time.sleep(0.037 * wanted)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "model.safetensors").exists()
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    _check_same(whole, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["sessions"] == 3


def _rows_so_far(folder):
    return (folder / "metrics.jsonl").read_bytes().split(b"\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(whole, tmp_path, number):
    recipe = ToyRecipe()
    real = recipe.stages[1].after_step
    recipe.stages[1].after_step = lambda step: os.kill(os.getpid(), number) if step == 10 else real(step)
    before = signal.getsignal(number)
    result = train(tmp_path, recipe, checkpoint_seconds=1e9)
    assert not result.finished
    assert signal.getsignal(number) is before
    assert not (tmp_path / "model.safetensors").exists()
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.safetensors").state["progress"]
    assert (saved["stage"], saved["step"]) == (1, 11)
    assert train(tmp_path).finished


def test_a_finished_run_run_again_only_writes_the_model_again(whole, tmp_path):
    train(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    recipe = ToyRecipe()
    recipe.stages[0].loss = recipe.stages[1].loss = None
    assert train(tmp_path, recipe).finished
    _check_same(whole, tmp_path)


def test_other_seeds_and_dropout_change_the_weights(whole, tmp_path):
    train(tmp_path, seed=1)
    a, b = load_file(whole / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert not torch.equal(a["predictor.0.weight"], b["predictor.0.weight"])


def test_the_global_generator_is_given_back(tmp_path):
    recipe = ToyRecipe()
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    train(tmp_path, recipe)
    assert torch.equal(torch.randn(3), expected)


def test_a_stage_hands_on_the_weights_of_its_best_score(tmp_path):
    kept = {}
    for keep in ("best", "last"):
        recipe = ToyRecipe()
        stage, seen = recipe.stages[1], []

        def validate(generator, stage=stage, seen=seen):
            seen.append(stage.module["own"][0].weight.detach().clone())
            return {"score": [3.0, 1.0, 2.0][len(seen) - 1]}

        stage.validate = validate
        result = train(tmp_path / keep, recipe, keep=keep)
        kept[keep] = [torch.equal(weight, recipe.model.predictor[0].weight) for weight in seen].index(True)
        assert result.scores["predictor"] == 1.0
    assert kept == {"best": 1, "last": 2}


def test_patience_ends_the_stage(tmp_path):
    recipe = ToyRecipe()
    scores = iter([5.0, 4.0, 4.5, 4.0, 9.0, 9.0])
    recipe.stages[0].validate = lambda generator: {"score": next(scores)}
    train(tmp_path, recipe, validate_every=5, patience=2)
    assert json.loads((tmp_path / "run.json").read_text())["stage_steps"]["encoder"] == 20


@pytest.mark.parametrize("change", [{"seed": 1}, {"patience": 3}, {"keep": "last"}])
def test_a_resume_with_other_options_is_refused(whole, change):
    with pytest.raises(UserError, match=f"{next(iter(change))} was .* and is now {next(iter(change.values()))!r}"):
        train(whole, **change)


def test_a_resume_with_other_settings_is_refused_by_name(whole):
    recipe = ToyRecipe()
    recipe.settings = {"steps": 60, "fingerprint": "xyz", "inner": {"width": 3}}
    with pytest.raises(
        UserError, match=r"config\.fingerprint was 'abc' and is now 'xyz', config\.inner\.width was None"
    ):
        train(whole, recipe)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"already holds thesis\.tex"):
        train(tmp_path)


@pytest.mark.parametrize("keep_bytes", [0, 5, 300, -1])
def test_a_truncated_checkpoint_is_one_clear_error(tmp_path, keep_bytes):
    recipe = ToyRecipe()
    recipe.stages[0].after_step = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 10 else None
    train(tmp_path, recipe)
    path = tmp_path / "checkpoints" / "last.safetensors"
    path.write_bytes(path.read_bytes()[:keep_bytes])
    with pytest.raises(UserError, match=r"last\.safetensors cannot be read"):
        train(tmp_path)


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path, clip):
    recipe = ToyRecipe()
    stage = recipe.stages[1]
    stage.clip, real = clip, stage.loss

    def broken(step, generator):
        loss, _ = real(step, generator)
        term = loss.detach() * (torch.nan if step >= 23 else 1.0)
        return loss * (torch.inf if step == 23 else 1.0), {"bad": term, "good": loss.detach() * 0 + 1}

    stage.loss = broken
    with pytest.raises(UserError, match=r"stage 'predictor' at step 24: bad, loss") as caught:
        train(tmp_path, recipe, checkpoint_seconds=0.0 if clip else 1e9)
    assert "good" not in str(caught.value).partition(";")[0]
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.safetensors")
    assert saved.state["progress"]["step"] == (23 if clip else 20)
    assert all(torch.isfinite(tensor).all() for tensor in saved.tensors.values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    recipe = ToyRecipe()
    stage = recipe.stages[1]

    def poison(step):
        if step == 30:
            with torch.no_grad():
                stage.module["own"][0].weight[0, 0] = torch.nan

    stage.after_step = poison
    with pytest.raises(UserError, match=r"step 31: weight own\.0\.weight"):
        train(tmp_path, recipe, checkpoint_seconds=0.0)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.safetensors").state["progress"]["step"] == 30


def test_stages_of_one_name_are_refused(tmp_path):
    recipe = ToyRecipe()
    recipe.stages[1].name = "encoder"
    with pytest.raises(ValueError, match="names of their own"):
        train(tmp_path, recipe)


def test_logs_hold_the_mean_of_all_steps_between_two_rows(tmp_path):
    recipe = ToyRecipe()
    real = recipe.stages[0].loss
    recipe.stages[0].loss = lambda step, generator: (
        real(step, generator)[0],
        {"step_index": torch.tensor(float(step))},
    )
    train(tmp_path, recipe)
    rows = [row for row in _rows(tmp_path) if row["split"] == "train" and row["stage"] == "encoder"]
    assert [row["step_index"] for row in rows] == [3.0 + 7 * i for i in range(8)]


def test_rates_follow_the_schedule(tmp_path):
    recipe = ToyRecipe()
    seen = []
    recipe.stages[0].after_step = lambda step: seen.append(step)
    recipe.stages[0].schedule = lambda step: 0.5**step
    train(tmp_path, recipe, log_every=1)
    rows = [row for row in _rows(tmp_path) if row["split"] == "train" and row["stage"] == "encoder"]
    assert seen == list(range(60))
    assert [row["lr"] for row in rows[:4]] == [1e-3 * 0.5**i for i in range(4)]


def test_overhead_of_a_step_is_small(tmp_path):
    recipe = ToyRecipe(steps=2000)
    weight = torch.nn.Parameter(torch.zeros(()))
    loss = torch.zeros((), requires_grad=True)
    for stage in recipe.stages:
        stage.clip, stage.optimizers = None, lambda: [torch.optim.SGD([weight], lr=0.1)]
        stage.loss = lambda step, generator: (loss * 1.0, {"a": loss.detach()})
        stage.after_step, stage.validate = lambda step: None, lambda generator: {}
    train(tmp_path / "warm", ToyRecipe(steps=2))
    started = time.process_time()
    train(tmp_path / "run", recipe, log_every=50, validate_every=0, checkpoint_seconds=60.0)
    assert (time.process_time() - started) / 4000 < 0.5e-3


def test_loop_writes_tensorboard_files(tmp_path):
    pytest.importorskip("tensorboard")
    train(tmp_path, logger="tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = events.Scalars("predictor/validation/score")
    assert [event.step for event in scalars] == [80, 100, 120]
    assert loop.TrainingResult.__dataclass_fields__.keys() >= {"finished", "scores"}
