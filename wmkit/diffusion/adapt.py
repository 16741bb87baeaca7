"""New dynamics for a run: its dynamics alone is fine-tuned on data of a changed robot; all else is copied as it is.

Normalisation stays what it was, so that the proposal and the value still speak of the same latents and actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.episodes import EpisodeStore
from ..data.latents import LatentWindows, check_actions, check_statistics
from ..data.splits import load_splits
from ..errors import UserError
from ..training.loop import Trainer
from ..training.records import write_json
from .runs import copy_part, folder_hash, load_part, new_run, parts_of
from .stage import SequenceSettings, SequenceStage

__all__ = ["AdaptRecipe", "AdaptSettings", "Adaptation", "adapt"]

REPORT = "adapt.json"
"""What was done, in the folder of the new run."""

_VALIDATIONS = 8
"""How often the held-back episodes are looked at; the best weights are kept."""


@dataclass(frozen=True)
class AdaptSettings:
    """How the dynamics is fine-tuned.

    Attributes:
        episodes: how many of the data's training episodes to take, a tenth of them (at least one) to choose the best
            weights by; None takes the data's own training and validation episodes.
        steps: optimiser steps.
        lr: learning rate.
        batch: windows of a step.
        ema: decay of the average of the weights.
        seed: what all randomness derives from.

    Raises:
        UserError: a number is out of its range.
    """

    episodes: int | None = None
    steps: int = 600
    lr: float = 3e-4
    batch: int = 128
    ema: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "lr", "batch"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)!r}")
        if not 0 <= self.ema < 1 or self.seed < 0:
            raise UserError(f"ema must lie in [0, 1) and seed be 0 or more, not {self.ema!r} and {self.seed!r}")


@dataclass(frozen=True)
class Adaptation:
    """How a call of `adapt` ended.

    Attributes:
        finished: False where a signal stopped it; the same call again goes on.
        report: what `adapt.json` holds; "before" and "after" are figures on episodes that no training step saw.
    """

    finished: bool
    report: Mapping[str, Any]


@dataclass(frozen=True)
class AdaptRecipe:
    """One stage, for the training loop.

    Attributes:
        model: what is saved, the stage's average.
        stages: the one stage.
        settings: resolved settings, and the hashes of the data and the dynamics.
    """

    model: nn.Module
    stages: tuple[SequenceStage, ...]
    settings: Mapping[str, Any]


def adapt(run: Path, data: Path, out: Path, settings: AdaptSettings, *, show: bool = True) -> Adaptation:
    """Fine-tune a run's dynamics on other data and write a new run, the rest of it copied byte for byte.

    Killed at any moment, the same call again goes on from the last checkpoint.

    Args:
        run: folder with "dynamics" and whatever else; it is only read.
        data: folder of episodes of the changed robot.
        out: folder of the new run; gets "dynamics", copies of the other parts, and `adapt.json`.
        settings: how.
        show: show a progress bar and validations on standard error.

    Raises:
        UserError: the folders are the same, `out` holds another run, the data do not fit the dynamics, or there are too
            few of them to split.
    """
    parts = parts_of(run)
    if "dynamics" not in parts:
        raise UserError(f"{run} has no dynamics to adapt; give a run of `wmkit train dmpc`")
    new_run(run, out, REPORT)
    model = load_part("dynamics", parts["dynamics"])
    store = EpisodeStore.open(data)
    train, validation, held_out = _windows(store, model, settings.episodes)
    report = _described(run, store, settings, (train.episodes, validation.episodes), parts["dynamics"])
    out.mkdir(parents=True, exist_ok=True)
    if not (out / REPORT).exists():
        write_json(out / REPORT, {"finished": False, **report})
    report["copied"] = {name: copy_part(folder, out / name) for name, folder in parts.items() if name != "dynamics"}
    before = _figures(model, train, held_out, settings)
    model.metadata = {**model.metadata, "adaptation": {**report, "run": str(run)}}
    recipe = _recipe(model, train, validation, settings, report)
    every = max(1, settings.steps // _VALIDATIONS)
    trainer = Trainer(recipe, out / "dynamics", settings.seed, recipe.settings, validate_every=every, show=show)
    result = trainer.run()
    if not result.finished:
        return Adaptation(False, report)
    report |= {"before": before, "after": _figures(recipe.model, train, held_out, settings)}
    report["seconds"] = sum(result.seconds.values())
    report["dynamics"] = folder_hash(out / "dynamics")
    write_json(out / REPORT, {"finished": True, **report})
    return Adaptation(True, report)


def _windows(store: EpisodeStore, model: Any, count: int | None) -> tuple[LatentWindows, LatentWindows, LatentWindows]:
    """Return windows to train on, to choose by, and to report on, checked against the model.

    Raises:
        UserError: the data do not fit, or are too few.
    """
    config = model.config
    check_actions(store, model.spec)
    if config.task and config.task != store.metadata.task:
        raise UserError(
            f"{store.folder} is data of {store.metadata.task}, the dynamics is of {config.task}: their columns differ; "
            "give data of the same task"
        )
    splits = load_splits(store)
    chosen, checked = splits.train, splits.validation
    if count is not None:
        if not 2 <= count <= len(chosen):
            raise UserError(
                f"{count} episodes cannot be split into some to train on and some to choose by; "
                f"{store.folder} has {len(chosen)} for training: give 2 to that many"
            )
        kept = max(1, count // 10)
        chosen, checked = chosen[: count - kept], chosen[count - kept : count]
    features, repeat = config.features, config.action_repeat
    windows = tuple(
        LatentWindows(store, episodes, features, repeat, model.encoder)
        for episodes in (chosen, checked, splits.heldout)
    )
    check_statistics(model.features, windows[0])
    return windows[0], windows[1], windows[2]


def _described(
    run: Path, store: EpisodeStore, settings: AdaptSettings, episodes: tuple[int, int], dynamics: Path
) -> dict[str, Any]:
    """Return what is known beforehand."""
    return {
        "run": str(run),
        "data": str(store.folder),
        "fingerprint": store.fingerprint,
        "from": folder_hash(dynamics),
        "episodes": {"train": episodes[0], "validation": episodes[1]},
        "settings": dict(vars(settings)),
    }


def _recipe(
    model: nn.Module,
    train: LatentWindows,
    validation: LatentWindows,
    settings: AdaptSettings,
    report: Mapping[str, Any],
) -> AdaptRecipe:
    """Return the stage that fine-tunes the model."""
    stage = SequenceStage("adapt", model, train, validation, _training(settings))
    identity = {**vars(settings), **{name: report[name] for name in ("fingerprint", "from")}}
    return AdaptRecipe(stage.averaged, (stage,), identity)


def _training(settings: AdaptSettings) -> SequenceSettings:
    """Return the stage's settings."""
    return SequenceSettings(
        steps=settings.steps,
        batch=settings.batch,
        lr=settings.lr,
        warmup=min(50, settings.steps // 5),
        ema=settings.ema,
    )


def _figures(
    model: nn.Module, train: LatentWindows, held_out: LatentWindows, settings: AdaptSettings
) -> dict[str, float]:
    """Return loss and open-loop error on episodes that neither training nor the choice of weights saw."""
    stage = SequenceStage("figures", model.eval(), train, held_out, _training(settings))
    stage.module.eval()
    with torch.no_grad():
        found = stage.validate(torch.Generator().manual_seed(settings.seed))
    return {name: value for name, value in found.items() if name != "score"}
