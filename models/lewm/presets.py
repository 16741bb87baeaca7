"""LeWM's presets: architecture, training and planning settings that belong together."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wmkit import registry
from wmkit.data.episodes import EpisodeStore
from wmkit.data.splits import load_splits
from wmkit.data.windows import Windows
from wmkit.errors import UserError
from wmkit.tasks import Task
from wmkit.training.overrides import apply_overrides

from .config import IMAGENET_BACKGROUND, IMAGENET_SCALE, LeWMConfig
from .model import LeWM
from .training import Corpus, DynamicsSettings, DynamicsStage, RepresentationSettings, RepresentationStage

__all__ = ["CUBE", "LEWM", "MICRO", "ROOMS", "TINY", "LeWMPreset", "LeWMRecipe"]

_WHITE = (255.0, 255.0, 255.0)
_FIT_FRAMES = 2000


@dataclass(frozen=True)
class LeWMRecipe:
    """A model and its stages, for the training loop.

    Attributes:
        model: what is trained.
        stages: in order.
        settings: resolved settings and the data's fingerprint.
    """

    model: LeWM
    stages: tuple[RepresentationStage | DynamicsStage, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class LeWMPreset:
    """Everything that a training run needs beside the data.

    Attributes:
        name: of the preset.
        image_size: side of the images, pixels; the data must have it.
        latent_size: D.
        history: T.
        encoder: "vit", "conv" or "glimpse".
        encoder_options: of the encoder's class.
        predictor: "transformer" or "mlp".
        predictor_options: of the predictor's class.
        projector: options of the projectors, or None.
        inverse: options of the inverse dynamics, or None.
        background: RGB that is mapped to 0.
        pixel_scale: RGB by which the rest is divided.
        representation: the first stage.
        dynamics: the second stage, or None.
        planning: settings of planner and controller that the model is evaluated with.
    """

    name: str
    representation: RepresentationSettings
    dynamics: DynamicsSettings | None = None
    image_size: int = 64
    latent_size: int = 32
    history: int = 2
    encoder: str = "conv"
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    predictor: str = "mlp"
    predictor_options: Mapping[str, Any] = field(default_factory=dict)
    projector: Mapping[str, Any] | None = None
    inverse: Mapping[str, Any] | None = None
    background: tuple[float, float, float] = _WHITE
    pixel_scale: tuple[float, float, float] = _WHITE
    planning: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> str:
        """Return one line."""
        return f"{self.name}: {self.encoder} encoder at {self.image_size} px, D={self.latent_size}, {self.predictor}"

    def recipe(self, data: Path, device: str = "cpu", overrides: Mapping[str, Any] | None = None) -> LeWMRecipe:
        """Build the model and its stages for a folder of episodes.

        Args:
            data: from `wmkit collect`.
            device: where to train.
            overrides: settings to change, "representation.steps" for a field of a stage.

        Raises:
            UserError: a setting is unknown, or the data do not fit.
        """
        preset = apply_overrides(self, overrides or {})
        store = EpisodeStore.open(data)
        if store.metadata.column("pixels").shape != (preset.image_size, preset.image_size, 3):
            raise UserError(
                f"{data} holds images {store.metadata.column('pixels').shape}, {preset.name} takes "
                f"{preset.image_size} pixels: collect with --image-size {preset.image_size} or --set image_size"
            )
        _check_views(preset, registry.load("environments", store.metadata.task))
        corpus = _corpus(store, preset, device)
        model = preset._model(store, corpus).to(device)
        stages: list[RepresentationStage | DynamicsStage] = [RepresentationStage(model, corpus, preset.representation)]
        if preset.dynamics is not None:
            stages.append(DynamicsStage(model, corpus, preset.dynamics))
        settings = dataclasses.asdict(preset) | {"fingerprint": store.fingerprint}
        return LeWMRecipe(model, tuple(stages), settings)

    def _model(self, store: EpisodeStore, corpus: Corpus) -> LeWM:
        """Build the model, with the data's statistics."""
        data = store.metadata
        config = LeWMConfig(
            image_size=self.image_size,
            latent_size=self.latent_size,
            action_repeat=data.action_repeat,
            action_low=data.action_low,
            action_high=data.action_high,
            seconds_per_step=data.seconds_per_step * data.action_repeat,
            history=self.history,
            encoder=self.encoder,
            encoder_options=dict(self.encoder_options),
            predictor=self.predictor,
            predictor_options=dict(self.predictor_options),
            projector=self.projector,
            inverse=self.inverse,
            background=self.background,
            pixel_scale=self.pixel_scale,
        )
        model = LeWM(config)
        splits = load_splits(store)
        positions = [int(p) for p in torch.searchsorted(torch.as_tensor(store.episodes), torch.tensor(splits.train))]
        actions = store.read("action", positions)
        model.set_action_statistics(actions.mean(axis=0), actions.std(axis=0))
        model.metadata = {
            "preset": self.name,
            "task": data.task,
            "planning": dict(self.planning),
            "data": {"fingerprint": store.fingerprint, "splits": splits.hashes, "episodes": len(splits.train)},
        }
        _fit(model, corpus)
        return model


def _check_views(preset: LeWMPreset, task: Task) -> None:
    """Refuse to train under symmetries that the task has not; those of actions are known for x and y alone."""
    symmetries = () if task.symmetries is None and len(task.action_low) != 2 else task.symmetries
    for name in ("representation", "dynamics"):
        views = getattr(getattr(preset, name), "views", "none")
        if views != "none" and symmetries is not None and views not in symmetries:
            known = " or ".join(("none", *symmetries))
            raise UserError(
                f"{task.name} has not the symmetry {name}.views={views} of {preset.name}: --set it to {known}"
            )


def _corpus(store: EpisodeStore, preset: LeWMPreset, device: str) -> Corpus:
    """Open the windows of a run."""
    repeat = store.metadata.action_repeat
    task = registry.load("environments", store.metadata.task)
    cache = "auto" if torch.device(device).type == "cuda" else "cpu"
    train = Windows(store, "train", preset.representation.frames, repeat, cache=cache)
    validation = Windows(store, "validation", 1, repeat, ("pixels", "state"), "memory")
    return Corpus(train, validation, task.probes, torch.device(device))


def _fit(model: LeWM, corpus: Corpus) -> None:
    """Let an encoder that starts from the data look at a sample of frames."""
    fit = getattr(model.encoder, "fit", None)
    if isinstance(fit, nn.Module) or not callable(fit):
        return
    generator = torch.Generator().manual_seed(0)
    windows = corpus.train
    samples = windows.offsets[:-1][:_FIT_FRAMES, None], windows.index(_FIT_FRAMES, generator, frames=1)
    starts, pixels = (model.preprocess(windows.batch(rows)["pixels"][:, 0].cpu()) for rows in samples)
    fit(starts, pixels, generator)


TINY = LeWMPreset(
    name="lewm-tiny",
    latent_size=32,
    encoder="glimpse",
    encoder_options={"colors": 4, "hidden": 256, "depth": 1},
    predictor_options={"width": 512, "depth": 2},
    inverse={"width": 512, "depth": 2},
    representation=RepresentationSettings(
        steps=1500, batch=128, frames=5, sigreg=0.1, sigreg_end=0.05, inverse=0.1, views="dihedral", lr=2e-3
    ),
    dynamics=DynamicsSettings(steps=12000, batch=256, views="dihedral", lr=1e-3),
    planning={
        "horizon": 5,
        "samples": 64,
        "iterations": 4,
        "elites": 8,
        "std": 0.3,
        "objective": "last",
        "execute": 1,
        "shrink": True,
        "proposal": "inverse",
    },
)
"""PushT at 64 pixels on a CPU."""

CUBE = dataclasses.replace(
    TINY,
    name="lewm-cube",
    inverse={"width": 512, "depth": 2, "max_steps": 10},
    representation=dataclasses.replace(TINY.representation, views="none"),
    dynamics=DynamicsSettings(steps=12000, batch=256, reach=10, lr=1e-3),
    planning=dict(TINY.planning) | {"renew": 6},
)
"""PushCube at 64 pixels on a CPU; a tilted camera leaves no symmetry to train under."""

MICRO = LeWMPreset(
    name="lewm-micro",
    latent_size=32,
    history=1,
    encoder="conv",
    encoder_options={"channels": [32, 64, 128], "hidden": 256},
    predictor_options={"width": 256, "depth": 2},
    inverse={"width": 256, "depth": 2, "max_steps": 12},
    representation=RepresentationSettings(steps=500, batch=128, frames=4, inverse=0.1, sigreg=0.05, sigreg_end=0.05),
    dynamics=DynamicsSettings(steps=2000, batch=256, rollout=4, reach=12, views="none"),
    planning={
        "horizon": 8,
        "samples": 32,
        "iterations": 2,
        "elites": 4,
        "std": 0.1,
        "objective": "last",
        "shrink": True,
        "proposal": "inverse",
    },
)
"""TwoRoom at 64 pixels in a minute on a CPU."""

ROOMS = dataclasses.replace(
    MICRO,
    name="lewm-rooms",
    representation=RepresentationSettings(
        steps=1000, batch=128, frames=4, per_episode=16, inverse=1.0, sigreg=0.05, sigreg_end=0.05, views="flip"
    ),
    dynamics=DynamicsSettings(steps=4000, batch=256, rollout=4, reach=12, views="flip"),
)
"""TwoRoom with a door drawn anew each episode.

SIGReg looks at one episode at a time, so that the door, constant within an episode, cannot fill the latent.
"""

LEWM = LeWMPreset(
    name="lewm",
    image_size=224,
    latent_size=192,
    history=3,
    encoder="vit",
    predictor="transformer",
    projector={"hidden_size": 2048},
    background=IMAGENET_BACKGROUND,
    pixel_scale=IMAGENET_SCALE,
    representation=RepresentationSettings(
        steps=180000,
        batch=128,
        frames=4,
        past=3,
        teacher=True,
        lr=5e-5,
        muon=False,
        sigreg=0.045,
        sigreg_end=0.045,
        projections=1024,
        clip=1.0,
    ),
    planning={"horizon": 5, "samples": 300, "iterations": 30, "elites": 30, "objective": "last", "execute": 5},
)
"""The paper's model: ViT-tiny/14 at 224 pixels, 192-d latents, 6-layer predictor. For a GPU."""
