"""What environments are made of that hold a batch of scenes: the single and the vectorised form around it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from .scene_checks import finite_actions, whole_number

__all__ = ["SceneBatch", "SceneEnv", "SceneVectorEnv", "first_row"]

_SINGLE = ("task", "variation")
"""Reset options whose value for one scene has no axis; that of all others has one."""


class SceneBatch(Protocol):
    """B scenes stepped together; everything is for the rows that are named.

    Attributes:
        render_size: side in pixels of the pictures of `render`.
    """

    render_size: int

    @property
    def successes(self) -> NDArray[np.bool_]:
        """Whether each scene is at its goal, (B,)."""
        ...

    @property
    def observation_space(self) -> spaces.Dict:
        """Of one scene."""
        ...

    @property
    def action_space(self) -> spaces.Box:
        """Of one scene."""
        ...

    def begin(self, options: Mapping[int, Mapping[str, Any]], rngs: Sequence[np.random.Generator]) -> None:
        """Begin new episodes in the rows given, with their reset options; `rngs` has one for each scene."""
        ...

    def step(self, actions: NDArray[np.float64], active: NDArray[np.bool_] | None = None) -> None:
        """Advance the active scenes, by default all, by actions (B, A), which are finite."""
        ...

    def rewards(self) -> NDArray[np.float64]:
        """Of the present states, (B,)."""
        ...

    def observation(self) -> dict[str, Any]:
        """Arrays (B, ...) of the caller's own."""
        ...

    def info(self, with_goal_pixels: bool) -> dict[str, Any]:
        """Arrays (B, ...) of the caller's own."""
        ...

    def set_states(self, rows: NDArray[np.int64], states: NDArray[np.float64]) -> None:
        """Put rows (M,) into states (M, S); raises ValueError for a wrong S, or a scene that has never begun."""
        ...

    def set_variations(self, changes: Mapping[int, Any]) -> None:
        """Change the variation of the rows given; what None and names not given stand for is the batch's to say."""
        ...

    def variations(self) -> list[dict[str, Any]]:
        """All names -> values, of every scene."""
        ...

    def render(self, index: int, size: int) -> NDArray[np.uint8]:
        """One scene for people, uint8 (size, size, 3)."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class SceneEnv(gymnasium.Env[dict[str, Any], NDArray[Any]]):
    """One scene as a Gymnasium environment; a class names its render modes in `metadata`."""

    def __init__(self, scenes: SceneBatch, render_mode: str | None) -> None:
        """Wrap a batch of one; raises ValueError for an unknown render mode."""
        _check_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode, self._scenes = render_mode, scenes
        self.observation_space, self.action_space = scenes.observation_space, scenes.action_space
        self._begun = False

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; see the class for the options."""
        super().reset(seed=seed)
        self._scenes.begin({0: dict(options or {})}, [self.np_random])
        self._begun = True
        self._show()
        return self.observe(), first_row(self._scenes.info(True))

    def step(self, action: ArrayLike) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance by one control step. The time limit is the registered id's; this never truncates.

        Raises:
            ValueError: an action of a wrong shape or not finite, no reset before, or a simulation that diverged.
        """
        self._scenes.step(finite_actions(action, self._scenes.action_space.shape)[None])
        self._show()
        scenes = self._scenes
        return self.observe(), scenes.rewards().item(0), scenes.successes.item(0), False, first_row(scenes.info(False))

    def set_state(self, state: ArrayLike) -> None:
        """Put the scene into another state (S,), as at a reset; goal, time and looks stay.

        Raises:
            ValueError: a state of a wrong length or not finite, or no reset before.
        """
        row = np.asarray(state, np.float64)
        if row.ndim != 1:
            raise ValueError(f"state: expected one row for one environment, got shape {row.shape}")
        self._scenes.set_states(np.zeros(1, int), row[None])

    def set_variation(self, variation: Any) -> None:
        """Change the scene from now on, until the next reset; the class says what None and names not given stand for.

        Raises:
            ValueError: an unknown name, a value outside its range, or what only a reset can change.
        """
        self._scenes.set_variations({0: variation})

    def variation(self) -> dict[str, Any]:
        """The present variation, all names -> values."""
        return self._scenes.variations()[0]

    def observe(self) -> dict[str, Any]:
        """The observation of the present state, without a step; raises ValueError before the first reset."""
        _check_begun(self._begun)
        return {key: value[0] for key, value in self._scenes.observation().items()}

    def info(self) -> dict[str, Any]:
        """The info of the present state, as a step would return it; raises ValueError before the first reset."""
        _check_begun(self._begun)
        return first_row(self._scenes.info(False))

    def render(self) -> NDArray[np.uint8] | None:
        """The scene for people, uint8 (H, H, 3), for "rgb_array"; None for the other modes.

        Raises:
            ValueError: no reset before.
        """
        if self.render_mode != "rgb_array":
            return None
        _check_begun(self._begun)
        return self._scenes.render(0, self._scenes.render_size)

    def close(self) -> None:
        """Free threads and OpenGL contexts."""
        self._scenes.close()

    def _show(self) -> None:
        """Do nothing; called after every reset and step, for environments that have a window."""


class SceneVectorEnv(gymnasium.vector.VectorEnv[dict[str, Any], NDArray[Any], NDArray[Any]]):
    """Many scenes as a Gymnasium vector environment.

    With `autoreset_mode` "next_step" an environment that has ended is restarted by the step after; with "disabled" it
    keeps running until it is reset. `reset(options=...)` takes "reset_mask", bool (B,), to restart only some.
    """

    def __init__(
        self,
        scenes: SceneBatch,
        num_envs: int,
        render_mode: str | None,
        fps: int,
        max_episode_steps: int | None,
        autoreset_mode: AutoresetMode | str,
    ) -> None:
        """Wrap a batch of `num_envs` scenes; raises ValueError for an unknown mode or a limit that is no number."""
        names = {m.name.lower(): m for m in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)}
        mode = autoreset_mode if isinstance(autoreset_mode, AutoresetMode) else names.get(str(autoreset_mode).lower())
        if max_episode_steps is not None:
            whole_number("max_episode_steps", max_episode_steps)
        if mode not in names.values():
            raise ValueError(f"unsupported autoreset_mode {autoreset_mode!r}; choose from {', '.join(names)}")
        _check_render_mode(render_mode, ("rgb_array",))
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps, "autoreset_mode": mode}
        self.num_envs, self.render_mode, self._scenes = num_envs, render_mode, scenes
        self.single_observation_space, self.single_action_space = scenes.observation_space, scenes.action_space
        self.observation_space = batch_space(scenes.observation_space, num_envs)
        self.action_space = batch_space(scenes.action_space, num_envs)
        self._autoreset, self._limit = mode, max_episode_steps
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._elapsed = np.zeros(num_envs, int)
        self._begun, self._ended = np.zeros((2, num_envs), bool)

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
        self._restart(mask, self._split(options))
        return self._scenes.observation(), self._scenes.info(True)

    def step(
        self, actions: ArrayLike
    ) -> tuple[dict[str, Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Advance all by one control step; returns observations, rewards, terminated, truncated (B,) each, info.

        Raises:
            ValueError: as in the single environment; the environments that have not diverged are a step further then.
        """
        restart = self._ended & (self._autoreset == AutoresetMode.NEXT_STEP)
        expected = (self.num_envs, *self._scenes.action_space.shape)
        self._scenes.step(finite_actions(actions, expected), ~restart if restart.any() else None)
        self._elapsed += 1
        if restart.any():
            self._restart(restart, self._split({}))
        rewards = np.where(restart, 0.0, self._scenes.rewards())
        terminated = self._scenes.successes & ~restart
        limit = np.inf if self._limit is None else self._limit
        truncated = (self._elapsed >= limit) & ~restart
        self._ended = terminated | truncated
        return self._scenes.observation(), rewards, terminated, truncated, self._scenes.info(bool(restart.any()))

    def set_state(self, states: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Put the scenes of the mask into other states, as at a reset; goals, time and looks stay.

        Args:
            states: (B, S); rows outside the mask do not count.
            mask: bool (B,); by default all.

        Raises:
            ValueError: a wrong shape, a state that is not finite, or no reset before.
        """
        rows, states = np.flatnonzero(self._mask(mask, "mask")), np.asarray(states, np.float64)
        if states.ndim != 2 or len(states) != self.num_envs:
            raise ValueError(f"states: expected one row for each of {self.num_envs} environments, got {states.shape}")
        self._scenes.set_states(rows, states[rows])

    def set_variation(self, variation: Any, mask: ArrayLike | None = None) -> None:
        """Change the scenes of the mask from now on, until their next reset.

        Args:
            variation: one for all, or a list of B, as in the single environment.
            mask: bool (B,); by default all.

        Raises:
            ValueError: an unknown name, a value outside its range, or what only a reset can change. Nothing is changed
                then.
        """
        split = self._split({"variation": variation})
        rows = np.flatnonzero(self._mask(mask, "mask")).tolist()
        self._scenes.set_variations({row: split[row]["variation"] for row in rows})

    def variations(self) -> list[dict[str, Any]]:
        """The present variation of each environment, all names -> values."""
        return self._scenes.variations()

    def observe(self) -> dict[str, Any]:
        """The observations of the present states, without a step; raises ValueError before all were reset once."""
        _check_begun(self._begun.all())
        return self._scenes.observation()

    def info(self) -> dict[str, Any]:
        """The info of the present states, as a step would return it; raises ValueError before all were reset once."""
        _check_begun(self._begun.all())
        return self._scenes.info(False)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The scenes for people, uint8 (H, H, 3) each, for "rgb_array"; raises ValueError as `observe` does."""
        if self.render_mode is None:
            return None
        _check_begun(self._begun.all())
        return tuple(self._scenes.render(i, self._scenes.render_size) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Free threads and OpenGL contexts."""
        self._scenes.close()

    def _split(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Split batched options into one mapping a scene; what has no more axes than one scene's value is for all."""
        split: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for name, value in options.items():
            batched = not isinstance(value, Mapping) and np.ndim(value) > (name not in _SINGLE)
            rows = value if batched else [value] * self.num_envs
            if len(rows) != self.num_envs:
                raise ValueError(
                    f"{name}: expected one row or {self.num_envs} (the number of environments), got {len(rows)}"
                )
            for one, row in zip(split, rows, strict=True):
                one[name] = row
        return split

    def _restart(self, mask: NDArray[np.bool_], options: list[dict[str, Any]]) -> None:
        self._scenes.begin({row: options[row] for row in np.flatnonzero(mask).tolist()}, self._rngs)
        self._begun[mask], self._ended[mask], self._elapsed[mask] = True, False, 0

    def _mask(self, mask: ArrayLike | None, name: str) -> NDArray[np.bool_]:
        """Return a mask (B,); None stands for all."""
        found = np.ones(self.num_envs, bool) if mask is None else np.asarray(mask, bool)
        if found.shape != (self.num_envs,):
            raise ValueError(f"{name}: expected shape {(self.num_envs,)}, got {found.shape}")
        return found

    def _seed(self, seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_]) -> None:
        """Reseed the environments of the mask; None leaves a generator as it is."""
        count = self.num_envs
        if isinstance(seed, int | np.integer):
            seeds = [int(seed) + i for i in range(count)]
        else:
            seeds = [None] * count if seed is None else list(seed)
        if len(seeds) != count:
            raise ValueError(f"seed: expected one number or {count}, got {len(seeds)}")
        for i, value in enumerate(seeds):
            if value is not None and mask[i]:
                self._rngs[i] = np.random.default_rng(value)


def first_row(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the info of a batch of one without its axis, flags and numbers as Python's own."""
    return {
        key: first_row(value) if isinstance(value, dict) else value.item(0) if value.ndim == 1 else value[0]
        for key, value in info.items()
    }


def _check_begun(begun: bool | np.bool_) -> None:
    if not begun:
        raise ValueError("call reset() first")


def _check_render_mode(mode: str | None, known: Sequence[str]) -> None:
    if mode not in (None, *known):
        raise ValueError(f"unknown render_mode {mode!r}; choose from None, {', '.join(known)}")
