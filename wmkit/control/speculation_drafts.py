"""Plans made ahead for where a chunk may end."""

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..contracts import Context, Plan, WorldModel
from .advance import extend

__all__ = ["SPREADS", "Drafts", "Errand", "Spread", "outcomes", "plan_rows"]

Spread = Literal["errors", "samples", "members", "none"]
"""Where the outcomes around the prediction come from."""

SPREADS: tuple[str, ...] = get_args(Spread)


@dataclass(frozen=True)
class Errand:
    """What to draft: R rows of B that are alike, as the controller knew them when it asked.

    Attributes:
        rows: (R,), of B.
        chunks: (R,), the numbers of the chunks that they execute; another number later means that the draft is stale.
        context: at the start of the present model step.
        actions: (R, S, A), from there to the chunk's end, environment units.
        warm_start: (R, H, A), what of the plans remains after the chunk; None without warm starts.
        horizon: of the plans.
        errors: (K-1, D) or none (0, D), to add to the prediction.
        scale: (D,), the unit of each dimension in distances.
        tolerance: largest distance of a hit; -inf where nothing may hit.
        random_state: of the planner's generator now.
        seed: of the model's draws.
    """

    rows: np.ndarray
    chunks: np.ndarray
    context: Context
    actions: Tensor
    warm_start: Tensor | None
    horizon: int
    errors: Tensor
    scale: Tensor
    tolerance: float
    random_state: Tensor
    seed: int


@dataclass(frozen=True)
class Drafts:
    """K plans for each of R rows.

    Attributes:
        errand: what was asked.
        latents: (R, K, D), the outcomes; the first is the model's prediction.
        plan: for the R * K outcomes, those of a row one behind the other.
        random_state: of the planner's generator after planning.
        seconds: wall time of predicting and planning.
    """

    errand: Errand
    latents: Tensor
    plan: Plan
    random_state: Tensor
    seconds: float

    def nearest(self, positions: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Return distances (n,) to the nearest outcomes and their rows (n,) in `plan`.

        The distance is the root of the mean over D of the squared difference in units of `errand.scale`.

        Args:
            positions: (n,), which of the R rows.
            observed: (n, D).
        """
        difference = (self.latents[positions] - observed.unsqueeze(1)) / self.errand.scale
        distance, best = difference.square().mean(dim=2).sqrt().min(dim=1)
        return distance, positions * self.latents.shape[1] + best


def outcomes(
    model: WorldModel, errand: Errand, spread: Spread, count: int, generator: torch.Generator
) -> tuple[Tensor, Context]:
    """Predict where the chunk ends.

    Args:
        model: to predict with.
        errand: R rows.
        spread: "samples" draws `count` futures from a stochastic model and puts their mean first; "members" takes the
            mean of an ensemble's members first, then the members; "errors" adds the errand's to the prediction.
        count: K, at most; fewer where there are fewer members or errors.
        generator: of the model's draws.

    Returns:
        The outcomes (R, K, D), the prediction first, and the R * K contexts at the chunk's end.

    Raises:
        ValueError: "members" of a model that is no ensemble.
    """
    draws = count if spread == "samples" else 1
    rollout = model.rollout(errand.context, errand.actions.unsqueeze(1).expand(-1, draws, -1, -1), generator)
    paths = rollout.latents.mean(dim=1, keepdim=True)
    if spread == "samples":
        paths = torch.cat([paths, rollout.latents[:, : count - 1]], dim=1)
    elif spread == "members":
        if "members" not in rollout.quantities:
            raise ValueError(f'{type(model).__name__} has no ensemble members; give another spread than "members"')
        members = rollout.quantities["members"][:, 0].transpose(1, 2)
        paths = torch.cat([paths, members[:, : count - 1]], dim=1)
    elif len(errand.errors):
        paths = paths.repeat(1, 1 + len(errand.errors), 1, 1)
        paths[:, 1:, -1] += errand.errors
    many = paths.shape[1]
    index = torch.arange(len(errand.rows), device=paths.device).repeat_interleave(many)
    start, actions = errand.context.select(index), errand.actions[index]
    return paths[:, :, -1], extend(start, actions, paths.flatten(0, 1), model.spec.history)


def plan_rows(plan: Plan, rows: Tensor) -> Plan:
    """Return the given rows (n,) of a plan."""
    tensors = {f.name: getattr(plan, f.name) for f in fields(plan)}
    return replace(plan, **{name: x[rows] for name, x in tensors.items() if isinstance(x, Tensor)})
