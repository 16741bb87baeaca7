"""Few-step students for a run: what `wmkit distil` does, and what is lost by it.

The dynamics and the proposal are distilled as `progressive` says; parts without diffusion are copied as they are.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.episodes import EpisodeStore
from ..data.latents import LatentCache, LatentWindows, SequenceBatch, check_actions, check_statistics
from ..errors import UserError
from ..training.loop import Trainer
from ..training.randomness import derive_seed
from ..training.records import write_json
from .progressive import DistilRecipe, DistilSettings, denoising, few_steps
from .runs import copy_part, folder_hash, load_part, new_run, parts_of
from .scores import energy_score, root_mean_square
from .settings import Sampling

__all__ = ["Distillation", "Loss", "distil", "lost"]

REPORT = "distil.json"
"""What was done and what is lost, in the folder of the new run."""

_SCORED_WINDOWS = 128
_DRAWS = 8
_TIMED_ROWS = 64
_TIMED_CALLS = 5


@dataclass(frozen=True)
class Distillation:
    """How a call of `distil` ended.

    Attributes:
        finished: False where a signal stopped it; the same call again goes on.
        report: what `distil.json` holds; "parts" has a `lost` for each part that was distilled.
    """

    finished: bool
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Loss:
    """One way to sample on held-back windows.

    Attributes:
        who: "teacher" or "student".
        sampler: name of the sampler.
        steps: of it.
        energy_score: against the data, in normalised units, lower is better; see `energy_score`.
        energy_error: standard error of its mean over windows.
        distance: root mean square distance from the teacher's own samples that began with the same noise, in
            normalised units.
        milliseconds: median time of sampling for 64 rows.
    """

    who: str
    sampler: str
    steps: int
    energy_score: float
    energy_error: float
    distance: float
    milliseconds: float


def distil(
    run: Path,
    data: Path,
    out: Path,
    settings: DistilSettings,
    *,
    only: Sequence[str] = ("dynamics", "proposal"),
    seed: int = 0,
    show: bool = True,
) -> Distillation:
    """Distil the parts of a run into few-step students, and write them as a new run.

    Killed at any moment, the same call again goes on from the last checkpoint.

    Args:
        run: folder with "dynamics", "proposal" or both; it is only read.
        data: folder of episodes that the run was trained on; what is lost is measured on its held-out ones.
        out: folder of the new run, with `distil.json`.
        settings: how.
        only: parts to distil; the others are copied byte for byte, as are those without diffusion.
        seed: what all randomness derives from.
        show: show a progress bar and validations on standard error.

    Raises:
        UserError: `out` holds something else, the data do not fit, no part has diffusion, or the number of steps cannot
            be reached.
    """
    rounds = settings.rounds()
    parts = parts_of(run)
    new_run(run, out, REPORT)
    models = _models(run, parts, only)
    store = EpisodeStore.open(data)
    windows = _windows(store, parts, models)
    report: dict[str, Any] = {
        "run": str(run),
        "data": str(store.folder),
        "fingerprint": store.fingerprint,
        "settings": {**vars(settings), "seed": seed, "only": list(only)},
        "rounds": [list(each) for each in rounds],
    }
    identities = {name: {"fingerprint": store.fingerprint, "from": folder_hash(parts[name])} for name in models}
    recipes = {name: DistilRecipe(models[name], settings, *windows[name][:2], identities[name]) for name in models}
    out.mkdir(parents=True, exist_ok=True)
    if not (out / REPORT).exists():
        write_json(out / REPORT, {"finished": False, **report})
    report["copied"] = {name: copy_part(folder, out / name) for name, folder in parts.items() if name not in models}
    report["parts"] = {}
    for name, recipe in recipes.items():
        student: Any = recipe.model
        student.metadata = {**student.metadata, "distillation": {"steps": settings.steps, "rounds": report["rounds"]}}
        trainer = Trainer(recipe, out / name, derive_seed(seed, name), recipe.settings, validate_every=0, show=show)
        if not trainer.run().finished:
            return Distillation(False, report)
        found = lost(models[name], student, windows[name][2].all(most=_SCORED_WINDOWS), seed)
        report["parts"][name] = [vars(each) for each in found]
    write_json(out / REPORT, {"finished": True, **report})
    return Distillation(True, report)


@torch.no_grad()
def lost(teacher: Any, student: Any, batch: SequenceBatch, seed: int = 0, draws: int = _DRAWS) -> list[Loss]:
    """Compare a student with its teacher on windows that neither was trained on.

    Args:
        teacher: a diffusion model, sampled as it would be.
        student: made from it.
        batch: M windows.
        seed: of the noise.
        draws: samples of each window.

    Returns:
        The teacher at its own steps, the teacher at the student's, and the student.
    """
    few = few_steps(student.sampling.steps, teacher.diffusion.config)
    ways = (("teacher", teacher, teacher.sampling), ("teacher", teacher, few), ("student", student, student.sampling))
    task = denoising(teacher.eval(), batch)
    noise = torch.randn((draws, *task.clean.shape), generator=_fresh(seed)).to(task.clean)
    samples = [_sampled(model, batch, noise, sampling, seed) for _, model, sampling in ways]
    found = []
    for (who, model, sampling), drawn in zip(ways, samples, strict=True):
        scores = energy_score(drawn, task.clean, task.weights)
        apart = [root_mean_square(drawn[:, i] - samples[0][:, i], task.weights) for i in range(draws)]
        error = float(scores.std(unbiased=False) / len(scores) ** 0.5)
        distance, spent = float(torch.stack(apart).mean()), _milliseconds(model, batch, sampling)
        found.append(Loss(who, sampling.sampler, sampling.steps, float(scores.mean()), error, distance, spent))
    return found


def _sampled(model: Any, batch: SequenceBatch, noise: Tensor, sampling: Sampling, seed: int) -> Tensor:
    """Return samples (M, N, H, S) that begin with noise (N, M, H, S), within the bounds of a proposal's actions."""
    denoise, clip = denoising(model.eval(), batch).filled(model.network), _clip(model)
    sample = model.diffusion.sample
    drawn = [sample(denoise, each, sampling, generator=_fresh(seed), clip=clip) for each in noise]
    return torch.stack(drawn if clip is None else [each.clamp(*clip) for each in drawn], dim=1)


def _clip(model: Any) -> tuple[Tensor, Tensor] | None:
    """Return the bounds (S,) that a proposal keeps its normalised sequences in; None for a dynamics."""
    return model.bounds() if hasattr(model, "bounds") else None


def _models(run: Path, parts: Mapping[str, Path], only: Sequence[str]) -> dict[str, Any]:
    """Return the parts to distil. Raises UserError where none has diffusion."""
    found = {name: load_part(name, folder) for name, folder in parts.items() if name in only and name != "value"}
    models = {name: model for name, model in found.items() if getattr(model.config, "diffusion", None) is not None}
    if not models:
        raise UserError(f"{run} has no diffusion model among {', '.join(only)}; there is nothing to distil")
    return models


def _windows(
    store: EpisodeStore, parts: Mapping[str, Path], models: Mapping[str, Any]
) -> dict[str, tuple[LatentWindows, LatentWindows, LatentWindows]]:
    """Return each part's windows to train on, to validate on, and to report on.

    Raises:
        UserError: the data do not fit.
    """
    dynamics = load_part("dynamics", parts["dynamics"]) if "dynamics" in parts else None
    encoder = getattr(dynamics, "encoder", None)
    found = {}
    cache: LatentCache = {}
    for name, model in models.items():
        config = model.config
        _check_origin(store, name, model, dynamics)
        check_actions(store, config)
        train, validation, held_out = (
            LatentWindows(store, split, config.features, config.action_repeat, encoder, cache=cache)
            for split in ("train", "validation", "heldout")
        )
        check_statistics(model.features, train)
        found[name] = train, validation, held_out
    return found


def _check_origin(store: EpisodeStore, name: str, model: Any, dynamics: Any) -> None:
    """Raise UserError for data of another task, or where the encoder of the part's latents is not at hand."""
    task = model.metadata.get("task") or getattr(model.config, "task", "")
    if task and task != store.metadata.task:
        raise UserError(
            f"{store.folder} is data of {store.metadata.task}, the {name} is of {task}; give the data it was trained on"
        )
    wanted = model.metadata.get("encoder")
    at_hand = getattr(dynamics, "encoder", None) is not None
    if wanted and not (at_hand and dynamics.metadata.get("encoder", wanted) == wanted):
        raise UserError(
            f"the {name} was trained on the latents of an encoder, and the run has no dynamics with that encoder; "
            "distil it in a run whose dynamics was trained on the same one"
        )


def _fresh(seed: int) -> torch.Generator:
    """Return the generator of a sampler's own noise."""
    return torch.Generator().manual_seed(seed)


def _milliseconds(model: Any, batch: SequenceBatch, sampling: Sampling) -> float:
    """Return the median time of sampling 64 rows, after a call to warm up."""
    some = batch.split(_TIMED_ROWS)[0]
    task = denoising(model, some)
    repeats = -(-_TIMED_ROWS // len(task.clean))
    noise, spent, clip = torch.zeros_like(task.clean), [], _clip(model)
    for _ in range(1 + _TIMED_CALLS):
        before = time.perf_counter()
        for _ in range(repeats):
            model.diffusion.sample(task.filled(model.network), noise, sampling, generator=_fresh(0), clip=clip)
        spent.append(1000 * (time.perf_counter() - before))
    return statistics.median(spent[1:])
