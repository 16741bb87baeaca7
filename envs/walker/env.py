"""`wmkit/Walker-v0`: dm-control's planar walker. Single and vectorised."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from .kinematics import STATE_SIZE
from .model import SECONDS_PER_STEP
from .rewards import RewardFunction, get_reward
from .scenes import SceneOptions, Scenes, make_start, per_scene
from .variations import Variation, make_variation

__all__ = ["WalkerEnv", "WalkerVectorEnv"]

_RENDER_SIZE = 480
_RENDER_MODES = (None, "rgb_array")

VariationLike = str | Mapping[str, Any] | Variation
"""One variation's name, or names with strengths; see `variations`."""


class WalkerEnv(gymnasium.Env[dict[str, Any], NDArray[Any]]):
    """Stand, walk or run with two legs in the plane: dm-control's walker, forty control steps a second.

    Observations are a dict: "state" float64 (18,), see `kinematics`; "features" float64 (24,), dm-control's own
    observation; "pixels" uint8 (S, S, 3). Actions are float32 (6,) in [-1, 1], shares of the largest torque of hip,
    knee and ankle, right leg first; what lies outside is clipped. The reward is a function of the new state and the
    action (see `rewards`), in [0, 1] for the tasks of dm-control. An episode never terminates. `info` always holds
    the true "state" (18,) and "variation", name -> number.

    `reset(options=...)` takes "state" (18 numbers, set exactly), "task" (a reward's name or a function, kept from then
    on) and "variation" (for this episode; see `variations`). Without a state, joints are drawn as dm-control does.

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

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / SECONDS_PER_STEP)}  # noqa: RUF012

    def __init__(
        self,
        task: str | RewardFunction = "walk",
        obs_type: str = "state",
        image_size: int = 64,
        variation: VariationLike | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in _RENDER_MODES:
            raise ValueError(f"unknown render_mode {render_mode!r}; choose from None, rgb_array")
        options = SceneOptions(obs_type, image_size)
        self.render_mode = render_mode
        self.observation_space, self.action_space = options.observation_space, options.action_space
        self._variation = make_variation(variation)
        self._scenes = Scenes(options, 1, get_reward(task))

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; see the class for the options."""
        super().reset(seed=seed)
        self._scenes.reset({0: make_start(options or {}, self._variation, self.np_random)})
        return self._observation(), self._info()

    def step(self, action: ArrayLike) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance by 0.025 s. The time limit is the registered id's; this never truncates."""
        self._scenes.step(np.asarray(action)[None])
        return self._observation(), float(self._scenes.rewards[0]), False, False, self._info()

    def set_reward(self, reward: str | RewardFunction) -> None:
        """Replace the reward from the next step on: a registered name, or a function as in `rewards`."""
        self._scenes.set_reward(0, get_reward(reward))

    def set_variation(self, variation: VariationLike | None) -> None:
        """Change the physics and sensors from now on, until the next reset; None restores dm-control's walker."""
        self._scenes.set_variation(0, make_variation(variation))

    def set_state(self, state: ArrayLike) -> None:
        """Put the walker into another state (18,); everything else stays. Raises ValueError for another shape."""
        row = np.array(state, np.float64)
        if row.shape != (STATE_SIZE,) or not np.isfinite(row).all():
            raise ValueError(f"state: expected {STATE_SIZE} finite numbers, got shape {row.shape}")
        self._scenes.set_state(0, row)

    def variation(self) -> dict[str, float]:
        """The present variation, all names -> numbers."""
        return self._scenes.variations()[0]

    def observe(self) -> dict[str, Any]:
        """The observation of the present state, without a step."""
        return self._observation()

    def info(self) -> dict[str, Any]:
        """The info of the present state, as a step would return it."""
        return self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """The scene, uint8 (480, 480, 3), for "rgb_array"; None without a mode."""
        return None if self.render_mode is None else self._scenes.render(0, _RENDER_SIZE)

    def close(self) -> None:
        """Free the OpenGL contexts, if there are any."""
        self._scenes.close()

    def _observation(self) -> dict[str, Any]:
        return {key: value[0] for key, value in self._scenes.observation().items()}

    def _info(self) -> dict[str, Any]:
        info = self._scenes.info()
        variation = {name: float(value[0]) for name, value in info["variation"].items()}
        return {"state": info["state"][0], "variation": variation}


class WalkerVectorEnv(gymnasium.vector.VectorEnv[dict[str, Any], NDArray[Any], NDArray[Any]]):
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
        names = {m.name.lower(): m for m in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)}
        mode = autoreset_mode if isinstance(autoreset_mode, AutoresetMode) else names.get(autoreset_mode.lower())
        if mode not in names.values():
            raise ValueError(f"unsupported autoreset_mode {autoreset_mode!r}; choose from {', '.join(names)}")
        if render_mode not in _RENDER_MODES:
            raise ValueError(f"unknown render_mode {render_mode!r}; choose from None, rgb_array")
        options = SceneOptions(obs_type, image_size)
        self.metadata = dict(WalkerEnv.metadata) | {"autoreset_mode": mode}
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space, self.single_action_space = options.observation_space, options.action_space
        self.observation_space = batch_space(options.observation_space, num_envs)
        self.action_space = batch_space(options.action_space, num_envs)
        self._autoreset, self._limit = mode, max_episode_steps
        self._variation = make_variation(variation)
        self._scenes = Scenes(options, num_envs, get_reward(task))
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
        return self._scenes.observation(), self._scenes.info()

    def step(
        self, actions: ArrayLike
    ) -> tuple[dict[str, Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Advance all by 0.025 s; returns observations, rewards (B,), terminated (B,), truncated (B,), info."""
        restart = self._ended & (self._autoreset == AutoresetMode.NEXT_STEP)
        self._scenes.step(actions, ~restart if restart.any() else None)
        self._elapsed += 1
        if restart.any():
            self._restart(restart, per_scene(None, self.num_envs))
        limit = np.inf if self._limit is None else self._limit
        truncated = (self._elapsed >= limit) & ~restart
        self._ended = truncated
        terminated = np.zeros(self.num_envs, bool)
        return self._scenes.observation(), self._scenes.rewards.copy(), terminated, truncated, self._scenes.info()

    def set_reward(self, reward: str | RewardFunction, mask: ArrayLike | None = None) -> None:
        """Replace the reward of the environments of the mask, bool (B,), from the next step on; by default of all."""
        for row in np.flatnonzero(self._mask(mask, "mask")).tolist():
            self._scenes.set_reward(row, get_reward(reward))

    def set_variation(
        self, variation: VariationLike | Sequence[VariationLike] | None, mask: ArrayLike | None = None
    ) -> None:
        """Change the physics and sensors of the environments of the mask until their next reset; by default of all.

        Args:
            variation: one for all or a list of B, in place of what was before; None restores dm-control's walker.
            mask: bool (B,).
        """
        split = per_scene({"variation": variation}, self.num_envs)
        made = {
            row: make_variation(split[row]["variation"]) for row in np.flatnonzero(self._mask(mask, "mask")).tolist()
        }
        for row, one in made.items():
            self._scenes.set_variation(row, one)

    def set_state(self, states: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Put the walkers of the mask into other states; everything else stays.

        Args:
            states: (B, 18); rows outside the mask do not count.
            mask: bool (B,); by default all.

        Raises:
            ValueError: a wrong shape, a state that is not finite, or no reset before.
        """
        rows, states = np.flatnonzero(self._mask(mask, "mask")), np.array(states, np.float64)
        if states.shape != (self.num_envs, STATE_SIZE) or not np.isfinite(states[rows]).all():
            raise ValueError(f"states: expected finite numbers {(self.num_envs, STATE_SIZE)}, got shape {states.shape}")
        for row in rows.tolist():
            self._scenes.set_state(row, states[row])

    def variations(self) -> list[dict[str, float]]:
        """The present variation of each environment, all names -> numbers."""
        return self._scenes.variations()

    def observe(self) -> dict[str, Any]:
        """The observations of the present states, without a step."""
        return self._scenes.observation()

    def info(self) -> dict[str, Any]:
        """The info of the present states, as a step would return it."""
        return self._scenes.info()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The scenes, uint8 (480, 480, 3) each, for "rgb_array"."""
        if self.render_mode is None:
            return None
        return tuple(self._scenes.render(i, _RENDER_SIZE) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Free threads and OpenGL contexts."""
        self._scenes.close()

    def _restart(self, mask: NDArray[np.bool_], options: list[dict[str, Any]]) -> None:
        rows = np.flatnonzero(mask).tolist()
        self._scenes.reset({i: make_start(options[i], self._variation, self._rngs[i]) for i in rows})
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
