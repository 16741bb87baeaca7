"""The episodes of a violation-of-expectation study: where they start, who acts, and when something changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..tasks import Task
from .agents import Start
from .manifest import Manifest, Pair
from .runner import reset_to

__all__ = ["NoisyExpert", "PairStarts", "ResetStarts", "Starts", "draw_moments"]

_MOMENTS = 0x50A1


class Starts(Protocol):
    """The P episodes of a study."""

    @property
    def count(self) -> int:
        """P."""
        ...

    @property
    def budgets(self) -> np.ndarray:
        """(P,) int64, environment steps of each episode."""
        ...

    def begin(self, env: Any, rows: np.ndarray) -> tuple[Mapping[str, np.ndarray], Start]:
        """Reset a vector environment of B to the episodes `rows` (B,); return the observations and what is known."""
        ...


@dataclass(frozen=True)
class PairStarts:
    """Episodes from the starts of a manifest's pairs to their goals."""

    manifest: Manifest

    @property
    def count(self) -> int:
        """P."""
        return len(self.manifest.pairs)

    @property
    def budgets(self) -> np.ndarray:
        """(P,) int64, environment steps."""
        return self.manifest.budgets

    def begin(self, env: Any, rows: np.ndarray) -> tuple[Mapping[str, np.ndarray], Start]:
        """Reset to the pairs' starts, goals and scenes."""
        manifest = self.manifest
        pairs, goals = [manifest.pairs[row] for row in rows], manifest.goals[rows]
        observations, info = reset_to(env, pairs, manifest.starts[rows], goals, manifest.seed + int(rows[0]))
        goal_of = {"pixels": "goal_pixels", "state": "goal_state"}
        seen = {key: np.array(info[goal_of[key]]) for key in observations}
        return observations, Start(observations, seen, np.array(info["state"], float), goals, pairs, rows)


@dataclass(frozen=True)
class ResetStarts:
    """Episodes of a task without goals, from the environment's own resets.

    Attributes:
        count: P.
        steps: environment steps of each.
        seed: episode i starts from the environment's seed `seed` + i.
    """

    count: int
    steps: int
    seed: int = 0

    @property
    def budgets(self) -> np.ndarray:
        """(P,) int64, environment steps."""
        return np.full(self.count, self.steps, np.int64)

    def begin(self, env: Any, rows: np.ndarray) -> tuple[Mapping[str, np.ndarray], Start]:
        """Reset with the episodes' seeds; `rows` are consecutive."""
        observations, info = env.reset(seed=self.seed + int(rows[0]))
        states = np.array(info["state"], float)
        pairs = [Pair(state.tolist(), [], self.steps) for state in states]
        return observations, Start(observations, {}, states, np.zeros((len(rows), 0)), pairs, rows)


class NoisyExpert:
    """The task's expert with noise on its actions, as data is collected.

    Args:
        task: the environment.
        observes: the environment's `obs_type` that the watching model needs.
        seed: episode i has its own generators, of this seed and i.
        noise: standard deviation of white noise, as a share of half the action range.
        more: further arguments of the expert: the reward's name and the quality, where the task has rewards.
    """

    name = "expert"

    def __init__(
        self, task: Task, observes: str = "pixels", seed: int = 0, noise: float = 0.0, more: Sequence[Any] = ()
    ) -> None:
        self.observes = observes
        self._task, self._seed, self._more = task, seed, tuple(more)
        self._low, self._high = np.array(task.action_low, np.float32), np.array(task.action_high, np.float32)
        self._std = noise * (self._high - self._low) / 2
        self._experts: list[Any] = []
        self._random: list[np.random.Generator] = []

    def reset(self, start: Start) -> None:
        """Begin B episodes, with one expert and one generator each."""
        self._experts = [self._task.expert(self._seed + int(number), *self._more) for number in start.numbers]
        self._random = [np.random.default_rng([self._seed, int(number), 1]) for number in start.numbers]
        for expert, state, goal, pair in zip(self._experts, start.states, start.goals, start.pairs, strict=True):
            expert.reset(state, goal, pair.variation)

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return the actions (B, action_size), within the bounds."""
        actions = np.stack([expert.act(state) for expert, state in zip(self._experts, states, strict=True)])
        noise = np.stack([random.standard_normal(len(self._std)) for random in self._random])
        return np.clip(np.asarray(actions + self._std * noise, np.float32), self._low, self._high)


def draw_moments(budgets: np.ndarray, first: float = 0.1, last: float = 0.4, seed: int = 0) -> np.ndarray:
    """Draw for each episode the environment step of its change, the same for the same seed and place.

    Args:
        budgets: (P,), environment steps.
        first: earliest, as a share of the budget.
        last: latest.
        seed: of the draw.

    Returns:
        (P,) int64, uniform between the shares, whether or not a model step begins there.

    Raises:
        ValueError: not 0 <= first <= last < 1.
    """
    if not 0 <= first <= last < 1:
        raise ValueError(f"the change is drawn between {first} and {last} of the budget; give 0 <= first <= last < 1")
    low, high = np.ceil(first * budgets).astype(int), np.floor(last * budgets).astype(int)
    draws = [np.random.default_rng([seed, row, _MOMENTS]) for row in range(len(budgets))]
    return np.array([draw.integers(a, max(a, b) + 1) for draw, a, b in zip(draws, low, high, strict=True)], np.int64)
