"""What the tuner is told: where settings are tried, which sizes there are, and how thorough to be."""

from dataclasses import dataclass
from typing import Protocol

from .quality import Solver
from .trade import Setting, Way

__all__ = ["Grid", "Options", "Workbench"]


class Workbench(Solver, Protocol):
    """Where settings are tried: timed, and solving problems."""

    def seconds(self, setting: Setting, decisions: int, limit: float | None = None) -> tuple[float, ...]:
        """Return the seconds of so many decisions, without the warm-up.

        It may stop early, once more than 1 % of the decisions asked for took longer than `limit`.

        Raises:
            ValueError: the model or the planner refuses the setting, e.g. its way of computing.
        """
        ...

    def agreement(self, way: Way) -> float:
        """Return the share of the best candidates by the exact rollout that are also among the best this way."""
        ...


@dataclass(frozen=True)
class Grid:
    """Sizes of search to consider.

    Attributes:
        samples: numbers of candidates, increasing.
        iterations: most iterations; 1 for planners that do not refine.
    """

    samples: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    iterations: int = 30

    def __post_init__(self) -> None:
        if not self.samples or min(self.samples) < 1 or sorted(set(self.samples)) != list(self.samples):
            raise ValueError(f"samples are {self.samples}; give increasing numbers above 0")
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; give at least 1")


@dataclass(frozen=True)
class Options:
    """How the tuner works.

    Attributes:
        decisions: timed of each setting; 1 in 100 may be late.
        verify: settings that are timed within the deadline, at most.
        agreement: least share of the best candidates that reduced precision must have in common with the exact rollout.
        long: seconds of the search that quality is measured against, over the deadline.
        probes: decisions timed to learn what an iteration costs.
    """

    decisions: int = 200
    verify: int = 4
    agreement: float = 0.95
    long: float = 10.0
    probes: int = 15
