"""OGBench's cube-single with starts, goals and batches as wmkit's environments have them. Single and vectorised."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from .scenes import SceneOptions, Scenes, check_variation, make_start, per_scene
from .state import STATE_SIZE

__all__ = ["SECONDS_PER_STEP", "OGBenchCubeEnv", "OGBenchCubeVectorEnv"]

SECONDS_PER_STEP = 0.05
"""Seconds of one control step."""
_RENDER_SIZE = 480
_RENDER_MODES = (None, "rgb_array")


class OGBenchCubeEnv(gymnasium.Env[dict[str, Any], NDArray[Any]]):
    """Pick a cube up with a UR5e arm and put it down at its goal: OGBench's own simulation, twenty steps a second.

    Observations are a dict: "pixels" uint8 (S, S, 3), as OGBench draws them, and/or "state" float64 (74,), see `state`.
    Actions are float32 (5,) in [-1, 1], clipped: the hand's displacement in x, y and z (5 cm at 1), its turn about z
    (0.3 rad at 1) and the gripper's closing. The reward is 1 where the cube is within 4 cm of its goal, else 0, and the
    episode terminates there. `info` always holds "state" (74,), "goal_state" (74,) and "success", and after a reset
    "goal_pixels" where there are pixels.

    `reset(options=...)` takes "state" (74 numbers, set exactly, or the 41 positions and velocities) and "goal" (the
    same, of which the cube's place counts). What is not given is drawn as OGBench does when it collects data, again
    where the cube would be at its goal already. There are no variations.

    Args:
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S.
        render_mode: None or "rgb_array" (480 x 480).

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
        UserError: ogbench is not installed, or there is no OpenGL and pixels are asked for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / SECONDS_PER_STEP)}  # noqa: RUF012

    def __init__(self, obs_type: str = "pixels", image_size: int = 64, render_mode: str | None = None) -> None:
        if render_mode not in _RENDER_MODES:
            raise ValueError(f"unknown render_mode {render_mode!r}; choose from None, rgb_array")
        options = SceneOptions(obs_type, image_size)
        self.render_mode = render_mode
        self.observation_space, self.action_space = options.observation_space, options.action_space
        self._scenes = Scenes(options, 1)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; see the class for the options."""
        super().reset(seed=seed)
        self._scenes.reset({0: make_start(self._scenes.engine, options or {}, self.np_random)})
        return self.observe(), self._info(with_goal_pixels=True)

    def step(self, action: ArrayLike) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance by 0.05 s. The time limit is left to wrappers; this never truncates."""
        self._scenes.step(np.asarray(action)[None])
        info = self.info()
        return self.observe(), float(info["success"]), info["success"], False, info

    def set_state(self, state: ArrayLike) -> None:
        """Put arm and cube into another state (74,) or (41,); the goal stays. Raises ValueError for another shape."""
        self._scenes.set_state(0, state)

    def set_variation(self, variation: Mapping[str, Any] | None) -> None:
        """Change nothing: there are no variations. Raises ValueError for every name."""
        check_variation(variation)

    def variation(self) -> dict[str, Any]:
        """The present variation: empty."""
        return {}

    def observe(self) -> dict[str, Any]:
        """The observation of the present state, without a step."""
        return {key: value[0] for key, value in self._scenes.observation().items()}

    def info(self) -> dict[str, Any]:
        """The info of the present state, as a step would return it."""
        return self._info(with_goal_pixels=False)

    def render(self) -> NDArray[np.uint8] | None:
        """The scene, uint8 (480, 480, 3), for "rgb_array"; None without a mode."""
        return None if self.render_mode is None else self._scenes.render(0, _RENDER_SIZE)

    def close(self) -> None:
        """Free the OpenGL contexts, if there are any."""
        self._scenes.close()

    def _info(self, with_goal_pixels: bool) -> dict[str, Any]:
        info = {key: value[0] for key, value in self._scenes.info(with_goal_pixels).items()}
        return info | {"success": bool(info["success"])}


class OGBenchCubeVectorEnv(gymnasium.vector.VectorEnv[dict[str, Any], NDArray[Any], NDArray[Any]]):
    """Many cubes, stepped one after another by one simulation.

    Everything is as in `OGBenchCubeEnv`, with a leading axis B, `info` included. `reset(options=...)` takes "state" and
    "goal" with one row for all environments or B rows, and "reset_mask", bool (B,), to restart only some. With
    `autoreset_mode` "next_step" an environment that has ended is restarted by the step after; with "disabled" it keeps
    running until it is reset.

    Args:
        num_envs: B.
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S.
        render_mode: None or "rgb_array".
        max_episode_steps: truncate after so many steps; None never does.
        autoreset_mode: "next_step" or "disabled", or Gymnasium's enumeration.

    Raises:
        ValueError: for an unknown choice; the message lists the known ones.
        UserError: as in `OGBenchCubeEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        obs_type: str = "pixels",
        image_size: int = 64,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        names = {m.name.lower(): m for m in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)}
        mode = autoreset_mode if isinstance(autoreset_mode, AutoresetMode) else names.get(autoreset_mode.lower())
        if mode not in names.values():
            raise ValueError(f"unsupported autoreset_mode {autoreset_mode!r}; choose from {', '.join(names)}")
        if render_mode not in _RENDER_MODES:
            raise ValueError(f"unknown render_mode {render_mode!r}; choose from None, rgb_array")
        options = SceneOptions(obs_type, image_size)
        self.metadata = dict(OGBenchCubeEnv.metadata) | {"autoreset_mode": mode}
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
        """Advance all by 0.05 s; returns observations, rewards (B,), terminated (B,), truncated (B,), info."""
        restart = self._ended & (self._autoreset == AutoresetMode.NEXT_STEP)
        self._scenes.step(actions, ~restart if restart.any() else None)
        self._elapsed += 1
        if restart.any():
            self._restart(restart, per_scene(None, self.num_envs))
        terminated = self._scenes.successes & ~restart
        limit = np.inf if self._limit is None else self._limit
        truncated = (self._elapsed >= limit) & ~restart
        self._ended = terminated | truncated
        info = self._scenes.info(bool(restart.any()))
        return self._scenes.observation(), terminated.astype(float), terminated, truncated, info

    def set_state(self, states: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Put arms and cubes of the mask into other states; goals and time stay.

        Args:
            states: (B, 74) or (B, 41), as at a reset; rows outside the mask do not count.
            mask: bool (B,); by default all.

        Raises:
            ValueError: a wrong shape, a state that is not finite, or no reset before.
        """
        rows, states = np.flatnonzero(self._mask(mask, "mask")), np.asarray(states, np.float64)
        if states.ndim != 2 or len(states) != self.num_envs:
            raise ValueError(f"states: expected shape {(self.num_envs, STATE_SIZE)}, got {states.shape}")
        for row in rows.tolist():
            self._scenes.set_state(row, states[row])

    def set_variation(self, variation: Any, mask: ArrayLike | None = None) -> None:
        """Change nothing: there are no variations. Raises ValueError for every name, and for a mask not bool (B,)."""
        self._mask(mask, "mask")
        for options in per_scene({"variation": variation}, self.num_envs):
            check_variation(options["variation"])

    def variations(self) -> list[dict[str, Any]]:
        """The present variation of each environment: empty."""
        return [{} for _ in range(self.num_envs)]

    def observe(self) -> dict[str, Any]:
        """The observations of the present states, without a step."""
        return self._scenes.observation()

    def info(self) -> dict[str, Any]:
        """The info of the present states, as a step would return it."""
        return self._scenes.info(with_goal_pixels=False)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The scenes, uint8 (480, 480, 3) each, for "rgb_array"."""
        if self.render_mode is None:
            return None
        return tuple(self._scenes.render(i, _RENDER_SIZE) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the OpenGL contexts."""
        self._scenes.close()

    def _restart(self, mask: NDArray[np.bool_], options: list[dict[str, Any]]) -> None:
        rows, engine = np.flatnonzero(mask).tolist(), self._scenes.engine
        self._scenes.reset({i: make_start(engine, options[i], self._rngs[i]) for i in rows})
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
