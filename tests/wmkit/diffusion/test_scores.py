"""The energy score: its definition, and that it is lowest for the true distribution."""

import pytest
import torch

from wmkit.diffusion.scores import energy_score, root_mean_square


def test_definition():
    draws = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    truth = torch.tensor([[0.0, 2.0]])
    far = ((4 / 2) ** 0.5 + (13 / 2) ** 0.5) / 2
    apart = (25 / 2) ** 0.5
    torch.testing.assert_close(energy_score(draws, truth), torch.tensor([far - apart / 2]))


@pytest.mark.parametrize("wrong", [lambda x: x + 0.5, lambda x: 0.3 * x, lambda x: 2.5 * x])
def test_the_true_distribution_scores_best(wrong):
    generator = torch.Generator().manual_seed(0)
    truth, draws = torch.randn(2000, 3, generator=generator), torch.randn(2000, 6, 3, generator=generator)
    assert energy_score(draws, truth).mean() < energy_score(wrong(draws), truth).mean() - 0.005


def test_steps_without_weight_do_not_count():
    generator = torch.Generator().manual_seed(1)
    draws, truth = torch.randn(5, 4, 6, 2, generator=generator), torch.randn(5, 6, 2, generator=generator)
    weights = (torch.arange(6) < 3).float()[None, :, None].expand(5, -1, -1)
    expected = energy_score(draws[:, :, :3], truth[:, :3])
    torch.testing.assert_close(energy_score(draws, truth, weights), expected)
    torch.testing.assert_close(root_mean_square(truth, weights), root_mean_square(truth[:, :3]))


def test_one_draw_is_refused():
    with pytest.raises(ValueError, match="2 or more draws"):
        energy_score(torch.zeros(3, 1, 2), torch.zeros(3, 2))
