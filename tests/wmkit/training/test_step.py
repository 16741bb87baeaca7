"""One step of training: clipped, logged without a wait, and faster on the CPU."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from wmkit.training import step as step_module
from wmkit.training.compiling import compiled
from wmkit.training.step import take_step


class Stage:
    clip = 0.1

    def __init__(self):
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.seen = []

    def loss(self, step, generator):
        loss = functional.linear(torch.randn(64, 4, generator=generator), self.layer.weight).square().mean()
        return loss, {"extra": loss.detach() + 1}

    def after_step(self, step):
        self.seen.append(step)


def test_a_step_clips_moves_the_weights_and_returns_detached_terms():
    stage = Stage()
    optimizer = torch.optim.SGD(stage.layer.parameters(), lr=1.0)
    before = stage.layer.weight.detach().clone()
    terms = take_step(stage, [optimizer], 3, torch.Generator().manual_seed(0))
    assert set(terms) == {"extra", "loss", "grad_norm"}
    assert not any(term.requires_grad for term in terms.values())
    assert stage.seen == [3]
    assert float((stage.layer.weight - before).detach().norm()) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(("device", "wanted"), [("cpu", True), ("cpu", False), ("meta", True)])
def test_the_faster_way_is_taken_on_the_cpu_alone_and_where_it_is_wanted(device, wanted, monkeypatch):
    entered = []

    class Mode(step_module.FastCPU):
        def __enter__(self):
            entered.append(device)
            return super().__enter__()

    monkeypatch.setattr(step_module, "FastCPU", Mode)
    weight = nn.Parameter(torch.ones(3, 4, device=device))

    class Plain(Stage):
        clip = None
        fast_cpu = wanted

        def loss(self, step, generator):
            return weight.sum(), {}

    take_step(Plain(), [torch.optim.SGD([weight], lr=1.0)], 0, torch.Generator())
    assert entered == (["cpu"] if device == "cpu" and wanted else [])


def test_a_function_that_does_not_compile_is_called_as_it_is(monkeypatch):
    def broken(function, dynamic):
        def call(*args):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    double = compiled(lambda x: 2 * x)
    with pytest.warns(RuntimeWarning, match=r"without torch.compile: RuntimeError: no C\+\+ compiler"):
        assert double(3) == 6
    assert double(4) == 8


def test_a_function_that_compiles_is_compiled_once(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: made.append(1) or function)
    double = compiled(lambda x: 2 * x)
    assert [double(1), double(2)] == [2, 4]
    assert made == [1]


def test_what_is_kept_of_weights_hears_of_a_fused_step():
    parameter = torch.nn.Parameter(torch.ones(3))
    before = parameter._version
    stage = SimpleNamespace(
        clip=None, fast_cpu=False, after_step=lambda step: None, loss=lambda step, generator: (parameter.sum(), {})
    )
    take_step(stage, [torch.optim.AdamW([parameter], fused=True)], 0, torch.Generator())
    assert parameter._version > before
