"""`wmkit bench train`: what it times is wmkit's own training step, and a peer's other loss is refused."""

import contextlib
import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch

from wmkit.errors import UserError
from wmkit.scripts import bench_train, peers, train_sides
from wmkit.scripts.bench_train import TrainBench
from wmkit.timing import Timed

SMALL = {
    "image_size": 16,
    "patch_size": 8,
    "width": 12,
    "depth": 2,
    "heads": 3,
    "predictor_depth": 1,
    "predictor_heads": 2,
    "head_size": 4,
    "mlp_size": 16,
    "projector_size": 8,
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make both presets small."""
    monkeypatch.setattr(train_sides, "SIZES", {"tiny": SMALL, "paper": SMALL})


class FakePeer:
    """Answers as wmkit would, times `offset`."""

    def __init__(self, ours, factor=1.0):
        self.ours, self.factor, self.asked = ours, factor, []

    def ask(self, do, **request):
        self.asked.append(do)
        return {name: self.factor * value for name, value in self.ours.check(request["seed"]).items()}

    def seconds(self, do, **request):
        self.asked.append(do + " " + request["dtype"])
        return lambda: 2.0


@pytest.fixture
def fake(monkeypatch):
    """Return a function that puts a peer of a factor in place."""

    def function(factor=1.0):
        made = []

        @contextlib.contextmanager
        def opened(name, bench, python):
            assert (name, bench) == ("stable-worldmodel", "train")
            yield None

        def shared(peer, ours, threads):
            return None, {"packages": {}, "threads": threads}

        @contextlib.contextmanager
        def sides(config):
            with real(config) as (ours, _, facts):
                made.append(FakePeer(ours, factor))
                yield ours, made[0], facts

        real = bench_train._sides
        monkeypatch.setattr(bench_train, "_sides", sides)
        monkeypatch.setattr(peers, "open_peer", opened)
        monkeypatch.setattr(train_sides, "share", shared)
        return made

    return function


def test_without_a_peer_it_prints_frames_a_second(capsys, tmp_path):
    out = tmp_path / "folder" / "train.json"
    threads = torch.get_num_threads()
    bench_train.run(TrainBench(preset="paper", batch=3, rounds=2, threads=1, out=out))
    assert torch.get_num_threads() == threads
    shown = capsys.readouterr().out
    assert "wmkit float32 eager" in shown
    assert "frames/s" in shown
    result = json.loads(out.read_text())
    assert set(result["seconds"]) == {"wmkit float32 eager", "wmkit bfloat16 eager"}
    assert len(result["seconds"]["wmkit float32 eager"]["all"]) == 2
    assert result["seconds"]["wmkit float32 eager"]["work"] == 12
    assert result["ratios"] == {}
    assert str(tmp_path) not in out.read_text()
    assert result["settings"]["threads"] == 1


def test_beside_a_peer_of_the_same_loss_it_prints_ratios(fake, capsys):
    made = fake()
    bench_train.run(TrainBench(preset="paper", batch=3, rounds=1, dtypes=("float32",), peer="stable-worldmodel"))
    assert made[0].asked == ["loss", "step float32"]
    shown = capsys.readouterr().out
    assert "against stable-worldmodel float32" in shown
    assert "relative differences" in shown
    assert "on torch unknown, wmkit on torch 2" in shown


def test_a_peer_of_another_loss_is_refused(fake):
    fake(1.001)
    with pytest.raises(UserError, match="losses differ by more than"):
        bench_train.run(TrainBench(preset="paper", batch=3, rounds=1, peer="stable-worldmodel"))


def test_a_loss_that_is_not_a_number_is_refused():
    ours = {"loss": 1.0, "prediction": float("nan")}
    with pytest.raises(UserError, match="prediction nan and 1"):
        bench_train._agree(ours, {"loss": 1.0, "prediction": 1.0})


def test_the_tiny_preset_is_timed_with_its_own_batch(monkeypatch):
    settings = dataclasses.replace(train_sides.TINY.representation, batch=16)
    monkeypatch.setattr(train_sides, "TINY", dataclasses.replace(train_sides.TINY, representation=settings))
    step, frames = train_sides.OurSide("tiny", 3, 4, "cpu").own_preset()
    assert frames == 16 * settings.frames
    assert step() > 0


def test_the_timed_step_trains(monkeypatch):
    side = train_sides.OurSide("tiny", 4, 4, "cpu")
    side.adopt(None)
    losses = []
    real = train_sides.take_step
    monkeypatch.setattr(train_sides, "take_step", lambda *args: losses.append(real(*args)))
    before = {name: value.clone() for name, value in side.model.state_dict().items()}
    step = side.trainer("float32", "eager")
    for _ in range(3):
        assert step() > 0
    assert len({float(terms["loss"]) for terms in losses}) == 3
    assert all(torch.equal(value, before[name]) for name, value in side.model.state_dict().items())


def test_ratios_are_of_the_time_of_a_frame():
    timed = {"peer float32": Timed((4.0,), 2.0), "wmkit": Timed((1.0,), 4.0)}
    assert bench_train._ratios(timed, "peer")["peer float32"]["wmkit"]["median"] == 8.0


def test_another_network_is_not_compared():
    timed = {name: Timed((1.0,)) for name in ("peer float32", "wmkit float32 eager", bench_train._OTHER)}
    assert list(bench_train._ratios(timed, "peer")["peer float32"]) == ["wmkit float32 eager"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch": 1}, "--batch must be at least 2"),
        ({"frames": 5}, "at most 4"),
        ({"rounds": 0}, "--rounds"),
        ({"threads": 0}, "--threads"),
        ({"dtypes": ()}, "--dtypes"),
        ({"ways": ()}, "--ways"),
        ({"peer_python": Path("python")}, "--peer-python: only with --peer"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(UserError, match=text):
        bench_train.run(TrainBench(**options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="no CUDA device"):
        bench_train.run(TrainBench(device="cuda"))


@pytest.mark.skipif("WMKIT_PEER_PYTHON" not in os.environ, reason="needs a peer's Python")
def test_the_real_peer_has_the_same_loss_and_gradients(tmp_path):
    python, out = Path(os.environ["WMKIT_PEER_PYTHON"]), tmp_path / "train.json"
    bench_train.run(
        TrainBench("paper", 3, rounds=1, threads=1, peer="stable-worldmodel", peer_python=python, out=out, json=True)
    )
    differences = json.loads(out.read_text())["agreement"]["relative_difference"]
    assert set(differences) == {"prediction", "sigreg", "loss", "grad_norm"}
    assert max(differences.values()) < 1e-4
