"""Muon against PyTorch's on matrices and against itself on kernels; schedules at their ends."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wmkit.training.optim import Muon, average, orthogonalize, split_parameters, warmup_cosine


def _matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 20), columns=st.integers(1, 20), seed=st.integers(0, 99))
def test_orthogonalize_equals_the_plain_iteration(rows, columns, seed):
    matrix = _matrix(rows, columns, seed)
    plain = matrix / matrix.norm()
    for _ in range(5):
        gram = plain @ plain.mT
        plain = 3.4445 * plain + (-4.7750 * gram + 2.0315 * gram @ gram) @ plain
    assert torch.allclose(orthogonalize(matrix), plain, atol=1e-8)


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    values = torch.linalg.svdvals(orthogonalize(_matrix(*shape).float() * 1e-3))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_orthogonalize_keeps_nothing_as_nothing():
    assert torch.equal(orthogonalize(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_muon_on_matrices_is_that_of_pytorch():
    ours, theirs = (nn.Parameter(_matrix(12, 30).float()) for _ in range(2))
    start = ours.detach().clone()
    optimizer = Muon([ours], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for i in range(4):
        ours.grad = theirs.grad = _matrix(12, 30, i + 1).float()
        optimizer.step()
        reference.step()
    moved, expected = ours.detach() - start, theirs.detach() - start
    assert (moved - expected).norm() / expected.norm() < 0.03, "theirs computes in bfloat16"


def test_muon_moves_a_kernel_as_its_matrix():
    kernel = nn.Parameter(_matrix(6, 36).float().view(6, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(_matrix(6, 36).float())
    optimizer = Muon([kernel, matrix], lr=0.01)
    for i in range(3):
        matrix.grad = _matrix(6, 36, i + 5).float()
        kernel.grad = matrix.grad.view(6, 4, 3, 3).to(memory_format=torch.channels_last)
        optimizer.step()
    assert torch.allclose(kernel.detach().reshape(6, 36), matrix.detach(), atol=1e-6)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match=r"not \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_split_takes_weights_of_layers_alone():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(2, 3))
            self.embed = nn.Embedding(4, 3)
            self.conv, self.frozen = nn.Conv2d(1, 2, 3), nn.Linear(3, 3)
            self.norm, self.linear = nn.BatchNorm2d(2), nn.Linear(3, 5)
            self.frozen.requires_grad_(False)

    net = Net()
    matrices, others = split_parameters(net)
    assert {id(each) for each in matrices} == {id(net.conv.weight), id(net.linear.weight)}
    assert len(others) == 6
    assert not {id(each) for each in others} & {id(each) for each in net.frozen.parameters()}


def test_the_schedule_rises_peaks_and_falls():
    factors = [warmup_cosine(step, 100, 10, floor=0.1) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert factors[10] == max(factors) == 1.0
    assert factors[55] == pytest.approx(0.55)
    assert factors[100] == warmup_cosine(500, 100, 10, floor=0.1) == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))


def test_the_average_follows_weights_and_buffers():
    layer = nn.BatchNorm1d(1)
    mean = average(layer, 0.9)
    for value in (1.0, 2.0):
        with torch.no_grad():
            layer.weight.fill_(value)
            layer.running_mean.fill_(value)
        mean.update_parameters(layer)
    assert mean.module.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 2)
    assert mean.module.running_mean.item() == pytest.approx(0.9 * 1 + 0.1 * 2)
