"""Action parametrisations: what a planner searches over, and the actions it stands for.

Letters beside those of `wmkit.contracts`: **M** knots of a plan, **E** numbers of one environment action.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from wmkit.contracts import Context, ModelSpec

__all__ = ["Hold", "Order", "Parametrisation", "Spline"]

Order = Literal["zero", "linear", "cubic"]
"""How a spline goes from knot to knot: holding each, in straight lines, or smoothly."""


@runtime_checkable
class Parametrisation(Protocol):
    """A map from knots, each an environment action, to the actions of a plan."""

    def knots(self, spec: ModelSpec, horizon: int) -> int:
        """Return M for a plan of `horizon` model steps."""
        ...

    def actions(self, parameters: Tensor, context: Context, spec: ModelSpec, horizon: int) -> Tensor:
        """Map knots (B, N, M, E) to actions (B, N, H, A), differentiably; the planner clips the result to the bounds.

        `context` holds the actions executed before, for parametrisations that continue them.
        """
        ...

    def parameters(self, actions: Tensor, spec: ModelSpec) -> Tensor:
        """Return the knots (B, N, M, E) that come nearest to actions (B, N, H, A)."""
        ...


class Hold:
    """Holds each knot for some environment steps; the last knot is cut short where the horizon ends.

    Attributes:
        keeps_bounds: class attribute; knots within the bounds give actions within the bounds.
    """

    keeps_bounds = True

    def __init__(self, steps: int = 1) -> None:
        """Create the parametrisation.

        Args:
            steps: environment steps that a knot is held for, at least 1; 1 leaves every action free.
        """
        if steps < 1:
            raise ValueError(f"Hold.steps is {steps!r}; give a number of environment steps of at least 1")
        self.steps = steps

    def knots(self, spec: ModelSpec, horizon: int) -> int:
        """Return M, the environment steps of the horizon over those of a knot, rounded up."""
        return -(-horizon * spec.action_repeat // self.steps)

    def actions(self, parameters: Tensor, context: Context, spec: ModelSpec, horizon: int) -> Tensor:
        """Repeat knots (B, N, M, E) into actions (B, N, H, A)."""
        b, n = parameters.shape[:2]
        if self.steps > 1:
            parameters = parameters.repeat_interleave(self.steps, dim=2)[:, :, : horizon * spec.action_repeat]
        return parameters.reshape(b, n, horizon, spec.block_size)

    def parameters(self, actions: Tensor, spec: ModelSpec) -> Tensor:
        """Return the mean (B, N, M, E) of the actions (B, N, H, A) that each knot is held for."""
        b, n, h, _ = actions.shape
        single = actions.reshape(b, n, h * spec.action_repeat, spec.action_size)
        if self.steps == 1:
            return single
        rows = single.flatten(0, 1).transpose(1, 2)
        means = F.avg_pool1d(rows, self.steps, ceil_mode=True, count_include_pad=False)
        return means.transpose(1, 2).reshape(b, n, -1, spec.action_size)


class Spline:
    """A spline through a few knots, evenly spaced from the first action of a plan to its last.

    "zero" holds each knot for its share of the plan; "cubic" is the Catmull-Rom spline, whose slope at a knot is that
    of the line between its neighbours, so it may pass the knots' extremes, where the planner clips it to the bounds.
    """

    def __init__(self, knots: int, order: Order = "cubic") -> None:
        """Create the parametrisation.

        Args:
            knots: M, at least 1; plans with fewer actions than that get one knot for each.
            order: how the spline goes from knot to knot.

        Raises:
            ValueError: no knot, or an unknown order.
        """
        if knots < 1:
            raise ValueError(f"Spline.knots is {knots!r}; give at least 1")
        if order not in get_args(Order):
            raise ValueError(f"Spline.order is {order!r}; give {', '.join(map(repr, get_args(Order)))}")
        self.count = knots
        self.order: Order = order

    def knots(self, spec: ModelSpec, horizon: int) -> int:
        """Return M, at most one knot for each environment action."""
        return min(self.count, horizon * spec.action_repeat)

    def actions(self, parameters: Tensor, context: Context, spec: ModelSpec, horizon: int) -> Tensor:
        """Evaluate the spline through knots (B, N, M, E) at each environment step, (B, N, H, A)."""
        b, n, m, _ = parameters.shape
        basis = _placed(_basis, m, horizon * spec.action_repeat, self.order, parameters.dtype, parameters.device)
        return torch.einsum("sm,bnme->bnse", basis, parameters).reshape(b, n, horizon, spec.block_size)

    def parameters(self, actions: Tensor, spec: ModelSpec) -> Tensor:
        """Return the knots (B, N, M, E) of the spline with the least squared distance to actions (B, N, H, A)."""
        b, n, h, _ = actions.shape
        single = actions.reshape(b, n, h * spec.action_repeat, spec.action_size)
        m, steps = self.knots(spec, h), single.shape[2]
        inverse = _placed(_inverse_basis, m, steps, self.order, single.dtype, single.device)
        return torch.einsum("ms,bnse->bnme", inverse, single)


@cache
def _basis(knots: int, steps: int, order: Order) -> Tensor:
    """Return the matrix (steps, knots), float64, that maps knots to actions."""
    unit = torch.eye(knots, dtype=torch.float64, device="cpu")
    step = torch.arange(steps, dtype=torch.float64, device="cpu")
    if order == "zero" or knots == 1:
        return unit[(step * knots / steps).long()]
    position = step * (knots - 1) / (steps - 1)
    left = position.long().clamp(max=knots - 2)
    part = (position - left).unsqueeze(1)
    if order == "linear":
        return (1 - part) * unit[left] + part * unit[left + 1]
    slope = torch.gradient(unit, dim=0)[0]
    square, cube = part.square(), part**3
    ends = (2 * cube - 3 * square + 1) * unit[left] + (3 * square - 2 * cube) * unit[left + 1]
    return ends + (cube - 2 * square + part) * slope[left] + (cube - square) * slope[left + 1]


@cache
def _inverse_basis(knots: int, steps: int, order: Order) -> Tensor:
    """Return the matrix (knots, steps), float64, that fits knots to actions."""
    return torch.linalg.pinv(_basis(knots, steps, order))


@cache
def _placed(
    matrix: Callable[[int, int, Order], Tensor],
    knots: int,
    steps: int,
    order: Order,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return a matrix where and as it is needed, copied there once."""
    with torch.inference_mode(False):
        return matrix(knots, steps, order).to(device, dtype)
