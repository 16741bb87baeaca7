"""What a planner refuses: settings out of their range, and inputs whose shapes do not fit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from wmkit.contracts import Context, SupportsReference, WorldModel

from .proposals.protocols import SupportsCheck

if TYPE_CHECKING:
    from .base import SamplingPlanner

__all__ = ["check_inputs", "check_settings"]


def check_settings(planner: "SamplingPlanner[Any]") -> None:
    """Refuse numbers out of their range, with one line each."""
    name, share, rates = type(planner).__name__, planner.proposal_share, planner.max_rate
    for key, value in (("horizon", planner.horizon), ("samples", planner.samples), ("iterations", planner.iterations)):
        if value < 1:
            raise ValueError(f"{name}: {key} is {value!r}; give at least 1")
    if planner.candidates < 0:
        raise ValueError(f"{name}: candidates is {planner.candidates!r}; give 0 to show none, or more")
    if planner.rescore < 0:
        raise ValueError(f"{name}: rescore is {planner.rescore!r}; give 0 for no second look, or more")
    if planner.rescore and not isinstance(planner.model, SupportsReference):
        raise ValueError(
            f"{name}: rescore is {planner.rescore}, but {type(planner.model).__name__} has no reference_rollout; give 0"
        )
    if not 0 <= share < 1:
        raise ValueError(f"{name}: proposal_share is {share!r}; give a fraction in [0, 1)")
    if not planner.noise_exponent >= 0:
        raise ValueError(f"{name}: noise_exponent is {planner.noise_exponent!r}; give 0 for white noise, or more")
    if planner.noise_knots is not None and planner.noise_knots < 1:
        raise ValueError(f"{name}: noise_knots is {planner.noise_knots!r}; give at least 1, or None")
    if not planner.decay >= 1:
        raise ValueError(
            f"{name}: decay is {planner.decay!r}; give 1 for as many candidates in every iteration, or more"
        )
    if planner.schedule not in ("fit", "truncate"):
        raise ValueError(f"{name}: schedule is {planner.schedule!r}; give 'fit' or 'truncate'")
    size = planner.model.spec.action_size
    listed = rates if isinstance(rates, Sequence) else [1.0 if rates is None else rates] * size
    if len(listed) != size or not all(rate > 0 for rate in listed):
        raise ValueError(f"{name}: max_rate is {rates!r}; give one number above 0, or {size} of them")
    if isinstance(planner.proposal, SupportsCheck):
        planner.proposal.check(planner.model.spec)


def check_inputs(model: WorldModel, context: Context, warm_start: Tensor | None, horizon: int) -> None:
    """Refuse shapes that do not fit, with one line each."""
    spec = model.spec
    b, t = context.latents.shape[:2]
    if horizon < 1:
        raise ValueError(f"horizon is {horizon!r}; give at least 1 model step")
    if context.latents.shape[2:] != (spec.latent_size,) or not 1 <= t <= spec.history:
        raise ValueError(
            f"context.latents has shape {tuple(context.latents.shape)}; expected (B, T, D) with T from 1 to "
            f"{spec.history} and D = {spec.latent_size}"
        )
    expected: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("context.actions", context.actions, (b, t - 1, spec.block_size)),
        ("context.goal", context.goal, (b, spec.latent_size)),
        ("context.pending", context.pending, (b, -1, spec.block_size)),
        ("context.last_action", context.last_action, (b, spec.action_size)),
        ("warm_start", warm_start, (b, -1, spec.block_size)),
    ]
    for name, tensor, shape in expected:
        if tensor is None:
            continue
        fits = tensor.ndim == len(shape) and all(e in (-1, s) for e, s in zip(shape, tensor.shape, strict=True))
        if not fits or (name == "warm_start" and tensor.shape[1] == 0):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape} with any size where -1 stands")
