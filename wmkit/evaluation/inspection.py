"""Looking inside a model: what its latents hold, how they move, and what it imagines; measured on held-out episodes."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from ..contracts import WorldModel
from ..data.episodes import EpisodeStore
from ..data.splits import load_splits
from ..errors import UserError
from ..readout import Kind, Readout
from ..tasks import Task
from ..training.diagnostics import diagnose, straightness
from .frames import Frames, check_fit, read_frames
from .held_out import describe_origin
from .manifest import HELD_OUT
from .open_loop import Strip, imagine_windows, quantity_errors, strips, windows
from .picture_decoder import PictureDecoder

__all__ = ["Inspection", "Settings", "inspect"]

_WINDOWS, _HELD_EPISODES, _STRIPS = 256, 200, 4


@dataclass(frozen=True)
class Settings:
    """How to look.

    Attributes:
        episodes: training episodes that probes and decoder are fitted to, at most.
        horizon: H, model steps to look ahead.
        decoder_steps: gradient steps of the picture decoder; 0 draws no pictures.
        seed: of probes and decoder.
    """

    episodes: int = 600
    horizon: int = 8
    decoder_steps: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        origin: one line on the held-out episodes.
        frames: ("train", "heldout") -> (episodes, frames).
        probes: kind -> the readout, scored on held-out episodes.
        best: the kind that reads best there, by the mean R2.
        diagnostics: of `wmkit.training.diagnostics.diagnose`, on held-out episodes.
        straightness: "latents", "pixels" where there are any, and the same "shuffled" within each episode.
        quantities: of `quantity_errors`, by the best readout.
        decoder: "decoder" and "mean", root mean squared errors in grey levels; empty without pictures.
        strips: imagined beside real; empty without pictures.
        seconds: wall time by stage.
    """

    origin: str
    frames: Mapping[str, tuple[int, int]]
    probes: Mapping[Kind, Readout]
    best: Kind
    diagnostics: Mapping[str, float]
    straightness: Mapping[str, float]
    quantities: Mapping[str, Mapping[str, list[float]]]
    decoder: Mapping[str, float]
    strips: list[Strip]
    seconds: Mapping[str, float]

    @property
    def readout(self) -> Readout:
        """The best one."""
        return self.probes[self.best]

    def numbers(self) -> dict[str, Any]:
        """Return all numbers as plain values for a result file."""
        return {
            "origin": self.origin,
            "frames": dict(self.frames),
            "probes": {kind: readout.scores for kind, readout in self.probes.items()},
            "best": self.best,
            "diagnostics": dict(self.diagnostics),
            "straightness": dict(self.straightness),
            "quantities": dict(self.quantities),
            "decoder": dict(self.decoder),
            "seconds": dict(self.seconds),
        }


def inspect(
    model: WorldModel,
    task: Task,
    store: EpisodeStore,
    settings: Settings | None = None,
    *,
    training: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Inspection:
    """Fit probes and a picture decoder to training episodes, and measure on held-out ones.

    Args:
        model: reads one observation; it is left as it is.
        task: names the probes.
        store: the data set.
        settings: None takes the defaults.
        training: what the model says of its data: "fingerprint" and "splits".
        progress: is told what begins.

    Raises:
        UserError: the data do not fit the model, there are too few episodes or too short ones, the task names no
            probes, or training may have seen the held-out episodes.
    """
    settings = settings or Settings()
    splits, watch = load_splits(store), _Watch(progress)
    _check(model, task, store)
    origin = describe_origin("episodes", store.fingerprint, splits.hashes[HELD_OUT], training or {})
    watch("encode frames")
    stride = model.spec.action_repeat
    held = read_frames(model, task, store, splits, HELD_OUT, _HELD_EPISODES, stride)
    rows = windows(held, model.spec.history + settings.horizon, _WINDOWS)
    fitted = read_frames(model, task, store, splits, "train", settings.episodes, stride)
    watch("fit probes")
    probes: dict[Kind, Readout] = {kind: _probe(fitted, held, kind, settings.seed) for kind in get_args(Kind)}
    best = max(probes, key=lambda kind: _mean_r2(probes[kind]))
    watch("imagine")
    diagnostics, imagined = _diagnostics(model, held, rows, settings.seed)
    quantities = quantity_errors(probes[best], held, rows, imagined, model.spec.history)
    watch("train the picture decoder")
    decoder, pictures = _pictures(model, fitted, held, settings)
    return Inspection(
        origin=origin,
        frames={"train": (fitted.count, len(fitted.latents)), "heldout": (held.count, len(held.latents))},
        probes=probes,
        best=best,
        diagnostics=diagnostics,
        straightness=_straightness(held, settings.seed),
        quantities=quantities,
        decoder=decoder,
        strips=pictures,
        seconds=watch.done(),
    )


class _Watch:
    """Times stages."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress, self._name, self._began = progress, "", 0.0
        self._seconds: dict[str, float] = {}

    def __call__(self, name: str) -> None:
        """Begin a stage."""
        self.done()
        self._progress(name)
        self._name, self._began = name, time.perf_counter()

    def done(self) -> dict[str, float]:
        """End the stage; return seconds by stage."""
        if self._name:
            self._seconds[self._name] = time.perf_counter() - self._began
        return dict(self._seconds)


def _check(model: WorldModel, task: Task, store: EpisodeStore) -> None:
    """Raise UserError where model, task and data do not fit together."""
    check_fit(model, store)
    if store.metadata.task != task.name:
        raise UserError(f"{store.folder} holds episodes of {store.metadata.task}, not of {task.name}")
    if not task.probes:
        raise UserError(f"{task.name} names no probes, so there is nothing to read out of a latent")


def _probe(fitted: Frames, held: Frames, kind: Kind, seed: int) -> Readout:
    """Fit to training episodes, a tenth of which stop the training of an MLP, and score on held-out ones."""
    readout = Readout.fit(fitted.latents, fitted.episodes, fitted.targets, kind, seed, held_back=0.1)
    return readout.scored(held.latents, held.targets)


def _mean_r2(readout: Readout) -> float:
    """Return the mean over the targets that vary."""
    known = [found["r2"] for found in readout.scores.values() if math.isfinite(found["r2"])]
    return sum(known) / len(known) if known else -math.inf


def _diagnostics(model: WorldModel, held: Frames, rows: Tensor, seed: int) -> tuple[dict[str, float], Tensor]:
    """Return all diagnostics, and the imagined latents (B, H, D) of the windows (B, T + H)."""
    history = model.spec.history
    imagined = imagine_windows(model, held.latents[rows[:, :history]], held.actions[rows[:, :-1]], seed)
    pair = (held.latents[rows], held.actions[rows[:, :-1]])
    predict = lambda latents, actions: imagined  # noqa: E731
    return diagnose(held.latents, held.episodes, held.targets, pair, predict, history), imagined


def _pictures(
    model: WorldModel, fitted: Frames, held: Frames, settings: Settings
) -> tuple[dict[str, float], list[Strip]]:
    """Return the decoder's errors and the strips; both empty without pixels, or where no decoder is wanted."""
    if fitted.pixels is None or held.pixels is None or not settings.decoder_steps:
        return {}, []
    decoder = PictureDecoder.fit(fitted.latents, fitted.pixels, settings.decoder_steps, settings.seed)
    drawn = strips(model, decoder, held, settings.horizon, _STRIPS, settings.seed)
    return decoder.error(held.latents, held.pixels), drawn


def _straightness(held: Frames, seed: int) -> dict[str, float]:
    """Return the straightness of latents and pixels, and of the same with each episode's frames shuffled."""
    keys = held.episodes.double() + torch.rand(len(held.episodes), generator=torch.Generator().manual_seed(seed)) * 0.5
    shuffled = keys.argsort()
    found = {"latents": straightness(held.latents, held.episodes)}
    found["latents shuffled"] = straightness(held.latents[shuffled], held.episodes[shuffled])
    if held.pixels is not None:
        flat = held.pixels.flatten(1)
        found["pixels"] = straightness(flat, held.episodes)
        found["pixels shuffled"] = straightness(flat[shuffled], held.episodes[shuffled])
    return found
