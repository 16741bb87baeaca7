"""SIGReg against SciPy, the closed form, plain autograd, and itself on two processes."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from wmkit.models.lewm.sigreg import SIGReg


def _sample(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.7 * values.sign() * values.abs() ** 1.5 + 0.3


def _generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _integral(x: np.ndarray, t_max: float) -> float:
    """N times the integral over [-t_max, t_max], one projection, by adaptive quadrature."""

    def integrand(t: float) -> float:
        return abs(np.exp(1j * t * x).mean() - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2)

    return len(x) * integrate.quad(integrand, -t_max, t_max, epsabs=1e-13, epsrel=1e-13, limit=500)[0]


def _closed_form(x: torch.Tensor) -> float:
    """The statistic with t_max = infinity (Epps and Pulley, 1983; Baringhaus and Henze, 1988, with beta = 1)."""
    pairs = torch.exp(-((x[:, None] - x[None]) ** 2) / 2).mean()
    singles = torch.exp(-(x**2) / 4).mean()
    return float(len(x) * math.sqrt(2 * math.pi) * (pairs - math.sqrt(2) * singles + 1 / math.sqrt(3)))


def test_fine_quadrature_equals_scipys_integral():
    x = _sample(50, 1)
    value = SIGReg(num_projections=1, knots=4001, t_max=3.0)(x, _generator())
    assert float(value) == pytest.approx(_integral(x.numpy()[:, 0], 3.0), rel=1e-6)


def test_wide_range_equals_the_closed_form():
    x = _sample(80, 1)
    value = SIGReg(num_projections=1, knots=400, t_max=12.0)(x, _generator())
    assert float(value) == pytest.approx(_closed_form(x), rel=1e-10)


@pytest.mark.parametrize("knots", [2, 3, 17])
def test_knots_equal_scipys_trapezoid_over_the_whole_line(knots):
    x = _sample(40, 1).numpy()[:, 0]
    times = np.linspace(-3, 3, 2 * knots - 1)
    characteristic = np.exp(1j * times[:, None] * x).mean(1)
    values = np.abs(characteristic - np.exp(-(times**2) / 2)) ** 2 * np.exp(-(times**2) / 2)
    expected = len(x) * integrate.trapezoid(values, times)
    value = SIGReg(num_projections=1, knots=knots, t_max=3.0)(torch.from_numpy(x)[:, None], _generator())
    assert float(value) == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 9), st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_projections_are_averaged_and_of_unit_length(count, size, projections, knots):
    x = _sample(count, size)
    directions = torch.randn(size, projections, generator=_generator())
    directions = torch.nn.functional.normalize(directions.double(), dim=0)
    each = [SIGReg(1, knots)((x @ directions[:, [p]]), _generator()) for p in range(projections)]
    mirrored = [SIGReg(1, knots)((-x @ directions[:, [p]]), _generator()) for p in range(projections)]
    value = SIGReg(projections, knots)(x, _generator())
    assert float(value) == pytest.approx(float(sum(each)) / projections, rel=1e-9)
    assert float(value) == pytest.approx(float(sum(mirrored)) / projections, rel=1e-9)


@pytest.mark.parametrize("shape", [(7, 3), (2, 5, 3)])
def test_gradient_equals_finite_differences(shape):
    x = _sample(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: 3 * SIGReg(4, 9)(z, _generator()), (x,))


def test_pieces_of_projections_change_nothing():
    x = _sample(3000, 4).requires_grad_()
    wide = SIGReg(200)(x, _generator())
    (gradient,) = torch.autograd.grad(wide, x)
    directions = torch.nn.functional.normalize(torch.randn(4, 200, generator=_generator()).double(), dim=0)
    times = torch.linspace(0, 3, 17, dtype=torch.float64)
    angles = (x @ directions)[..., None] * times
    normal = torch.exp(-(times**2) / 2)
    error = (angles.cos().mean(0) - normal) ** 2 + angles.sin().mean(0) ** 2
    plain = 3000 * 2 * torch.trapezoid(error * normal, times, dim=-1).mean()
    (expected,) = torch.autograd.grad(plain, x)
    torch.testing.assert_close(wide, plain)
    torch.testing.assert_close(gradient, expected)


def test_groups_average_the_statistic_of_each():
    x = _sample(3, 20, 5)
    each = [SIGReg(16)(group, _generator()) for group in x]
    assert float(SIGReg(16)(x, _generator())) == pytest.approx(float(sum(each)) / 3, rel=1e-12)


def test_normal_sample_scores_lowest():
    sigreg = SIGReg(64)
    normal = torch.randn(2000, 8, generator=_generator())
    values = [float(sigreg(x, _generator())) for x in (normal, 2 * normal, normal + 1, 0 * normal, normal.sign())]
    assert values[0] < 3
    assert min(values[1:]) > 5 * values[0]


def test_autocast_changes_nothing():
    x = _sample(64, 8).float()
    plain = SIGReg(32)(x, _generator())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = SIGReg(32)(x, _generator())
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


def test_half_precision_latents_are_computed_in_single():
    x = _sample(64, 8).bfloat16().requires_grad_()
    value = SIGReg(32)(x, _generator())
    value.backward()
    assert value.dtype == torch.float32
    assert torch.equal(value, SIGReg(32)(x.float(), _generator()))
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


def test_memory_does_not_grow_with_the_knots():
    def kept(knots: int) -> int:
        sizes = []
        x = _sample(512, 16).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel() * t.itemsize) or t, lambda t: t):
            SIGReg(32, knots)(x, _generator())
        return sum(sizes)

    sample = 512 * 32 * 8
    assert kept(65) - kept(17) <= 48 * 32 * 16 < sample


def test_calls_without_generator_differ_and_resume():
    x = _sample(30, 6)
    first = SIGReg(8, seed=1)
    values = [float(first(x)) for _ in range(3)]
    assert len(set(values)) == 3
    second = SIGReg(8, seed=1)
    float(second(x))
    third = SIGReg(8, seed=1)
    third.load_state_dict(second.state_dict())
    assert [float(third(x)), float(third(x))] == values[1:]


@pytest.mark.parametrize(
    "latents", [torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64), torch.zeros(0, 2), torch.zeros(0, 3, 2)]
)
def test_bad_latents_are_refused(latents):
    with pytest.raises(ValueError, match="expected floating point"):
        SIGReg(4)(latents)


@pytest.mark.parametrize("settings", [{"num_projections": 0}, {"knots": 1}, {"t_max": 0.0}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="SIGReg takes"):
        SIGReg(**settings)


_TWO_PROCESSES = """
import os
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from wmkit.models.lewm.sigreg import SIGReg

rank, rendezvous, sizes = int(sys.argv[1]), sys.argv[2], [int(n) for n in sys.argv[3].split(",")]
grouped = sys.argv[4] == "grouped"
torch.set_num_threads(1)
torch.manual_seed(0)
layer = torch.nn.Linear(5, 4).double()
inputs = torch.randn(sum(sizes), 6, 5, dtype=torch.float64)


def run(module, batch):
    latents = module(batch)
    value = SIGReg(32, seed=7)(latents if grouped else latents.flatten(0, 1))
    value.backward()
    return value


expected = run(layer, inputs)
gradients = [p.grad.clone() for p in layer.parameters()]
layer.zero_grad()
dist.init_process_group("gloo", init_method="file://" + rendezvous, rank=rank, world_size=2)
own = inputs[: sizes[0]] if rank == 0 else inputs[sizes[0] :]
value = run(DistributedDataParallel(layer), own)
torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
for parameter, gradient in zip(layer.parameters(), gradients):
    torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # past the assertions; gloo's threads may abort while the interpreter takes itself down
"""


@pytest.mark.parametrize("kind", ["plain", "grouped"])
def test_two_processes_equal_one(tmp_path, kind):
    """DistributedDataParallel on unequal halves gives the value and the averaged gradient of the joined batch."""
    command = [sys.executable, "-c", _TWO_PROCESSES]
    arguments = [str(tmp_path / "rendezvous"), "3,5", kind]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen([*command, str(rank), *arguments], **pipes) for rank in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output[-2000:]
