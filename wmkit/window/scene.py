"""The scene that a person plays with: the environment, what was changed about it, and what was moved."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..evaluation.manifest import Pair
from ..evaluation.runner import reset_to
from ..tasks import Playground
from .goals import picture_of

__all__ = ["Scene"]

_OF_THE_VIEW = ("occlusion", "lighting", "sensor-noise", "frozen-frame", "dropped-frame")
"""Perturbations of what is observed: while one is on, the picture is what the model gets to see."""
_AT_A_STROKE = ("teleport",)
"""Perturbations that happen once."""


class Scene:
    """One environment behind the perturbation wrapper, and the last observation of it.

    Attributes:
        observation: key -> (1, ...).
        state: (S,) float64.
        changes: names and strengths of the perturbations that are on.
    """

    def __init__(self, env: Any, playground: Playground) -> None:
        """Take over a perturbed vector environment of 1; it is reset by `begin`."""
        self._env, self._playground = env, playground
        self.observation: Mapping[str, np.ndarray] = {}
        self.state = np.zeros(0)
        self.changes: dict[str, float] = {}

    def begin(self, pair: Pair, seed: int = 0) -> None:
        """Put the scene at the pair's start; what a person changed about it stays changed."""
        start, goal = (np.array([numbers], float) for numbers in (pair.start, pair.goal))
        self.observation, info = reset_to(self._env, [pair], start, goal, seed)
        self.state = np.array(info["state"][0], float)
        for name, strength in self.changes.items():
            self._env.switch(name, strength)
        if self.changes:
            self.observe()

    def step(self, action: np.ndarray) -> None:
        """Advance by one environment step under an action (1, action_size)."""
        self.observation, _, _, _, info = self._env.step(action)
        self.state = np.array(info["state"][0], float)

    def observe(self) -> None:
        """Look at the scene as it is now."""
        self.observation = self._env.observe()
        self.state = np.array(self._env.info()["state"][0], float)

    def drag(self, handle: str, x: float, y: float) -> None:
        """Move a handle to a place of the picture, [0, 1]."""
        self._place(self._playground.drag(self.state, handle, x, y))

    def spin(self, radians: float) -> None:
        """Turn what can be turned clockwise."""
        self._place(self._playground.spin(self.state, radians))

    def switch(self, name: str, strength: float) -> None:
        """Turn a perturbation on, or off with strength 0.

        Raises:
            UserError: it is unknown, or this environment has none of the kind.
        """
        self._env.switch(name, strength)
        self.changes.pop(name, None)
        if strength and name not in _AT_A_STROKE:
            self.changes[name] = strength
        self.observe()

    def restore(self) -> None:
        """Turn all perturbations off."""
        for name in tuple(self.changes):
            self.switch(name, 0.0)

    def picture(self) -> np.ndarray:
        """Return the scene as a person sees it, (S, S, 3) uint8, or as the model does where that was tampered with."""
        if any(name in self.changes for name in _OF_THE_VIEW):
            return np.array(self.observation["pixels"][0])
        return picture_of(self._env, self.observation)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _place(self, state: np.ndarray) -> None:
        self._env.set_state(np.asarray(state, float)[None])
        self.observe()
