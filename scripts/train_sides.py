"""What `wmkit bench train` times of wmkit: LeWM's own training stage on one batch; no command of its own."""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wmkit.data.windows import Windows
from wmkit.timing import Peer, stopwatch
from wmkit.training.randomness import seed_global
from wmkit.training.step import take_step

from ..models import LeWM, LeWMConfig
from ..models.lewm.config import IMAGENET_BACKGROUND, IMAGENET_SCALE
from ..models.lewm.presets import LEWM, TINY
from ..models.lewm.training import Corpus, RepresentationSettings, RepresentationStage

__all__ = ["SIZES", "OurSide", "share"]

SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "image_size": 64,
        "patch_size": 8,
        "width": 96,
        "depth": 6,
        "heads": 3,
        "predictor_depth": 3,
        "predictor_heads": 8,
        "head_size": 32,
        "mlp_size": 512,
        "projector_size": 512,
    },
    "paper": {
        "image_size": 224,
        "patch_size": 14,
        "width": 192,
        "depth": 12,
        "heads": 3,
        "predictor_depth": 6,
        "predictor_heads": 16,
        "head_size": 64,
        "mlp_size": 2048,
        "projector_size": 2048,
    },
}
"""Preset -> sizes of the model: of images and patches, the encoder, the predictor, and the projectors."""

_HISTORY, _REPEAT, _WEIGHT, _REFERENCE = 3, 5, 0.09, 256
_TASK: dict[str, Any] = {
    "action_repeat": _REPEAT,
    "action_low": (-1.0, -1.0),
    "action_high": (1.0, 1.0),
    "seconds_per_step": 0.5,
}


class _Batch:
    """Stands for the windows of a data set: every draw gives the same clips, already on the device."""

    def __init__(self, pixels: Tensor, actions: Tensor) -> None:
        self.clips = {"pixels": pixels, "action": actions}
        self.device = pixels.device

    def sample(self, n: int, generator: torch.Generator, per_episode: int = 1) -> dict[str, Tensor]:
        """Return the clips."""
        return dict(self.clips)


class OurSide:
    """wmkit's LeWM of a preset's sizes and one batch.

    Args:
        preset: "tiny" or "paper".
        batch: clips.
        frames: of a clip.
        device: where to train.
    """

    def __init__(self, preset: str, batch: int, frames: int, device: str) -> None:
        self.sizes, self.batch, self.frames, self.device = SIZES[preset], batch, frames, torch.device(device)
        generator, side = torch.Generator().manual_seed(1), self.sizes["image_size"]
        self.pixels = torch.randint(0, 256, (batch, frames, side, side, 3), dtype=torch.uint8, generator=generator)
        self.actions = torch.randn(batch, frames, 2 * _REPEAT, generator=generator)
        self._model: LeWM | None = None

    def adopt(self, model: LeWM | None) -> None:
        """Train this model; None builds one with random weights."""
        torch.manual_seed(0)
        self._model = model or LeWM(_config(self.sizes))
        self._model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
        self._model.to(self.device).train()

    @property
    def model(self) -> LeWM:
        """The model. Raises ValueError before `adopt`."""
        if self._model is None:
            raise ValueError("there is no model yet: call adopt")
        return self._model

    @property
    def parameters(self) -> int:
        """Number of the model's weights."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def check(self, seed: int) -> dict[str, float]:
        """Return "prediction", "sigreg", "loss" and "grad_norm" in float32, without dropout.

        Args:
            seed: of the projections, which are drawn on the device, as the peer draws them.
        """
        model = deepcopy(self.model)
        for module in model.modules():
            if isinstance(getattr(module, "dropout", None), float):
                cast(Any, module).dropout = 0.0
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        stage = self._stage(model, "float32", compile=False)
        generator = torch.Generator(self.device).manual_seed(seed)
        terms = {name: float(value) for name, value in take_step(stage, stage.optimizers(), 0, generator).items()}
        return terms | {"sigreg": terms["sigreg"] * self.batch / _REFERENCE}

    def trainer(self, dtype: str, way: str) -> Callable[[], float]:
        """Return what takes one step and returns its seconds.

        Args:
            dtype: "float32", or "bfloat16" for autocast.
            way: "eager" or "compiled".
        """
        return self._steps(self._stage(deepcopy(self.model), dtype, compile=way == "compiled"))

    def own_preset(self) -> tuple[Callable[[], float], float]:
        """Return what takes one step of the preset lewm-tiny's first stage, with its own batch, and its frames."""
        settings = TINY.representation
        names = ("image_size", "latent_size", "history", "encoder", "encoder_options", "predictor_options", "inverse")
        options = {name: getattr(TINY, name) for name in names}
        model = LeWM(LeWMConfig(**_TASK, **options, background=TINY.background, pixel_scale=TINY.pixel_scale))
        model.set_action_statistics([0.0, 0.0], [1.0, 1.0])
        pixels = _scenes(settings.batch, settings.frames, TINY.image_size)
        shown = model.preprocess(pixels.flatten(0, 1))
        cast(Any, model.encoder).fit(shown, shown, torch.Generator().manual_seed(0))
        actions = torch.randn(settings.batch, settings.frames - 1, 2 * _REPEAT)
        batch = _Batch(pixels.to(self.device), actions.to(self.device))
        stage = RepresentationStage(model.to(self.device).train(), self._corpus(batch), settings)
        return self._steps(stage), float(settings.batch * settings.frames)

    def _stage(self, model: LeWM, dtype: str, compile: bool) -> RepresentationStage:
        """Return the paper's training of a model, on the batch."""
        weight = _WEIGHT * self.batch / _REFERENCE
        settings: RepresentationSettings = dataclasses.replace(
            LEWM.representation,
            batch=self.batch,
            frames=self.frames,
            sigreg=weight,
            sigreg_end=weight,
            bf16=dtype == "bfloat16",
            compile=compile,
        )
        batch = _Batch(self.pixels.to(self.device), self.actions[:, :-1].to(self.device))
        return RepresentationStage(model, self._corpus(batch), settings)

    def _corpus(self, batch: _Batch) -> Corpus:
        windows = cast(Windows, batch)
        return Corpus(windows, windows, {}, self.device)

    def _steps(self, stage: RepresentationStage) -> Callable[[], float]:
        """Return what takes a stage's next step, as the training loop does."""
        optimizers, steps = stage.optimizers(), itertools.count()

        def one() -> None:
            step = next(steps)
            seed_global(step)
            take_step(stage, optimizers, step, torch.Generator().manual_seed(step))

        return stopwatch(one, self.device)


def share(peer: Peer, ours: OurSide, threads: int) -> tuple[LeWM, dict[str, Any]]:
    """Let a peer make the model and read the batch; return the same model as ours, and what the peer says of itself.

    Raises:
        UserError: the peer fails.
    """
    facts = peer.ask(
        "build", device=str(ours.device), threads=threads, sizes=ours.sizes, projections=LEWM.representation.projections
    )
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "batch.safetensors")
        save_file({"pixels": ours.pixels, "actions": ours.actions}, file)
        peer.ask("batch", file=file)
        peer.ask("export", folder=folder)
        (Path(folder) / "batch.safetensors").unlink()
        return LeWM.from_lewm(folder), facts


def _config(sizes: dict[str, int]) -> LeWMConfig:
    """Return the configuration of a model of these sizes."""
    return LeWMConfig(
        **_TASK,
        image_size=sizes["image_size"],
        latent_size=sizes["width"],
        history=_HISTORY,
        encoder="vit",
        encoder_options={name: sizes[name] for name in ("patch_size", "depth", "heads")},
        predictor="transformer",
        predictor_options={
            "depth": sizes["predictor_depth"],
            "heads": sizes["predictor_heads"],
            "head_size": sizes["head_size"],
            "mlp_size": sizes["mlp_size"],
        },
        projector={"hidden_size": sizes["projector_size"]},
        background=IMAGENET_BACKGROUND,
        pixel_scale=IMAGENET_SCALE,
    )


def _scenes(batch: int, frames: int, side: int) -> Tensor:
    """Return images (n, T, S, S, 3), uint8: white, with squares of four colours somewhere."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((batch * frames, side, side, 3), 255, dtype=torch.uint8)
    size = side // 8
    for color in ((200, 40, 40), (40, 160, 60), (60, 80, 200), (120, 120, 130)):
        for image, (y, x) in zip(
            images, torch.randint(side - size, (len(images), 2), generator=generator), strict=True
        ):
            image[y : y + size, x : x + size] = torch.tensor(color, dtype=torch.uint8)
    return images.unflatten(0, (batch, frames))
