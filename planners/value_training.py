"""How a terminal value is trained: on what followed each latent in the data, and an average of itself after that.

TD(lambda) with the number of steps drawn anew for each sample: a geometric number of steps' rewards, then the value of
the average, is lambda's mixture in the mean. An episode's end is the end of a recording, not of the world, and so the
value of the average follows there too.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wmkit import registry
from wmkit.contracts import WorldModel
from wmkit.data.episodes import EpisodeStore
from wmkit.data.latents import LatentCache, check_actions, chosen_episodes
from wmkit.data.splits import load_splits
from wmkit.diffusion.features import FeatureConfig
from wmkit.diffusion.runs import folder_hash
from wmkit.errors import UserError
from wmkit.model_folder import kind_of, resolve
from wmkit.training.optim import average, split_parameters, warmup_cosine
from wmkit.training.overrides import apply_overrides

from .terminal_value import TerminalValue, ValueBatch, ValueConfig
from .value_data import ValueData, read_value_data

__all__ = ["TERMINAL_VALUE", "ValuePreset", "ValueStage", "fit_value"]

_CHECKED_ROWS = 4096
_FIT_ROWS = 8192


@dataclass(frozen=True)
class ValuePreset:
    """Everything that training a terminal value needs beside the data.

    Attributes:
        name: of the preset.
        reward: name of the reward; "" for the one that the data were collected for.
        discount: of each model step's reward against the one before.
        trace: lambda of TD(lambda); 1 for the recorded return up to the end of the recording.
        encoder: a model whose latents take the place of states: a folder, pretrained:NAME, or owner/name; "" for none.
        episodes: train on the first so many training episodes; None takes all.
        width: of the hidden layers.
        depth: hidden layers.
        steps: optimiser steps.
        batch: latents of a step.
        lr: learning rate.
        weight_decay: of the matrices.
        warmup: steps until the learning rate is reached; it then falls by a cosine.
        clip: largest norm of the gradient; None leaves it as it is.
        ema: decay of the average of the weights, which is what targets come from and what is saved.
    """

    name: str = "terminal-value"
    reward: str = ""
    discount: float = 0.99
    trace: float = 0.95
    encoder: str = ""
    episodes: int | None = None
    width: int = 128
    depth: int = 2
    steps: int = 2000
    batch: int = 512
    lr: float = 1e-3
    weight_decay: float = 1e-3
    warmup: int = 100
    clip: float | None = 1.0
    ema: float = 0.99

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.warmup < 0 or self.lr <= 0:
            raise ValueError("steps, batch and lr must be above 0, warmup 0 or more")
        if not (0 <= self.trace <= 1 and 0 <= self.ema < 1):
            raise ValueError(f"trace {self.trace} must be in [0, 1], ema {self.ema} in [0, 1)")

    def describe(self) -> str:
        """Return one line."""
        return f"{self.name}: discounted return-to-go of a reward, {self.depth} layers of width {self.width}"

    def recipe(
        self,
        data: Path,
        device: str = "cpu",
        overrides: Mapping[str, Any] | None = None,
        cache: LatentCache | None = None,
    ) -> "ValueRecipe":
        """Build the value, its data and its stage for a folder of episodes.

        Args:
            data: from `wmkit collect`.
            device: where to train.
            overrides: settings to change.
            cache: of encoded frames, shared by the parts of a run.

        Raises:
            UserError: a setting or the reward is unknown, or the data do not fit.
        """
        preset = apply_overrides(self, overrides or {})
        store = EpisodeStore.open(data)
        reward, name = _reward(store, preset.reward)
        preset = dataclasses.replace(preset, reward=name)
        encoder, encoder_hash = _encoder(preset.encoder, store)
        value = TerminalValue(_config(store, preset, encoder))
        splits = load_splits(store)
        chosen = (chosen_episodes(store, "train", preset.episodes), splits.validation)
        train, validation = (read_value_data(store, each, value.config, reward, encoder, cache) for each in chosen)
        _fit_statistics(value, train)
        value.metadata = {
            "preset": preset.name,
            "task": store.metadata.task,
            "reward": name,
            "data": {"fingerprint": store.fingerprint, "splits": splits.hashes},
        } | ({"encoder": encoder_hash} if encoder_hash else {})
        stage = ValueStage(value.to(device), train, validation, preset)
        settings = dataclasses.asdict(preset) | {"fingerprint": store.fingerprint, "encoder_sha256": encoder_hash}
        return ValueRecipe(stage.averaged, (stage,), settings)


@dataclass(frozen=True)
class ValueRecipe:
    """A value and its only stage, for the training loop.

    Attributes:
        model: the average of the weights, which is saved.
        stages: one.
        settings: resolved settings and the data's fingerprint.
    """

    model: TerminalValue
    stages: "tuple[ValueStage, ...]"
    settings: Mapping[str, Any]


class ValueStage:
    """Regression on what the data gave, with the average's value of what came after.

    Args:
        value: with its statistics.
        train: to train on.
        validation: of held-back episodes.
        preset: how long and how fast.

    Attributes:
        module: the weights that are optimised, under "own", and their average.
    """

    def __init__(self, value: TerminalValue, train: ValueData, validation: ValueData, preset: ValuePreset) -> None:
        self.name, self.steps, self.clip = "value", preset.steps, preset.clip
        self._preset, self._train, self._own = preset, train, value
        self._average = average(value, preset.ema)
        self.module = nn.ModuleDict({"own": value, "average": self._average})
        self._checked = validation.all(_CHECKED_ROWS)

    @property
    def averaged(self) -> Any:
        """The value with averaged weights, which is validated and saved."""
        return self._average.module

    def begin(self) -> None:
        """Nothing to prepare: the data are in memory."""

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Make AdamW, with weight decay on the matrices."""
        matrices, others = split_parameters(self._own)
        decayed = {"params": matrices, "weight_decay": self._preset.weight_decay}
        return [torch.optim.AdamW([decayed, {"params": others, "weight_decay": 0.0}], lr=self._preset.lr, fused=True)]

    def schedule(self, step: int) -> float:
        """Return the factor of the learning rate: a warm-up, then a cosine."""
        return warmup_cosine(step, self.steps, warmup=min(self._preset.warmup, self.steps // 5), floor=0.01)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Draw latents and return their loss, and its terms."""
        batch = _moved(self._train.sample(self._preset.batch, generator, self._preset.trace), self._own.mean.device)
        return self._own.training_loss(batch, generator, target=self.averaged)

    def after_step(self, step: int) -> None:
        """Move the average."""
        self._average.update_parameters(self._own)

    @torch.no_grad()
    def validate(self, generator: torch.Generator) -> Mapping[str, float]:
        """Return the error against recorded returns of held-back episodes.

        "loss" is the mean square in units of the spread that is expected of values; "explained" is the share of the
        recorded returns' variance that the value explains, at most 1.
        """
        batch = _moved(self._checked, self._own.mean.device)
        value: TerminalValue = self.averaged
        wanted = batch.returns + batch.discounts * value(batch.later)
        errors = (value(batch.latents) - wanted).square().mean()
        explained = 1 - float(errors / wanted.var(unbiased=False).clamp(min=1e-12))
        loss = float(errors / value.std.square())
        return {"loss": loss, "explained": explained, "score": loss}


def fit_value(stage: ValueStage, seed: int = 0) -> TerminalValue:
    """Train a stage to its end without the training loop's folder, and return the averaged value."""
    generator = torch.Generator().manual_seed(seed)
    (optimizer,) = stage.optimizers()
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(stage.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * stage.schedule(step)
        loss, _ = stage.loss(step, generator)
        optimizer.zero_grad()
        loss.backward()
        if stage.clip is not None:
            nn.utils.clip_grad_norm_(stage.module.parameters(), stage.clip)
        optimizer.step()
        stage.after_step(step)
    return stage.averaged


def _reward(store: EpisodeStore, name: str) -> tuple[Callable[..., Any], str]:
    """Return the reward and its name."""
    task, name = registry.load("environments", store.metadata.task), name or store.metadata.reward
    if not name:
        raise UserError(f"{store.folder} names no reward; give one with --set reward=NAME, or train without a value")
    try:
        return task.rewards[name], name
    except KeyError:
        known = ", ".join(task.rewards) or "none"
        raise UserError(f"unknown reward {name!r} of {task.name}; known: {known}") from None
    except ValueError as error:
        raise UserError(str(error)) from error


def _encoder(name: str, store: EpisodeStore) -> tuple[WorldModel | None, str]:
    """Return the model whose latents are valued and the hash of its folder; None and "" for states."""
    if not name:
        return None, ""
    folder = resolve(name)
    encoder = registry.load("models", kind_of(folder)).from_pretrained(folder)
    check_actions(store, encoder.spec)
    return encoder, folder_hash(folder)


def _config(store: EpisodeStore, preset: ValuePreset, encoder: WorldModel | None) -> ValueConfig:
    """Return the configuration of a value for a store's states, or an encoder's latents."""
    data, task = store.metadata, registry.load("environments", store.metadata.task)
    repeat = data.action_repeat if encoder is None else encoder.spec.action_repeat
    block = len(data.action_low) * repeat
    if encoder is None:
        columns = {"invariant": task.columns(task.invariant), "angles": task.columns(task.angles)}
        features = FeatureConfig(len(task.state), block, horizon=1, **columns)
    else:
        features = FeatureConfig(encoder.spec.latent_size, block, horizon=1)
    try:
        seconds = data.seconds_per_step * repeat
        return ValueConfig(features, repeat, seconds, preset.reward, preset.discount, preset.width, preset.depth)
    except ValueError as error:
        raise UserError(f"preset {preset.name!r}: {error}") from error


def _fit_statistics(value: TerminalValue, data: ValueData) -> None:
    """Give a value the statistics of its latents and the range of its rewards."""
    rows = torch.linspace(0, len(data.latents) - 1, min(_FIT_ROWS, len(data.latents))).round().long()
    latents = data.latents[rows, None].expand(-1, 2, -1)
    value.features.fit(latents, torch.zeros(len(rows), 1, value.config.features.block_size))
    value.set_scale(data.rewards)


def _moved(batch: ValueBatch, device: torch.device) -> ValueBatch:
    return ValueBatch(*(getattr(batch, field.name).to(device) for field in dataclasses.fields(batch)))


TERMINAL_VALUE = ValuePreset()
"""Small enough for half a minute on one core."""
