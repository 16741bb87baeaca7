"""PushCube's dynamics alone, many futures at once, threaded by MuJoCo."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .control import ACTION_MODES, SECONDS_PER_STEP, joint_speeds
from .kinematics import JOINTS, STATE_SIZE
from .model import make_model
from .variations import Variation, make_variation

if TYPE_CHECKING:
    from wmkit.mujoco_rollout import MujocoRollout

__all__ = ["PushCubeSimulator"]


class PushCubeSimulator:
    """Rolls actions out from states.

    Threads start with the first rollout; the results do not depend on how many there are, and equal the environment's,
    bit for bit. Where a simulation diverges, the states are NaN from there on.

    Args:
        variation: as in `make_variation`; a recorded scene's names and values.
        threads: by default one for each core that this process may use.

    Raises:
        UserError: dm_control or mujoco is not installed.
    """

    def __init__(self, variation: Mapping[str, Any] | Variation | None = None, threads: int | None = None) -> None:
        self._model = make_model(make_variation(variation))
        self._threads = threads
        self._simulate: MujocoRollout | None = None

    def rollout(self, states: NDArray[np.float64], actions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return what follows each state under each candidate.

        Args:
            states: (B, 25), as in `kinematics`.
            actions: (B, N, H, 2 | 3), one for each control step of 0.1 s; clipped to [-1, 1].

        Returns:
            (B, N, H, 25) float64, the state after each action.

        Raises:
            ValueError: shapes that do not fit.
        """
        states, actions = np.asarray(states, np.float64), np.clip(np.asarray(actions, np.float64), -1.0, 1.0)
        sizes = tuple(ACTION_MODES.values())
        if states.shape != (len(actions), STATE_SIZE) or actions.ndim != 4 or actions.shape[3] not in sizes:
            raise ValueError(
                f"states {states.shape} and actions {actions.shape}; expected (B, {STATE_SIZE}) and (B, N, H, 2 | 3)"
            )
        if self._simulate is None:
            from wmkit.mujoco_rollout import MujocoRollout

            self._simulate = MujocoRollout(self._model, SECONDS_PER_STEP, self._threads)
        (batch, count, horizon), size = actions.shape[:3], actions.shape[3]
        present = np.repeat(states, count, axis=0)
        flat = actions.reshape(batch * count, horizon, size)
        found = np.empty((batch * count, horizon, STATE_SIZE))
        for step in range(horizon):
            speeds = joint_speeds(np.nan_to_num(present[:, : len(JOINTS)]), flat[:, step])
            after = self._simulate(present, speeds[:, None, None])["state"][:, 0, 0]
            found[:, step] = present = np.where(np.isnan(present), np.nan, after)
        return found.reshape(batch, count, horizon, STATE_SIZE)
