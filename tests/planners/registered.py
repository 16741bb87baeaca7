"""How the tests run every registered planner: settings by name, and the smallest model to count rollouts with."""

import torch
from integrators import context_of, double_integrators

from wmkit import registry
from wmkit.contracts import Context
from wmkit.linear_model import LinearModel
from wmkit.planners import Problem

NAMES = registry.names("planners")

SETTINGS = {
    "cem": {"horizon": 8},
    "gradient": {"horizon": 8},
    "icem": {"horizon": 8, "noise_exponent": 1.0, "iterations": 20},
    "mppi": {"horizon": 8, "iterations": 30, "std": 0.2},
    "predictive-sampling": {"horizon": 8, "iterations": 30, "std": (0.02, 0.5)},
    "random-shooting": {"horizon": 2, "samples": 20000},
    "sample-score-rank": {"horizon": 2, "samples": 20000},
}
"""Enough search to find the optimum of a small linear-quadratic problem; a new planner needs its line here."""

SMALL = {"horizon": 3, "samples": 12, "iterations": 3}
"""Little search, for what must hold whatever the plan is worth."""


def make(name, model, **options):
    """Return the registered planner; elites follow the samples."""
    if name in ("cem", "icem") and "samples" in options:
        options.setdefault("elites", max(1, options["samples"] // 4))
    return registry.load("planners", name)(model, **options)


def settings_of(name):
    """Return a planner's settings from the table."""
    if name not in SETTINGS:
        raise KeyError(f"planner {name!r} is registered, but has no line in SETTINGS of {__file__}; add one")
    return SETTINGS[name]


class Walk(LinearModel):
    """One number, moved by the action, in steps of 0.1 seconds; remembers how many candidates it rolled out."""

    def __init__(self, **options):
        super().__init__(torch.eye(1), torch.eye(1), **options)
        self.sizes = []

    def rollout(self, context, actions, generator=None):
        self.sizes.append(actions.shape[1])
        return super().rollout(context, actions, generator)


def at(*states):
    """Return the context of a `Walk` at these positions."""
    return Context(torch.tensor(states).view(-1, 1, 1), torch.zeros(len(states), 0, 1))


def fresh(seed=7):
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def problem_of(samples=4, knots=1, *, initial=0.0, low=-2.0, high=2.0, progress=0.5, iterations=10, exponent=0.0):
    """Return a problem of one row and of actions of one number, that starts from `initial` at every knot."""
    start = torch.full((1, knots, 1), initial)
    return Problem(
        context=context_of(torch.zeros(1, 4)),
        spec=double_integrators().spec,
        horizon=knots,
        samples=samples,
        iterations=iterations,
        progress=progress,
        low=torch.tensor([low]),
        high=torch.tensor([high]),
        initial=start,
        extra=start[:, :0].unsqueeze(1),
        noise_knots=None,
        noise_exponent=exponent,
        generator=fresh(),
    )
