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


def test_rows_seeds_and_draws_differ():
    rows = torch.tensor([0, 1, 7])
    found = [
        fixed_draws(rows, (4, 3), 0)[1],
        fixed_draws(rows, (4, 3), 1)[1],
        fixed_draws(rows, (4, 3), 0, 2, torch.ones(3).long())[1],
    ]
    vectors = torch.cat(found).flatten(1)
    assert torch.cdist(vectors, vectors).fill_diagonal_(9).min() > 1


def test_draws_repeat_beyond_their_number():
    rows, which = torch.zeros(5).long(), torch.arange(5)
    levels, noise = fixed_draws(rows, (2,), 3, per_row=2, which=which)
    assert torch.equal(noise[::2], noise[:1].expand(3, 2))
    assert torch.equal(levels[1::2], levels[1:2].expand(2))
    assert not torch.equal(noise[0], noise[1])


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
