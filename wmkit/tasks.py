"""What data collection and evaluation need to know of an environment.

Each environment describes itself with one `Task`, found by name through the registry (kind "environments").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

__all__ = ["Column", "Expert", "Task"]


class Expert(Protocol):
    """A policy that reads the simulator's state of one environment."""

    def reset(self, state: np.ndarray, goal: np.ndarray, variation: Mapping[str, Any]) -> None:
        """Start an episode from `state` (S,) towards `goal` (S,) in a scene with the given variation."""
        ...

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return one environment action (action_size,), within the bounds."""
        ...


@dataclass(frozen=True)
class Column:
    """One number of the state: its name and unit."""

    name: str
    unit: str


@dataclass(frozen=True)
class Task:
    """An environment as data collection and evaluation see it.

    Attributes:
        name: the registry's name, e.g. "pusht".
        env_id: the Gymnasium id.
        make: makes one environment; keywords obs_type ("pixels", "state", "pixels_state"), image_size and more.
        make_vector: the same for `num_envs` environments, without autoreset.
        expert: makes an expert from a seed.
        success: (states (B, S), goals (B, S), rule, strict) -> (B,) bool; `strict` halves the tolerance.
        rules: names of the success rules; the first is the protocols' default.
        state: the S numbers of the state.
        probes: named targets for linear probes: name -> (states (F, S)) -> (F, size); angles as sine and cosine.
        valid: (states (F, S)) -> (F,) bool, False where the physics left its domain; such episodes are not data.
        seconds_per_step: seconds of one environment step.
        action_low: (action_size,), environment units.
        action_high: (action_size,), environment units.
        action_repeat: environment steps per model step that models of this task use by default.
        max_steps: environment steps of one expert episode.
        scene: names of the variations that are constant within an episode and that a reset needs to restore it.
    """

    name: str
    env_id: str
    make: Callable[..., gym.Env]
    make_vector: Callable[..., gym.vector.VectorEnv]
    expert: Callable[[int], Expert]
    success: Callable[[np.ndarray, np.ndarray, str, bool], np.ndarray]
    rules: Sequence[str]
    state: Sequence[Column]
    probes: Mapping[str, Callable[[np.ndarray], np.ndarray]]
    valid: Callable[[np.ndarray], np.ndarray]
    seconds_per_step: float
    action_low: Sequence[float]
    action_high: Sequence[float]
    action_repeat: int = 5
    max_steps: int = 300
    scene: Sequence[str] = field(default_factory=tuple)
