"""Diffusion dynamics: all F future latents are denoised together, given history and actions (arXiv 2410.05364)."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import linear, mse_loss

from wmkit.contracts import WorldModel
from wmkit.data.latents import SequenceBatch
from wmkit.diffusion.network import Block, SequenceDenoiser, level_embedding
from wmkit.diffusion.noise import fixed_draws
from wmkit.diffusion.process import Diffusion, Sampling

from ..folded import FoldedBlock
from ..sequence import SequenceConfig, SequenceDynamics

__all__ = ["DiffusionDynamics"]

_SHORT = 0.25
"""Share of the training batches that are cut to fewer steps than F, so that plans may be shorter."""
_FEW = 8
"""Candidates below which folding the weights costs more than it saves."""


class DiffusionDynamics(SequenceDynamics):
    """A model of all F next latents at once, with full attention over time: no error is fed back within F steps.

    It denoises the changes since the newest latent. Stochastic: one draw per candidate.

    Args:
        config: what to build; `diffusion` is needed.
        encoder: a model whose latents are predicted; None for states.

    Raises:
        ValueError: the configuration has no diffusion process, or its sampling does not fit it.

    Attributes:
        network: the denoiser.
        diffusion: the process.
        uncertainty_draws: above 1, `Rollout.uncertainty` is the spread of so many draws, in standard deviations of the
            change after so many steps, the mean over the latent; the rollout itself is the first draw.
    """

    kind = "diffusion"

    def __init__(self, config: SequenceConfig, encoder: WorldModel | None = None) -> None:
        super().__init__(config, encoder)
        if config.diffusion is None:
            raise ValueError("the configuration of a diffusion dynamics has no diffusion process; set `diffusion`")
        sizes = config.features.latent_size, self.features.context_size, config.features.horizon
        self.network = SequenceDenoiser(*sizes, config.features.block_size, **config.network_options)
        self.diffusion = Diffusion(config.diffusion)
        self.uncertainty_draws = 0
        usual = Sampling(sampler="flow-euler") if config.diffusion.kind == "flow" else Sampling()
        self.sampling = usual if config.sampling is None else config.sampling

    @property
    def sampling(self) -> Sampling:
        """How futures are sampled; may be set at any time. Raises ValueError for one that does not fit the process."""
        return self._sampling

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        sampling.check(self.diffusion.config)
        self._sampling = sampling

    def training_loss(
        self, batch: SequenceBatch, generator: torch.Generator | None, fixed: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error of the denoiser, and that of the clean changes it implies.

        Args:
            batch: M windows.
            generator: source of levels, noise, and of shorter horizons and histories.
            fixed: whether level and noise of a window are the same at every call; histories and horizons are then
                whole.
        """
        latents, past, future, actions = self._windows(batch, generator, fixed)
        length = self.config.features.horizon if fixed else self._length(generator, future.device)
        clean = self.features.scale_changes(future[:, :length], latents[:, -1])
        if fixed:
            levels, noise = fixed_draws(batch.rows, tuple(future.shape[1:]), 0)
            levels, noise = levels.to(clean), noise.to(clean)
        else:
            levels = self.diffusion.draw_levels(len(clean), generator, clean.device)
            noise = self._normal(clean.shape, generator)
        noisy = self.diffusion.corrupt(clean, noise, levels)
        condition = self.features.scale_actions(actions[:, :length])
        output = self.network(noisy, levels, self.features.context(latents, past), condition)
        loss = mse_loss(output, self.diffusion.target(clean, noise, levels))
        with torch.no_grad():
            error = mse_loss(self.diffusion.to_clean(output.detach(), noisy, levels), clean)
        return loss, {"loss": loss.detach(), "clean_error": error}

    def _length(self, generator: torch.Generator | None, device: torch.device) -> int:
        """Draw how many steps of a batch are used: mostly all, else any multiple of the patch."""
        device = device if generator is None else generator.device
        short, share = torch.rand(2, generator=generator, device=device).tolist()
        patches = self.config.features.horizon // self.network.patch
        return self.network.patch * (1 + int(share * patches) if short < _SHORT else patches)

    def _imagine(
        self, latents: Tensor, past: Tensor, actions: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        horizon = actions.shape[2]
        missing = -horizon % self.network.patch
        blocks = torch.cat([actions, actions[:, :, -1:].expand(-1, -1, missing, -1)], dim=2) if missing else actions
        context, anchor = self._contexts(latents, past)
        denoise = self._denoiser(context, self.features.scale_actions(blocks))
        b, n, padded = blocks.shape[:3]
        draws = []
        for _ in range(max(1, self.uncertainty_draws)):
            noise = self._noise(b, n, generator)[:, :, :padded].expand(b, n, -1, -1).flatten(0, 1)
            clean = self.diffusion.sample(denoise, noise, self.sampling, generator=generator)
            draws.append(clean.unflatten(0, (b, n))[:, :, :horizon])
        spread = torch.stack(draws).std(dim=0).mean(dim=-1) if len(draws) > 1 else None
        return self.features.unscale_changes(draws[0], anchor), spread

    def _denoiser(self, context: Tensor, condition: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the network with contexts (B, N or 1, C) and conditions (B, N, H, A) filled in."""
        b, n = condition.shape[:2]
        if context.shape[1] == 1 and n >= _FEW:
            return _SharedContext(self.network, context[:, 0], condition, self.rollout_dtype)
        contexts, conditions = context.expand(b, n, -1).flatten(0, 1), condition.flatten(0, 1)
        return lambda noisy, levels: self.network(noisy, levels, contexts, conditions)

    def _saved_config(self) -> SequenceConfig:
        return replace(self.config, sampling=self.sampling)


class _SharedContext:
    """A denoiser for N candidates of each of B contexts, all at the same level: the network's numbers with less work.

    Contexts and conditions pass their first layers once, before sampling; the modulation is folded into the weights.

    Args:
        network: in evaluation mode.
        context: (B, C).
        condition: (B, N, H, E).
        dtype: of the blocks' matrix products; None takes that of the weights.
    """

    def __init__(
        self, network: SequenceDenoiser, context: Tensor, condition: Tensor, dtype: torch.dtype | None
    ) -> None:
        b, n, h, e = condition.shape
        patch, size, width = network.patch, network.target_size, network.entry.out_features
        self._network, self._shape, self._dtype = network, (b, n, h // patch), dtype
        by_step = network.entry.weight.view(width, patch, size + e)
        self._entry = by_step[:, :, :size].reshape(width, -1)
        given = linear(condition.reshape(b, n, h // patch, -1), by_step[:, :, size:].reshape(width, -1))
        self._given = given + network.entry.bias + network.positions[1 : 1 + h // patch]
        self._seen = network.context_entry(context)
        self._first = (self._seen + network.positions[0])[:, None, None].expand(-1, n, -1, -1)

    def __call__(self, noisy: Tensor, levels: Tensor) -> Tensor:
        """Return the network's prediction (B * N, H, S) for `noisy` (B * N, H, S) at the level of the first row."""
        network, (b, n, patches) = self._network, self._shape
        level = network.level_entry(level_embedding(levels[:1]).to(noisy.dtype))
        modulation = network.modulation(level + self._seen)
        steps = self._given + linear(noisy.view(b, n, patches, -1), self._entry)
        tokens = torch.cat([self._first, steps], dim=2).flatten(1, 2)
        for block in network.blocks:
            tokens = FoldedBlock(cast("Block", block), modulation, self._dtype)(tokens, 1 + patches, network.causal)
        kept = tokens.view(b, n, 1 + patches, -1)[:, :, 1:]
        return network.exit(network.norm(kept)).reshape(noisy.shape)
