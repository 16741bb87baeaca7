"""OGBench's scripted oracle, which picks the cube up and puts it down elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import load_ogbench, shared_engine
from .state import CUBE, CUBE_TURN

__all__ = ["CubeExpert"]

_BOUNDS = ((0.3, -0.3), (0.55, 0.3))
"""Where OGBench draws the cube's targets, x and y in metres."""
_HEIGHT = 0.02
"""Metres of the centre of a cube on the table."""


class CubeExpert:
    """OGBench's `CubeMarkovOracle`, with a new target whenever it has put the cube down and drawn its hand back.

    It decides at every step from the state alone, as when OGBench and stable-worldmodel record data with it; they, too,
    go on with a new target until the time is up. Noise is left to who executes the actions.

    Args:
        seed: of where the hand goes in the end, and of further targets.

    Raises:
        UserError: ogbench is not installed.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._engine = shared_engine()
        oracles = load_ogbench("oracles.markov.cube_markov")
        self._oracle = oracles.CubeMarkovOracle(env=self._engine.env)
        self._goal = np.zeros(0)

    def reset(self, state: NDArray[np.float64], goal: NDArray[np.float64], variation: Mapping[str, Any]) -> None:
        """Start an episode from `state` (74,) towards `goal` (74,); there are no variations."""
        self._begin(np.array(goal, np.float64))

    def act(self, state: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return one action (5,) in [-1, 1] for the state (74,)."""
        if self._oracle.done:
            self._begin(self._another_goal())
        info = self._engine.describe(state, self._goal)
        return np.asarray(self._oracle.select_action(None, info), np.float32)

    def _begin(self, goal: NDArray[np.float64]) -> None:
        self._goal = goal
        with _global_seed(int(self._rng.integers(2**31))):
            self._oracle.reset(None, {})

    def _another_goal(self) -> NDArray[np.float64]:
        """Return the goal with the cube elsewhere and turned."""
        goal, half_turn = self._goal.copy(), self._rng.uniform(0, np.pi)
        goal[CUBE] = (*self._rng.uniform(*_BOUNDS), _HEIGHT)
        goal[CUBE_TURN] = (np.cos(half_turn), 0.0, 0.0, np.sin(half_turn))
        return goal


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, which OGBench's oracles draw from, and put it back as it was afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
