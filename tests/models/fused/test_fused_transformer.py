"""The fused rollout of the transformer equals stepping in float64, on sizes that fit no tile."""

import copy
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from wmkit.models.fused import Unsupported, why_not
from wmkit.models.fused.transformer_cost import cost_of
from wmkit.models.fused.transformer_launch import MOST_SPLITS, Machine
from wmkit.models.lewm.transformer import TransformerPredictor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(why_not(DEVICE) is not None, reason=str(why_not(DEVICE)))

ODD = {"latent_size": 40, "block_size": 5, "history": 3, "depth": 2, "heads": 3, "head_size": 24, "mlp_size": 100}


def _network(seed=0, hidden=70, **change):
    """Return a predictor with weights that make every term matter, and a projector with statistics."""
    torch.manual_seed(seed)
    predictor = TransformerPredictor(**{**ODD, **change})
    projector = nn.Identity()
    size = predictor.positions.shape[1]
    if hidden:
        projector = nn.Sequential(nn.Linear(size, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, size))
        projector[1].running_mean.normal_()
        projector[1].running_var.uniform_(0.5, 2.0)
    for parameter in [*predictor.parameters(), *projector.parameters()]:
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return predictor.eval().to(DEVICE), projector.eval().to(DEVICE)


def _case(predictor, known, batch, count, horizon, seed=1):
    generator = torch.Generator().manual_seed(seed)
    size, block = predictor.positions.shape[1], predictor.action_encoder[0].in_features
    shapes = (batch, known, size), (batch, known - 1, block), (batch, count, horizon, block)
    return [torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes]


def _reference(predictor, projector, latents, past, actions):
    """Predict step by step with whole windows, every candidate apart, in float64."""
    predictor, projector = copy.deepcopy(predictor).double(), copy.deepcopy(projector).double()
    count, known = actions.shape[1], latents.shape[1]
    window = latents.double().repeat_interleave(count, 0)
    blocks = torch.cat([past.repeat_interleave(count, 0), actions.flatten(0, 1)], 1).double()
    with torch.no_grad():
        for end in range(known, known + actions.shape[2]):
            following = projector(predictor.step(window[:, :end], blocks[:, :end]))
            window = torch.cat([window, following[:, None]], 1)
    return window[:, known:].unflatten(0, actions.shape[:2])


def _error(found, expected):
    """Return the largest difference over the expected numbers' size."""
    return ((found.double() - expected).abs().max() / expected.abs().max()).item()


def _fused(*arguments, **keywords):
    from wmkit.models.fused.transformer import FusedTransformer

    return FusedTransformer(*arguments, **keywords)


def _machine(fused, **change):
    """Make a rollout believe in another GPU, so that it divides its work otherwise."""
    fused._machine = dataclasses.replace(fused._machine, **change)
    return fused


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize(("batch", "count", "horizon"), [(1, 1, 4), (1, 37, 1), (3, 7, 2)])
def test_equals_stepping_in_float64(known, batch, count, horizon):
    predictor, projector = _network()
    case = _case(predictor, known, batch, count, horizon)
    found = _fused(predictor, projector, torch.float32)(*case)
    assert _error(found, _reference(predictor, projector, *case)) < 1e-5


CHANGES = [
    {"history": 1},
    {"history": 5, "depth": 1},
    {"width": 24},
    {"width": 56, "hidden": 0},
    {"hidden": 0},
    {"latent_size": 16, "heads": 1, "head_size": 16, "mlp_size": 16, "depth": 3},
    {"latent_size": 200, "depth": 1},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_other_architectures(change):
    predictor, projector = _network(**change)
    known = min(2, predictor.history)
    case = _case(predictor, known, 2, 3, 4)
    found = _fused(predictor, projector, torch.float32)(*case)
    assert _error(found, _reference(predictor, projector, *case)) < 1e-5


@pytest.mark.parametrize("known", [1, 3])
def test_bfloat16_rounds_operands_alone(known):
    predictor, projector = _network()
    case = _case(predictor, known, 2, 5, 4)
    expected = _reference(predictor, projector, *case)
    found = _fused(predictor, projector, torch.bfloat16)(*case)
    assert found.dtype == torch.float32
    assert 1e-4 < _error(found, expected) < 0.03
    assert ((found - expected).square().mean() / expected.square().mean()).sqrt() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_splits_and_tiles_change_only_the_order_of_sums(dtype):
    predictor, projector = _network(heads=4, head_size=16, depth=1)
    case = _case(predictor, 3, 1, 11, 2)
    fused = _fused(predictor, projector, dtype)
    found, divisions = [], []
    for processors in (1, 2, 3, 8, 1000):
        _machine(fused, processors=processors)
        divisions.append((fused._machine.tile(11, 3), fused._machine.divide(1, 4)))
        found.append(fused(*case))
    assert {division for _, division in divisions} == {(4, 1), (2, 2), (1, 4)}
    assert len({tile for tile, _ in divisions}) > 1
    for other in found[1:]:
        assert _error(other, found[0].double()) < (1e-5 if dtype == torch.float32 else 0.02)


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 200))
def test_every_head_is_in_one_split(tiles, work, processors):
    machine = Machine(processors, 232448, 9, torch.bfloat16)
    per_split, splits = machine.divide(tiles, work)
    assert splits * per_split == work
    assert splits <= MOST_SPLITS


@given(st.integers(1, 5000), st.integers(1, 32), st.sampled_from([torch.bfloat16, torch.float32]))
def test_a_tile_holds_a_candidate(candidates, window, dtype):
    tile = Machine(132, 232448, 9, dtype).tile(candidates, window)
    assert tile >= window
    assert tile in (16, 32, 64)


def test_the_papers_plan_occupies_an_h200():
    machine = Machine(132, 232448, 9, torch.bfloat16)
    assert machine.tile(300, 3) == 64
    assert machine.divide(15, 16) == (2, 8)
    assert machine.row_tile(900, 192) == 64
    assert machine.row_tile(64 * 300 * 3, 192) == 128
    assert machine.row_tile(64 * 300 * 3, 256) == 64
    assert machine.divide(196, 16) == (16, 1)
    assert not machine.is_filled(900)
    assert machine.is_filled(64 * 900)


def test_two_calls_agree_bit_for_bit():
    predictor, projector = _network(depth=1)
    case = _case(predictor, 2, 2, 5, 3)
    fused = _machine(_fused(predictor, projector, torch.bfloat16), processors=100)
    assert torch.equal(fused(*case), fused(*case))


@pytest.mark.parametrize("known", [2, 3])
def test_context_shared_or_not_is_the_same(known, monkeypatch):
    predictor, projector = _network(history=4)
    case = _case(predictor, known, 2, 3, 4)
    fused = _fused(predictor, projector, torch.float32)
    found = []
    for filled in (False, True):
        monkeypatch.setattr(type(fused._machine), "is_filled", lambda self, rows, filled=filled: filled)
        found.append(fused(*case))
    assert _error(found[0], found[1].double()) < 1e-5
    assert not torch.equal(*found)


def test_batched_equals_looped(monkeypatch):
    predictor, projector = _network(depth=1)
    latents, past, actions = _case(predictor, 2, 2, 4, 2)
    fused = _fused(predictor, projector, torch.float32)
    whole = fused(latents, past, actions)
    rows = [
        torch.cat([fused(latents[b : b + 1], past[b : b + 1], actions[b : b + 1, n : n + 1]) for n in range(4)], 1)
        for b in range(2)
    ]
    assert _error(whole, torch.cat(rows).double()) < 1e-5
    for limit in (3, 7):
        monkeypatch.setattr("wmkit.models.fused.transformer._CANDIDATES_AT_ONCE", limit)
        assert _error(fused(latents, past, actions), whole.double()) < 1e-5


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("known", [1, 3])
def test_a_diverged_candidate_spoils_no_other(known):
    predictor, projector = _network(depth=1)
    latents, past, actions = _case(predictor, known, 1, 7, 4)
    fused = _fused(predictor, projector, torch.float32)
    expected = fused(latents, past, actions)
    actions[0, 4, 1] = float("nan")
    found = fused(latents, past, actions)
    others = [n for n in range(7) if n != 4]
    assert torch.equal(found[0, others], expected[0, others])
    assert torch.equal(found[0, 4, 0], expected[0, 4, 0])
    assert found[0, 4, 1:].isnan().all()


def test_keeps_the_dtype_of_the_latents_and_takes_empty_sets():
    predictor, projector = _network(depth=1)
    latents, past, actions = _case(predictor, 1, 1, 2, 2)
    fused = _fused(predictor, projector)
    assert fused.dtype == torch.float32
    assert fused(latents.bfloat16(), past, actions).dtype == torch.bfloat16
    assert fused(latents, past, actions[:, :0]).shape == (1, 0, 2, 40)
    assert fused(latents, past, actions[:, :, :0]).shape == (1, 2, 0, 40)


@pytest.mark.parametrize("hidden", [0, 20])
def test_takes_the_weights_as_they_are_now(hidden):
    predictor, projector = _network(depth=1, width=24, hidden=hidden)
    case = _case(predictor, 1, 1, 2, 2)
    fused = _fused(predictor, projector)
    before = fused(*case)
    for parameter in [*predictor.parameters(), *projector.parameters()]:
        parameter.data.zero_()
    assert torch.equal(fused(*case), before)


@pytest.mark.parametrize(
    ("change", "projector", "dtype", "text"),
    [
        ({"latent_size": 600}, nn.Identity(), None, "600 numbers a token"),
        ({"head_size": 129}, nn.Identity(), None, "heads of 129"),
        ({"history": 33}, nn.Identity(), None, "history of 33"),
        ({"depth": 0}, nn.Identity(), None, "without blocks"),
        ({}, nn.Linear(40, 40), None, "projector of type Linear"),
        ({}, nn.Sequential(nn.Linear(40, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 40)), None, "Sequential"),
        ({}, nn.Identity(), torch.float16, "float16"),
    ],
)
def test_says_what_it_cannot_do(change, projector, dtype, text):
    predictor = TransformerPredictor(**{**ODD, "depth": 1, **change}).to(DEVICE)
    with pytest.raises(Unsupported, match=text) as caught:
        _fused(predictor, projector, dtype)
    assert "\n" not in str(caught.value)


def test_refuses_other_predictors_and_too_many_latents():
    with pytest.raises(Unsupported, match="type Linear"):
        _fused(nn.Linear(2, 2), nn.Identity())
    predictor, projector = _network(depth=1)
    latents, past, actions = _case(predictor, 4, 1, 2, 2)
    with pytest.raises(ValueError, match="4 latents, but the predictor looks back on 3"):
        _fused(predictor, projector)(latents, past, actions)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_is_captured_into_a_graph():
    predictor, projector = _network()
    case = _case(predictor, 2, 2, 37, 4)
    fused = _fused(predictor, projector, torch.bfloat16)
    expected = fused(*case)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = fused(*case)
    found.zero_()
    graph.replay()
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("capability", "processors", "shared_memory"), [(90, 132, 232448), (80, 108, 166912)], ids=["H200", "A100"]
)
def test_compiles_ahead_of_time(capability, processors, shared_memory, tmp_path):
    script = Path(__file__).parent / "compile_transformer.py"
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    sizes = [str(number) for number in (capability, processors, shared_memory)]
    command = [sys.executable, str(script), *sizes, "bfloat16"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = json.loads(done.stdout)
    assert {kernel["name"] for kernel in kernels} == {"embed", "merge", "attend", "feed_forward", "collect"}
    for kernel in kernels:
        assert kernel["shared"] <= shared_memory - 1024
        assert (kernel["tensor"] > 0) == (kernel["name"] in ("attend", "feed_forward"))


def test_cost_of_one_step_is_counted_by_hand():
    predictor = TransformerPredictor(latent_size=2, block_size=3, history=1, depth=1, heads=1, head_size=4, mlp_size=8)
    cost = cost_of(predictor, nn.Identity(), batch=2, candidates=5, horizon=1, known=1)
    block = 2 * 12 + 4 * 2 + 2 * 8 * 2
    actions = 3 * 10 + 10 * 8 + 8 * 2 + 2 * 12
    assert cost.flops == 2 * 10 * (block + actions + 2 * 4)
    assert cost.bytes == 2 * (block + actions) + 4 * 2 * (5 * (3 + 2) + 2)


def test_cost_at_the_papers_size():
    predictor = TransformerPredictor(latent_size=192, block_size=10, history=3).to("meta")
    projector = nn.Sequential(nn.Linear(192, 2048), nn.BatchNorm1d(2048), nn.GELU(), nn.Linear(2048, 192))
    cost = cost_of(predictor, projector, batch=1, candidates=300, horizon=5, known=3)
    assert 55e9 < cost.flops < 80e9
    assert 20e6 < cost.bytes < 30e6
    more = cost_of(predictor, projector, batch=1, candidates=600, horizon=5, known=3)
    assert 1.99 < more.flops / cost.flops < 2
