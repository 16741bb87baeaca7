"""Reads a task's quantities, such as the block's pose, out of a model's latents; kept beside the model.

It looks at the latents and never changes them: nothing of it takes part in training or in a plan's cost.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from .data.files import replacing, write_json
from .errors import UserError
from .model_folder import weights_sha256
from .training.diagnostics import hold_back, linear_map, r2
from .training.records import plain

__all__ = ["Kind", "Readout", "score"]

Kind = Literal["linear", "mlp"]

_DOCUMENT, _WEIGHTS = "readout.json", "readout.safetensors"
_FORMAT, _VERSION = "wmkit.readout", 1
_WIDTH = 128
_BATCH, _STEPS, _CHECK_EVERY, _PATIENCE, _LEARNING_RATE = 512, 6000, 200, 8, 3e-3


class Readout(nn.Module):
    """Maps latents (..., D) to named quantities; make one with `fit` or `load`.

    Args:
        kind: "linear", or "mlp" with two hidden layers.
        latent_size: D.
        sizes: name -> how many numbers it has.

    Attributes:
        scores: name -> what `score` gives, on episodes that it was not fitted to; empty before `fit` or `load`.
    """

    latent_mean: Tensor
    latent_std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, kind: Kind, latent_size: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.kind, self.latent_size, self.sizes = kind, latent_size, dict(sizes)
        self.scores: dict[str, dict[str, float]] = {}
        out = sum(sizes.values())
        if kind == "linear":
            self.layers: nn.Module = nn.Linear(latent_size, out)
        elif kind == "mlp":
            widths = pairwise([latent_size, _WIDTH, _WIDTH])
            hidden = [layer for i, o in widths for layer in (nn.Linear(i, o), nn.GELU())]
            self.layers = nn.Sequential(*hidden, nn.Linear(_WIDTH, out))
        else:
            raise ValueError(f"a readout is 'linear' or 'mlp', not {kind!r}")
        for name, size in (("latent", latent_size), ("target", out)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    @classmethod
    def fit(
        cls,
        latents: Tensor,
        episodes: Tensor,
        targets: Mapping[str, Tensor],
        kind: Kind = "linear",
        seed: int = 0,
        held_back: float = 0.25,
    ) -> Self:
        """Fit to some episodes and score on others.

        Args:
            latents: (F, D).
            episodes: (F,), which episode each frame is of, integers.
            targets: by name, (F, size); an angle as its sine and cosine.
            kind: "linear" (ridge regression) or "mlp" (seconds of gradient steps, stopped by the held-back episodes,
                whose scores are by that a little too good; `scored` takes others).
            seed: of the first weights and of the batches of an "mlp".
            held_back: share of the episodes.

        Raises:
            ValueError: no targets, shapes that do not fit, numbers that are not finite, or fewer than two episodes.
        """
        _check(latents, episodes, targets)
        held, truth = hold_back(episodes, held_back), torch.cat([t.float() for t in targets.values()], dim=1)
        latents = latents.detach().float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            readout = cls(kind, latents.shape[1], {name: values.shape[1] for name, values in targets.items()})
        readout.to(latents.device)._normalise(latents[~held], truth[~held])
        if kind == "linear":
            readout._solve(latents[~held], truth[~held])
        else:
            readout._descend(latents, truth, held, seed)
        readout.requires_grad_(False)
        return readout.scored(latents[held], {name: values[held] for name, values in targets.items()})

    def scored(self, latents: Tensor, targets: Mapping[str, Tensor]) -> Self:
        """Set `scores` by latents (F, D) and targets, name -> (F, size), of episodes it has not seen; return itself."""
        predicted = self(latents.float())
        self.scores = {name: score(predicted[name], values) for name, values in targets.items()}
        return self

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        """Return name -> (..., size) for latents (..., D), in the units of the targets."""
        values = self.layers((latents.float() - self.latent_mean) / self.latent_std) * self.target_std
        parts = (values + self.target_mean).split(list(self.sizes.values()), dim=-1)
        return dict(zip(self.sizes, parts, strict=True))

    def save(self, folder: str | os.PathLike[str], weights: str | None = None) -> None:
        """Write `readout.json` and `readout.safetensors`, each whole or not at all.

        Args:
            folder: the model's, or another one that exists.
            weights: SHA-256 of the model's weights; None takes what the folder's configuration says.

        Raises:
            UserError: the file system refuses, or the folder is no model's and `weights` is None.
        """
        folder = Path(folder)
        content = save({name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()})
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "kind": self.kind,
            "latent_size": self.latent_size,
            "sizes": self.sizes,
            "scores": plain(self.scores),
            "model_sha256": weights or weights_sha256(folder),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        with replacing(folder / _WEIGHTS) as aside:
            aside.write_bytes(content)
        write_json(folder / _DOCUMENT, document)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], weights: str | None = None) -> Self:
        """Read a readout.

        Args:
            folder: the model's, or wherever it was saved.
            weights: SHA-256 of the model's weights; None takes what the folder's configuration says.

        Raises:
            UserError: there is none, it is damaged, or it was fitted to other weights.
        """
        folder = Path(folder)
        document = _read(folder)
        if document["model_sha256"] != (weights or weights_sha256(folder)):
            raise UserError(f"{folder / _DOCUMENT} was fitted to other weights than the model's; {_how(folder)}")
        try:
            content = (folder / _WEIGHTS).read_bytes()
            if hashlib.sha256(content).hexdigest() != document["sha256"]:
                raise ValueError(f"its SHA-256 is not that of {_DOCUMENT}")
            readout = cls(document["kind"], document["latent_size"], document["sizes"])
            readout.load_state_dict(load(content))
        except (OSError, SafetensorError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / _WEIGHTS} is damaged ({str(error).splitlines()[0]}); {_how(folder)}") from None
        readout.scores = {
            name: {key: math.nan if value is None else float(value) for key, value in found.items()}
            for name, found in document["scores"].items()
        }
        return readout.requires_grad_(False)

    def _normalise(self, latents: Tensor, truth: Tensor) -> None:
        """Take means and standard deviations from latents (F, D) and targets (F, size); constant columns keep 1."""
        for name, values in (("latent", latents), ("target", truth)):
            std = values.std(dim=0, correction=0)
            still = std <= 1e-6 * values.abs().amax(dim=0).clamp(min=1e-30)
            self.get_buffer(f"{name}_mean").copy_(values.mean(dim=0))
            self.get_buffer(f"{name}_std").copy_(torch.where(still, 1.0, std))

    def _solve(self, latents: Tensor, truth: Tensor) -> None:
        """Fit the one linear layer to latents (F, D) and targets (F, size) by ridge regression, as `linear_probe`."""
        self.latent_mean.zero_()
        self.latent_std.fill_(1.0)
        weights, bias = linear_map(latents, (truth - self.target_mean) / self.target_std)
        self.layers.load_state_dict({"weight": weights.mT, "bias": bias})

    def _descend(self, latents: Tensor, truth: Tensor, held: Tensor, seed: int) -> None:
        """Fit by gradient steps to the frames that are not `held` (F,), and keep the best weights on those that are."""
        inputs = (latents - self.latent_mean) / self.latent_std
        outputs = (truth - self.target_mean) / self.target_std
        batches = _batches((~held).nonzero()[:, 0].cpu(), seed)
        optimizer = torch.optim.AdamW(self.layers.parameters(), lr=_LEARNING_RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        best, best_state, waited = math.inf, deepcopy(self.layers.state_dict()), 0
        for step in range(1, _STEPS + 1):
            batch = next(batches).to(latents.device)
            loss = functional.mse_loss(self.layers(inputs[batch]), outputs[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % _CHECK_EVERY == 0:
                with torch.no_grad():
                    found = float(functional.mse_loss(self.layers(inputs[held]), outputs[held]))
                waited += 1
                if found < best:
                    best, best_state, waited = found, deepcopy(self.layers.state_dict()), 0
                if waited >= _PATIENCE:
                    break
        self.layers.load_state_dict(best_state)


def _batches(rows: Tensor, seed: int) -> Iterator[Tensor]:
    """Yield batches of rows (F,) without end, each row equally likely."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield rows[torch.randint(len(rows), (_BATCH,), generator=generator)]


def score(predicted: Tensor, truth: Tensor) -> dict[str, float]:
    """Return how near predicted is to truth, both (F, size).

    Returns:
        "r2" and "r" (Pearson's correlation), mean over the columns that vary, NaN where none does; "error", the mean
        absolute difference in the unit of the numbers; for an angle, given as sine and cosine, also "degrees", the mean
        absolute difference of the angles.
    """
    wide, known = predicted.double(), truth.double()
    centred = [values - values.mean(dim=0) for values in (wide, known)]
    size = centred[0].norm(dim=0) * centred[1].norm(dim=0)
    varying = known.std(dim=0, correction=0) > 1e-6 * known.abs().amax(dim=0).clamp(min=1e-30)
    r = (centred[0] * centred[1]).sum(dim=0) / size.clamp(min=1e-30)
    found = {
        "r2": r2(wide, known),
        "r": float(r[varying].mean()) if varying.any() else math.nan,
        "error": float((wide - known).abs().mean()),
    }
    if known.shape[1] == 2 and bool(((known.square().sum(dim=1) - 1).abs() < 1e-4).all()):
        turn = torch.atan2(wide[:, 0], wide[:, 1]) - torch.atan2(known[:, 0], known[:, 1])
        found["degrees"] = float(torch.rad2deg(torch.atan2(turn.sin(), turn.cos()).abs()).mean())
    return found


def _check(latents: Tensor, episodes: Tensor, targets: Mapping[str, Tensor]) -> None:
    """Raise ValueError for what cannot be fitted."""
    if not targets:
        raise ValueError("there is nothing to read out: the task names no probes")
    if latents.ndim != 2 or episodes.shape != latents.shape[:1]:
        raise ValueError(
            f"latents are {tuple(latents.shape)} and episodes {tuple(episodes.shape)}; give (F, D) and (F,)"
        )
    for name, values in {"latents": latents, **targets}.items():
        if values.ndim != 2 or len(values) != len(latents):
            raise ValueError(f"{name!r} is {tuple(values.shape)}, expected ({len(latents)}, size)")
        if not torch.isfinite(values).all():
            raise ValueError(f"{name!r} holds numbers that are not finite")


def _read(folder: Path) -> dict[str, Any]:
    """Return the JSON file's content."""
    path = folder / _DOCUMENT
    if not path.exists():
        raise UserError(f"{folder} has no {_DOCUMENT}, without which its latents cannot be read; {_how(folder)}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT or document["version"] != _VERSION:
            raise ValueError(f"format {document['format']!r}, version {document['version']!r}")
        if not {"kind", "latent_size", "sizes", "scores", "model_sha256", "sha256"} <= document.keys():
            raise ValueError("an entry is missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no readout of this wmkit ({error}); {_how(folder)}") from None
    return document


def _how(folder: Path) -> str:
    """Say how to get one."""
    return f"make one with `wmkit inspect {folder} --data DIR`"
