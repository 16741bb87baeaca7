"""Costs of imagined futures. They add and scale: `GoalObjective(goal) + 0.1 * ActionCost()`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from wmkit.contracts import Objective, Rollout, SupportsDecode

from .graph_doubts import postpone

__all__ = [
    "ActionCost",
    "CompositeObjective",
    "DecodedObjective",
    "GoalObjective",
    "Reduce",
    "RewardObjective",
    "Term",
    "UncertaintyPenalty",
]

Reduce = Literal["last", "sum", "mean"]
"""How the costs of single steps become one: the last step's, their sum, or their mean."""


class Term(ABC):
    """An objective that adds and scales; the base of all here."""

    @abstractmethod
    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return (B, N), lower is better, from a rollout and its actions (B, N, H, A)."""

    def select(self, rows: Tensor) -> "Objective":
        """Return the objective of the given rows of B, an index (R,) or a mask (B,)."""
        return self

    def __add__(self, other: Objective) -> "CompositeObjective":
        return CompositeObjective([(1.0, self), (1.0, other)])

    def __mul__(self, weight: float) -> "CompositeObjective":
        return CompositeObjective([(weight, self)])

    __rmul__ = __mul__


class CompositeObjective(Term):
    """A weighted sum of objectives."""

    def __init__(self, terms: list[tuple[float, Objective]]) -> None:
        """Create the sum of the (weight, objective) pairs."""
        self.terms = terms

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the weighted sum (B, N)."""
        return torch.stack([weight * term.cost(rollout, actions) for weight, term in self.terms]).sum(dim=0)

    def select(self, rows: Tensor) -> "CompositeObjective":
        """Return the sum of the terms of the given rows."""
        return CompositeObjective([(weight, term.select(rows)) for weight, term in self.terms])


class GoalObjective(Term):
    """Squared Euclidean distance between imagined latents and the goal's."""

    def __init__(self, goal: Tensor, reduce: Reduce = "last") -> None:
        """Create the objective.

        Args:
            goal: (B, D), latents of the goals.
            reduce: which steps count.
        """
        if goal.ndim != 2:
            raise ValueError(f"goal has shape {tuple(goal.shape)}; expected (B, D)")
        self.goal = goal
        self.reduce: Reduce = _checked(reduce)

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the squared distance (B, N), summed over D and reduced over H."""
        latents = rollout.latents[:, :, -1:] if self.reduce == "last" else rollout.latents
        return _reduced((latents - self.goal[:, None, None]).square().sum(dim=-1), self.reduce)

    def select(self, rows: Tensor) -> "GoalObjective":
        """Return the objective of the given rows."""
        return GoalObjective(self.goal[rows], self.reduce)


class ActionCost(Term):
    """Squared size of the actions, summed over A."""

    def __init__(self, reduce: Reduce = "mean") -> None:
        """Create the objective; `reduce` says which steps count."""
        self.reduce: Reduce = _checked(reduce)

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the squared size (B, N) in squared environment units, reduced over H."""
        return _reduced(actions.square().sum(dim=-1), self.reduce)


class UncertaintyPenalty(Term):
    """The model's own uncertainty, in its own unit."""

    def __init__(self, reduce: Reduce = "mean") -> None:
        """Create the objective; `reduce` says which steps count."""
        self.reduce: Reduce = _checked(reduce)

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the uncertainty (B, N), reduced over H.

        Raises:
            ValueError: the model gives no uncertainty.
        """
        if rollout.uncertainty is None:
            raise ValueError("UncertaintyPenalty: the model gives no uncertainty; use an ensemble, or drop this term")
        return _reduced(rollout.uncertainty, self.reduce)


class DecodedObjective(Term):
    """A cost function of a named quantity: one that the rollout carries, or one decoded from its latents."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        name: str,
        model: SupportsDecode | None = None,
        targets: Tensor | None = None,
        reduce: Reduce = "sum",
        discount: float = 1.0,
    ) -> None:
        """Create the objective.

        Args:
            function: called as `function(values, actions)`, or `function(values, actions, targets)` where there are
                targets, with values (B, N, H, ...), actions (B, N, H, A) and targets (B, 1, 1, ...); returns the cost
                of each step (B, N, H).
            name: of the quantity in `Rollout.quantities`, else of the model's `decode`.
            model: decodes the latents; not needed where the rollout carries the quantity.
            targets: (B, ...), one for each row, e.g. goal states.
            reduce: which steps count.
            discount: factor by which each step of "sum" and "mean" weighs less than the one before, in (0, 1].

        Raises:
            ValueError: a number out of its range.
        """
        if not 0 < discount <= 1:
            raise ValueError(f"discount is {discount!r}; give a number above 0, up to 1")
        self.function = function
        self.name = name
        self.model = model
        self.targets = targets
        self.reduce: Reduce = _checked(reduce)
        self.discount = discount

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the function's value (B, N), reduced over H.

        Raises:
            ValueError: nobody knows the quantity, or the function fails, or returns another shape, something that is
                no number, or nothing finite for any candidate of a row whose states are finite.
        """
        values = self._values(rollout)
        arguments = [values, actions]
        if self.targets is not None:
            arguments.append(self.targets[:, None, None])
        steps = self._numbers(self._call(*arguments), values, tuple(actions.shape[:3]))
        if self.discount < 1 and self.reduce != "last":
            steps = steps * self.discount ** torch.arange(steps.shape[-1], device=steps.device)
        costs = _reduced(steps, self.reduce)
        lost = ~torch.isfinite(costs).any(dim=1)
        if not postpone(lambda: (lost & torch.isfinite(values).flatten(1).all(dim=1)).any()):
            self._refuse(lost, values, steps)
        return costs

    def select(self, rows: Tensor) -> "DecodedObjective":
        """Return the objective with the targets of the given rows."""
        targets = None if self.targets is None else self.targets[rows]
        return type(self)(self.function, self.name, self.model, targets, self.reduce, self.discount)

    @property
    def _called(self) -> str:
        """The function as messages name it."""
        function = getattr(self.function, "__name__", type(self.function).__name__)
        return f"the function {function!r} of {self.name!r}"

    def _call(self, *arguments: Tensor) -> Any:
        """Return what the function gives; its own errors become one line that names it."""
        try:
            return self.function(*arguments)
        except Exception as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{self._called} fails with {type(error).__name__}: {text}") from error

    def _refuse(self, lost: Tensor, values: Tensor, steps: Tensor) -> None:
        """Refuse rows (B,) without a finite cost where the function alone is to blame."""
        if lost.any() and torch.isfinite(values[lost]).all():
            bad = _first_bad(steps[lost])
            raise ValueError(f"{self._called} gave {bad} for every candidate, though the states are finite")

    def _numbers(self, given: Any, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return what the function gave as a tensor (B, N, H)."""
        try:
            steps = torch.as_tensor(given, device=values.device)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"{self._called} gave a {type(given).__name__}; it must give numbers") from None
        if tuple(steps.shape) != shape:
            raise ValueError(f"{self._called} gave shape {tuple(steps.shape)}; expected (B, N, H) = {shape}")
        return steps

    def _values(self, rollout: Rollout) -> Tensor:
        if self.name in rollout.quantities:
            return rollout.quantities[self.name]
        if self.model is None:
            known = ", ".join(sorted(rollout.quantities)) or "nothing"
            raise ValueError(f"the rollout carries no {self.name!r}, only {known}; give a model that decodes it")
        return self.model.decode(rollout.latents, self.name)


class RewardObjective(DecodedObjective):
    """A reward function of a named quantity, higher is better; the cost is its negative."""

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the negative of the function's value (B, N), reduced over H."""
        return -super().cost(rollout, actions)


def _checked(reduce: Reduce) -> Reduce:
    if reduce not in ("last", "sum", "mean"):
        raise ValueError(f"reduce is {reduce!r}; give 'last', 'sum' or 'mean'")
    return reduce


def _first_bad(steps: Tensor) -> float:
    """Return the first number that is not finite."""
    return steps[~torch.isfinite(steps)].flatten()[0].item() if not torch.isfinite(steps).all() else torch.inf


def _reduced(steps: Tensor, reduce: Reduce) -> Tensor:
    """Reduce the costs of steps (B, N, H) to (B, N)."""
    if reduce == "last":
        return steps[..., -1]
    return steps.sum(dim=-1) if reduce == "sum" else steps.mean(dim=-1)
