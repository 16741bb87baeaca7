"""Where the window's episodes start and what they are to reach, and pictures of what is to be reached."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.manifest import Pair, load_manifest
from ..evaluation.protocols import PROTOCOLS, draw_manifest
from ..evaluation.runner import reset_to
from ..evaluation.suite import shipped_manifest
from ..tasks import Task

__all__ = ["CYCLE", "GoalScene", "Goals"]

CYCLE = ("short", "long50", "long75", "full")
"""The protocols that the window goes through, in this order."""
_DRAWN = 40
"""Pairs drawn from the environment's own reset."""


class Goals:
    """Deals pairs of start and goal by protocol, in random order, again and again.

    They come from the manifest of held-out pairs in the model's folder, or of an evaluation kept there. Without one
    they are drawn from the environment's reset: the nearest third of the draws for the first protocol, the middle and
    the farthest third for the next two, all of them for "full".
    """

    def __init__(self, task: Task, folder: Path | None = None, seed: int = 0) -> None:
        """Create the dealer.

        Args:
            task: the environment; it has goals.
            folder: the model's.
            seed: of the draws and their order.
        """
        self._task, self._folder, self._seed = task, folder, seed
        self._random = np.random.default_rng([seed, 0x601])
        self._pairs: dict[str, tuple[Pair, ...]] = {}
        self._left: dict[str, list[int]] = {}

    def draw(self, protocol: str) -> Pair:
        """Return the next pair.

        Raises:
            UserError: the manifest in the folder cannot be read.
        """
        if protocol not in self._pairs:
            self._pairs[protocol] = self._load(protocol)
        pairs = self._pairs[protocol]
        left = self._left.setdefault(protocol, [])
        if not left:
            left += self._random.permutation(len(pairs)).tolist()
        return pairs[left.pop()]

    def rule(self, protocol: str) -> str:
        """Return the success rule of a protocol."""
        return PROTOCOLS[protocol].default_rule(self._task)

    def _load(self, protocol: str) -> tuple[Pair, ...]:
        folder, task = self._folder, self._task
        if folder is not None:
            kept = folder / "eval" / f"{task.name}-{protocol}" / "manifest.json"
            path = next((path for path in (shipped_manifest(folder, task, protocol), kept) if path.exists()), None)
            if path is not None:
                return load_manifest(path).pairs
        return self._drawn(protocol)

    def _drawn(self, protocol: str) -> tuple[Pair, ...]:
        """Return pairs of the environment's own reset, as far apart as the protocol's place in the cycle says."""
        if "full" not in self._pairs:
            self._pairs["full"] = draw_manifest(self._task, PROTOCOLS["full"], _DRAWN, self._seed).pairs
        pairs, distance = self._pairs["full"], self._task.distance
        if protocol not in CYCLE[:-1] or distance is None:
            return pairs
        starts, goals = (np.array([getattr(pair, name) for pair in pairs], float) for name in ("start", "goal"))
        order = np.argsort(distance(starts, goals, self._task.rules[0]))
        return tuple(pairs[row] for row in np.array_split(order, len(CYCLE) - 1)[CYCLE.index(protocol)])


class GoalScene:
    """Draws what a goal looks like, in an environment of its own.

    Args:
        env: a vector environment of 1 as the model observes it, nothing perturbed; it is the scene's from now on.
    """

    def __init__(self, env: Any) -> None:
        self._env = env

    def draw(self, pair: Pair, goal: np.ndarray, state: np.ndarray) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """Return the observation, each key (1, ...), and the picture (S, S, 3) of a goal that has been reached.

        Args:
            pair: names the scene's variation.
            goal: (S,), NaN where a number does not count.
            state: (S,), gives those.
        """
        reached = np.where(np.isnan(goal), state, goal)[None]
        observation, _ = reset_to(self._env, [replace(pair, actions=())], reached, reached)
        return observation, picture_of(self._env, observation)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def picture_of(env: Any, observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a copy of how a vector environment's first row looks, (S, S, 3) uint8: as it renders, else as observed."""
    frames = env.render()
    return np.array(observation["pixels"][0] if frames is None else frames[0])
