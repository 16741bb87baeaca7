"""`wmkit/Walker-v0`: dm-control's planar walker. Single and vectorised."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike

from ..scene_checks import whole_number
from ..scene_env import SceneEnv, SceneVectorEnv
from .model import SECONDS_PER_STEP
from .rewards import RewardFunction, get_reward
from .scenes import SceneOptions, Scenes
from .variations import Variation, make_variation

__all__ = ["WalkerEnv", "WalkerVectorEnv"]

_FPS = round(1 / SECONDS_PER_STEP)

VariationLike = str | Mapping[str, Any] | Variation
"""One variation's name, or names with strengths; see `variations`."""


class WalkerEnv(SceneEnv):
    """Stand, walk or run with two legs in the plane: dm-control's walker, forty control steps a second.

    Observations are a dict: "state" float64 (18,), see `kinematics`; "features" float64 (24,), dm-control's own
    observation; "pixels" uint8 (S, S, 3). Actions are float32 (6,) in [-1, 1], shares of the largest torque of hip,
    knee and ankle, right leg first; what lies outside is clipped. The reward is a function of the new state and the
    action (see `rewards`), in [0, 1] for the tasks of dm-control. An episode never terminates. `info` always holds
    the true "state" (18,) and "variation", name -> number.

    `reset(options=...)` takes "state" (18 numbers, set exactly), "task" (a reward's name or a function, kept from then
    on) and "variation" (for this episode; see `variations`). Without a state, joints are drawn as dm-control does.
    `set_variation` puts a variation in the place of the one before, whole; None restores dm-control's walker.

    Args:
        task: the reward: "stand", "walk", "run", another registered name, or a function.
        obs_type: "state", "features", "pixels" or "pixels_state".
        image_size: S.
        variation: of episodes whose reset names none.
        render_mode: None or "rgb_array" (480 x 480).

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
        UserError: dm_control or mujoco is not installed, or there is no OpenGL and pixels are asked for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": _FPS}  # noqa: RUF012

    def __init__(
        self,
        task: str | RewardFunction = "walk",
        obs_type: str = "state",
        image_size: int = 64,
        variation: VariationLike | None = None,
        render_mode: str | None = None,
    ) -> None:
        scenes = Scenes(SceneOptions(obs_type, image_size), 1, get_reward(task), make_variation(variation))
        super().__init__(scenes, render_mode)
        self._walkers = scenes

    def set_reward(self, reward: str | RewardFunction) -> None:
        """Replace the reward from the next step on: a registered name, or a function as in `rewards`."""
        self._walkers.set_reward(0, get_reward(reward))


class WalkerVectorEnv(SceneVectorEnv):
    """Many walkers stepped together, by threads where there are eight or more.

    Everything is as in `WalkerEnv`, with a leading axis B, `info` and its "variation" included. `reset(options=...)`
    takes "state" with one row for all environments or B rows, "task" and "variation" as one or a list of B, and
    "reset_mask", bool (B,), to restart only some. With `autoreset_mode` "next_step" an environment that has ended is
    restarted by the step after; with "disabled" it keeps running until it is reset.

    Args:
        num_envs: B.
        task: as in `WalkerEnv`, like the next three.
        obs_type: "state", "features", "pixels" or "pixels_state".
        image_size: S.
        variation: of episodes whose reset names none.
        render_mode: None or "rgb_array".
        max_episode_steps: truncate after so many steps; None never does.
        autoreset_mode: "next_step" or "disabled", or Gymnasium's enumeration.

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
        UserError: as in `WalkerEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: str | RewardFunction = "walk",
        obs_type: str = "state",
        image_size: int = 64,
        variation: VariationLike | None = None,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        scenes = Scenes(
            SceneOptions(obs_type, image_size),
            whole_number("num_envs", num_envs),
            get_reward(task),
            make_variation(variation),
        )
        super().__init__(scenes, num_envs, render_mode, _FPS, max_episode_steps, autoreset_mode)
        self._walkers = scenes

    def set_reward(self, reward: str | RewardFunction, mask: ArrayLike | None = None) -> None:
        """Replace the reward of the environments of the mask, bool (B,), from the next step on; by default of all."""
        for row in np.flatnonzero(self._mask(mask, "mask")).tolist():
            self._walkers.set_reward(row, get_reward(reward))
