"""Autoregressive dynamics: a causal transformer that predicts one model step after another from its own predictions."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from wmkit.contracts import WorldModel
from wmkit.data.latents import SequenceBatch
from wmkit.diffusion.features import Features
from wmkit.diffusion.network import Block, SequenceDenoiser

from .folded import FoldedBlock, KeyValues
from .sequence import SequenceConfig, SequenceDynamics

__all__ = ["AutoregressiveDynamics", "matched"]

_LOG_STD = (-5.0, 1.0)
"""Bounds of the predicted log standard deviation, of normalised changes."""
_FEW = 8
"""Candidates below which folding the weights costs more than it saves."""


class AutoregressiveDynamics(SequenceDynamics):
    """A model of the next latent, rolled out on its own predictions; the counterpart of `DiffusionDynamics`.

    One token is a model step: the latent as the network sees it, invariant columns as 0, and the action that follows.
    Each predicts its change as a Gaussian. Like the diffusion dynamics' tokens, all are modulated by the history.
    Deterministic unless `stochastic` is set.

    Args:
        config: what to build; `diffusion`, `sampling` and the network's `patch` are not used.
        encoder: a model whose latents are predicted; None for states.

    Attributes:
        network: the transformer.
        stochastic: whether rollouts sample each step rather than take its mean.
    """

    kind = "autoregressive"

    def __init__(self, config: SequenceConfig, encoder: WorldModel | None = None) -> None:
        super().__init__(config, encoder)
        self.network = _CausalNetwork(config, self.features.input_size, self.features.context_size)
        self.stochastic = False

    def training_loss(
        self, batch: SequenceBatch, generator: torch.Generator | None, fixed: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-likelihood of the F next changes, each given the true latents before it.

        Args:
            batch: M windows.
            generator: source of shorter histories.
            fixed: whether histories are whole, as nothing else is random.
        """
        latents, past, future, actions = self._windows(batch, generator, fixed)
        before = torch.cat([latents, future[:, :-1]], dim=1)
        tokens = self._tokens(before, torch.cat([past, actions], dim=1))
        first = self.config.features.history - latents.shape[1]
        known = latents.shape[1] - 1
        mean, log_std = (part[:, known:] for part in self.network(tokens, self.features.context(latents, past), first))
        error = self.features.scale_changes(future[:, :, None], before[:, known:])[:, :, 0] - mean
        loss = (0.5 * (error * torch.exp(-log_std)).square() + log_std).mean()
        return loss, {"loss": loss.detach(), "clean_error": error.detach().square().mean()}

    def _imagine(
        self, latents: Tensor, past: Tensor, actions: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        b, n, horizon = actions.shape[:3]
        context, anchor = self._contexts(latents, past)
        first = self.config.features.history - latents.shape[2]
        stepper = _Stepper(self.network, context, n, first, latents.shape[2] - 1 + horizon, self.rollout_dtype)
        history, blocks = latents.expand(b, n, -1, -1), past.expand(b, n, -1, -1)
        if history.shape[2] > 1:
            stepper(self._tokens(history[:, :, :-1], blocks))
        noise = self._noise(b, n, generator) if self.stochastic else None
        current, future = anchor.expand(b, n, -1), []
        for step in range(horizon):
            tokens = self._tokens(current[:, :, None], actions[:, :, step : step + 1])
            mean, log_std = stepper(tokens)
            change = mean if noise is None else mean + torch.exp(log_std) * noise[:, :, step : step + 1]
            current = self.features.unscale_changes(change, current)[:, :, 0]
            future.append(current)
        return torch.stack(future, dim=2), None

    def _tokens(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Return what the network sees (..., L, I + A) of latents (..., L, D) and actions (..., L, A) after them."""
        alone = latents.reshape(-1, 1, latents.shape[-1])
        seen = self.features.context(alone, alone.new_zeros(len(alone), 0, actions.shape[-1]))
        start = (self.config.features.history - 1) * (self.features.input_size + 1)
        seen = seen[:, start : start + self.features.input_size].view(*latents.shape[:-1], -1)
        return torch.cat([seen, self.features.scale_actions(actions)], dim=-1)


class _CausalNetwork(nn.Module):
    """A causal transformer over model steps; entry and exit have a hidden layer, as no patch widens them.

    Args:
        config: whose sizes are taken.
        input_size: I, numbers that one latent is seen as.
        context_size: C.
    """

    def __init__(self, config: SequenceConfig, input_size: int, context_size: int) -> None:
        super().__init__()
        options, sizes = config.network_options, config.features
        width = options["width"]
        if width % options["heads"]:
            raise ValueError(f"width {width} must be a multiple of heads {options['heads']}")
        self.entry = _hidden_layer(input_size + sizes.block_size, 2 * width, width)
        self.context_entry = _hidden_layer(context_size, width, width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.positions = nn.Parameter(0.02 * torch.randn(sizes.history - 1 + sizes.horizon, width))
        parts = width, options["heads"], options["mlp_size"], options["dropout"]
        self.blocks = nn.ModuleList(Block(*parts) for _ in range(options["depth"]))
        self.norm = nn.LayerNorm(width)
        self.exit = _hidden_layer(width, 2 * width, 2 * sizes.latent_size)
        for parameter in (*self.modulation[1].parameters(), *self.exit[2].parameters()):
            nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, context: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation (M, L, D) of the normalised change after each token (M, L, I + A).

        Args:
            tokens: each sees itself and earlier ones.
            context: (M, C).
            first: place of the first token; the newest of the history is at T - 1.
        """
        modulation = self.modulate(context)[:, None]
        hidden = self.entry(tokens) + self.positions[first : first + tokens.shape[1]]
        for block in self.blocks:
            hidden, _ = block(hidden, modulation, causal=True)
        return self.predict(hidden)

    def modulate(self, context: Tensor) -> Tensor:
        """Return the modulation (..., 6W) of contexts (..., C)."""
        return self.modulation(self.context_entry(context))

    def predict(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation (..., D) from the last block's tokens (..., W)."""
        mean, raw = self.exit(self.norm(hidden)).chunk(2, dim=-1)
        low, high = _LOG_STD
        return mean, low + (high - low) * torch.sigmoid(raw)


class _Stepper:
    """The network, token by token, for N candidates of each of B contexts; keys and values are kept.

    Args:
        network: what predicts.
        context: (B, N or 1, C).
        n: N.
        first: place of the first token.
        length: most tokens.
        dtype: of the blocks' matrix products; None takes that of the weights.
    """

    def __init__(
        self,
        network: _CausalNetwork,
        context: Tensor,
        n: int,
        first: int,
        length: int,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._network, self._next = network, first
        self._folded: list[tuple[FoldedBlock, KeyValues]] = []
        self._past: list[tuple[Tensor, Tensor] | None] = [None] * len(network.blocks)
        modulation = network.modulate(context)
        if context.shape[1] > 1 or n < _FEW or torch.is_grad_enabled():
            self._modulation = modulation.expand(-1, n, -1).flatten(0, 1)[:, None]
            return
        for block in cast("list[Block]", network.blocks):
            size = block.out.in_features // block.heads
            kept = KeyValues(len(context) * n, block.heads, length, size, modulation)
            self._folded.append((FoldedBlock(block, modulation[:, 0], dtype), kept))

    def __call__(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation (B, N, L, D) after tokens (B, N, L, I + A), L = 1 but at first."""
        b, n, length = tokens.shape[:3]
        hidden = self._network.entry(tokens) + self._network.positions[self._next : self._next + length]
        self._next += length
        hidden = hidden.flatten(1, 2) if self._folded else hidden.flatten(0, 1)
        for block, kept in self._folded:
            hidden = block(hidden, length, causal=True, past=kept)
        for i, block in enumerate(() if self._folded else self._network.blocks):
            hidden, self._past[i] = block(hidden, self._modulation, causal=True, past=self._past[i])
        return self._network.predict(hidden.reshape(b, n, length, -1))


def matched(config: SequenceConfig) -> SequenceConfig:
    """Return the configuration with the MLP size that gives as many parameters as a diffusion dynamics has with it."""
    sizes = config.features
    with torch.device("meta"):
        wanted = SequenceDenoiser(
            sizes.latent_size, Features(sizes).context_size, sizes.horizon, sizes.block_size, **config.network_options
        )
        network = AutoregressiveDynamics(config).network
    options = config.network_options
    missing = _count(wanted) - _count(network)
    more = round(missing / (options["depth"] * (2 * options["width"] + 1)))
    return replace(config, network=options | {"mlp_size": max(1, options["mlp_size"] + more)})


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _hidden_layer(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
