"""The walker's dynamics alone, many futures at once, threaded by MuJoCo."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .kinematics import STATE_SIZE
from .model import ACTION_SIZE, SECONDS_PER_STEP, make_model
from .variations import Variation, make_variation

if TYPE_CHECKING:
    from wmkit.mujoco_rollout import MujocoRollout

__all__ = ["WalkerSimulator"]


class WalkerSimulator:
    """Rolls actions out from states.

    Threads start with the first rollout; the results do not depend on how many there are. They equal the environment's
    after a reset to the same state, bit for bit. Where a simulation diverges, the states are NaN from there on.

    Args:
        variation: as in `make_variation`.
        threads: by default one for each core that this process may use.

    Raises:
        UserError: dm_control or mujoco is not installed.
    """

    def __init__(
        self, variation: str | Mapping[str, Any] | Variation | None = None, threads: int | None = None
    ) -> None:
        self._model = make_model(make_variation(variation))
        self._threads = threads
        self._simulate: MujocoRollout | None = None

    def rollout(self, states: NDArray[np.float64], actions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return what follows each state under each candidate.

        Args:
            states: (B, 18), as in `kinematics`.
            actions: (B, N, H, 6), one for each control step of 0.025 s; the motors clip them to [-1, 1].

        Returns:
            (B, N, H, 18) float64, the state after each action.

        Raises:
            ValueError: shapes that do not fit.
        """
        states, actions = np.asarray(states, np.float64), np.asarray(actions, np.float64)
        if states.shape != (len(actions), STATE_SIZE) or actions.shape[3:] != (ACTION_SIZE,):
            raise ValueError(
                f"states {states.shape} and actions {actions.shape}; expected (B, {STATE_SIZE}) and "
                f"(B, N, H, {ACTION_SIZE})"
            )
        if self._simulate is None:
            from wmkit.mujoco_rollout import MujocoRollout

            self._simulate = MujocoRollout(self._model, SECONDS_PER_STEP, self._threads)
        return self._simulate(states, actions)["state"].copy()
