"""Small dynamics over sequences, and windows of a linear system to train them on."""

from dataclasses import replace

import pytest
import torch

from wmkit.contracts import Context
from wmkit.data.latents import SequenceBatch
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig, Sampling
from wmkit.linear_model import LinearModel
from wmkit.models.sequence import SequenceConfig

_NETWORK = {"width": 32, "depth": 2, "heads": 2, "mlp_size": 64, "patch": 4}


@pytest.fixture
def config():
    """Return a function that makes a configuration: D = 3, A = 4, T = 2, F = 8; column 0 is a position."""

    def function(network: dict | None = None, sampling: Sampling | None = None, **changes) -> SequenceConfig:
        features = FeatureConfig(latent_size=3, block_size=4, history=2, horizon=8, invariant=(0,), angles=(2,))
        return SequenceConfig(
            features=replace(features, **changes),
            action_low=(-1.0, -1.0),
            action_high=(1.0, 1.0),
            action_repeat=2,
            seconds_per_step=0.2,
            network=_NETWORK | (network or {}),
            diffusion=DiffusionConfig(),
            sampling=Sampling(steps=3) if sampling is None else sampling,
        )

    return function


@pytest.fixture
def system() -> LinearModel:
    """Return the true dynamics: position, velocity and an angle that turns back."""
    transition = torch.tensor([[1.0, 0.0, 0.0], [0.1, 0.9, 0.1], [0.0, -0.1, 0.95]])
    control = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 0.1]])
    return LinearModel(transition, control, action_repeat=2)


@pytest.fixture
def windows(system):
    """Return a function that draws windows of T + F latents of the true dynamics under random actions."""

    def function(count: int, length: int = 10, seed: int = 0) -> SequenceBatch:
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(count, 1, 3, generator=generator)
        actions = 2 * torch.rand(count, 1, length - 1, 4, generator=generator) - 1
        future = system.rollout(Context(start, torch.zeros(count, 0, 4)), actions).latents[:, 0]
        return SequenceBatch(torch.cat([start, future], 1), actions[:, 0], None, None, torch.arange(count))

    return function


@pytest.fixture
def ready(windows):
    """Return a function that gives a model statistics, and weights of which none is left at 0, in evaluation mode."""

    def function(model):
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        sizes = model.config.features
        batch = windows(64, sizes.history + sizes.horizon)
        model.features.fit(batch.latents, batch.actions)
        return model.eval()

    return function


@pytest.fixture
def situation():
    """Return a function that draws a context (B, T, 3) and candidates (B, N, H, 4)."""

    def function(b: int, n: int, h: int, t: int = 2) -> tuple[Context, torch.Tensor]:
        generator = torch.Generator().manual_seed(b + n + h)
        latents = torch.randn(b, t, 3, generator=generator)
        actions = 2 * torch.rand(b, t - 1 + n * h, 4, generator=generator) - 1
        return Context(latents, actions[:, : t - 1]), actions[:, t - 1 :].reshape(b, n, h, 4)

    return function


@pytest.fixture
def trained(windows):
    """Return a function that trains a model on windows and returns its error relative to that of standing still."""

    def function(model, steps: int) -> float:
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        data, sizes = windows(2048), model.config.features
        model.features.fit(data.latents, data.actions)
        optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(0, 2048, (128,), generator=generator)
            batch = SequenceBatch(data.latents[rows], data.actions[rows], None, None, rows)
            loss, _ = model.training_loss(batch, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        fresh, t = windows(64, seed=1), sizes.history
        context = Context(fresh.latents[:, :t], fresh.actions[:, : t - 1])
        rolled = model.eval().rollout(context, fresh.actions[:, None, t - 1 :], generator).latents[:, 0]
        true, anchor = fresh.latents[:, t:], fresh.latents[:, t - 1 : t]
        scale = model.features.change_std
        return float(((rolled - true) / scale).square().mean() / ((anchor - true) / scale).square().mean())

    return function
