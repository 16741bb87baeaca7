"""The faster linear layers and attention on a CPU against the plain ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from wmkit.training import cpu
from wmkit.training.cpu import FastCPU


def draw(*shape, seed=0, dtype=torch.float32):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).requires_grad_()


def results(function, inputs):
    value = function(*inputs)
    weights = torch.linspace(-1, 1, value.numel()).view(value.shape).to(value)
    return [value, *torch.autograd.grad((value * weights).sum(), inputs)]


def compare(function, inputs, **tolerance):
    """Compare values and gradients with those in float64, computed the usual way."""
    exact = results(function, [each.detach().double().requires_grad_() for each in inputs])
    with FastCPU():
        fast = results(function, inputs)
    for found, expected in zip(fast, exact, strict=True):
        torch.testing.assert_close(found.double(), expected, **tolerance)


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of both replacements."""
    taken = {"_Linear": 0, "_Attention": 0}
    for name in taken:
        plain = getattr(cpu, name).apply

        def apply(*args, name=name, plain=plain):
            taken[name] += 1
            return plain(*args)

        monkeypatch.setattr(cpu, name, type(name, (), {"apply": staticmethod(apply)}))
    return taken


@pytest.mark.parametrize(
    ("shape", "outputs"), [((33, 7), 5), ((4, 9, 5), 3), ((40, 33, 6), 17), ((2, 3, 8, 5), 4), ((16, 65, 24), 8)]
)
@pytest.mark.parametrize("biased", [True, False])
def test_linear_equals_the_plain_one(shape, outputs, biased, calls):
    inputs = [draw(*shape), draw(outputs, shape[-1], seed=1), *([draw(outputs, seed=2)] if biased else [])]
    compare(functional.linear, inputs, rtol=1e-5, atol=2e-4)
    assert calls["_Linear"] == 1


def test_inputs_that_are_not_contiguous_are_taken(calls):
    inputs = [draw(6, 33, 40), draw(5, 6, seed=1)]
    compare(lambda x, weight: functional.linear(x.permute(2, 1, 0), weight[:, :6]), inputs, rtol=1e-5, atol=2e-4)
    assert calls["_Linear"] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("queries", "keys"), [(65, 65), (1, 65), (3, 7)])
def test_attention_equals_the_plain_one(dtype, queries, keys, calls):
    shapes = (3, 2, queries, 5), (3, 2, keys, 5), (3, 2, keys, 5)
    inputs = [draw(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes)]
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}

    def attend(*tensors):
        with torch.autocast("cpu", torch.bfloat16, enabled=tensors[0].dtype == torch.bfloat16):
            return functional.scaled_dot_product_attention(*tensors)

    compare(attend, inputs, **tolerance)
    assert calls["_Attention"] == 1


def test_a_whole_block_has_the_same_gradients(calls):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(24, 2, 48, 0.0, batch_first=True)
    tokens = draw(20, 64, 24)

    def gradients():
        block.zero_grad()
        block(tokens).square().mean().backward()
        return [parameter.grad.clone() for parameter in block.parameters()]

    plain = gradients()
    with FastCPU():
        fast = gradients()
    assert calls["_Linear"] >= 2
    for found, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "run",
    [
        lambda: functional.linear(draw(64, 4, dtype=torch.float64), draw(3, 4, dtype=torch.float64)),
        lambda: functional.linear(draw(3, 4), draw(3, 4)),
        lambda: functional.linear(draw(64, 4).detach(), draw(3, 4).detach()),
        lambda: functional.scaled_dot_product_attention(*[draw(1, 2, 5, 4)] * 3, is_causal=True),
        lambda: functional.scaled_dot_product_attention(*[draw(1, 2, 5, 4)] * 3, dropout_p=0.5),
        lambda: functional.scaled_dot_product_attention(*[draw(1, 2, 5, 4)] * 3, torch.ones(5, 5, dtype=torch.bool)),
        lambda: functional.scaled_dot_product_attention(*[draw(1, 2, 600, 4)] * 3),
        lambda: functional.linear(draw(64, 4, dtype=torch.bfloat16), draw(3, 4, dtype=torch.bfloat16)),
    ],
)
def test_everything_else_goes_its_usual_way(run, calls):
    torch.manual_seed(0)
    expected = run()
    torch.manual_seed(0)
    with FastCPU():
        assert torch.equal(run(), expected)
    assert not any(calls.values())


def test_autocast_keeps_its_own_products(calls):
    with FastCPU(), torch.autocast("cpu", torch.bfloat16):
        assert functional.linear(draw(64, 4), draw(3, 4)).dtype == torch.bfloat16
    assert calls["_Linear"] == 0
