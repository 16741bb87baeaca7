"""One step of training, as the loop takes it and `wmkit bench train` times it."""

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .cpu import FastCPU
from .stage import Stage

__all__ = ["take_step"]


def take_step(
    stage: Stage, optimizers: Sequence[torch.optim.Optimizer], step: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw a batch, compute the loss and its gradients, clip them, and let the optimisers step.

    Nothing in it makes the host wait for the device, if the stage's `loss` does not. On the CPU linear layers and
    attention take the way of `FastCPU`.

    Args:
        stage: what is trained, in training mode.
        optimizers: of its parameters, with their learning rates set.
        step: number of the step.
        generator: source of the step's random numbers, on the CPU.

    Returns:
        The stage's terms, "loss", and with clipping "grad_norm": detached scalars on their device.
    """
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    parameters = _parameters(optimizers)
    fast = getattr(stage, "fast_cpu", True) and any(parameter.device.type == "cpu" for parameter in parameters[:1])
    with FastCPU() if fast else contextlib.nullcontext():
        loss, metrics = stage.loss(step, generator)
    loss.backward()
    terms = {**metrics, "loss": loss.detach()}
    if stage.clip is not None:
        terms["grad_norm"] = nn.utils.clip_grad_norm_(parameters, stage.clip)
    for optimizer in optimizers:
        optimizer.step()
    torch.autograd.graph.increment_version(parameters)  # fused optimisers leave it; what is kept of weights goes by it
    stage.after_step(step)
    return terms


def _parameters(optimizers: Sequence[torch.optim.Optimizer]) -> list[Tensor]:
    """Return all parameters of the optimisers."""
    return [parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]]
