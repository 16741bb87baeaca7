"""What data collection and evaluation need to know of an environment.

Each environment describes itself with one `Task`, found by name through the registry (kind "environments").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from .errors import UserError

__all__ = ["Column", "Expert", "Playground", "StateRollout", "Statistic", "Task"]

StateRollout = Callable[[np.ndarray, np.ndarray], np.ndarray | Mapping[str, np.ndarray]]
"""A simulator: states (B, S) and environment actions (B, N, R, action_size), both float64 -> states after each action
(B, N, R, S), or a mapping with these under "state" and more arrays (B, N, R, ...) beside them."""


class Expert(Protocol):
    """A policy that reads the simulator's state of one environment."""

    def reset(self, state: np.ndarray, goal: np.ndarray, variation: Mapping[str, Any]) -> None:
        """Start an episode from `state` (S,) towards `goal` (S,) in a scene with the given variation.

        Where the task has no goal, `goal` is empty, (0,).
        """
        ...

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return one environment action (action_size,), within the bounds."""
        ...


class Playground(Protocol):
    """What a person can do to a scene with the mouse, and how what a model knows is drawn into it.

    Places are in coordinates of the picture: x to the right and y down, each in [0, 1]. What cannot be, such as a
    block in a wall, is brought to the nearest that can, or leaves the state as it was.
    """

    @property
    def handles(self) -> Sequence[str]:
        """What can be dragged, e.g. "block" and "agent"."""
        ...

    def place(self, state: np.ndarray, handle: str) -> tuple[float, float]:
        """Return where a handle is: dragged there, the state (S,) stays as it is where it is possible and at rest."""
        ...

    def grab(self, state: np.ndarray, x: float, y: float) -> str | None:
        """Return the handle at a place, or None; `state` is (S,)."""
        ...

    def drag(self, state: np.ndarray, handle: str, x: float, y: float) -> np.ndarray:
        """Return the state (S,) with a handle moved to a place, at rest."""
        ...

    def spin(self, state: np.ndarray, radians: float) -> np.ndarray:
        """Return the state (S,) with what can be turned turned clockwise in the picture."""
        ...

    def goal(self, goal: np.ndarray, x: float, y: float) -> np.ndarray:
        """Return the goal (S,) moved so that what it is about is at a place."""
        ...

    def outline(self, state: np.ndarray, handle: str) -> Sequence[np.ndarray]:
        """Return outlines (M, 2) in [0, 1] of what is dragged by a handle."""
        ...

    def sketch(self, quantities: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Return outlines (M, 2) in [0, 1] of a scene given by the task's probes, name -> (size,)."""
        ...


@dataclass(frozen=True)
class Column:
    """One number of the state: its name and unit."""

    name: str
    unit: str


@dataclass(frozen=True)
class Statistic:
    """One number that says how an episode was, beside its reward.

    Attributes:
        unit: of the number.
        function: states (E, S + 1, state size) of E episodes -> (E,).
        rewards: names of the rewards that it shows best, without their numbers.
    """

    unit: str
    function: Callable[[np.ndarray], np.ndarray]
    rewards: tuple[str, ...] = ()


def _no_goal(states: np.ndarray, goals: np.ndarray, rule: str, strict: bool) -> np.ndarray:
    """Stand for the success rule of a task without goals; raises UserError."""
    raise UserError("this task has no goal and so no success; it is measured by its rewards")


@dataclass(frozen=True)
class Task:
    """An environment as data collection and evaluation see it.

    A task has goals, and rules that say when they are reached, or rewards, or both. `Task.expert` of a task with
    rewards takes two more arguments: the reward's name, and the quality in [0, 1], from random to the best it can.

    Attributes:
        name: the registry's name, e.g. "pusht".
        env_id: the Gymnasium id.
        make: makes one environment; keywords obs_type ("pixels", "state", "pixels_state"), image_size and more.
        make_vector: the same for `num_envs` environments, without autoreset.
        expert: makes an expert from a seed.
        success: (states (B, S), goals (B, S), rule, strict) -> (B,) bool; `strict` halves the tolerance. Without goals
            it raises UserError.
        rules: names of the success rules; the first is the protocols' default. Empty for a task without goals.
        rewards: reward functions by name: (states (..., S), actions (..., action_size) or None) -> (...), for arrays
            and tensors; the environment takes a name as its keyword `task`. Looking a name up may take a number with
            it, "NAME=NUMBER", and raise ValueError for a bad one. Empty for a task with goals alone.
        statistics: what an episode is told by beside its return, by name.
        qualities: named ranges of the expert's quality, from which each recorded episode draws its own; the first is
            the best. Empty where the expert knows one quality.
        state: the S numbers of the state.
        probes: named targets for linear probes: name -> (states (F, S)) -> (F, size); angles as sine and cosine.
        valid: (states (F, S)) -> (F,) bool, False where the physics left its domain; such episodes are not data.
        seconds_per_step: seconds of one environment step.
        action_low: (action_size,), environment units.
        action_high: (action_size,), environment units.
        records: the obs_type that data collection records by default.
        action_repeat: environment steps per model step that models of this task use by default.
        max_steps: environment steps of one expert episode.
        scene: names of the variations that are constant within an episode and that a reset needs to restore it.
        simulator: makes the true dynamics of a scene with the given variation; None for an environment without.
        distance: (states (..., S), goals that broadcast with them, rule) -> (...), how far from success, in tolerances
            of the rule, for planning through the simulator; 0 well within half the tolerance. None where there is none.
        teleport: (state (S,), strength in [0, 1], generator, variation) -> a state (S,) with something moved at a
            stroke, at strength 1 anywhere. None where nothing can be.
        changes: perturbations that are variations of the scene, e.g. "colour": strength in [0, 1] and a generator ->
            variation name -> value. The environments' `set_variation` takes them in the middle of an episode.
        playground: makes what a person can do with the mouse; None where there is nothing.
        invariant: names of state columns whose absolute value changes nothing, e.g. a robot's place on endless ground.
        angles: names of state columns in radians that go round and round.
        symmetries: of its pictures with its actions, to train under: any of "flip" (up and down) and "dihedral" (all
            flips and quarter turns); None where nobody has said.
    """

    name: str
    env_id: str
    make: Callable[..., gym.Env]
    make_vector: Callable[..., gym.vector.VectorEnv]
    expert: Callable[..., Expert]
    state: Sequence[Column]
    probes: Mapping[str, Callable[[np.ndarray], np.ndarray]]
    valid: Callable[[np.ndarray], np.ndarray]
    seconds_per_step: float
    action_low: Sequence[float]
    action_high: Sequence[float]
    success: Callable[[np.ndarray, np.ndarray, str, bool], np.ndarray] = _no_goal
    rules: Sequence[str] = ()
    rewards: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    statistics: Mapping[str, Statistic] = field(default_factory=dict)
    qualities: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    records: str = "pixels"
    action_repeat: int = 5
    max_steps: int = 300
    scene: Sequence[str] = field(default_factory=tuple)
    simulator: Callable[[Mapping[str, Any]], StateRollout] | None = None

    @property
    def has_goals(self) -> bool:
        """Whether episodes have a goal that can be reached."""
        return bool(self.rules)

    distance: Callable[[np.ndarray, np.ndarray, str], np.ndarray] | None = None
    teleport: Callable[[np.ndarray, float, np.random.Generator, Mapping[str, Any]], np.ndarray] | None = None
    changes: Mapping[str, Callable[[float, np.random.Generator], Mapping[str, Any]]] = field(default_factory=dict)
    playground: Callable[[], Playground] | None = None
    invariant: Sequence[str] = ()
    angles: Sequence[str] = ()
    symmetries: Sequence[str] | None = None

    def columns(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return where in the state the columns of the given names are. Raises ValueError for an unknown one."""
        known = [column.name for column in self.state]
        return tuple(known.index(name) for name in names)
