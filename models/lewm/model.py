"""LeWM: a world model that predicts its own latents (JEPA), kept from collapse by SIGReg."""

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from wmkit.contracts import Context, ModelSpec, Observations, Rollout
from wmkit.errors import UserError
from wmkit.model_folder import load_folder, save_folder

from .config import LeWMConfig
from .paths import Network, RolloutPath, RolloutPaths

__all__ = ["LeWM"]

_ENCODERS = {"vit": ".vit:VisionTransformer", "conv": ".conv:ConvEncoder", "glimpse": ".glimpse:GlimpseEncoder"}
_PREDICTORS = {
    "transformer": ".transformer:TransformerPredictor",
    "mlp": ".mlp:MLPPredictor",
    "gru": ".gru:GRUPredictor",
}
_INVERSE = {"inverse": ".inverse:InverseDynamics"}
_FRAMES_AT_ONCE = 256
_STEADY = 1e-3
"""An action number whose standard deviation is below this share of half its range counts as constant."""


class LeWM(nn.Module):
    """A joint-embedding world model (LeWM, 2026): encoder, action-conditioned predictor, optional inverse dynamics.

    Implements `wmkit.contracts.WorldModel`, and `SupportsInverse` where the configuration has an inverse head. Actions
    come and go in environment units; the model normalises them with the training data's statistics, which it carries.

    `encode`, `rollout` and `inverse` are for use: evaluation mode whatever the module's mode, no gradients for the
    weights. `embed`, `predict` and `inverse_head` are for training.

    Args:
        config: what to build.

    Raises:
        UserError: a name or an option of the configuration is unknown.

    Attributes:
        config: what was built.
        inverse: `SupportsInverse.inverse`, its actions within the bounds; absent without an inverse head, so that
            `isinstance(model, SupportsInverse)` tells.
        inverse_head: maps latents, goals and steps to normalised actions; None without one.
        metadata: plain JSON values about training and data, kept in the model folder.
        rollout_path: "reference" rolls out step by step, "fast" reuses what candidates share, "fused" runs Triton
            kernels; ValueError where they cannot. "auto" is fused on CUDA once a self-check has passed, else fast.
        rollout_dtype: of the matrix products in `rollout`; None takes that of the weights. torch.bfloat16 is faster on
            hardware that has it, at about three digits.
    """

    def __init__(self, config: LeWMConfig) -> None:
        super().__init__()
        self.config = config
        self.metadata: dict[str, Any] = {}
        self.rollout_dtype: torch.dtype | None = None
        self.rollout_path: RolloutPath = "auto"
        self.rollout_paths = RolloutPaths()
        self.encoder = self._build(_ENCODERS, "encoder", config.encoder, config.encoder_options)
        self.predictor = self._build(_PREDICTORS, "predictor", config.predictor, config.predictor_options)
        size = getattr(self.encoder, "output_size", config.latent_size)
        if config.projector is None and size != config.latent_size:
            raise UserError(f"the encoder gives {size} numbers, latent_size is {config.latent_size}: add a projector")
        self.projector = self._projector(size)
        self.prediction_projector = self._projector(config.latent_size)
        inverse = config.inverse
        self.inverse_head = None if inverse is None else self._build(_INVERSE, "inverse", "inverse", inverse)
        if self.inverse_head is not None:
            self.inverse = self._inverse
        self.action_mean: Tensor
        self.action_std: Tensor
        self.register_buffer("action_mean", torch.full((len(config.action_low),), torch.nan))
        self.register_buffer("action_std", torch.full((len(config.action_low),), torch.nan))
        self._colors: Tensor
        self.register_buffer("_colors", torch.tensor([config.background, config.pixel_scale]), persistent=False)
        self._has_statistics = False
        self.register_load_state_dict_post_hook(_note_statistics)

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        return self.config.spec

    def set_action_statistics(self, mean: Any, std: Any) -> None:
        """Take over the training data's statistics of one environment action.

        A number that hardly varies is divided by half its range instead of its standard deviation.

        Args:
            mean: (action_size,), environment units.
            std: (action_size,), environment units, zero or more.

        Raises:
            ValueError: wrong shape, not finite, or a negative `std`.
        """
        half = (torch.tensor(self.config.action_high) - torch.tensor(self.config.action_low)) / 2
        for name, value in (("mean", mean), ("std", std)):
            numbers = torch.as_tensor(value, dtype=torch.float64, device="cpu")
            if numbers.shape != half.shape or not numbers.isfinite().all() or (name == "std" and (numbers < 0).any()):
                expected = f"{len(half)} finite numbers, no negative std"
                raise ValueError(f"action {name} is {numbers.tolist()}; expected {expected}")
            if name == "std":
                numbers = torch.where(numbers > _STEADY * half, numbers, half.double())
            getattr(self, f"action_{name}").copy_(numbers)
        self._has_statistics = True

    def normalize_actions(self, actions: Tensor) -> Tensor:
        """Map actions (..., A) from environment units to zero mean and unit variance.

        Raises:
            ValueError: the model has no action statistics.
        """
        mean, std = self._statistics()
        return (actions.to(mean) - mean) / std

    def denormalize_actions(self, actions: Tensor) -> Tensor:
        """Undo `normalize_actions`."""
        mean, std = self._statistics()
        return actions * std + mean

    def preprocess(self, pixels: Tensor) -> Tensor:
        """Map uint8 images (M, S, S, 3) to floating point (M, 3, S, S): (RGB - background) / pixel_scale."""
        dtype = self.action_mean.dtype
        background, scale = self._colors
        if dtype != torch.float32:
            values = self.config.background, self.config.pixel_scale
            background, scale = torch.tensor(values, dtype=dtype, device=pixels.device)
        return pixels.to(dtype).sub_(background).div_(scale).permute(0, 3, 1, 2)

    def embed(self, pixels: Tensor) -> Tensor:
        """Encode uint8 images (M, S, S, 3) to latents (M, D), with gradients."""
        return self.projector(self.encoder(self.preprocess(pixels)))

    def clean(self, pixels: Tensor) -> Tensor:
        """Return uint8 images (..., S, S, 3) with the static scene replaced by the background colour.

        An encoder that masks the scene sees no difference; symmetries of the task then hold for the images too.
        """
        mask = getattr(self.encoder, "mask", None)
        if mask is None:
            return pixels
        flat, background = pixels.flatten(0, -4), self._colors[0].to(torch.uint8)
        empty = [(mask(self.preprocess(piece)) == 0).all(dim=1) for piece in flat.split(_FRAMES_AT_ONCE)]
        return torch.where(torch.cat(empty).unsqueeze(-1), background, flat).view(pixels.shape)

    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the latent (n, D) after latents (n, T, D) and normalised actions (n, T, A), with gradients."""
        predictor: Any = self.predictor
        return self.project(predictor.step(latents, actions))

    def encode(self, observations: Observations) -> Tensor:
        """Encode observations into latents (B, T, D), without gradients.

        Args:
            observations: array or tensor (B, T, S, S, 3), uint8, under the configuration's `pixel_key`.

        Raises:
            ValueError: the key is missing, or its shape or dtype is wrong.
        """
        pixels = self._pixels(observations)
        with torch.no_grad(), _evaluating(self):
            pieces = pixels.flatten(0, 1).split(_FRAMES_AT_ONCE)
            latents = torch.cat([self.embed(piece.to(self.action_mean.device)) for piece in pieces])
        return latents.unflatten(0, pixels.shape[:2])

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the latent after each position, with gradients.

        Args:
            latents: (M, T, D).
            actions: (M, T, A), environment units; actions[:, t] follows latents[:, t].

        Returns:
            (M, T, D); position t sees positions up to t alone.
        """
        return self.project(self.predictor(latents, self.normalize_actions(actions)))

    def rollout(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
        """Imagine what follows `context` under each candidate, deterministically.

        Gradients reach `actions` where they ask for them (`requires_grad`).

        Args:
            context: B contexts of at most `history` latents, with nothing pending.
            actions: (B, N, H, A), environment units.
            generator: not used.

        Raises:
            ValueError: shapes that do not fit, actions pending, context not finite, or no action statistics.
        """
        self._check_rollout(context, actions)
        with torch.set_grad_enabled(actions.requires_grad and torch.is_grad_enabled()), _evaluating(self):
            past, future = self.normalize_actions(context.actions), self.normalize_actions(actions)
            inputs = context.latents, past, future
            if actions.requires_grad:
                return Rollout(self._imagine(*inputs))
            network = Network(self.config.predictor, self.predictor, self.prediction_projector, self._imagine)
            return Rollout(self.rollout_paths.roll(self.rollout_path, network, self.rollout_dtype, inputs))

    @property
    def rollout_kind(self) -> str | None:
        """How the last rollout was computed, "reference", "fast" or "fused"; None before the first."""
        return self.rollout_paths.last

    def reference_rollout(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
        """Imagine as `rollout` does, step by step and in the precision of the weights; arguments as there."""
        self._check_rollout(context, actions)
        with torch.no_grad(), _evaluating(self):
            past, future = self.normalize_actions(context.actions), self.normalize_actions(actions)
            return Rollout(self._imagine(context.latents, past, future))

    def _inverse(self, latents: Tensor, goals: Tensor, steps: Tensor) -> Tensor:
        """Return the actions (..., A) of the next model step that lead from latents to goals, within the bounds."""
        head: Any = self.inverse_head
        low, high = self.spec.bounds(latents.device, latents.dtype)
        with torch.no_grad(), _evaluating(self):
            return self.denormalize_actions(head(latents, goals, steps)).clamp(low, high)

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Write `config.json`, `model.safetensors` and `README.md`.

        Args:
            folder: where to.
            metadata: plain JSON values for the model card; None takes the model's `metadata`.
            dtype: of the matrices on disk: float32, bfloat16 or float16.

        Raises:
            UserError: see `wmkit.model_folder.save_folder`.
        """
        metadata = self.metadata if metadata is None else metadata
        save_folder(folder, "lewm", self.config.to_dict(), self.state_dict(), metadata, dtype)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load a model, in evaluation mode.

        Args:
            folder_or_hub_id: a folder, "pretrained:NAME" for one that ships with wmkit, or "owner/name" on the Hugging
                Face hub.
            device: where to.

        Raises:
            UserError: there is no such model, or its files are damaged or do not fit each other.
        """
        config, state, metadata = load_folder(folder_or_hub_id, "lewm")
        try:
            model = cls(LeWMConfig.from_dict(config))
            model.load_state_dict(state)
        except UserError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"weights and configuration of {folder_or_hub_id} do not fit: {text}") from None
        model.metadata = metadata
        return model.to(device).eval()

    @classmethod
    def from_lewm(cls, name: str | os.PathLike[str], device: torch.device | str = "cpu", **use: Any) -> Self:
        """Load a checkpoint of the published LeWM or of stable-worldmodel, in evaluation mode.

        Args:
            name: a folder with `config.json` and one file of weights (.pt or safetensors); that file; or "owner/name"
                on the Hugging Face hub.
            device: where to.
            **use: what the checkpoint does not say, see `official.Use`: `action_repeat`, `action_low`, `action_high`,
                `seconds_per_step`, `action_mean` and `action_std` or `statistics_from`, `image_size`. Without
                statistics `rollout` raises.

        Raises:
            UserError: see `official.read`.
            ValueError: bounds, seconds or statistics are out of range.
        """
        from .official import Use, build

        return build(cls, name, Use(**use)).to(device).eval()

    def _build(self, known: Mapping[str, str], part: str, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Build the encoder, the predictor or the inverse head from its name and options."""
        if name not in known:
            raise UserError(f"unknown {part} {name!r}; known: {', '.join(known)}")
        module, _, attribute = known[name].partition(":")
        sizes = {
            "latent_size": self.config.latent_size,
            "block_size": self.config.block_size,
            "history": self.config.history,
            "image_size": self.config.image_size,
        }
        try:
            return getattr(importlib.import_module(module, __package__), attribute)(**sizes, **options)
        except TypeError as error:
            raise UserError(f"options {dict(options)} do not fit {part} {name!r}: {error}") from None

    def _projector(self, size: int) -> nn.Module:
        """Build a BatchNorm MLP from `size` to D, or nothing."""
        if self.config.projector is None:
            return nn.Identity()
        hidden = self.config.projector.get("hidden_size", 2048)
        layers = nn.Linear(size, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, self.config.latent_size)
        return nn.Sequential(*layers)

    def project(self, predictions: Tensor) -> Tensor:
        """Apply the projector of the predictions to (..., D)."""
        return self.prediction_projector(predictions.flatten(0, -2)).unflatten(0, predictions.shape[:-1])

    def _imagine(self, latents: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Roll out step by step: latents (B, T, D), past (B, T-1, A) and actions (B, N, H, A), normalised."""
        predictor: Any = self.predictor
        count, horizon = actions.shape[1:3]
        window = latents.repeat_interleave(count, 0)
        blocks = torch.cat([past.repeat_interleave(count, 0), actions.flatten(0, 1)], dim=1)
        known, carries = latents.shape[1], getattr(predictor, "carries", False)
        for step in range(horizon):
            end = known + step
            start = 0 if carries else max(0, end - self.config.history)
            following = self.project(predictor.step(window[:, start:end], blocks[:, start:end]))
            window = torch.cat([window, following.unsqueeze(1)], dim=1)
        return window[:, known:].unflatten(0, actions.shape[:2])

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of one model step's actions, each (A,)."""
        if not self._has_statistics:
            raise ValueError("the model has no action statistics; call set_action_statistics with the training data's")
        repeat = self.config.action_repeat
        return self.action_mean.repeat(repeat), self.action_std.repeat(repeat)

    def _pixels(self, observations: Observations) -> Tensor:
        """Return the checked images (B, T, S, S, 3)."""
        key, size = self.config.pixel_key, self.config.image_size
        if key not in observations:
            raise ValueError(f"observations lack {key!r}; found {sorted(observations)}")
        value = observations[key]
        pixels = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        if pixels.dtype != torch.uint8 or pixels.dim() != 5 or pixels.shape[2:] != (size, size, 3) or 0 in pixels.shape:
            raise ValueError(
                f"observation {key!r} is {tuple(pixels.shape)} {str(pixels.dtype).removeprefix('torch.')}; "
                f"expected (B, T, {size}, {size}, 3) uint8"
            )
        return pixels

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
            expected = f"({context.batch}, N, H, {spec.block_size})"
            raise ValueError(f"actions are {tuple(actions.shape)}; expected {expected}")
        if context.pending is not None and context.pending.shape[1]:
            raise ValueError("context.pending is not empty: roll it out first, then plan from the predicted latents")
        if context.latents.device.type == "cpu":
            for name in ("latents", "actions"):
                if not getattr(context, name).isfinite().all():
                    raise ValueError(f"context.{name} hold NaN or infinity; expected finite numbers")


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and afterwards each part's own mode again.

    `module.modules()` takes as long as a small encoder, so the parts are walked through here.
    """
    parts = [module]
    for part in parts:
        parts.extend(child for child in part._modules.values() if child is not None)
    training = [part for part in parts if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _note_statistics(module: nn.Module, _: Any) -> None:
    """Remember, after loading a state, whether it held action statistics."""
    if isinstance(module, LeWM):
        numbers = torch.stack([module.action_mean, module.action_std])
        module._has_statistics = bool(numbers.isfinite().all())
