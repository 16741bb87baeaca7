"""Optimisers, learning-rate schedules and weight averages."""

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["Muon", "average", "orthogonalize", "split_parameters", "warmup_cosine"]

_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon: momentum whose singular values are brought near 1 (Jordan et al. 2024; scale from Liu et al. 2025).

    torch.optim.Muon takes matrices alone; this one takes convolution kernels too, as (out, in * height * width).
    An update has the root mean square of one of AdamW's, so AdamW's learning rate and weight decay carry over.

    Args:
        params: weights of two or more dimensions, or groups of them; leave embeddings, gains and biases to AdamW.
        lr: learning rate.
        momentum: of the gradient's running mean, in [0, 1).
        weight_decay: decoupled, as in AdamW.

    Raises:
        ValueError: a parameter has fewer than two dimensions.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise ValueError(f"Muon takes weights of 2 or more dimensions, not {tuple(parameter.shape)}")

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; see torch.optim.Optimizer.step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Move one weight."""
        state = self.state[parameter]
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        mean = state["mean"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(mean, group["momentum"]).reshape(len(parameter), -1)
        scale = 0.2 * math.sqrt(max(direction.shape))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(orthogonalize(direction).view(parameter.shape), alpha=-group["lr"] * scale)


def orthogonalize(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Return `matrix` (R, C) with its singular values brought to about 0.7 to 1.2, by Newton-Schulz iterations.

    The polynomials of X X' are multiplied up on the smaller side, so that the whole matrix is multiplied only twice.
    Coefficients: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    wide = wide.float() if wide.dtype != torch.float64 else wide
    wide = wide / wide.norm().clamp(min=1e-7)
    gram = wide @ wide.mT
    total = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    identity, (a, b, c) = total, _QUINTIC
    for i in range(iterations):
        factor = torch.addmm(b * gram + a * identity, gram, gram, alpha=c)
        total = factor @ total
        if i + 1 < iterations:
            gram = factor @ gram @ factor
    result = (total @ wide).to(matrix.dtype)
    return result if matrix.shape[0] <= matrix.shape[1] else result.mT


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trainable weights of linear and convolution layers, for `Muon`, and all others, for AdamW.

    Embeddings and bare parameters (position codes, tokens) count as others though they may have two dimensions.
    """
    layers = (nn.Linear, nn.modules.conv._ConvNd)
    wanted = {id(layer.weight) for layer in module.modules() if isinstance(layer, layers)}
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if id(parameter) in wanted]
    return matrices, [parameter for parameter in trainable if id(parameter) not in wanted]


def warmup_cosine(step: int, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Return the factor of the learning rate: linear up to 1 over `warmup` steps, then half a cosine down to `floor`.

    The first step has 1 / `warmup`; after the last, step = `steps`, it is `floor`.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def average(module: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of the module's weights and buffers.

    Call its `update_parameters(module)` after each step; the averaged module is its `module`.
    """
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
