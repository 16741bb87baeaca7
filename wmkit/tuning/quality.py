"""How good plans are: what they cost beside the best known, over the same problems for every setting."""

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from .trade import Setting

__all__ = ["Quality", "Solver", "standard_error"]


class Solver(Protocol):
    """What makes the plans that are compared."""

    def costs(self, setting: Setting) -> np.ndarray:
        """Return (P,), what the plans of the P problems cost, by the model's exact rollout."""
        ...

    def random_costs(self) -> np.ndarray:
        """Return (P,), what plans drawn at random cost on average, by the model's exact rollout."""
        ...


class Quality:
    """Solves the problems with each setting once, and compares.

    Args:
        solver: makes the plans.
        report: is told what is being done.

    Raises:
        ValueError: plans drawn at random have costs that are not finite.
    """

    def __init__(self, solver: Solver, report: Callable[[str], object]) -> None:
        self._solver, self._report = solver, report
        self._random = np.asarray(solver.random_costs(), np.float64)
        if not np.isfinite(self._random).all():
            raise ValueError("plans drawn at random have costs that are not finite; check the model and the objective")
        self._costs: dict[Setting, np.ndarray] = {}

    def solve(self, settings: Iterable[Setting]) -> None:
        """Solve the problems with settings that have not yet; a cost that is not finite counts as that of chance."""
        for setting in settings:
            if setting not in self._costs:
                self._report(f"solve with {setting}")
                costs = np.asarray(self._solver.costs(setting), np.float64)
                self._costs[setting] = np.where(np.isfinite(costs), costs, self._random)

    def regrets(self, setting: Setting) -> np.ndarray:
        """Return (P,): what the plans cost more than the best known so far, over what random ones do on average."""
        self.solve([setting])
        best = np.min(list(self._costs.values()), axis=0)
        scale = float((self._random - best).mean())
        return (self._costs[setting] - best) / (scale if scale > 0 else 1.0)

    def ranked(self, settings: Iterable[Setting], seconds: Callable[[Setting], float]) -> list[Setting]:
        """Sort settings: those whose plans cannot be told from the best, the fastest first; then the others by regret.

        Two cannot be told apart where their mean regrets differ by no more than the standard error of the difference.
        """
        settings = list(settings)
        self.solve(settings)
        regrets = {setting: self.regrets(setting) for setting in settings}
        best = min(regrets.values(), key=lambda values: values.mean())
        alike = {s: values.mean() - best.mean() <= standard_error(values - best) for s, values in regrets.items()}
        return sorted(settings, key=lambda s: (not alike[s], seconds(s) if alike[s] else regrets[s].mean()))


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of values (P,); 0 for one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
