"""Model-predictive path integral control."""

from dataclasses import dataclass
from functools import cache
from typing import Literal, Unpack

import torch
from torch import Tensor

from wmkit.contracts import WorldModel

from .base import SamplingPlanner
from .problem import Problem, Scored
from .settings import Shared

__all__ = ["MPPI", "MPPIState"]


@dataclass(frozen=True)
class MPPIState:
    """What candidates are scattered around.

    Attributes:
        mean: (B, M, E), environment units.
    """

    mean: Tensor


class MPPI(SamplingPlanner[MPPIState]):
    """Scatter candidates around a mean and move it to their average, the cheap ones weighted exponentially more.

    A candidate of cost S weighs exp(-S / temperature). The mean is executed, for one more rollout, and is itself a
    candidate. After Williams et al. (2017), "Information theoretic MPC for model-based reinforcement learning".
    """

    def __init__(
        self,
        model: WorldModel,
        *,
        temperature: float = 0.1,
        temperature_unit: Literal["relative", "absolute"] = "relative",
        std: float | tuple[float, float] = 0.3,
        control_cost: float = 0.0,
        smoothing: tuple[int, int] | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        """Create a planner.

        Args:
            model: what to plan through.
            temperature: above 0; towards 0 only the cheapest candidate counts, towards infinity all count alike.
            temperature_unit: "relative" takes the temperature as a fraction of the standard deviation of the finite
                costs of each iteration, so that it fits any objective; "absolute" in the cost's own unit.
            std: standard deviation of the scatter, as a fraction of half the action range. A pair anneals it
                geometrically from the first iteration to the last that the budget is laid out for.
            control_cost: weight of the paper's term, temperature * mean' inverse(covariance) (candidate - mean), in
                the weights; 0 leaves it out, 1 is the paper's. Rest, an action of zero, costs nothing.
            smoothing: window (odd) and order (below the window) of a Savitzky-Golay filter over the knots of the mean;
                None leaves the mean as it is. Plans with fewer knots than the window take all of them.
            shared: see `SamplingPlanner`; iterations is 1 unless given.

        Raises:
            ValueError: a number out of its range.
        """
        shared.setdefault("iterations", 1)
        super().__init__(model, **shared)
        if not temperature > 0:
            raise ValueError(f"MPPI: temperature is {temperature!r}; give a number above 0")
        if temperature_unit not in ("relative", "absolute"):
            raise ValueError(f"MPPI: temperature_unit is {temperature_unit!r}; give 'relative' or 'absolute'")
        self._scales = (std, std) if isinstance(std, (int, float)) else tuple(std)
        if len(self._scales) != 2 or not min(self._scales) > 0:
            raise ValueError(f"MPPI: std is {std!r}; give a number above 0, or a pair (first, last) of them")
        if not control_cost >= 0:
            raise ValueError(f"MPPI: control_cost is {control_cost!r}; give 0 or more")
        if smoothing is not None and not (smoothing[0] % 2 == 1 and 0 <= smoothing[1] < smoothing[0]):
            raise ValueError(f"MPPI: smoothing is {smoothing!r}; give (window, order), odd and below the window")
        self.temperature = temperature
        self.temperature_unit = temperature_unit
        self.std = std
        self.control_cost = control_cost
        self.smoothing = smoothing

    def start(self, problem: Problem) -> MPPIState:
        """Return `problem.initial` as the mean."""
        return MPPIState(problem.initial)

    def sample(self, state: MPPIState, problem: Problem) -> Tensor:
        """Scatter candidates (B, N, M, E), the mean first."""
        mean, noise = state.mean.unsqueeze(1), problem.noise(problem.samples - 1)
        return torch.cat([mean, torch.addcmul(mean, self._deviation(problem), noise)], dim=1)

    def update(self, state: MPPIState, scored: Scored, problem: Problem) -> MPPIState:
        """Return the weighted mean of the candidates; a row without any finite cost keeps its own."""
        weights = self._weights(state, scored, problem)
        mean = torch.einsum("bn,bnme->bme", weights, scored.parameters)
        if self.smoothing is not None:
            smoother = _savitzky_golay(mean.shape[1], *self.smoothing, mean.dtype, mean.device)
            mean = torch.einsum("km,bme->bke", smoother, mean)
        usable = torch.isfinite(scored.costs).any(dim=1)
        return MPPIState(torch.where(usable[:, None, None], mean, state.mean))

    def centre(self, state: MPPIState) -> Tensor:
        """Return the mean (B, M, E)."""
        return state.mean

    def answer(self, state: MPPIState) -> Tensor:
        """Return the mean (B, M, E)."""
        return state.mean

    def _deviation(self, problem: Problem) -> Tensor:
        """Return the standard deviation (E,) of this iteration, environment units."""
        first, last = self._scales
        return first * (last / first) ** problem.progress * problem.half_range

    def _weights(self, state: MPPIState, scored: Scored, problem: Problem) -> Tensor:
        """Return the weights (B, N) of the candidates, of sum 1; 0 where the cost is not finite."""
        finite = torch.isfinite(scored.costs)
        above = torch.where(finite, scored.costs - scored.costs.amin(dim=1, keepdim=True), 0)
        if self.temperature_unit == "relative":
            above = above / _spread(above, finite)
        exponent = -above / self.temperature
        if self.control_cost:
            away = scored.parameters - state.mean.unsqueeze(1)
            pull = state.mean.unsqueeze(1) / self._deviation(problem).square()
            exponent = exponent - self.control_cost * (pull * away).sum(dim=(2, 3))
        return exponent.masked_fill(~finite, -torch.inf).softmax(dim=1)


def _spread(above: Tensor, finite: Tensor) -> Tensor:
    """Return the standard deviation (B, 1) of the finite costs, given above (B, N) their least; never 0."""
    tiny = torch.finfo(above.dtype).tiny
    span = above.amax(dim=1, keepdim=True).clamp(min=tiny)
    share, count = above / span, finite.sum(dim=1, keepdim=True).clamp(min=1)
    mean = share.sum(dim=1, keepdim=True) / count
    variance = torch.where(finite, share - mean, 0).square().sum(dim=1, keepdim=True) / count
    return (span * variance.sqrt()).clamp(min=tiny)


@cache
def _savitzky_golay(knots: int, window: int, order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (M, M) that fits a polynomial around each knot; the ends take the outermost window.

    After Savitzky and Golay (1964).
    """
    window = min(window, knots)
    order = min(order, window - 1)
    matrix = torch.zeros(knots, knots, dtype=torch.float64, device="cpu")
    for knot in range(knots):
        left = min(max(0, knot - window // 2), knots - window)
        places = torch.arange(left - knot, left - knot + window, dtype=torch.float64, device="cpu")
        powers = places.unsqueeze(1) ** torch.arange(order + 1, device="cpu")
        matrix[knot, left : left + window] = torch.linalg.pinv(powers)[0]
    with torch.inference_mode(False):
        return matrix.clone().to(device, dtype)
