"""A toy with two ways to the same goal, above or below, and learned proposals for it."""

import torch

from wmkit.contracts import Context
from wmkit.data.latents import SequenceBatch
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.process import DiffusionConfig
from wmkit.linear_model import LinearModel
from wmkit.planners import DiffusionProposal, ProposalConfig, RegressionProposal

STEPS = 4
DETOUR = torch.tensor([0.5, 0.5, -0.5, -0.5])


def point(**options):
    """Return a point in the plane, moved by the action."""
    return LinearModel(torch.eye(2), torch.eye(2), **({"bound": 1.0} | options))


def fork_data(m=2048, seed=0):
    """Return windows (M, ...): straight to the goal in x, a detour of the same size up or down in y."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(m, 2, generator=generator)
    width = 0.4 + 2 * torch.rand(m, generator=generator)
    side = torch.randint(0, 2, (m, 1), generator=generator) * 2.0 - 1
    actions = torch.stack([(width / STEPS)[:, None].expand(m, STEPS), side * DETOUR], dim=-1)
    actions = actions + 0.03 * torch.randn(actions.shape, generator=generator)
    latents = torch.cat([start[:, None], start[:, None] + actions.cumsum(dim=1)], dim=1)
    return SequenceBatch(latents, actions, latents[:, -1], torch.full((m,), STEPS), torch.arange(m))


def config_of(network, diffusion=None, **options):
    """Return the configuration of a goal-conditioned proposal for the fork."""
    features = {"latent_size": 2, "block_size": 2, "horizon": STEPS, "goal": True, "reach": STEPS, "invariant": (0, 1)}
    chosen = FeatureConfig(**(features | options.pop("features", {})))
    return ProposalConfig(chosen, (-1.0, -1.0), (1.0, 1.0), 1, 0.1, network, diffusion, **options)


def diffusion_proposal(steps=0, joint=False, kind="ddpm", features=None):
    """Return a diffusion proposal after so many steps of training; with none its weights are random."""
    torch.manual_seed(0)
    config = config_of(
        {"width": 32, "depth": 2, "heads": 2, "mlp_size": 64, "patch": 2},
        DiffusionConfig(kind=kind, train_steps=100),
        joint=joint,
        features=features or {},
    )
    return trained(DiffusionProposal(config), steps)


def regression_proposal(steps=0):
    """Return a regression proposal after so many steps of training."""
    torch.manual_seed(0)
    return trained(RegressionProposal(config_of({"width": 64}), std=0.1), steps)


def trained(proposal, steps):
    """Return the proposal after fitting its statistics and so many steps of training."""
    data, generator = fork_data(), torch.Generator().manual_seed(1)
    if proposal.config.features.history == 1:
        proposal.features.fit(data.latents, data.actions)
    for parameter in proposal.network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    optimiser = torch.optim.Adam(proposal.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(0, len(data.rows), (128,), generator=generator)
        picked = (data.latents, data.actions, data.goal, data.steps, data.rows)
        loss, _ = proposal.training_loss(SequenceBatch(*(part[rows] for part in picked)), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return proposal.eval()


def towards(*widths):
    """Return the contexts of points at rest here and there, each with a goal so far to the right."""
    start = torch.tensor([[0.2 * i, -0.3 * i] for i in range(len(widths))])
    goal = start + torch.tensor([[width, 0.0] for width in widths])
    return Context(start[:, None], torch.zeros(len(widths), 0, 2), goal=goal)


def fresh(seed=3):
    """Return a generator."""
    return torch.Generator().manual_seed(seed)
