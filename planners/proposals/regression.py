"""Candidates around what a regression to the data's actions would do: behaviour cloning."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from wmkit.data.latents import SequenceBatch

from ..noise import draw_normal
from .learned import LearnedProposal, ProposalConfig, View, weighted_mean

__all__ = ["RegressionProposal"]


class RegressionProposal(LearnedProposal):
    """An MLP from the context to all actions of the plan, trained by their squared error, and normal scatter around it.

    Without goals it is behaviour cloning; with goals an inverse dynamics of its own. The first candidate is the
    network's plan. Where the data do two things at the same place, it gives their mean; `DiffusionProposal` does not.

    `ProposalConfig.network` takes `width` (256), `depth` (2, hidden layers) and `dropout` (0).

    Attributes:
        std: standard deviation of the candidates after the first, as a fraction of half the action range.
    """

    kind: ClassVar[str] = "regression-proposal"

    def __init__(self, config: ProposalConfig, std: float = 0.2) -> None:
        """Create a proposal without statistics.

        Args:
            config: sizes and the network; `diffusion` must be None and `joint` False.
            std: standard deviation of the candidates after the first, as a fraction of half the action range.

        Raises:
            ValueError: numbers that do not fit each other.
        """
        super().__init__(config)
        if config.diffusion is not None or config.joint:
            raise ValueError("RegressionProposal: diffusion must be None and joint False; or take DiffusionProposal")
        features = config.features
        self.network = _mlp(self.features.context_size, features.horizon * features.block_size, **config.network)
        self.std = std

    def training_loss(
        self, batch: SequenceBatch, generator: torch.Generator, fixed: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error of the normalised actions; see `LearnedProposal.training_loss`."""
        vectors, actions, weights = self._inputs(batch, generator)
        loss = weighted_mean((self._plan(vectors) - actions).square(), weights)
        return loss, {"loss": loss.detach()}

    def _draw(self, view: View, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        mean = self.features.unscale_actions(self._plan(view.vectors)[:, :horizon]).clamp(self.low, self.high)
        noise = draw_normal((1, n - 1, *mean.shape[1:]), generator, mean)
        scatter = nn.functional.pad(self.std * (self.high - self.low) / 2 * noise, (0, 0, 0, 0, 1, 0))
        return (mean.unflatten(0, (-1, n)) + scatter).clamp(self.low, self.high).flatten(0, 1)

    def _plan(self, vectors: Tensor) -> Tensor:
        """Return the normalised actions (M, F, A) for contexts (M, C)."""
        return self.network(vectors).unflatten(-1, (-1, self.config.features.block_size))


def _mlp(inputs: int, outputs: int, width: int = 256, depth: int = 2, dropout: float = 0.0) -> nn.Sequential:
    """Return an MLP with `depth` hidden layers."""
    sizes = [inputs] + [width] * depth
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
