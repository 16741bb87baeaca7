"""Contexts moved ahead."""

import torch

from wmkit.contracts import Context
from wmkit.control import advance, extend
from wmkit.linear_model import LinearModel

MODEL = LinearModel(torch.eye(1), torch.eye(1), history=3)


def context_of(latents, actions, pending=None):
    shaped = [None if x is None else torch.tensor(x).view(1, -1, 1) for x in (latents, actions, pending)]
    return Context(shaped[0], shaped[1], shaped[2], torch.ones(1, 1))


def test_extend_keeps_the_newest_latents_and_the_actions_between_them():
    context = context_of([0.0, 1.0], [1.0])
    longer = extend(context, torch.tensor([[[2.0], [3.0]]]), torch.tensor([[[3.0], [6.0]]]), history=3)
    assert longer.latents.flatten().tolist() == [1.0, 3.0, 6.0]
    assert longer.actions.flatten().tolist() == [2.0, 3.0]
    assert extend(context, torch.ones(1, 1, 1), torch.ones(1, 1, 1), history=1).actions.shape == (1, 0, 1)


def test_advance_imagines_the_pending_actions():
    ahead = advance(MODEL, context_of([0.5], [], [0.25, 0.125]))
    assert ahead.latents.flatten().tolist() == [0.5, 0.75, 0.875]
    assert ahead.actions.flatten().tolist() == [0.25, 0.125]
    assert ahead.pending is None
    assert ahead.goal is not None


def test_advance_without_pending_actions_changes_nothing():
    context = context_of([0.5], [])
    assert advance(MODEL, context) is context
    empty = advance(MODEL, context_of([0.5], [], []))
    assert empty.pending is None
    assert torch.equal(empty.latents, context.latents)
