"""Draws that belong to a window: the same whenever and beside whatever it is asked for, and noise all the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.diffusion.noise import fixed_draws


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=6), st.integers(0, 2**31), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_draws_belong_to_the_row(rows, seed, index):
    i = index % len(rows)
    levels, noise = fixed_draws(torch.tensor(rows), (3, 2), seed)
    level, alone = fixed_draws(torch.tensor([rows[i]]), (3, 2), seed)
    assert torch.equal(levels[i : i + 1], level)
    assert torch.equal(noise[i : i + 1], alone)


def test_rows_and_seeds_differ():
    rows = torch.tensor([0, 1, 7])
    vectors = torch.cat([fixed_draws(rows, (4, 3), seed)[1] for seed in (0, 1)]).flatten(1)
    assert torch.cdist(vectors, vectors).fill_diagonal_(9).min() > 1


def test_draws_are_noise():
    levels, noise = fixed_draws(torch.arange(4000), (2, 3), 0)
    assert levels.dtype == noise.dtype == torch.float32
    assert noise.shape == (4000, 2, 3)
    assert noise.mean(0).abs().max() < 0.06
    assert (torch.cov(noise.flatten(1).T) - torch.eye(6)).abs().max() < 0.08
    assert torch.equal((levels * 1000).round() / 1000, levels)
    assert levels.min() == pytest.approx(0.001, abs=0.002)
    assert levels.max() == pytest.approx(1.0, abs=0.002)
    assert levels.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(torch.corrcoef(torch.stack([levels, noise[:, 0, 0]]))[0, 1]) < 0.05
