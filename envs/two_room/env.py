"""TwoRoom as a Gymnasium vector environment, a batch of rooms held in NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from .render import draw_agents, render_backgrounds, render_states
from .starts import draw_goals, draw_states
from .variations import VARIATIONS, parse_variations
from .window import Window
from .world import Array, Bools, Scene, is_free, is_success, step_states

__all__ = ["Observation", "ObservationType", "TwoRoomVectorEnv"]

ObservationType = Literal["pixels", "state", "pixels_state"]
Observation = dict[str, npt.NDArray[Any]]

RENDER_SIZE = 224
"""Side of the frames of `render`, in pixels."""

_CHOICES: dict[str, tuple[Any, ...]] = {
    "obs_type": ("pixels", "state", "pixels_state"),
    "door": ("fixed", "random"),
    "render_mode": (None, "rgb_array", "human"),
    "autoreset_mode": (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED),
}
_OPTIONS = ("state", "goal", "variation", "cross_room", "reset_mask")


class TwoRoomVectorEnv(gymnasium.vector.VectorEnv[Observation, npt.NDArray[Any], npt.NDArray[Any]]):
    """B rooms side by side, stepped and drawn as arrays, without a Python loop over environments.

    An action (B, 2) in [-1, 1] moves each agent by that share of its speed, in x (right) and y (down); what lies
    outside is clipped. The reward is minus the distance to the goal in widths, and an episode terminates within
    `SUCCESS_DISTANCE` of the goal. Unless told otherwise, start and goal are drawn uniformly from the free space,
    further apart than that distance.

    Observations are a dict of "pixels" (B, S, S, 3) uint8 and/or "state" (B, 2) float64. The goal is never in the
    picture. ``info`` carries "state" and "goal_state" (B, 2), "success" (B,) bool, "door.position" (B,) the door's
    centre, and, from `reset` and from steps in which an environment was reset, "goal_pixels" (B, S, S, 3) where pixels
    are observed.

    `reset` takes these options:

    * ``state``, ``goal``: (2,) for all or (B, 2), set exactly.
    * ``variation``: name -> value, () or (B,), colours (3,) or (B, 3); the names are those of `VARIATIONS`. A variation
      lasts for the episode that the reset begins.
    * ``cross_room``: overrides the argument of the same name.
    * ``reset_mask``: (B,) bool, the environments to reset; the others go on.

    With ``AutoresetMode.DISABLED`` a step after termination or truncation just goes on moving the agent.

    Args:
        num_envs: B.
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S, in pixels, 16 to 1024.
        door: "fixed" in the middle, or "random": drawn anew each episode from the range in `VARIATIONS`.
        cross_room: Draw start and goal in different rooms, outside the doorway.
        render_mode: None, "rgb_array", or "human" (a window showing the first environment; needs pygame).
        max_episode_steps: Environment steps until truncation; None for no limit.
        autoreset_mode: ``NEXT_STEP`` or ``DISABLED``.

    Raises:
        ValueError: If an argument is not one of its choices.
    """

    def __init__(
        self,
        num_envs: int = 1,
        obs_type: ObservationType = "pixels",
        image_size: int = 64,
        door: Literal["fixed", "random"] = "fixed",
        cross_room: bool = False,
        render_mode: str | None = None,
        max_episode_steps: int | None = 200,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        mode = AutoresetMode(autoreset_mode)
        _check_choices(obs_type=obs_type, door=door, render_mode=render_mode, autoreset_mode=mode)
        if num_envs < 1 or not 16 <= image_size <= 1024:
            raise ValueError(f"num_envs={num_envs} must be at least 1, and image_size={image_size} in 16..1024")
        self.metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20, "autoreset_mode": mode}
        self.num_envs, self.image_size, self.render_mode = num_envs, image_size, render_mode
        self.max_episode_steps = max_episode_steps
        self._observed = tuple(obs_type.split("_"))
        self._random_door, self._cross_room, self._autoreset = door == "random", cross_room, mode
        box = {
            "pixels": spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
            "state": spaces.Box(0.0, 1.0, (2,), np.float64),
        }
        self.single_observation_space = spaces.Dict({key: box[key] for key in self._observed})
        self.single_action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._fields = {name: _spread(value, num_envs) for name, value in vars(Scene()).items()}
        self._first_fields = {name: value.copy() for name, value in self._fields.items()}
        self._scene = Scene(**self._fields)
        self._states, self._goals = np.zeros((num_envs, 2)), np.zeros((num_envs, 2))
        self._steps, self._finished = np.zeros(num_envs, np.int64), np.zeros(num_envs, bool)
        self._backgrounds = render_backgrounds(image_size, self._scene)
        self._goal_pixels = self._backgrounds.copy()
        self._ready, self._window = False, Window(RENDER_SIZE, "wmkit TwoRoom")

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins new episodes.

        Args:
            seed: Seeds the one random generator of the batch.
            options: See the class.

        Returns:
            Observations and info, as the class describes them.

        Raises:
            ValueError: If an option or variation is unknown, has a wrong shape, or puts an agent or goal into a wall.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown:
            raise ValueError(f"unknown reset options {unknown}; known: {', '.join(_OPTIONS)}")
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not (self._ready or mask.all()):
            raise ValueError(f"reset_mask must be ({self.num_envs},) bool, and all true at the first reset")
        self._begin(mask, options)
        self._show()
        return self._observe(), self._info(with_goal=True)

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[Observation, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Moves every agent by one environment step; with ``NEXT_STEP``, finished environments are reset instead.

        Args:
            actions: (B, 2) float; clipped to [-1, 1].

        Returns:
            Observations, rewards (B,) float64, terminated (B,) bool, truncated (B,) bool, info.

        Raises:
            ValueError: If the actions have the wrong shape or are not finite, or `reset` was never called.
        """
        if not self._ready:
            raise ValueError("call reset before step")
        actions = np.asarray(actions, np.float64)
        if actions.shape != (self.num_envs, 2) or not np.isfinite(actions).all():
            raise ValueError(f"actions must be finite with shape {(self.num_envs, 2)}; got shape {actions.shape}")
        restarted = self._finished & (self._autoreset is AutoresetMode.NEXT_STEP)
        self._states = step_states(self._states, actions, self._scene)
        self._steps = self._steps + 1
        if restarted.any():
            self._begin(restarted, {})
        rewards = np.where(restarted, 0.0, -np.linalg.norm(self._states - self._goals, axis=-1))
        terminated = is_success(self._states, self._goals) & ~restarted
        truncated = np.zeros_like(terminated)
        if self.max_episode_steps is not None:
            truncated = (self._steps >= self.max_episode_steps) & ~restarted
        self._finished = terminated | truncated
        self._show()
        return self._observe(), rewards, terminated, truncated, self._info(with_goal=bool(restarted.any()))

    def set_state(self, states: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> None:
        """Puts agents elsewhere; goals, time and scenes stay.

        Args:
            states: (B, 2), places in free space; rows outside the mask do not count.
            mask: (B,) bool, which agents; by default all.

        Raises:
            ValueError: If a place overlaps a wall or the shape is wrong, or `reset` was never called.
        """
        chosen = self._mask(mask)
        scene = Scene(**{name: value[chosen] for name, value in self._fields.items()})
        places = self._given("state", chosen, {"state": states}, scene)
        self._states[chosen] = np.zeros((0, 2)) if places is None else places

    def set_variation(
        self, variation: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None, mask: npt.ArrayLike | None = None
    ) -> None:
        """Changes scenes from now on, until their next reset. Goals, and the pictures of them, stay as they are.

        Args:
            variation: Name -> value, as at a reset, or a list of B such mappings; the names not given stay. None
                restores the reset's.
            mask: (B,) bool, which environments; by default all.

        Raises:
            ValueError: If a name is unknown or a value refused, as at a reset, or if a wall would stand on an agent or
                on its goal. Nothing is changed then.
        """
        chosen = self._mask(mask)
        fields = {name: value[chosen] for name, value in self._varied(variation).items()}
        scene = Scene(**fields)
        if not (is_free(self._states[chosen], scene) & is_free(self._goals[chosen], scene)).all():
            raise ValueError("variation: a wall would stand on the agent or its goal; move the agent first, or reset")
        for name, value in fields.items():
            self._fields[name][chosen] = value
        if "pixels" in self._observed:
            self._backgrounds[chosen] = render_backgrounds(self.image_size, scene)

    def variations(self) -> list[dict[str, Any]]:
        """The present variation of each environment, all names -> values."""
        columns = {name: self._fields[one.field].tolist() for name, one in VARIATIONS.items()}
        return [{name: column[row] for name, column in columns.items()} for row in range(self.num_envs)]

    def observe(self) -> Observation:
        """The observations of the present states, without a step."""
        return self._observe()

    def info(self) -> dict[str, Any]:
        """The info of the present states, as a step would return it."""
        return self._info(with_goal=False)

    def render(self) -> tuple[npt.NDArray[np.uint8], ...] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Frames for people, B of (224, 224, 3) uint8, without the goal; None if ``render_mode`` is not "rgb_array"."""
        if self.render_mode != "rgb_array" or not self._ready:
            return None
        return tuple(render_states(self._states, RENDER_SIZE, self._scene))

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the window, if one is open."""
        self._window.close()

    def _begin(self, mask: Bools, options: Mapping[str, Any]) -> None:
        """Starts episodes where the mask is true; sets nothing if an option is refused."""
        fields = self._new_fields(mask, options.get("variation") or {})
        scene = Scene(**fields)
        cross_room = options.get("cross_room", self._cross_room)
        states = self._given("state", mask, options, scene)
        if states is None:
            states = draw_states(self.np_random, scene, int(mask.sum()), cross_room)
        goals = self._given("goal", mask, options, scene)
        if goals is None:
            goals = draw_goals(self.np_random, scene, states, cross_room)
        for name, value in fields.items():
            self._fields[name][mask] = self._first_fields[name][mask] = value
        self._states[mask], self._goals[mask] = states, goals
        self._steps[mask], self._finished[mask] = 0, False
        if "pixels" in self._observed:
            self._backgrounds[mask] = render_backgrounds(self.image_size, scene)
            self._goal_pixels[mask] = draw_agents(self._backgrounds[mask], goals, scene)
        self._ready = True

    def _new_fields(self, mask: Bools, variation: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """The fields of the new episodes' scenes, (n, ...) each, n being the number of true values in the mask."""
        fields = {name: _spread(value, int(mask.sum())) for name, value in vars(Scene()).items()}
        if self._random_door:
            door = VARIATIONS["door.position"]
            fields["door_position"] = self.np_random.uniform(door.low, door.high, int(mask.sum()))
        given = parse_variations(variation, (self.num_envs,))
        return fields | {name: value[mask] for name, value in given.items()}

    def _varied(self, variation: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> dict[str, npt.NDArray[Any]]:
        """The fields (B, ...) of all scenes after a change."""
        if variation is None:
            return self._first_fields
        fields = {name: value.copy() for name, value in self._fields.items()}
        if isinstance(variation, Mapping):
            return fields | parse_variations(variation, (self.num_envs,))
        if len(variation) != self.num_envs:
            raise ValueError(f"variation: expected one or {self.num_envs} (one an environment), got {len(variation)}")
        for row, one in enumerate(variation):
            for name, value in parse_variations(one, ()).items():
                fields[name][row] = value
        return fields

    def _mask(self, mask: npt.ArrayLike | None) -> Bools:
        """A mask (B,); None stands for all."""
        found = np.ones(self.num_envs, bool) if mask is None else np.asarray(mask, bool)
        if found.shape != (self.num_envs,):
            raise ValueError(f"mask: expected shape {(self.num_envs,)}, got {found.shape}")
        if not self._ready:
            raise ValueError("call reset before changing a scene")
        return found

    def _given(self, name: str, mask: Bools, options: Mapping[str, Any], scene: Scene) -> Array | None:
        """The places that an option sets, (n, 2) float64, or None without that option."""
        if options.get(name) is None:
            return None
        places = np.asarray(options[name], np.float64)
        if places.shape not in ((2,), (self.num_envs, 2)):
            raise ValueError(f"option {name!r}: shape {places.shape}, expected (2,) or {(self.num_envs, 2)}")
        places = np.broadcast_to(places, (self.num_envs, 2))[mask]
        free = is_free(places, scene)
        if not free.all():
            raise ValueError(f"option {name!r}: {places[~free][0].tolist()} is not finite or overlaps a wall")
        return places

    def _observe(self) -> Observation:
        """The observations of the present states."""
        observation: Observation = {}
        if "pixels" in self._observed:
            observation["pixels"] = draw_agents(self._backgrounds, self._states, self._scene)
        if "state" in self._observed:
            observation["state"] = self._states.copy()
        return observation

    def _info(self, with_goal: bool) -> dict[str, Any]:
        """The info of the present states."""
        info: dict[str, Any] = {
            "state": self._states.copy(),
            "goal_state": self._goals.copy(),
            "success": is_success(self._states, self._goals),
            "door.position": self._fields["door_position"].copy(),
        }
        if with_goal and "pixels" in self._observed:
            info["goal_pixels"] = self._goal_pixels.copy()
        return info

    def _show(self) -> None:
        """Shows the first environment if the render mode asks for a window."""
        if self.render_mode == "human":
            first = Scene(**{name: value[:1] for name, value in self._fields.items()})
            self._window.show(render_states(self._states[:1], RENDER_SIZE, first)[0], self.metadata["render_fps"])


def _check_choices(**chosen: Any) -> None:
    """Refuses an argument that is not among its choices."""
    for name, value in chosen.items():
        if value not in _CHOICES[name]:
            raise ValueError(f"{name}={value!r} is not one of {_CHOICES[name]}")


def _spread(value: npt.ArrayLike, count: int) -> npt.NDArray[np.float64]:
    """One value repeated along a new leading axis: () -> (count,), (3,) -> (count, 3)."""
    value = np.asarray(value, np.float64)
    return np.repeat(value[None], count, axis=0)
