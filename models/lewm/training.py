"""How a LeWM is trained: a representation from pixels, then the dynamics on its cached latents."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmkit.data.prefetch import Prefetcher
from wmkit.data.transfer import send
from wmkit.data.windows import Windows
from wmkit.training.compiling import compiled
from wmkit.training.diagnostics import diagnose
from wmkit.training.optim import Muon, split_parameters, warmup_cosine

from .losses import contrast_loss, inverse_loss, rollout_loss, transform_actions, transform_pixels, views_of
from .model import LeWM
from .sigreg import SIGReg

__all__ = ["Corpus", "DynamicsSettings", "DynamicsStage", "RepresentationSettings", "RepresentationStage"]

_REFERENCE = 256
_HORIZON = 5
_FRAMES_AT_ONCE = 512
_CHECKED_PAIRS = 2048
_MANY_STEPS = 10000
"""Steps from which `torch.compile` pays on a GPU."""


@dataclass(frozen=True)
class RepresentationSettings:
    """Encoder, predictor and a small inverse dynamics together, from pixels.

    Attributes:
        steps: optimiser steps.
        batch: windows of a step.
        frames: frames of a window, at model-step spacing.
        past: frames of a window that the rollout is given; the others it must predict.
        teacher: predict each next latent from encoded ones instead of rolling out.
        per_episode: windows of a step from the same episode; SIGReg then looks at each episode by itself.
        lr: learning rate.
        muon: Muon for the encoder's matrices, else AdamW for all.
        weight_decay: of the matrices.
        sigreg: weight of SIGReg's statistic for 256 latents, at the beginning.
        sigreg_end: the same at the end.
        projections: random directions of SIGReg.
        slowness: weight of the squared change per model step.
        inverse: weight of the inverse dynamics; needs a model with an inverse head.
        contrast: weight of temporal contrast.
        temperature: of temporal contrast.
        views: symmetries of the task to train under: "none", "flip" or "dihedral".
        clip: largest norm of the gradient.
        bf16: run matrix products in bfloat16.
        compile: use `torch.compile` for encoder and predictor; None does on a GPU where the steps are many enough to
            make up for the time that it takes.
    """

    steps: int
    batch: int = 128
    frames: int = 5
    past: int = 1
    teacher: bool = False
    per_episode: int = 1
    lr: float = 1e-3
    muon: bool = True
    weight_decay: float = 1e-3
    sigreg: float = 0.1
    sigreg_end: float = 0.05
    projections: int = 256
    slowness: float = 0.0
    inverse: float = 0.0
    contrast: float = 0.0
    temperature: float = 0.1
    views: str = "none"
    clip: float | None = None
    bf16: bool = True
    compile: bool | None = None


@dataclass(frozen=True)
class DynamicsSettings:
    """Predictor and inverse dynamics on the latents of the frozen encoder, trained long and cheaply.

    Attributes:
        steps: optimiser steps.
        batch: windows of a step.
        rollout: K, model steps rolled out.
        reach: the most model steps between start and goal of the inverse dynamics.
        lr: learning rate.
        weight_decay: of the matrices.
        views: symmetries of the task: "none", "flip" or "dihedral".
        bf16: run matrix products in bfloat16.
    """

    steps: int
    batch: int = 256
    rollout: int = 5
    reach: int = 6
    lr: float = 1e-3
    weight_decay: float = 1e-3
    views: str = "none"
    bf16: bool = True


@dataclass(frozen=True)
class Corpus:
    """The data of a training run.

    Attributes:
        train: windows of the training split, with "pixels".
        validation: windows of the validation split, with "pixels" and "state".
        probes: name -> (states (F, S)) -> (F, size), for linear probes.
        device: where to train.
    """

    train: Windows
    validation: Windows
    probes: Mapping[str, Any]
    device: torch.device


class _LeWMStage:
    """What both stages share: optimisers, schedule, and diagnostics."""

    clip: float | None = None

    def __init__(self, model: LeWM, corpus: Corpus, settings: RepresentationSettings | DynamicsSettings) -> None:
        self._model, self._corpus, self._settings = model, corpus, settings
        self.steps = settings.steps

    @property
    def module(self) -> nn.Module:
        """The whole model."""
        return self._model

    def schedule(self, step: int) -> float:
        """Return the factor of the learning rates: a short warm-up, then a cosine."""
        return warmup_cosine(step, self.steps, warmup=min(100, max(1, self.steps // 20)), floor=0.02)

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def _adamw(self, modules: Sequence[nn.Module]) -> torch.optim.Optimizer:
        """Return AdamW for some parts of the model, with weight decay on the matrices."""
        matrices, others = split_parameters(nn.ModuleList(modules))
        decayed = {"params": matrices, "weight_decay": self._settings.weight_decay}
        return torch.optim.AdamW([decayed, {"params": others, "weight_decay": 0.0}], lr=self._settings.lr, fused=True)

    def _autocast(self) -> torch.autocast:
        """Return the context in which networks run."""
        return torch.autocast(self._corpus.device.type, torch.bfloat16, enabled=self._settings.bf16)

    def _diagnose(self) -> dict[str, float]:
        """Return the diagnostics on the validation split."""
        model, windows = self._model, self._corpus.validation
        latents = _encode(model, windows)
        rows = windows.ordered(frames=1)[:, 0]
        place = torch.searchsorted(windows.offsets, rows, right=True) - 1
        states = windows.frames("state")[rows].cpu().numpy()
        probes = self._corpus.probes if len(windows.episodes) > 1 else {}
        targets = {name: torch.as_tensor(target(states)) for name, target in probes.items()}
        past = model.config.history
        clips = windows.ordered(frames=past + _HORIZON)
        actions = windows.actions(clips).to(latents.device)

        def predict(seen: Tensor, blocks: Tensor) -> Tensor:
            normal = model.normalize_actions(blocks)
            return rollout_loss(model.step, _padded(seen), normal, seen.shape[1], _memory(model))[1]

        pair = (latents[clips], actions)
        return diagnose(latents[rows].cpu(), windows.episodes[place].cpu(), targets, pair, predict, past)


class RepresentationStage(_LeWMStage):
    """Trains all of the model from pixels (LeWM's loss; rollouts, inverse dynamics and contrast as settings say)."""

    name = "representation"
    _settings: RepresentationSettings

    def __init__(self, model: LeWM, corpus: Corpus, settings: RepresentationSettings) -> None:
        super().__init__(model, corpus, settings)
        self.clip = settings.clip
        self._sigreg = SIGReg(settings.projections)
        self._views = views_of(settings.views)
        self._codes = torch.tensor(self._views, device=corpus.device)
        here = corpus.train.device.type == corpus.device.type
        self._ahead = None if here else Prefetcher(self._draw, corpus.device)
        worth = corpus.device.type == "cuda" and settings.steps >= _MANY_STEPS
        wanted = worth if settings.compile is None else settings.compile
        self._embed = compiled(model.embed) if wanted else model.embed
        self._step = compiled(model.step) if wanted else model.step
        self._guess = compiled(self._next) if wanted else self._next

    def begin(self) -> None:
        """Nothing to prepare."""

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Make the optimisers of all weights: with `muon`, Muon for the encoder's matrices."""
        settings, model = self._settings, self._model
        rest = [part for name, part in model.named_children() if name != "encoder"]
        if not settings.muon:
            return [self._adamw([model])]
        matrices, others = split_parameters(model.encoder)
        adamw = self._adamw(rest)
        adamw.add_param_group({"params": others, "weight_decay": 0.0})
        return [Muon(matrices, lr=settings.lr, weight_decay=settings.weight_decay), adamw]

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Draw windows and return the weighted loss, and its terms."""
        settings, model = self._settings, self._model
        pixels, actions = self._batch(step, generator)
        with self._autocast():
            latents = self._embed(pixels.flatten(0, 1)).float().unflatten(0, pixels.shape[:2])
            terms = {"prediction": self._prediction(latents, actions)}
            if settings.inverse and model.inverse_head is not None:
                reach = settings.frames - 1
                terms["inverse"] = inverse_loss(model.inverse_head, latents, actions, reach, generator)
        grouped = latents.flatten(0, 1).unflatten(0, (-1, settings.per_episode * settings.frames))
        grouped = latents.transpose(0, 1) if settings.per_episode == 1 else grouped
        terms["sigreg"] = self._sigreg(grouped, generator) * (_REFERENCE / grouped.shape[1])
        terms["slowness"] = latents.diff(dim=1).square().mean()
        if settings.contrast:
            group = settings.per_episode if settings.per_episode > 1 else settings.batch
            terms["contrast"] = contrast_loss(latents, group, settings.temperature, generator)
        progress = step / max(1, self.steps)
        weights = {
            "prediction": 1.0,
            "inverse": settings.inverse,
            "sigreg": settings.sigreg + (settings.sigreg_end - settings.sigreg) * progress,
            "slowness": settings.slowness,
            "contrast": settings.contrast,
        }
        total = sum((weights[name] * term for name, term in terms.items() if weights[name]), torch.zeros(()))
        return total, {name: term.detach() for name, term in terms.items()}

    def validate(self, generator: torch.Generator) -> Mapping[str, float]:
        """Return the diagnostics; no score, since no single number says which representation is best."""
        return self._diagnose()

    def prefetch(self, step: int, generator: torch.Generator) -> None:
        """Begin to draw the batch of the next step, where the frames are not on the device already."""
        if self._ahead is not None:
            self._ahead.start(step, generator)

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw windows: "pixels" (n, T, S, S, 3) and "action" (n, T-1, A)."""
        settings = self._settings
        batch = self._corpus.train.sample(settings.batch, generator, settings.per_episode)
        return {name: batch[name] for name in ("pixels", "action")}

    def _batch(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return pixels (n, T, S, S, 3) and normalised actions (n, T-1, A), each group of rows under its symmetry."""
        batch = self._draw(generator) if self._ahead is None else self._ahead.take(step, generator)
        pixels, actions = batch["pixels"], batch["action"]
        if len(self._views) > 1:
            size = -(-len(actions) // len(self._views))
            views = self._codes.repeat_interleave(size)[: len(actions)]
            actions = transform_actions(actions, views)
            groups = self._model.clean(pixels).split(size)
            pixels = torch.cat([transform_pixels(part, view) for part, view in zip(groups, self._views, strict=False)])
        return pixels, self._model.normalize_actions(actions)

    def _prediction(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Return the prediction loss, with gradients through the targets too."""
        settings, model = self._settings, self._model
        if settings.teacher:
            return (self._guess(latents[:, :-1], actions).float() - latents[:, 1:]).square().mean()
        return rollout_loss(self._step, latents, actions, settings.past, _memory(model))[0]

    def _next(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Predict the latent after each of latents (n, T, D) and normalised actions (n, T, A)."""
        return self._model.project(self._model.predictor(latents, actions))


class DynamicsStage(_LeWMStage):
    """Trains predictor and inverse dynamics further, on cached latents."""

    name = "dynamics"
    _settings: DynamicsSettings

    def __init__(self, model: LeWM, corpus: Corpus, settings: DynamicsSettings) -> None:
        super().__init__(model, corpus, settings)
        self.fast_cpu = not settings.bf16
        self._views = views_of(settings.views)
        self._codes = torch.tensor(self._views, device=corpus.train.device)
        self._latents = torch.empty(0)

    def begin(self) -> None:
        """Encode all training frames under every symmetry: (views, F, D)."""
        self._latents = torch.stack([_encode(self._model, self._corpus.train, view) for view in self._views])

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Make the optimisers of predictor and inverse dynamics; the encoder stays as it is."""
        self._model.requires_grad_(False)
        parts = [self._model.predictor, self._model.prediction_projector, self._model.inverse_head or nn.Identity()]
        return [self._adamw([part.requires_grad_(True) for part in parts])]

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Draw windows of latents; the rollout starts with or without the step before, half and half."""
        settings, model = self._settings, self._model
        train, past = self._corpus.train, model.config.history
        rows = train.index(settings.batch, generator, past + settings.rollout)
        view = send(torch.randint(len(self._views), (settings.batch,), generator=generator), rows.device)
        latents = self._latents[view[:, None], send(rows, self._latents.device)]
        blocks = transform_actions(train.actions(rows, check=False), self._codes[view])
        actions = model.normalize_actions(send(blocks, latents.device))
        half, end, memory = settings.batch // 2, settings.rollout, _memory(model)
        with self._autocast():
            knowing, _ = rollout_loss(
                model.step, latents[:half, : past + end], actions[:half, : past + end - 1], past, memory
            )
            alone, _ = rollout_loss(model.step, latents[half:, : 1 + end], actions[half:, :end], 1, memory)
            loss = (knowing + alone) / 2
            terms = {"prediction": loss.detach()}
            if model.inverse_head is not None:
                inverse = self._inverse(train, self._latents, view, generator)
                terms["inverse"] = inverse.detach()
                loss = loss + inverse
        return loss, terms

    def validate(self, generator: torch.Generator) -> Mapping[str, float]:
        """Return the diagnostics, the error of the inverse dynamics, and as score the open-loop error plus that."""
        numbers = self._diagnose()
        score = sum(value for name, value in numbers.items() if name.startswith("open_loop/")) / _HORIZON
        if self._model.inverse_head is not None:
            windows = self._corpus.validation
            latents = _encode(self._model, windows).unsqueeze(0)
            view = torch.zeros(_CHECKED_PAIRS, dtype=torch.long, device=windows.device)
            numbers["inverse_error"] = self._inverse(windows, latents, view, generator).item()
            score += numbers["inverse_error"]
        return numbers | {"score": score}

    def _inverse(self, windows: Windows, latents: Tensor, view: Tensor, generator: torch.Generator) -> Tensor:
        """Return the error of the first action block towards frames 1 to `reach` model steps ahead in the episode.

        Args:
            windows: where the frames are from.
            latents: (views, F, D), of all frames.
            view: (n,), which symmetry each pair is seen under.
            generator: source of the pairs.
        """
        model, repeat = self._model, windows.action_repeat
        rows = windows.index(len(view), generator, frames=2)
        end = windows.offsets[torch.searchsorted(windows.offsets, rows[:, 0].contiguous(), right=True)] - 1
        most = ((end - rows[:, 0]) // repeat).clamp(max=self._settings.reach)
        steps = 1 + (send(torch.rand(len(view), generator=generator), most.device) * most).long()
        blocks = transform_actions(windows.actions(rows, check=False)[:, 0], send(self._codes, rows.device)[view])
        wanted, steps, rows = (send(each, latents.device) for each in (blocks, steps, rows[:, 0]))
        now, goal = latents[view, rows], latents[view, rows + steps * repeat]
        head: nn.Module | None = model.inverse_head
        if head is None:
            raise ValueError("the model has no inverse head")
        return functional.mse_loss(head(now, goal, steps).float(), model.normalize_actions(wanted))


def _memory(model: LeWM) -> int:
    """Return how many latents a step looks back on: the history, or all where the predictor carries its memory."""
    return sys.maxsize if getattr(model.predictor, "carries", False) else model.config.history


@torch.no_grad()
def _encode(model: LeWM, windows: Windows, view: int = 0) -> Tensor:
    """Return the latents (F, D) of all frames under a symmetry, in evaluation mode, on the model's device."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    latents = []
    for batch in windows.frame_batches("pixels", _FRAMES_AT_ONCE):
        pixels = batch.to(device)
        if view:
            pixels = transform_pixels(model.clean(pixels), view)
        latents.append(model.embed(pixels).float())
    model.train(was_training)
    return torch.cat(latents)


def _padded(seen: Tensor) -> Tensor:
    """Return latents (B, T, D) followed by room for the horizon; the rollout reads only the first T."""
    return torch.cat([seen, seen[:, -1:].expand(-1, _HORIZON, -1)], dim=1)
