"""What is evaluated: a model behind a controller, floors below it and upper bounds above it.

Randomness is drawn for each pair from its own seed, so an agent does the same whether pairs run side by side or alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..tasks import Task
from .manifest import Pair

__all__ = [
    "Agent",
    "ExpertAgent",
    "HoldAgent",
    "ModelAgent",
    "RandomAgent",
    "ReplayAgent",
    "Start",
]


@dataclass(frozen=True)
class Start:
    """What an agent knows when B episodes begin.

    Attributes:
        observations: key -> (B, ...), of the start.
        goal_observations: key -> (B, ...), of the goal.
        states: (B, S), simulator state; only agents that are no learned model read it.
        goals: (B, S).
        pairs: B pairs.
        numbers: (B,), numbers of the pairs in the manifest, for seeds.
    """

    observations: Mapping[str, np.ndarray]
    goal_observations: Mapping[str, np.ndarray]
    states: np.ndarray
    goals: np.ndarray
    pairs: Sequence[Pair]
    numbers: np.ndarray


class Agent(Protocol):
    """Something that acts in B environments side by side."""

    @property
    def name(self) -> str:
        """Row of the table."""
        ...

    @property
    def observes(self) -> str:
        """The environment's `obs_type` that it needs; "state" is the cheapest."""
        ...

    def reset(self, start: Start) -> None:
        """Begin B episodes."""
        ...

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return the next environment actions (B, action_size), from observations (B, ...) and states (B, S)."""
        ...


class HoldAgent:
    """Floor: does nothing, the action 0 clipped into the bounds."""

    name, observes = "hold still", "state"

    def __init__(self, task: Task) -> None:
        self._action = np.clip(0.0, task.action_low, task.action_high)

    def reset(self, start: Start) -> None:
        """Begin B episodes."""

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return (B, action_size) of zeros."""
        return np.tile(self._action, (len(states), 1))


class RandomAgent:
    """Floor: uniform actions, drawn anew every step."""

    name, observes = "random", "state"

    def __init__(self, task: Task, seed: int = 0) -> None:
        self._low, self._high, self._seed = np.array(task.action_low), np.array(task.action_high), seed
        self._generators: list[np.random.Generator] = []

    def reset(self, start: Start) -> None:
        """Begin B episodes, each with the generator of its pair."""
        self._generators = [np.random.default_rng([self._seed, int(number)]) for number in start.numbers]

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return (B, action_size) within the bounds."""
        return np.stack([generator.uniform(self._low, self._high) for generator in self._generators])


class ReplayAgent:
    """Upper bound of the pairs themselves: the recorded actions, then holding still."""

    name, observes = "replay", "state"

    def __init__(self, task: Task) -> None:
        self._rest = np.clip(0.0, task.action_low, task.action_high)
        self._recorded: list[np.ndarray] = []
        self._step = 0

    def reset(self, start: Start) -> None:
        """Begin B episodes from their pairs' recordings."""
        self._recorded = [np.array(pair.actions, np.float64).reshape(-1, len(self._rest)) for pair in start.pairs]
        self._step = 0

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return the recorded actions of this step, (B, action_size)."""
        step, self._step = self._step, self._step + 1
        return np.stack([actions[step] if step < len(actions) else self._rest for actions in self._recorded])


class ExpertAgent:
    """Upper bound: the task's expert, which reads the simulator's state."""

    name, observes = "expert", "state"

    def __init__(self, task: Task, seed: int = 0) -> None:
        self._task, self._seed, self._experts = task, seed, []

    def reset(self, start: Start) -> None:
        """Begin B episodes, with one expert each."""
        self._experts = [self._task.expert(self._seed + int(number)) for number in start.numbers]
        for expert, state, goal, pair in zip(self._experts, start.states, start.goals, start.pairs, strict=True):
            expert.reset(state, goal, pair.variation)

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return the experts' actions (B, action_size)."""
        return np.stack([expert.act(state) for expert, state in zip(self._experts, states, strict=True)])


class ModelAgent:
    """A learned model behind a controller.

    Args:
        controller: makes a controller for B environments.
        name: row of the table.
        observes: the environment's `obs_type`.
        shrink: whether the controller is told how many steps the recording took to the goal.
    """

    def __init__(
        self, controller: Callable[[int], Any], name: str = "model", observes: str = "pixels", *, shrink: bool = True
    ) -> None:
        self.name, self.observes, self._shrink = name, observes, shrink
        self._make = controller
        self._controller: Any = None

    @property
    def controller(self) -> Any:
        """The controller of the episodes that run now; None before the first."""
        return self._controller

    def reset(self, start: Start) -> None:
        """Begin B episodes towards the goals' observations."""
        self._controller = self._make(len(start.pairs))
        distances = np.array([pair.goal_row - pair.start_row for pair in start.pairs])
        recorded = self._shrink and all(pair.episode >= 0 for pair in start.pairs)
        steps = distances if recorded else None
        self._controller.set_goal(dict(start.goal_observations), steps=steps)

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return the controller's actions (B, action_size)."""
        return np.asarray(self._controller.act(dict(observations)), np.float64)
