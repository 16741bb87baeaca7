"""What is said of a fast rollout is what it differs by."""

import math

import pytest
import torch

from wmkit.models.parity import elite_agreement, parity


def _exact(latents, past, actions):
    return latents[:, -1:, None] + actions.cumsum(2)


def _case():
    torch.manual_seed(0)
    return torch.randn(2, 1, 3), torch.zeros(2, 0, 3), torch.randn(2, 40, 4, 3)


def test_equal_rollouts():
    found = parity(_exact, _exact, *_case())
    assert (found.step_error, found.horizon_error, found.agreement) == (0.0, 0.0, 1.0)


def test_errors_are_relative_and_grow():
    found = parity(lambda *inputs: 1.01 * _exact(*inputs), _exact, *_case())
    assert found.step_error == pytest.approx(0.01)
    drifting = parity(lambda z, p, a: _exact(z, p, a * 1.1), _exact, *_case())
    assert drifting.horizon_error > drifting.step_error > 0


def test_not_finite_is_infinitely_far():
    def broken(latents, past, actions):
        return _exact(latents, past, actions).log()

    found = parity(broken, _exact, *_case())
    assert math.isinf(found.horizon_error)
    assert found.agreement < 1


def test_agreement_counts_shared_elites():
    exact = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert elite_agreement(exact, exact, 2) == 1
    assert elite_agreement(torch.tensor([[0.0, 9.0, 1.0, 3.0]]), exact, 2) == 0.5
    assert elite_agreement(-exact, exact, 2) == 0
    assert elite_agreement(torch.tensor([[torch.nan, 1.0, 0.0, 3.0]]), exact, 2) == 0.5


def test_equal_costs_may_change_places():
    exact = torch.tensor([[0.0, 1.0, 1.0, 3.0]])
    assert elite_agreement(torch.tensor([[0.0, 1.1, 1.0, 3.0]]), exact, 2) == 1
