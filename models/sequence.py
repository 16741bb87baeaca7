"""What dynamics over sequences share: encoding, checks, rollouts beyond the horizon, model folders."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from wmkit import registry
from wmkit.contracts import (
    Context,
    ModelSpec,
    Observations,
    ObservationSpec,
    Rollout,
    SupportsDecode,
    SupportsInverse,
    WorldModel,
)
from wmkit.data.latents import SequenceBatch
from wmkit.diffusion.features import Features
from wmkit.errors import UserError
from wmkit.model_folder import kind_of, load_folder, resolve, save_folder

from .sequence_config import SequenceConfig

__all__ = ["SequenceConfig", "SequenceDynamics"]

_ENCODER = "encoder"
"""Folder of the encoder inside a model folder."""
_SHORT = 0.25
"""Share of the training batches whose history is shortened."""


class SequenceDynamics(nn.Module):
    """A dynamics that predicts the F model steps after a context; beyond F it goes on from its own predictions.

    Implements `wmkit.contracts.WorldModel`. Without an encoder the latent is the observed state, float32, and rollouts
    name it the quantity "state". With one, latents are the encoder's, and `inverse` and `decode` are too, where it has
    them. The encoder is no part of the module's parameters and is never trained.

    A family defines `kind`, `training_loss` and `_imagine`.

    Args:
        config: what to build.
        encoder: a model whose latents are predicted; None for states.

    Raises:
        ValueError: the encoder's latents or actions are not the configuration's.

    Attributes:
        kind: registered name of the family.
        config: what was built.
        features: statistics and scaling; `features.fit` before training.
        metadata: plain JSON values about training and data, kept in the model folder.
        shared_noise: whether all candidates of all rows of one `rollout` begin from the same random numbers, so that
            they are compared under the same luck, and with a deterministic sampler the same candidate comes out the
            same in any batch; else each has its own. Another call draws anew from its generator, and what a stochastic
            sampler ("ddpm", or "ddim" with eta) adds on the way is each candidate's own in either case.
        rollout_dtype: of the matrix products in rollouts of many candidates; None takes that of the weights.
            torch.bfloat16 is faster on hardware that has it, at about two digits.
        decode: `SupportsDecode.decode`; absent with an encoder that has none.
        inverse: `SupportsInverse.inverse`; absent without an encoder that has it.
    """

    kind: ClassVar[str]

    def __init__(self, config: SequenceConfig, encoder: WorldModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.metadata: dict[str, Any] = {}
        self.features = Features(config.features)
        self.shared_noise = True
        self.rollout_dtype: torch.dtype | None = None
        self._outside = () if encoder is None else (encoder,)
        self.decode: Callable[[Tensor, str], Tensor]
        self.inverse: Callable[[Tensor, Tensor, Tensor], Tensor]
        if encoder is None:
            self.decode = self._decode_state
            return
        _check_encoder(config, encoder.spec)
        if isinstance(encoder, SupportsDecode):
            self.decode = encoder.decode
        if isinstance(encoder, SupportsInverse):
            self.inverse = encoder.inverse

    @property
    def encoder(self) -> WorldModel | None:
        """The model whose latents are predicted; None for states."""
        return self._outside[0] if self._outside else None

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        config, size = self.config, self.config.features.latent_size
        state = {config.state_key: ObservationSpec((size,), "float64", -float("inf"), float("inf"))}
        return ModelSpec(
            observations=state if self.encoder is None else self.encoder.spec.observations,
            action_low=config.action_low,
            action_high=config.action_high,
            action_repeat=config.action_repeat,
            history=config.features.history,
            latent_size=size,
            seconds_per_step=config.seconds_per_step,
        )

    def parameter_count(self) -> int:
        """Return how many numbers are trained, the encoder's not counted."""
        return sum(parameter.numel() for parameter in self.parameters())

    def encode(self, observations: Observations) -> Tensor:
        """Encode observations into latents (B, T, D), without gradients.

        Args:
            observations: the encoder's; or states (B, T, D), any floating-point dtype, under the configured key.

        Raises:
            ValueError: the key is missing, or its shape or dtype is wrong.
        """
        if self.encoder is not None:
            return self.encoder.encode(observations)
        key, size = self.config.state_key, self.config.features.latent_size
        if key not in observations:
            raise ValueError(f"observations lack {key!r}; found {sorted(observations)}")
        value = observations[key]
        states = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        if states.dim() != 3 or states.shape[2] != size or not states.is_floating_point():
            found = f"{tuple(states.shape)} {str(states.dtype).removeprefix('torch.')}"
            raise ValueError(f"observation {key!r} is {found}; expected (B, T, {size}), floating point")
        return states.detach().to(self.features.input_mean)

    def rollout(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
        """Imagine what follows `context` under each candidate.

        Where a family can be differentiated, gradients reach `actions` that ask for them (`requires_grad`).

        Args:
            context: B contexts of at most `history` latents, with nothing pending.
            actions: (B, N, H, A), environment units; H may be shorter or longer than F.
            generator: source of all randomness; None takes torch's own.

        Raises:
            ValueError: shapes that do not fit, actions pending, or no statistics.
        """
        self._check_rollout(context, actions)
        like = self.features.input_mean
        with torch.set_grad_enabled(actions.requires_grad and torch.is_grad_enabled()), _evaluating(self):
            past = context.latents.to(like)[:, None], context.actions.to(like)[:, None]
            pieces = []
            for blocks in actions.to(like).split(self.config.features.horizon, dim=2):
                latents, uncertainty = self._imagine(*past, blocks, generator)
                pieces.append((latents, uncertainty))
                past = self._follow(*past, latents, blocks)
            latents = torch.cat([piece for piece, _ in pieces], dim=2).to(context.latents)
            doubts = [doubt for _, doubt in pieces if doubt is not None]
            uncertainty = torch.cat(doubts, dim=2).to(latents) if doubts else None
        return Rollout(latents, uncertainty, {"state": latents} if self.encoder is None else {})

    def training_loss(
        self, batch: SequenceBatch, generator: torch.Generator | None, fixed: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, a scalar with gradients, and detached scalars to log.

        Args:
            batch: M windows.
            generator: source of all randomness.
            fixed: whether noise and whatever else is drawn is the same for the same window at every call.
        """
        raise NotImplementedError

    def save_pretrained(self, folder: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Write a model folder, the encoder inside it under "encoder".

        Args:
            folder: where to.
            metadata: plain JSON values for the model card; None takes the model's `metadata`.

        Raises:
            UserError: see `wmkit.model_folder.save_folder`.
            ValueError: the encoder cannot be saved.
        """
        save = getattr(self.encoder, "save_pretrained", None)
        if self.encoder is not None and save is None:
            raise ValueError(f"{type(self.encoder).__name__} has no save_pretrained; give an encoder that has it")
        metadata = self.metadata if metadata is None else metadata
        config = self._saved_config().to_dict() | {_ENCODER: self.encoder is not None}
        save_folder(folder, self.kind, config, self.state_dict(), metadata)
        if save is not None:
            save(Path(folder) / _ENCODER)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load a model, in evaluation mode.

        Args:
            folder_or_hub_id: a folder, or a name that `wmkit.model_folder.resolve` knows.
            device: where to.

        Raises:
            UserError: there is no such model, or its files are damaged or do not fit each other.
        """
        config, state, metadata = load_folder(folder_or_hub_id, cls.kind)
        encoder = None
        if config.pop(_ENCODER, False):
            inside = resolve(folder_or_hub_id) / _ENCODER
            encoder = registry.load("models", kind_of(inside)).from_pretrained(inside, device)
        try:
            model = cls(SequenceConfig.from_dict(config), encoder)
            model.load_state_dict(state)
        except (RuntimeError, TypeError, ValueError, KeyError) as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"weights and configuration of {folder_or_hub_id} do not fit: {text}") from None
        model.metadata = metadata
        return model.to(device).eval()

    def _imagine(
        self, latents: Tensor, past: Tensor, actions: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """Predict at most F steps: latents (B, N, H, D) and their uncertainty (B, N, H), if any.

        Args:
            latents: (B, N or 1, T', D); with 1, all candidates share the history.
            past: (B, N or 1, T' - 1, A), environment units.
            actions: (B, N, H, A), environment units, H at most F.
            generator: source of all randomness.
        """
        raise NotImplementedError

    def _windows(
        self, batch: SequenceBatch, generator: torch.Generator | None, whole: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return history (M, T', D), the actions in it, future (M, F, D), and the actions that lead there, of a batch.

        Unless `whole`, some batches get a shorter history T', as there is after a reset.
        """
        t = self.config.features.history
        known = t
        if t > 1 and not whole:
            device = batch.latents.device if generator is None else generator.device
            short, share = torch.rand(2, generator=generator, device=device).tolist()
            known = 1 + int(share * t) if short < _SHORT else t
        latents, past = batch.latents[:, t - known : t], batch.actions[:, t - known : t - 1]
        return latents, past, batch.latents[:, t:], batch.actions[:, t - 1 :]

    def _noise(self, b: int, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw noise (B, N, F, D), or (1, 1, F, D) where all share it."""
        rows = (1, 1) if self.shared_noise else (b, n)
        return self._normal((*rows, self.config.features.horizon, self.config.features.latent_size), generator)

    def _normal(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Draw standard normal numbers on the generator's device and bring them to the module's."""
        like = self.features.input_mean
        device = like.device if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)

    def _contexts(self, latents: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Return contexts (B, N or 1, C) and anchors (B, N or 1, D) of histories as in `_imagine`."""
        flat = self.features.context(latents.flatten(0, 1), past.flatten(0, 1))
        return flat.unflatten(0, latents.shape[:2]), latents[:, :, -1]

    def _follow(self, latents: Tensor, past: Tensor, future: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the newest T latents and the actions between them after a piece of the future."""
        b, n = future.shape[:2]
        latents = torch.cat([latents.expand(b, n, -1, -1), future], dim=2)
        actions = torch.cat([past.expand(b, n, -1, -1), actions], dim=2)
        kept = min(self.config.features.history, latents.shape[2])
        return latents[:, :, -kept:], actions[:, :, actions.shape[2] - kept + 1 :]

    def _saved_config(self) -> SequenceConfig:
        """Return the configuration with what was set after training."""
        return self.config

    def _decode_state(self, latents: Tensor, name: str) -> Tensor:
        """Return the "state", which is the latent itself."""
        if name != "state":
            raise ValueError(f"unknown quantity {name!r}; known: state")
        return latents

    def _check_rollout(self, context: Context, actions: Tensor) -> None:
        """Raise ValueError for a context or actions that do not fit."""
        spec = self.spec
        known = context.latents.shape[1] if context.latents.dim() == 3 else 0
        if not 1 <= known <= spec.history or context.latents.shape[2] != spec.latent_size:
            expected = f"(B, 1 to {spec.history}, {spec.latent_size})"
            raise ValueError(f"context.latents are {tuple(context.latents.shape)}; expected {expected}")
        if context.actions.shape != (context.batch, known - 1, spec.block_size):
            expected = (context.batch, known - 1, spec.block_size)
            raise ValueError(f"context.actions are {tuple(context.actions.shape)}; expected {expected}")
        if actions.dim() != 4 or actions.shape[0] != context.batch or actions.shape[3] != spec.block_size:
            raise ValueError(f"actions are {tuple(actions.shape)}; expected ({context.batch}, N, H, {spec.block_size})")
        if context.pending is not None and context.pending.shape[1]:
            raise ValueError("context.pending is not empty: roll it out first, then plan from the predicted latents")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the encoder along, to a device or dtype."""
        if isinstance(self.encoder, nn.Module):
            self.encoder._apply(fn, recurse)
        return super()._apply(fn, recurse)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and afterwards the mode before."""
    training = module.training
    if training:
        module.eval()
    try:
        yield
    finally:
        if training:
            module.train()


def _check_encoder(config: SequenceConfig, spec: ModelSpec) -> None:
    """Raise ValueError where the encoder's latents or actions are not those of the configuration."""
    wanted = {
        "latent_size": config.features.latent_size,
        "action_low": config.action_low,
        "action_high": config.action_high,
        "action_repeat": config.action_repeat,
        "seconds_per_step": config.seconds_per_step,
    }
    for name, value in wanted.items():
        found = getattr(spec, name)
        if found != value:
            raise ValueError(f"the encoder's {name} is {found}, the configuration's {value}; they must be the same")
