"""Shared pieces of the planners' tests."""

import pytest
import torch
from integrators import context_of, double_integrators

from wmkit import registry
from wmkit.contracts import Context
from wmkit.linear_model import LinearModel


@pytest.fixture
def model() -> LinearModel:
    """Two double integrators side by side: position and speed, pushed by accelerations in [-2, 2]."""
    return double_integrators()


@pytest.fixture
def context() -> Context:
    """Three rows at different states, without history."""
    return context_of(torch.tensor([[1.0, -0.5, 0.2, 0.1], [0.3, 0.8, -0.4, 0.0], [-0.6, -0.2, 0.0, 0.5]]))


@pytest.fixture(params=registry.names("planners"))
def planner_class(request):
    """Every registered planner."""
    return registry.load("planners", request.param)
