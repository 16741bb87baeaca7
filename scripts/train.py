"""Train a world model on recorded episodes.

For example:

    wmkit train lewm-tiny --data data/pusht --out runs/pusht
    wmkit train lewm-tiny --data data/pusht --out runs/pusht-1 --seed 1 --set latent_size=96 batch_size=128
    wmkit train lewm-micro --data data/two-room --out runs/room --logger tensorboard --patience 5
    wmkit train dmpc --data data/walker --out runs/walker --set dynamics.steps=4000 episodes=30
    wmkit train dmpc --data data/pusht --out runs/pusht --set encoder=pretrained:pusht-tiny

Killed or interrupted at any moment, the same command goes on where it stood and ends with the same weights.
The folder gets the model, metrics.jsonl, run.json and checkpoints; with dmpc each of dynamics, proposal and value has a
folder of its own in it.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from wmkit import registry
from wmkit.errors import UserError

from .assembly import device_of

__all__ = ["Train", "run"]


@dataclass(frozen=True)
class Train:
    """Options of `wmkit train`."""

    preset: tyro.conf.Positional[str]
    """What to train: a registered preset (see `wmkit info`)."""
    data: Path
    """Folder of episodes, from `wmkit collect`."""
    out: Path
    """Folder of the run; at the end it is the model's folder."""
    seed: int = 0
    """What all randomness derives from."""
    set: tuple[str, ...] = field(default_factory=tuple)
    """Settings of the preset to change, each name=value; an unknown name is answered with the list."""
    device: str = "auto"
    """Where to train: auto, cpu, cuda or cuda:1."""
    threads: int | None = None
    """Threads for PyTorch on the CPU; by default its own choice."""
    logger: Literal["jsonl", "tensorboard"] = "jsonl"
    """TensorBoard's files beside metrics.jsonl, or not."""
    log_every: int = 50
    """Steps between rows of metrics."""
    validate_every: int = 500
    """Steps between validations; 0 for one at each stage's end alone."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints."""
    patience: int | None = None
    """End a stage after this many validations without a better score."""
    keep: Literal["best", "last"] = "best"
    """Which weights a stage hands on: those of the best score, or the last."""


def run(config: Train) -> None:
    """Train, with a progress bar.

    Raises:
        UserError: the preset or a setting is unknown, the data do not fit, or the folder holds another run.
        SystemExit: 130 after Ctrl-C or SIGTERM; the run is saved.
    """
    preset = registry.load("presets", config.preset)
    _check(config)
    import torch

    from wmkit.diffusion.composite import CompositePreset
    from wmkit.training.overrides import parse_assignments

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    overrides, device = parse_assignments(config.set), device_of(config.device)
    if isinstance(preset, CompositePreset):
        _refuse_a_model(config.out)
        for part in preset.parts(config.data, overrides):
            _train(config, part.preset, part.recipe, device, config.out / part.name)
    else:
        _train(config, config.preset, lambda device: preset.recipe(config.data, device, overrides), device, config.out)


def _train(config: Train, preset: str, make: Callable[[str], Any], device: str, out: Path) -> None:
    """Build a recipe with its own seed and train it in its folder."""
    import torch

    from wmkit.training.loop import Trainer
    from wmkit.training.randomness import derive_seed

    torch.manual_seed(derive_seed(config.seed, "build"))
    recipe = make(device)
    names = ("log_every", "validate_every", "checkpoint_seconds", "patience", "keep", "logger")
    options = {name: getattr(config, name) for name in names}
    result = Trainer(recipe, out, config.seed, _identity(preset, recipe.settings), **options).run()
    if not result.finished:
        print(f"stopped and saved in {out}; the same command goes on", file=sys.stderr)
        raise SystemExit(130)
    scores = "".join(f", {name} {score:.4g}" for name, score in result.scores.items())
    print(f"{out}: trained in {sum(result.seconds.values()):.0f} s{scores}")


def _identity(preset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a resume must find unchanged."""
    return {"preset": preset, **settings}


def _refuse_a_model(out: Path) -> None:
    """Raise UserError where a run of several parts would be mixed with a model."""
    found = [name for name in ("config.json", "checkpoints", "run.json") if (out / name).exists()]
    if found:
        raise UserError(f"{out} already holds {', '.join(found)} of one model; give another folder")


def _check(config: Train) -> None:
    """Raise UserError for options out of range."""
    if not config.data.is_dir():
        raise UserError(f"there is no folder {config.data}; record episodes with `wmkit collect`")
    for name, least in (("threads", 1), ("log_every", 1), ("validate_every", 0), ("patience", 1)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be {least} or more, not {value}")
