"""`wmkit/PushT-v0`: push a T to a pose with a disc. Single and vectorised."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from .geometry import STATE_SIZE, as_state
from .physics import CONTROL_HZ
from .scenes import SceneOptions, Scenes
from .starts import make_start, per_scene
from .variations import Variation
from .window import Window

__all__ = ["PushTEnv", "PushTVectorEnv"]

_RENDER_SIZE = 512

VariationLike = Mapping[str, Any] | Variation
"""Names -> values; see `variations`."""


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
    `variations`). The goal's marker is drawn at a block pose; for a goal with an agent it stays at the default in
    observations, so that they do not give the goal away; `render` shows it at the goal.

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

    def set_state(self, state: ArrayLike) -> None:
        """Put agent and block elsewhere, state (5, 7 or 10 numbers) as at a reset; goal, time and looks stay.

        Raises:
            ValueError: a state of a wrong length or not finite, or no reset before.
        """
        row = as_state(state)
        if row.shape != (STATE_SIZE,):
            raise ValueError(f"state: expected one row for one environment, got shape {row.shape}")
        self._scenes.set_states(np.zeros(1, int), row[None])

    def set_variation(self, variation: VariationLike | None) -> None:
        """Change looks or floor from now on, until the next reset; the names not given stay, None restores the reset's.

        Raises:
            ValueError: an unknown name, a value outside its range, or a size or shape, which only a reset can change.
        """
        self._scenes.set_variations({0: variation})

    def variation(self) -> dict[str, Any]:
        """The present variation, all names -> values."""
        return self._scenes.variations()[0]

    def observe(self) -> dict[str, Any]:
        """The observation of the present state, without a step."""
        return {key: value[0] for key, value in self._scenes.observation().items()}

    def info(self) -> dict[str, Any]:
        """The info of the present state, as a step would return it."""
        info = {key: value[0] for key, value in self._scenes.info(with_goal_pixels=False).items()}
        return info | {"coverage": float(info["coverage"]), "success": bool(info["success"])}

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
        mask = self._mask(options.pop("reset_mask", None), "reset_mask")
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

    def set_state(self, states: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Put agent and block elsewhere in the environments of the mask; goals, time and looks stay.

        Args:
            states: (B, 5 | 7 | 10), as at a reset; rows outside the mask do not count.
            mask: bool (B,); by default all.

        Raises:
            ValueError: a wrong shape, a state that is not finite, or no reset before.
        """
        rows, states = np.flatnonzero(self._mask(mask, "mask")), np.asarray(states, np.float64)
        if states.ndim != 2 or len(states) != self.num_envs:
            raise ValueError(f"states: expected one row for each of {self.num_envs} environments, got {states.shape}")
        self._scenes.set_states(rows, as_state(states[rows]))

    def set_variation(
        self, variation: VariationLike | Sequence[VariationLike] | None, mask: ArrayLike | None = None
    ) -> None:
        """Change looks or floor of the environments of the mask from now on, until their next reset.

        Args:
            variation: one mapping of names to values for all, or a list of B; the names not given stay. None restores
                the reset's.
            mask: bool (B,); by default all.

        Raises:
            ValueError: an unknown name, a value outside its range, or a size or shape, which only a reset can change.
                Nothing is changed then.
        """
        split = per_scene({"variation": variation}, self.num_envs)
        rows = np.flatnonzero(self._mask(mask, "mask")).tolist()
        self._scenes.set_variations({row: split[row]["variation"] for row in rows})

    def variations(self) -> list[dict[str, Any]]:
        """The present variation of each environment, all names -> values."""
        return self._scenes.variations()

    def observe(self) -> dict[str, Any]:
        """The observations of the present states, without a step."""
        return self._scenes.observation()

    def info(self) -> dict[str, Any]:
        """The info of the present states, as a step would return it."""
        return self._scenes.info(with_goal_pixels=False)

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

    def _mask(self, mask: ArrayLike | None, name: str) -> NDArray[np.bool_]:
        """Return a mask (B,); None stands for all."""
        found = np.ones(self.num_envs, bool) if mask is None else np.asarray(mask, bool)
        if found.shape != (self.num_envs,):
            raise ValueError(f"{name}: expected shape {(self.num_envs,)}, got {found.shape}")
        return found

    def _seed(self, seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_]) -> None:
        """Reseed the environments of the mask; None leaves a generator as it is."""
        count = self.num_envs
        seeds = [seed + i for i in range(count)] if isinstance(seed, int) else list(seed or [None] * count)
        if len(seeds) != count:
            raise ValueError(f"seed: expected one number or {count}, got {len(seeds)}")
        for i, value in enumerate(seeds):
            if value is not None and mask[i]:
                self._rngs[i] = np.random.default_rng(value)
