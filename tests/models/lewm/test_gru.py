"""The recurrent predictor: causal, its memory carried, its fast rollout equal to stepping through all latents."""

import copy

import pytest
import torch
from torch import nn

from wmkit.contracts import Context
from wmkit.models import LeWM, LeWMConfig
from wmkit.models.lewm.gru import FastGRU, GRUPredictor
from wmkit.models.lewm.losses import rollout_loss
from wmkit.models.lewm.training import _memory


def _predictor(seed=0, **change):
    """Return a predictor in evaluation mode, all weights of which matter."""
    torch.manual_seed(seed)
    predictor = GRUPredictor(**({"latent_size": 6, "block_size": 3, "width": 13, "depth": 2} | change)).eval()
    for parameter in predictor.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return predictor


def _stepped(predictor, projector, latents, past, actions):
    """Predict step by step, every candidate apart, from all latents so far."""
    count, known = actions.shape[1], latents.shape[1]
    window = latents.repeat_interleave(count, 0)
    blocks = torch.cat([past.repeat_interleave(count, 0), actions.flatten(0, 1)], 1)
    with torch.no_grad():
        for end in range(known, known + actions.shape[2]):
            window = torch.cat([window, projector(predictor.step(window, blocks[:, :end]))[:, None]], 1)
    return window[:, known:].unflatten(0, actions.shape[:2])


def test_untrained_it_says_that_nothing_moves():
    predictor = GRUPredictor(latent_size=6, block_size=3, history=2, width=8)
    latents = torch.randn(4, 5, 6)
    assert torch.equal(predictor(latents, torch.randn(4, 5, 3)), latents)


def test_forward_is_step_at_every_position():
    predictor = _predictor()
    latents, actions = torch.randn(4, 5, 6), torch.randn(4, 5, 3)
    found = predictor(latents, actions)
    for end in range(1, 6):
        torch.testing.assert_close(found[:, end - 1], predictor.step(latents[:, :end], actions[:, :end]))


def test_memory_reaches_back_to_the_first_latent():
    predictor = _predictor()
    latents, actions = torch.randn(1, 9, 6), torch.randn(1, 9, 3)
    changed = latents.clone()
    changed[:, 0] += 1
    assert not torch.allclose(predictor.step(latents, actions), predictor.step(changed, actions))
    assert predictor.carries


def test_a_cell_is_the_textbook_gru():
    predictor = _predictor(depth=1).double()
    latents, actions = torch.randn(1, 2, 6).double(), torch.randn(1, 2, 3).double()
    weights = dict(predictor.gru.named_parameters())
    state = torch.zeros(13).double()
    for latent, action in zip(latents[0], actions[0], strict=True):
        driven = weights["weight_ih_l0"] @ torch.cat([latent, action]) + weights["bias_ih_l0"]
        recalled = weights["weight_hh_l0"] @ state + weights["bias_hh_l0"]
        reset, update = torch.sigmoid(driven + recalled)[:13], torch.sigmoid(driven + recalled)[13:26]
        state = (1 - update) * torch.tanh(driven[26:] + reset * recalled[26:]) + update * state
    expected = latents[0, -1] + predictor.last.weight @ state + predictor.last.bias
    torch.testing.assert_close(predictor.step(latents, actions)[0], expected)


def test_dropout_acts_in_training_alone():
    predictor = _predictor(dropout=0.5)
    latents, actions = torch.randn(4, 5, 6), torch.randn(4, 5, 3)
    assert torch.equal(predictor(latents, actions), predictor(latents, actions))
    predictor.train()
    assert not torch.equal(predictor(latents, actions), predictor(latents, actions))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("known", [1, 2, 4])
@pytest.mark.parametrize("hidden", [0, 10])
def test_fast_rollout_equals_stepping(depth, known, hidden):
    predictor = _predictor(depth=depth)
    projector = nn.Identity()
    if hidden:
        projector = nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, 6)).eval()
        projector[1].running_mean.normal_()
        projector[1].running_var.uniform_(0.5, 2)
    case = torch.randn(3, known, 6), torch.randn(3, known - 1, 3), torch.randn(3, 5, 4, 3)
    found = FastGRU(predictor, projector, None)(*case)
    exact = _stepped(copy.deepcopy(predictor).double(), projector.double(), *(x.double() for x in case))
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


def test_fast_rollout_in_bfloat16_is_near():
    predictor = _predictor()
    case = torch.randn(2, 2, 6), torch.randn(2, 1, 3), torch.randn(2, 5, 4, 3)
    found, exact = FastGRU(predictor, nn.Identity(), torch.bfloat16)(*case), _stepped(predictor, nn.Identity(), *case)
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.05 * exact.abs().max()


def test_its_candidates_do_not_influence_each_other():
    predictor = _predictor()
    latents, past, actions = torch.randn(2, 2, 6), torch.randn(2, 1, 3), torch.randn(2, 5, 4, 3)
    fast = FastGRU(predictor, nn.Identity(), None)
    alone = fast(latents[1:], past[1:], actions[1:, 3:4])
    torch.testing.assert_close(fast(latents, past, actions)[1:, 3:4], alone)


@pytest.mark.parametrize("known", [1, 3])
def test_training_imagines_what_planning_does(known):
    torch.manual_seed(0)
    config = LeWMConfig(
        image_size=16, latent_size=6, action_repeat=1, action_low=(-1, -1), action_high=(1, 1), seconds_per_step=0.1,
        history=3, encoder="conv", predictor="gru", predictor_options={"width": 10},
    )  # fmt: skip
    model = LeWM(config).eval()
    nn.init.normal_(model.predictor.last.weight)
    model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
    latents, actions = torch.randn(2, known + 4, 6), torch.randn(2, known + 3, 2)
    _, rollout = rollout_loss(model.step, latents, actions, known, _memory(model))
    context = Context(latents[:, :known], actions[:, : known - 1])
    found = model.rollout(context, actions[:, None, known - 1 :]).latents[:, 0]
    torch.testing.assert_close(found, rollout.detach(), rtol=1e-4, atol=1e-5)
