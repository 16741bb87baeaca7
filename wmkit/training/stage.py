"""What the training loop asks of a model family."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["Recipe", "Stage"]


class Stage(Protocol):
    """One phase of training with its own data, loss and optimiser.

    The loop makes every random number from the seed, the stage and the step, so a stage keeps no random state, and a
    resumed run repeats an uninterrupted one exactly.

    A stage may also have `prefetch(step, generator)`: it is called before the step ahead of it, with the generator that
    `loss` gets for that step, and may begin to draw its batch; on what it draws, nothing else may depend. And it may
    have `fast_cpu`, False where `FastCPU` would find nothing to do and only cost the time of looking.
    """

    @property
    def name(self) -> str:
        """Short name, unique in the recipe; metrics are logged under it."""
        ...

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        ...

    @property
    def module(self) -> nn.Module:
        """All weights and buffers that the stage changes; what a checkpoint holds. It exists before `begin`.

        The loop puts it in training mode for `loss` and in evaluation mode for `validate`, the rest of the model in
        evaluation mode; a module with frozen parts inside overrides `train`.
        """
        ...

    @property
    def clip(self) -> float | None:
        """Largest norm of the gradient; None leaves it as it is."""
        ...

    def begin(self) -> None:
        """Prepare, e.g. encode the data with a frozen encoder. Called once before the first step, also after a resume.

        Global generators are seeded beforehand. After a resume the weights are those of the checkpoint, and what this
        call does to them is undone; so it may derive only from weights that the stage leaves alone.
        """
        ...

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Make the optimisers; the loop scales each group's "initial_lr" by `schedule`."""
        ...

    def schedule(self, step: int) -> float:
        """Return the factor of the learning rates at a step."""
        ...

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Draw a batch with `generator` and return its loss, a scalar, and detached scalars to log."""
        ...

    def after_step(self, step: int) -> None:
        """Do what follows an optimiser step, e.g. move an average of the weights."""
        ...

    def validate(self, generator: torch.Generator) -> Mapping[str, float]:
        """Return diagnostics on held-back episodes; "score", lower is better, chooses the best checkpoint."""
        ...


class Recipe(Protocol):
    """A model family's training from nothing to a model folder: stages in order, on one model."""

    @property
    def model(self) -> nn.Module:
        """The model that all stages share; it has `save_pretrained(folder)`."""
        ...

    @property
    def stages(self) -> Sequence[Stage]:
        """The stages, in order."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Resolved settings and the training data's "fingerprint", plain JSON values; a resume refuses others."""
        ...
