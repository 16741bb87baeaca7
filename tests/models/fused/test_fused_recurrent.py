"""The fused rollout of GRUs equals stepping through ever longer sequences in float64, on sizes that fit no tile."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from wmkit.models.fused import Unsupported, why_not
from wmkit.models.lewm.gru import GRUPredictor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(why_not(DEVICE) is not None, reason=str(why_not(DEVICE)))

ODD = {"latent_size": 7, "block_size": 5, "width": 21, "depth": 2}


def _network(seed=0, hidden=0, **change):
    """Return a predictor, and a projector with statistics, all weights of which matter."""
    torch.manual_seed(seed)
    predictor = GRUPredictor(**{**ODD, **change})
    size = predictor.last.out_features
    projector = nn.Identity()
    if hidden:
        projector = nn.Sequential(nn.Linear(size, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, size))
        projector[1].running_mean.normal_()
        projector[1].running_var.uniform_(0.5, 2.0)
    for parameter in [*predictor.parameters(), *projector.parameters()]:
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return predictor.eval().to(DEVICE), projector.eval().to(DEVICE)


def _case(predictor, known, batch, count, horizon, seed=1):
    """Return a context and candidates."""
    generator = torch.Generator().manual_seed(seed)
    size = predictor.last.out_features
    block = predictor.gru.input_size - size
    shapes = (batch, known, size), (batch, known - 1, block), (batch, count, horizon, block)
    return [torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes]


def _reference(predictor, projector, latents, past, actions):
    """Predict step by step, every candidate apart, from all latents so far, in float64."""
    predictor, projector = copy.deepcopy(predictor).double(), copy.deepcopy(projector).double()
    count, known = actions.shape[1], latents.shape[1]
    window = latents.double().repeat_interleave(count, 0)
    blocks = torch.cat([past.repeat_interleave(count, 0), actions.flatten(0, 1)], 1).double()
    with torch.no_grad():
        for end in range(known, known + actions.shape[2]):
            window = torch.cat([window, projector(predictor.step(window, blocks[:, :end]))[:, None]], 1)
    return window[:, known:].unflatten(0, actions.shape[:2])


def _error(found, expected):
    """Return the largest difference over the expected numbers' size."""
    return ((found.double() - expected).abs().max() / expected.abs().max()).item()


def _fused(*arguments):
    from wmkit.models.fused.recurrent import FusedGRU

    return FusedGRU(*arguments)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize(("batch", "count", "horizon"), [(1, 1, 4), (1, 37, 1), (3, 7, 6)])
def test_equals_stepping_in_float64(depth, known, batch, count, horizon):
    predictor, projector = _network(depth=depth)
    case = _case(predictor, known, batch, count, horizon)
    found = _fused(predictor, projector, torch.float32)(*case)
    assert found.shape == (batch, count, horizon, 7)
    assert found.dtype == torch.float32
    assert _error(found, _reference(predictor, projector, *case)) < 1e-5


@pytest.mark.parametrize("hidden", [5, 600])
def test_applies_the_projector_after_each_step(hidden):
    predictor, projector = _network(hidden=hidden)
    case = _case(predictor, 2, 2, 9, 3)
    assert _error(_fused(predictor, projector, None)(*case), _reference(predictor, projector, *case)) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"width": 16, "depth": 1, "latent_size": 16, "block_size": 16},
        {"width": 300, "latent_size": 33, "block_size": 1},
        {"width": 5, "latent_size": 70, "block_size": 40},
    ],
)
def test_every_size(change):
    """The second is computed in more than one tile of columns."""
    predictor, projector = _network(**change)
    case = _case(predictor, 2, 1, 18, 2)
    assert _error(_fused(predictor, projector, None)(*case), _reference(predictor, projector, *case)) < 1e-5


@pytest.mark.parametrize("hidden", [0, 70])
def test_bfloat16_is_near(hidden):
    predictor, projector = _network(hidden=hidden)
    case = _case(predictor, 2, 3, 7, 4)
    expected = _reference(predictor, projector, *case)
    assert 1e-5 < _error(_fused(predictor, projector, torch.bfloat16)(*case), expected) < 0.05


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_gates_that_saturate_stay_finite():
    predictor, projector = _network()
    case = [100 * part for part in _case(predictor, 2, 1, 3, 3)]
    expected = _reference(predictor, projector, *case)
    found = _fused(predictor, projector, None)(*case)
    assert found.isfinite().all()
    assert _error(found, expected) < 1e-5


def test_batched_equals_looped_and_repeats_exactly():
    predictor, projector = _network(hidden=20)
    fused = _fused(predictor, projector, None)
    latents, past, actions = _case(predictor, 2, 3, 19, 3)
    together = fused(latents, past, actions)
    assert torch.equal(together, fused(latents, past, actions))
    apart = [fused(latents[i : i + 1], past[i : i + 1], actions[i : i + 1, j : j + 1]) for i in (0, 2) for j in (0, 18)]
    some = torch.stack([together[i, j] for i in (0, 2) for j in (0, 18)])
    torch.testing.assert_close(torch.cat(apart)[:, 0], some, rtol=1e-5, atol=1e-6)


def test_takes_views_and_keeps_the_dtype_of_latents():
    predictor, projector = _network()
    fused = _fused(predictor, projector, None)
    latents, past, actions = _case(predictor, 2, 2, 3, 4)
    expected = fused(latents, past, actions[:, :, ::2].contiguous())
    torch.testing.assert_close(fused(latents, past, actions[:, :, ::2]), expected, rtol=0, atol=0)
    assert fused(latents.bfloat16(), past, actions).dtype == torch.bfloat16
    assert fused(latents, past, actions[:, :0]).shape == (2, 0, 4, 7)


@pytest.mark.parametrize(
    ("change", "projector", "dtype", "text"),
    [
        ({"latent_size": 1025}, nn.Identity(), None, "latents of 1025 numbers"),
        ({}, nn.Linear(7, 7), None, "projector of type Linear"),
        ({}, nn.Identity(), torch.float16, "float16"),
    ],
)
def test_what_is_not_handled_is_named(change, projector, dtype, text):
    with pytest.raises(Unsupported, match=text):
        _fused(_network(**change)[0], projector, dtype)


def test_other_predictors_are_not_handled():
    with pytest.raises(Unsupported, match="type GRU"):
        _fused(nn.GRU(3, 3), nn.Identity(), None)


def test_cost_counts_a_context_once():
    from wmkit.models.fused.recurrent import cost_of

    predictor, projector = _network(hidden=11)
    cost = cost_of(predictor, projector, torch.float32, batch=2, candidates=3, horizon=4, known=3)
    recurrent = 3 * 21 * (12 + 21 + 21 + 21)
    weights = recurrent + 21 * 7 + 2 * 7 * 11
    assert cost.flops == 2 * (24 * weights + 2 * 2 * recurrent)
    assert cost.bytes == 4 * (weights + 2 * 3 * 7 + 2 * 2 * 5 + 24 * (7 + 5))


_COMPILE = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction
from wmkit.models.fused.recurrent import FusedGRU
from wmkit.models.lewm.gru import GRUPredictor

class Driver:
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)
    get_current_device = lambda self: 0
    get_current_stream = lambda self, device: 0

driver.set_active(Driver())
run = JITFunction.run
def compile_only(self, *args, grid, warmup, **keywords):
    kernel = run(self, *args, grid=grid, warmup=True, **keywords)
    print(kernel.metadata.shared, kernel.asm["ptx"].count("mma.sync"))
JITFunction.run = compile_only
fused = FusedGRU(GRUPredictor(latent_size=32, block_size=10), torch.nn.Identity(), torch.bfloat16)
fused(torch.zeros(1, 2, 32), torch.zeros(1, 1, 10), torch.zeros(1, 300, 5, 10))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_compiles_for_a_gpu_that_is_not_here():
    """What runs interpreted is also what the compiler takes, with matrix units and within an H100's shared memory."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", _COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shared, products = map(int, done.stdout.split())
    assert 0 < shared <= 227 * 1024
    assert products > 0
