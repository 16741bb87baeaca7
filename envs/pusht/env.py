"""`wmkit/PushT-v0`: push a T to a pose with a disc. Single and vectorised."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from .physics import CONTROL_HZ
from .scenes import SceneOptions, Scenes, make_start, per_scene
from .window import Window

__all__ = ["PushTEnv", "PushTVectorEnv"]

_RENDER_SIZE = 512


class PushTEnv(gymnasium.Env[dict[str, Any], NDArray[Any]]):
    """Push the block into the goal region. World 512 x 512 px, ten steps a second, physics of gym-pusht 0.1.8.

    Observations are a dict: "pixels" uint8 (S, S, 3) and/or "state" float64 (10,), see `geometry`. Actions are
    float32 (2,): relative, in [-1, 1], put the agent's target up to 100 px from where it is; absolute ones are the
    target itself in [0, 512] px. Actions outside are clipped, and so is the target. The reward is the coverage over
    0.95, at most 1; the episode terminates on success. `info` always holds "state" (10,), "goal_state" (10,),
    "coverage" and "success", and after a reset "goal_pixels" where there are pixels. If the goal is a block pose,
    "goal_state" has the agent where it starts.

    `reset(options=...)` takes "state" (5, 7 or 10 numbers, set exactly; missing velocities are zero), "goal" (block
    pose of 3 numbers, or a state, whose agent position then counts in the `pose` rule) and "variation" (see
    `variations`). The goal's marker is drawn at a block pose; for a goal with an agent it stays at the default, so that
    the picture does not give the goal away.

    Args:
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S.
        action_mode: "relative" or "absolute".
        success: "coverage" (over 95 % of the goal) or "pose" (see `geometry.pose_success`).
        render_mode: None, "rgb_array" (512 x 512) or "human" (needs pygame).

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012

    def __init__(
        self,
        obs_type: str = "pixels",
        image_size: int = 64,
        action_mode: str = "relative",
        success: str = "coverage",
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"unknown render_mode {render_mode!r}; choose from None, human, rgb_array")
        options = SceneOptions(obs_type, image_size, action_mode, success)
        self.render_mode = render_mode
        self.observation_space, self.action_space = options.observation_space, options.action_space
        self._scenes = Scenes(options, 1)
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; see the class for the options."""
        super().reset(seed=seed)
        self._scenes.reset({0: make_start(options or {}, self.np_random)})
        return self._result(with_goal_pixels=True)

    def step(self, action: ArrayLike) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance by 0.1 s. The time limit is the registered id's; this never truncates."""
        self._scenes.step(np.asarray(action)[None])
        observation, info = self._result(with_goal_pixels=False)
        return observation, float(self._scenes.rewards()[0]), info["success"], False, info

    def render(self) -> NDArray[np.uint8] | None:
        """The scene, uint8 (512, 512, 3), for "rgb_array"; None for the other modes."""
        return self._scenes.render(0, _RENDER_SIZE) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _result(self, with_goal_pixels: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.render_mode == "human":
            self._window = self._window or Window(_RENDER_SIZE, CONTROL_HZ)
            self._window.show(self._scenes.render(0, _RENDER_SIZE))
        observation = {key: value[0] for key, value in self._scenes.observation().items()}
        info = {key: value[0] for key, value in self._scenes.info(with_goal_pixels).items()}
        info["coverage"], info["success"] = float(info["coverage"]), bool(info["success"])
        return observation, info


class PushTVectorEnv(gymnasium.vector.VectorEnv[dict[str, Any], NDArray[Any], NDArray[Any]]):
    """Many PushT environments stepped together, with one call of the renderer for all frames.

    Everything is as in `PushTEnv`, with a leading axis B, `info` included. `reset(options=...)` takes "state" and
    "goal" with one row for all environments or B rows, "variation" as one mapping or B of them, and "reset_mask",
    bool (B,), to restart only some. With `autoreset_mode` "next_step" an environment that has ended is restarted by
    the step after; with "disabled" it keeps running until it is reset.

    Args:
        num_envs: B.
        obs_type: as in `PushTEnv`, like the next three.
        image_size: S.
        action_mode: "relative" or "absolute".
        success: "coverage" or "pose".
        render_mode: None or "rgb_array".
        max_episode_steps: truncate after so many steps; None never does.
        autoreset_mode: "next_step" or "disabled", or Gymnasium's enumeration.

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
    """

    def __init__(
        self,
        num_envs: int = 1,
        obs_type: str = "pixels",
        image_size: int = 64,
        action_mode: str = "relative",
        success: str = "coverage",
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        names = {m.name.lower(): m for m in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)}
        mode = autoreset_mode if isinstance(autoreset_mode, AutoresetMode) else names.get(autoreset_mode.lower())
        if mode not in names.values():
            raise ValueError(f"unsupported autoreset_mode {autoreset_mode!r}; choose from {', '.join(names)}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; choose from None, rgb_array")
        options = SceneOptions(obs_type, image_size, action_mode, success)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ, "autoreset_mode": mode}
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space, self.single_action_space = options.observation_space, options.action_space
        self.observation_space = batch_space(options.observation_space, num_envs)
        self.action_space = batch_space(options.action_space, num_envs)
        self._autoreset, self._limit = mode, max_episode_steps
        self._scenes = Scenes(options, num_envs)
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._elapsed = np.zeros(num_envs, int)
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start episodes. A whole-number seed gives environment i the seed plus i, as in Gymnasium's own vector envs.

        Raises:
            ValueError: for an unknown option or a batch of a wrong length.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs)), bool)
        if mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask: expected shape {(self.num_envs,)}, got {mask.shape}")
        self._seed(seed, mask)
        self._restart(mask, per_scene(options, self.num_envs))
        return self._scenes.observation(), self._scenes.info(with_goal_pixels=True)

    def step(
        self, actions: ArrayLike
    ) -> tuple[dict[str, Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Advance all by 0.1 s; returns observations, rewards (B,), terminated (B,), truncated (B,), info."""
        restart = self._ended & (self._autoreset == AutoresetMode.NEXT_STEP)
        self._scenes.step(actions, ~restart if restart.any() else None)
        self._elapsed += 1
        if restart.any():
            self._restart(restart, per_scene(None, self.num_envs))
        rewards = np.where(restart, 0.0, self._scenes.rewards())
        terminated = self._scenes.successes & ~restart
        limit = np.inf if self._limit is None else self._limit
        truncated = (self._elapsed >= limit) & ~restart
        self._ended = terminated | truncated
        return self._scenes.observation(), rewards, terminated, truncated, self._scenes.info(bool(restart.any()))

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The scenes, uint8 (512, 512, 3) each, for "rgb_array"."""
        if self.render_mode is None:
            return None
        return tuple(self._scenes.render(i, _RENDER_SIZE) for i in range(self.num_envs))

    def _restart(self, mask: NDArray[np.bool_], options: list[dict[str, Any]]) -> None:
        rows = np.flatnonzero(mask).tolist()
        self._scenes.reset({i: make_start(options[i], self._rngs[i]) for i in rows})
        self._elapsed[mask] = 0
        self._ended[mask] = False

    def _seed(self, seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_]) -> None:
        """Reseed the environments of the mask; None leaves a generator as it is."""
        count = self.num_envs
        seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed or [None] * count)
        if len(seeds) != count:
            raise ValueError(f"seed: expected one number or {count}, got {len(seeds)}")
        for i, value in enumerate(seeds):
            if value is not None and mask[i]:
                self._rngs[i] = np.random.default_rng(value)
