"""What the tuner weighs: settings, what was measured of each, and the choice among them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..timing import MANY, p99
from .cost_model import CostModel

__all__ = ["Measured", "Setting", "Trade", "Way"]


@dataclass(frozen=True)
class Way:
    """A way of computing rollouts.

    Attributes:
        path: the model's `rollout_path`, e.g. "reference", "fast" or "fused"; None where the model has one path only.
        dtype: "float32", which stands for the weights' own precision, or "bfloat16", of the rollouts' matrix products.
        threads: of the CPU; None leaves them as they are.
    """

    path: str | None = None
    dtype: str = "float32"
    threads: int | None = None

    def __str__(self) -> str:
        threads = None if self.threads is None else f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return ", ".join(part for part in (self.path, self.dtype, threads) if part)


@dataclass(frozen=True)
class Setting:
    """How much is searched, and how it is computed.

    Attributes:
        samples: N, candidates of an iteration.
        iterations: refinements of the candidates.
        way: of computing the rollouts.
    """

    samples: int
    iterations: int
    way: Way = Way()

    @property
    def rollouts(self) -> int:
        """Candidates over all iterations."""
        return self.samples * self.iterations

    def __str__(self) -> str:
        return f"{self.samples} x {self.iterations}, {self.way}"


@dataclass(frozen=True)
class Measured:
    """What was measured of a setting.

    Attributes:
        setting: the setting.
        seconds: of each timed decision, encoding and the controller's work included.
        regret: how much more the plans cost than the best known ones, as a share of what plans drawn at random cost
            more than those: 0 is as good as any search found, 1 as good as chance.
        error: standard error of `regret` over the problems.
        made: whether p99 is within the deadline.
    """

    setting: Setting
    seconds: tuple[float, ...] = field(repr=False)
    regret: float
    error: float
    made: bool

    @property
    def p50(self) -> float:
        """Seconds of the median decision."""
        return float(np.median(self.seconds))

    @property
    def p99(self) -> float:
        """Seconds that 99 % of the decisions keep to; of fewer than 100 decisions, those of the slowest."""
        return p99(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, every decision's seconds included; p99 is called "slowest" below 100 of them."""
        way = self.setting.way
        return {
            "samples": self.setting.samples,
            "iterations": self.setting.iterations,
            "path": way.path,
            "dtype": way.dtype,
            "threads": way.threads,
            "made": self.made,
            "p50": self.p50,
            **({"p99": self.p99} if len(self.seconds) >= MANY else {"slowest": self.p99}),
            "regret": self.regret,
            "regret_error": self.error,
            "seconds": list(self.seconds),
        }


@dataclass(frozen=True)
class Trade:
    """Quality against time on this machine.

    Attributes:
        deadline: seconds.
        chosen: the setting to plan with; one of `rows`.
        rows: everything that was timed, from the best plans to the worst.
        long: the search whose plans the regret is measured against, beside all others'.
        models: way of computing -> what decisions cost that way.
        refused: way of computing -> why it is not offered.
    """

    deadline: float
    chosen: Measured
    rows: tuple[Measured, ...]
    long: Setting
    models: Mapping[Way, CostModel]
    refused: Mapping[Way, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; times are in seconds."""
        return {
            "deadline": self.deadline,
            "chosen": {name: value for name, value in self.chosen.to_json().items() if name != "seconds"},
            "rows": [row.to_json() for row in self.rows],
            "long_search": {"samples": self.long.samples, "iterations": self.long.iterations},
            "cost_models": {str(way): vars(model) for way, model in self.models.items()},
            "refused": {str(way): reason for way, reason in self.refused.items()},
        }
