"""How far a model's predictions lay from what was then observed."""

import torch
from torch import Tensor

__all__ = ["RecordedErrors"]

_FLOOR = 1e-6
_SPREAD_FLOOR = 0.1


class RecordedErrors:
    """The last errors of predictions, observed minus predicted latent, in a bounded buffer.

    Args:
        capacity: how many are kept; the oldest make room.
    """

    def __init__(self, capacity: int = 512) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity!r}; give at least 1 error to keep")
        self.capacity = capacity
        self._errors: Tensor | None = None
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    @property
    def errors(self) -> Tensor:
        """(n, D), in no particular order; n is 0 to `capacity`."""
        return torch.zeros(0, 0) if self._errors is None else self._errors[: len(self)]

    def add(self, errors: Tensor) -> None:
        """Record errors (R, D)."""
        errors = errors[-self.capacity :]
        if self._errors is None:
            self._errors = torch.zeros(self.capacity, errors.shape[1], dtype=errors.dtype, device=errors.device)
        index = (self._added + torch.arange(len(errors), device=errors.device)) % self.capacity
        self._errors[index] = errors
        self._added += len(errors)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return errors (count, D) drawn with replacement."""
        index = torch.randint(len(self), (count,), generator=generator)
        return self.errors[index.to(self.errors.device)]

    def scale(self) -> Tensor:
        """Return the errors' scale (D,), the median of each dimension's absolute value.

        The median, so that a few errors after disturbances do not count; no dimension's scale is below a tenth of the
        mean over dimensions.
        """
        scale = self.errors.abs().median(dim=0).values
        return scale.clamp(min=max(_FLOOR, _SPREAD_FLOOR * float(scale.mean())))

    def quantile(self, share: float, scale: Tensor) -> float:
        """Return the norm that `share` of the errors do not exceed, after division by the scale (D,)."""
        return float(torch.quantile((self.errors / scale).square().mean(dim=1).sqrt().double(), share))
