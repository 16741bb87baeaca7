"""The autoregressive dynamics."""

import pytest
import torch

from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig
from wmkit.models.autoregressive import AutoregressiveDynamics, matched
from wmkit.models.diffusion import DiffusionDynamics
from wmkit.models.sequence import SequenceConfig

_WALKER = {"width": 96, "depth": 3, "heads": 4, "mlp_size": 256, "patch": 8}


@pytest.fixture
def model(config, ready) -> AutoregressiveDynamics:
    """Return a small model."""
    return ready(AutoregressiveDynamics(config()))


def _uncached(model, context, actions):
    """Roll one candidate of each row out, the whole sequence anew at every step."""
    latents, blocks = context.latents, torch.cat([context.actions, actions], dim=1)
    vector = model.features.context(context.latents, context.actions)
    for step in range(latents.shape[1], latents.shape[1] + actions.shape[1]):
        tokens = model._tokens(latents, blocks[:, :step])
        mean, _ = model.network(tokens, vector, 2 - context.latents.shape[1])
        latents = torch.cat([latents, model.features.unscale_changes(mean[:, -1:], latents[:, -1])], dim=1)
    return latents[:, context.latents.shape[1] :]


@pytest.mark.parametrize("t", [1, 2])
@pytest.mark.parametrize("n", [2, 9])
def test_cached_equals_uncached(model, situation, n, t):
    context, actions = situation(3, n, 8, t)
    cached = model.rollout(context, actions).latents
    for i in range(n):
        torch.testing.assert_close(cached[:, i], _uncached(model, context, actions[:, i]), rtol=1e-4, atol=1e-5)


def test_deterministic_unless_stochastic(model, situation):
    context, actions = situation(2, 9, 8)
    means = [model.rollout(context, actions, torch.Generator().manual_seed(i)).latents for i in (0, 1)]
    assert torch.equal(*means)
    model.stochastic = True
    draws = [model.rollout(context, actions, torch.Generator().manual_seed(i)).latents for i in (0, 0, 1)]
    assert torch.equal(*draws[:2])
    assert not torch.allclose(draws[0], draws[2])


def test_gradients_reach_the_actions(model, situation):
    context, actions = situation(2, 9, 10)
    actions.requires_grad_(True)
    model.rollout(context, actions).latents[:, :, -1].sum().backward()
    assert (actions.grad[:, :, 0] != 0).any()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_loss_sees_no_later_latent(model, windows):
    batch = windows(4)
    batch.latents.requires_grad_(True)
    tokens = model._tokens(batch.latents[:, :-1], batch.actions)
    mean, _ = model.network(tokens, model.features.context(batch.latents[:, :2], batch.actions[:, :1]).detach())
    mean[:, 4].sum().backward()
    assert (batch.latents.grad[:, 5:] == 0).all()
    assert (batch.latents.grad[:, 4] != 0).any()


@pytest.mark.parametrize(
    ("features", "network"),
    [
        (FeatureConfig(18, 6, 1, 32, (1,), (2,)), _WALKER),
        (FeatureConfig(18, 6, 1, 32, (1,), (2,)), _WALKER | {"width": 256, "depth": 5, "mlp_size": 2048, "heads": 8}),
        (FeatureConfig(64, 10, 3, 5), _WALKER | {"patch": 1}),
    ],
)
def test_parameters_match_those_of_the_diffusion_dynamics(features, network):
    size = features.block_size
    config = SequenceConfig(features, (-1.0,) * size, (1.0,) * size, 1, 0.1, "state", network, DiffusionConfig())
    diffusion = DiffusionDynamics(config).parameter_count()
    assert AutoregressiveDynamics(matched(config)).parameter_count() == pytest.approx(diffusion, rel=0.01)


def test_the_walker_sizes_match_as_they_are():
    config = SequenceConfig(
        FeatureConfig(18, 6, 1, 32, (1,), (2,)), (-1.0,) * 6, (1.0,) * 6, 1, 0.1, "state", _WALKER, DiffusionConfig()
    )
    counts = [family(config).parameter_count() for family in (AutoregressiveDynamics, DiffusionDynamics)]
    assert counts[0] == pytest.approx(counts[1], rel=0.05)


def test_it_learns_a_linear_system(config, trained):
    assert trained(AutoregressiveDynamics(config(angles=())), 150) < 0.02
