"""Few-step students of diffusion models, by progressive distillation (Salimans and Ho, 2022, arXiv 2202.00512).

A round halves the number of sampling steps: the student starts as a copy of its teacher and learns to go in one
deterministic step where the teacher goes in two. Dynamics and proposals are distilled alike, as both denoise sequences.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..contracts import WorldModel
from ..data.latents import SequenceBatch
from ..errors import UserError
from ..training.optim import warmup_cosine
from .features import Features
from .network import SequenceDenoiser
from .process import Diffusion
from .settings import DiffusionConfig, Sampling

__all__ = [
    "Denoising",
    "Distillable",
    "DistilRecipe",
    "DistilSettings",
    "Windows",
    "denoising",
    "direct_output",
    "distillable",
    "few_steps",
    "teacher_target",
]

_WARMUP = 20
_CUT = 0.25
"""Share of the batches that are cut short."""
_LEAST_TEACHER = 8
"""Steps that the first teacher takes at least, unless told otherwise."""

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy (M, H, S), levels (M,)) -> what the network predicts (M, H, S)."""


@dataclass(frozen=True)
class Denoising:
    """What a diffusion model makes of a batch.

    Attributes:
        clean: (M, H, S), what is to be sampled, in the network's normalised units.
        context: (M, C).
        condition: (M, H, E), or None.
        weights: (M, H, 1), 0 or 1: the steps that count; None counts all.
    """

    clean: Tensor
    context: Tensor
    condition: Tensor | None
    weights: Tensor | None

    def filled(self, network: SequenceDenoiser) -> Denoiser:
        """Return a network with contexts and conditions filled in."""
        return lambda noisy, levels: network(noisy, levels, self.context, self.condition)


class Distillable(Protocol):
    """A part, a `torch.nn.Module`, whose sampling can be shortened."""

    sampling: Sampling
    network: SequenceDenoiser
    diffusion: Diffusion
    features: Features


def denoising(part: Any, batch: SequenceBatch, generator: torch.Generator | None = None) -> Denoising:
    """Return what a dynamics or a proposal denoises in a batch.

    A dynamics denoises the changes of the latents under the actions, a proposal the actions, or both where it is joint;
    a goal's steps are those that count.

    Args:
        part: what is distilled.
        batch: M windows.
        generator: cuts a quarter of the batches to a shorter history, and a quarter to a shorter horizon where the part
            is asked for shorter ones; None cuts none.
    """
    features, network = part.features, part.network
    t, f = features.config.history, features.config.horizon
    chance = torch.ones(4) if generator is None else torch.rand(4, generator=generator)
    seen = 1 + int(chance[1] * (t - 1)) if chance[0] < _CUT else t
    goal = (batch.goal, batch.steps) if features.config.goal else (None, None)
    context = features.context(batch.latents[:, t - seen : t], batch.actions[:, t - seen : t - 1], *goal)
    actions = features.scale_actions(batch.actions[:, t - 1 :])
    changes = features.scale_changes(batch.latents[:, t:], batch.latents[:, t - 1])
    if isinstance(part, WorldModel):
        h = network.patch * (1 + int(chance[3] * (f // network.patch))) if chance[2] < _CUT else f
        return Denoising(changes[:, :h], context, actions[:, :h], None)
    clean = torch.cat([actions, changes], dim=-1) if network.target_size > actions.shape[-1] else actions
    if batch.steps is None or not features.config.goal:
        return Denoising(clean, context, None, None)
    counted = torch.arange(f, device=clean.device) < batch.steps[:, None]
    return Denoising(clean, context, None, counted[..., None].to(clean))


class Windows(Protocol):
    """A source of batches."""

    def sample(self, n: int, generator: torch.Generator) -> SequenceBatch:
        """Draw n windows."""
        ...


@dataclass(frozen=True)
class DistilSettings:
    """How a student is made.

    Attributes:
        steps: sampling steps of the student, at least 1.
        teacher_steps: of the first teacher, `steps` times a power of two; None takes the least of them from 8 on.
        updates: optimiser steps of a round.
        batch: windows of an optimiser step.
        lr: highest learning rate of a round.
        clip: largest norm of the gradient.

    Raises:
        UserError: a number is out of its range.
    """

    steps: int = 2
    teacher_steps: int | None = None
    updates: int = 400
    batch: int = 128
    lr: float = 3e-4
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "updates", "batch", "lr", "clip"):
            value = getattr(self, name)
            if not value > 0:
                raise UserError(f"{name} must be above 0, not {value!r}")

    def rounds(self) -> list[tuple[int, int]]:
        """Return the rounds, each (the teacher's steps, the student's steps).

        Raises:
            UserError: the teacher's steps are no power of two times the student's, or no more than them.
        """
        first = self.teacher_steps or 2 * self.steps
        while self.teacher_steps is None and first < _LEAST_TEACHER:
            first *= 2
        halves = [first]
        while halves[-1] > self.steps and halves[-1] % 2 == 0:
            halves.append(halves[-1] // 2)
        if halves[-1] != self.steps or len(halves) < 2:
            raise UserError(
                f"a teacher of {first} steps cannot be halved down to {self.steps}; give {2 * self.steps}, "
                f"{4 * self.steps}, {8 * self.steps} ..."
            )
        return list(pairwise(halves))


def few_steps(steps: int, config: DiffusionConfig) -> Sampling:
    """Return how students are sampled: deterministically, from the highest noise level on."""
    sampler = "flow-euler" if config.kind == "flow" else "ddim"
    return Sampling(sampler=sampler, steps=steps, spacing="trailing", eta=0.0)


def teacher_target(
    diffusion: Diffusion, teacher: Denoiser, noisy: Tensor, start: Tensor, middle: Tensor, end: Tensor
) -> Tensor:
    """Return what the student shall predict (M, H, S) from `noisy` (M, H, S) at the levels `start`.

    Args:
        diffusion: the noise process.
        teacher: takes one step from `start` to `middle` and one from there to `end`.
        noisy: (M, H, S).
        start: (M,), levels above `middle`.
        middle: (M,), levels above `end`.
        end: (M,), levels from 0 on.
    """
    half = diffusion.step_between(teacher(noisy, start), noisy, start, middle)
    after = diffusion.step_between(teacher(half, middle), half, middle, end)
    return direct_output(diffusion, noisy, after, start, end)


def direct_output(diffusion: Diffusion, noisy: Tensor, after: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the prediction (M, H, S) with which one deterministic step leads from `noisy` to `after`, both (M, H, S).

    Solves after = a' x + s' (noisy - a x) / s for x, with alpha and sigma a, s of the level `start`, a', s' of `end`.
    """
    alpha, sigma = (share.view(-1, 1, 1) for share in diffusion.coefficients(start))
    alpha_after, sigma_after = (share.view(-1, 1, 1) for share in diffusion.coefficients(end))
    ratio = sigma_after / sigma
    clean = (after - ratio * noisy) / (alpha_after - ratio * alpha)
    return diffusion.target(clean, (noisy - alpha * clean) / sigma, start)


class DistilRecipe:
    """The rounds, for the training loop; the last round's student is the model.

    Args:
        part: the teacher, which stays as it is.
        settings: how.
        windows: to train on.
        held_back: to validate on.
        identity: plain JSON values that tell data and teacher; a resume refuses others.

    Raises:
        UserError: the part has no diffusion, or one that few steps cannot be distilled from.
    """

    def __init__(
        self,
        part: nn.Module,
        settings: DistilSettings,
        windows: Windows,
        held_back: Windows,
        identity: Mapping[str, Any],
    ) -> None:
        config = distillable(part).diffusion.config
        self.settings = {**vars(settings), **identity}
        rounds = settings.rounds()
        try:
            few_steps(rounds[0][0], config).check(config)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.stages: Sequence[Round] = ()
        for long, short in rounds:
            student = copy.deepcopy(part)
            distillable(student).sampling = few_steps(short, config)
            self.stages = [*self.stages, Round(part, student, long, short, settings, windows, held_back)]
            part = student
        self.model = part


class Round:
    """One halving, a stage of training. The student needs no average of its weights: its learning rate falls to 0."""

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        long: int,
        short: int,
        settings: DistilSettings,
        windows: Windows,
        held_back: Windows,
    ) -> None:
        self.name, self.steps, self.clip = f"{long}-to-{short}", settings.updates, settings.clip
        self.module = student
        self._teacher, self._settings = teacher, settings
        self._windows, self._held_back = windows, held_back
        diffusion = distillable(teacher).diffusion
        self._fine = torch.tensor(diffusion.grid(few_steps(long, diffusion.config)), dtype=torch.float32)

    def begin(self) -> None:
        """Start from the teacher's weights, which this round leaves alone."""
        self._teacher.eval().requires_grad_(False)
        self.module.load_state_dict(self._teacher.state_dict())

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Return AdamW over the student's weights."""
        self.module.requires_grad_(True)
        return [torch.optim.AdamW(self.module.parameters(), lr=self._settings.lr, weight_decay=0.0)]

    def schedule(self, step: int) -> float:
        """Return the factor of the learning rate: warm-up, then a cosine to 0."""
        return warmup_cosine(step, self.steps, min(_WARMUP, self.steps))

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean square of student minus target, in the network's own kind of prediction."""
        return self._loss(self._windows.sample(self._settings.batch, generator), generator), {}

    def after_step(self, step: int) -> None:
        """Do nothing."""

    def validate(self, generator: torch.Generator) -> Mapping[str, float]:
        """Return the loss on held-back windows, the same ones each time."""
        batch = self._held_back.sample(self._settings.batch, generator)
        return {"score": float(self._loss(batch, generator))}

    def _loss(self, batch: SequenceBatch, generator: torch.Generator) -> Tensor:
        teacher, student = distillable(self._teacher), distillable(self.module)
        with torch.no_grad():
            task = denoising(teacher, batch, generator)
            first = 2 * torch.randint(len(self._fine) // 2, (len(task.clean),), generator=generator)
            start, middle, end = (self._fine[first + offset].to(task.clean) for offset in range(3))
            noise = torch.randn(task.clean.shape, generator=generator).to(task.clean)
            noisy = teacher.diffusion.corrupt(task.clean, noise, start)
            target = teacher_target(teacher.diffusion, task.filled(teacher.network), noisy, start, middle, end)
        squares = (task.filled(student.network)(noisy, start) - target).square()
        if task.weights is None:
            return squares.mean()
        weights = task.weights.expand_as(squares)
        return (squares * weights).sum() / weights.sum().clamp(min=1)


def distillable(part: Any) -> Distillable:
    """Return the part as what it must be.

    Raises:
        UserError: it has no diffusion, or predicts the noise, which says nothing of the sequence at the highest level.
    """
    if getattr(part, "diffusion", None) is None:
        raise UserError(f"{type(part).__name__} is no diffusion model; there are no sampling steps to save")
    config = part.diffusion.config
    if config.kind == "ddpm" and config.prediction == "epsilon":
        raise UserError(
            f"{type(part).__name__} predicts the noise, from which no single step can be learned; "
            "train it with prediction v_prediction or sample"
        )
    return part
