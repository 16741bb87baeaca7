"""SIGReg's fused kernels against float64, in Triton's interpreter where there is no GPU."""

import subprocess
import sys

import pytest
import torch

from wmkit.models.fused import Unsupported, interpreted
from wmkit.models.fused import sigreg as fused
from wmkit.models.lewm import sigreg as plain

pytestmark = pytest.mark.skipif(not (interpreted() or torch.cuda.is_available()), reason="needs Triton")
DEVICE = torch.device("cpu" if interpreted() else "cuda")
SHAPES = [(1, 1), (2, 33), (37, 5), (130, 31), (3, 7, 9), (2, 128, 32), (2, 261, 3)]


def projections(shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (values.abs().pow(1.5) * values.sign() + 0.4).to(DEVICE)


def units(projected, distance, knots):
    powers = torch.arange(knots, dtype=torch.float64, device=DEVICE).view(-1, *([1] * projected.dim()))
    angle = powers * distance * projected.double()
    return torch.polar(torch.ones_like(angle), angle)


def coefficients(knots, shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    size = (knots, *shape[:-2], shape[-1])
    return torch.complex(torch.randn(*size, generator=generator), torch.randn(*size, generator=generator)).to(DEVICE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("knots", [2, 17])
def test_sums_equal_the_float64_ones(shape, knots):
    projected = projections(shape)
    found = fused.power_sums(projected, 3 / 16, knots) / shape[-2]
    expected = units(projected, 3 / 16, knots).mean(-2)
    torch.testing.assert_close(found, expected.to(torch.complex64), rtol=0, atol=3e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("knots", [2, 17])
def test_gradient_equals_the_float64_one(shape, knots):
    projected, factors = projections(shape), coefficients(knots, shape)
    found = fused.gradient(factors, projected, 3 / 16, torch.tensor(1.5, device=DEVICE))
    terms = factors.to(torch.complex128).unsqueeze(-2) * units(projected, 3 / 16, knots)
    torch.testing.assert_close(found, 1.5 * terms[1:].sum(0).real.float(), rtol=0, atol=1e-4)


def test_projections_that_are_not_contiguous_are_taken():
    projected = projections((33, 2, 21)).transpose(0, 1)
    expected = fused.power_sums(projected.contiguous(), 0.2, 9)
    assert not projected.is_contiguous()
    assert torch.equal(fused.power_sums(projected, 0.2, 9), expected)


@pytest.mark.parametrize("shape", [(45, 6), (3, 45, 6)])
def test_the_module_gives_the_same_value_and_gradient_either_way(shape, monkeypatch):
    latents = projections(shape)
    results = []
    for use in (True, False):
        monkeypatch.setattr(plain.fused, "fits", lambda projected, use=use: use)
        leaf = latents.clone().requires_grad_()
        value = plain.SIGReg(20)(leaf, torch.Generator().manual_seed(3))
        (gradient,) = torch.autograd.grad(2 * value, leaf)
        results.append((value.detach(), gradient))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_the_self_check_passes_and_a_broken_kernel_fails_it(monkeypatch):
    fused._checked.cache_clear()
    assert fused._checked(DEVICE)
    fused._checked.cache_clear()
    right = fused.power_sums
    monkeypatch.setattr(fused, "power_sums", lambda *args: right(*args) + 0.1)
    with pytest.warns(RuntimeWarning, match="self-check is off by"):
        assert not fused._checked(DEVICE)
    fused._checked.cache_clear()
    monkeypatch.setattr(fused, "power_sums", lambda *args: 1 / 0)
    with pytest.warns(RuntimeWarning, match="ZeroDivisionError"):
        assert not fused._checked(DEVICE)
    fused._checked.cache_clear()


def test_other_dtypes_and_devices_are_left_to_the_reference():
    assert not fused.fits(torch.zeros(3, 4))
    assert not fused.fits(torch.zeros(3, 4, dtype=torch.float64, device="meta"))
    with pytest.raises(Unsupported, match="float32"):
        fused.power_sums(torch.zeros(3, 4, dtype=torch.float64, device=DEVICE), 0.1, 3)
    with pytest.raises(Unsupported, match="meta"):
        fused.gradient(torch.zeros(3, 4), torch.zeros(3, 4, device="meta"), 0.1, torch.ones(()))


_COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from wmkit.models.fused import sigreg_kernels as kernels

numbers = {"count": "i32", "width": "i32", "plane": "i32", "distance": "fp32"}
constants = {"KNOTS": 17, "ROWS": 32, "COLUMNS": 64}
for kernel, arrays in ((kernels.sums_kernel, 2), (kernels.gradient_kernel, 4)):
    names = kernel.arg_names
    signature = {name: numbers.get(name, "constexpr" if name in constants else "*fp32") for name in names}
    assert sum(kind == "*fp32" for kind in signature.values()) == arrays
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    text = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    assert "sin.approx" not in text and "cos.approx" not in text
"""


def test_the_kernels_compile_for_a_gpu_with_exact_sines(monkeypatch):
    """Triton compiles for a GPU that is not there, so types are checked beyond the interpreter."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    result = subprocess.run([sys.executable, "-c", _COMPILE], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
