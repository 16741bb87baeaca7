"""How models and proposals over sequences are trained: on windows of latents, with an average of the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Context, WorldModel
from ..data.latents import LatentWindows, SequenceBatch
from ..training.optim import Muon, split_parameters, warmup_cosine
from .ema import WeightAverage
from .features import Features

__all__ = ["SequenceSettings", "SequenceStage"]

_CHECKED_WINDOWS = 512
_AT_ONCE = 256
_REPORTED_STEPS = (1, 8, 32)


@dataclass(frozen=True)
class SequenceSettings:
    """How long and how fast.

    Attributes:
        steps: optimiser steps.
        batch: windows of a step.
        lr: learning rate.
        weight_decay: of the matrices.
        warmup: steps until the learning rate is reached; it then falls by a cosine.
        clip: largest norm of the gradient; None leaves it as it is.
        ema: decay of the average of the weights, in [0, 1); what is validated and saved is the average.
        muon: Muon for the matrices of the blocks, AdamW for all else.
        frozen_noise: each window keeps one draw of noise through all epochs, in place of a new one each time.
    """

    steps: int = 1500
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 1e-2
    warmup: int = 100
    clip: float | None = 1.0
    ema: float = 0.99
    muon: bool = False
    frozen_noise: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.warmup < 0 or self.lr <= 0 or not 0 <= self.ema < 1:
            raise ValueError("steps, batch and lr must be above 0, warmup 0 or more, and ema in [0, 1)")


class SequenceStage:
    """One stage of training: AdamW on a module's `training_loss`, and an average of its weights beside it.

    The training loop's `Recipe.model` is `averaged`, not the module that is given.

    Args:
        name: of the stage, e.g. "dynamics".
        module: has `features`, fitted, and `training_loss(batch, generator, fixed=False) -> (loss, terms)`.
        train: windows to train on.
        validation: windows of held-back episodes.
        settings: how long and how fast.

    Attributes:
        module: the weights that are optimised, under "own", and their average.
    """

    def __init__(
        self, name: str, module: nn.Module, train: LatentWindows, validation: LatentWindows, settings: SequenceSettings
    ) -> None:
        self.name, self.steps, self.clip = name, settings.steps, settings.clip
        self._settings, self._train = settings, train
        self._own: Any = module
        self._average = WeightAverage(module, settings.ema)
        self.module = nn.ModuleDict({"own": module, "average": self._average})
        self._checked = validation.all(most=_CHECKED_WINDOWS)

    @property
    def averaged(self) -> Any:
        """The module with averaged weights, which is validated and saved."""
        return self._average.module

    def begin(self) -> None:
        """Nothing to prepare: the windows are in memory."""

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Make AdamW of all weights that are not frozen, with weight decay on the matrices; or Muon for the blocks'."""
        settings = self._settings
        matrices, others = split_parameters(self._own)
        inner = {id(p) for name, p in self._own.named_parameters() if settings.muon and "blocks." in name}
        muon = [p for p in matrices if id(p) in inner]
        decayed = {"params": [p for p in matrices if id(p) not in inner], "weight_decay": settings.weight_decay}
        adamw = torch.optim.AdamW([decayed, {"params": others, "weight_decay": 0.0}], lr=settings.lr, fused=True)
        return [Muon(muon, lr=settings.lr, weight_decay=settings.weight_decay), adamw] if muon else [adamw]

    def schedule(self, step: int) -> float:
        """Return the factor of the learning rate: a warm-up, then a cosine."""
        return warmup_cosine(step, self.steps, warmup=min(self._settings.warmup, self.steps // 5), floor=0.01)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Draw windows and return their loss, and its terms."""
        batch = self._train.sample(self._settings.batch, generator)
        return self._own.training_loss(batch, generator, fixed=self._settings.frozen_noise)

    def after_step(self, step: int) -> None:
        """Move the average."""
        self._average.update(self._own)

    def validate(self, generator: torch.Generator) -> Mapping[str, float]:
        """Return the loss on held-back windows, and for dynamics the open-loop error; one of them is the score.

        Windows and noise are the same each time. "open_loop/<h>" is the mean squared error of the latent after h model
        steps in units of the variance of its change over so many, so that 1 is as bad as the mean; "open_loop" is
        the mean over the horizon. "copy_last/<h>" is the same for a latent that stays.
        """
        parts = self._checked.split(_AT_ONCE)
        losses = [float(self.averaged.training_loss(part, generator)[0]) * len(part.rows) for part in parts]
        numbers = {"loss": sum(losses) / len(self._checked.rows)}
        model = self.averaged
        if not isinstance(model, WorldModel):
            return numbers | {"score": numbers["loss"]}
        errors = [_open_loop(model, self.averaged.features, part, generator) for part in parts]
        error, still = (torch.cat(each).mean(0) for each in zip(*errors, strict=True))
        for h in (h for h in _REPORTED_STEPS if h <= len(error)):
            numbers |= {f"open_loop/{h}": float(error[h - 1]), f"copy_last/{h}": float(still[h - 1])}
        return numbers | {"open_loop": float(error.mean()), "score": float(error.mean())}


@torch.no_grad()
def _open_loop(
    model: WorldModel, features: Features, batch: SequenceBatch, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the errors (M, F) of a rollout and of the newest latent of the history."""
    past = features.config.history
    context = Context(batch.latents[:, :past], batch.actions[:, : past - 1], goal=batch.goal)
    imagined = model.rollout(context, batch.actions[:, None, past - 1 :], generator).latents[:, 0]
    future = batch.latents[:, past:]
    still = batch.latents[:, past - 1 : past].expand_as(future)
    return _scaled(imagined, future, features), _scaled(still, future, features)


def _scaled(guess: Tensor, truth: Tensor, features: Features) -> Tensor:
    """Return the mean squared error (M, F) of latents (M, F, D) in units of the variance of their change."""
    return ((guess - truth) / features.change_std).square().mean(-1)
