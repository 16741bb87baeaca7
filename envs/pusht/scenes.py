"""A batch of PushT scenes: what `PushTEnv` (one) and `PushTVectorEnv` (many) share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from .geometry import COVERAGE_THRESHOLD, STATE_SIZE, WORLD_SIZE, as_goal, as_state, coverage, pose_success
from .physics import ACTION_MODES, World, targets
from .render import Renderer
from .starts import DEFAULT_GOAL, make_start
from .variations import Variation, merge_variation

__all__ = ["OBS_TYPES", "SUCCESS_RULES", "SceneOptions", "Scenes"]

OBS_TYPES = ("pixels", "state", "pixels_state")
SUCCESS_RULES = ("coverage", "pose")
STATE_BOUND = 1e6
"""Far beyond any state: positions stay in the world, but speeds and the unwrapped angle have no bound of their own."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SceneOptions:
    """The constructor arguments of the environments, checked.

    Attributes:
        obs_type: "pixels", "state" or "pixels_state".
        image_size: S, pixels of a side of the observation, 16 to 1024.
        action_mode: "relative" or "absolute".
        success: "coverage" or "pose".
    """

    obs_type: str = "pixels"
    image_size: int = 64
    action_mode: str = "relative"
    success: str = "coverage"

    def __post_init__(self) -> None:
        choices = {"obs_type": OBS_TYPES, "action_mode": ACTION_MODES, "success": SUCCESS_RULES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose from {', '.join(known)}")
        if not 16 <= self.image_size <= 1024:
            raise ValueError(f"image_size must be from 16 to 1024, got {self.image_size}")

    @property
    def pixels(self) -> bool:
        """Whether observations hold pixels."""
        return "pixels" in self.obs_type

    @property
    def observation_space(self) -> spaces.Dict:
        """Of one environment: "pixels" uint8 (S, S, 3) and/or "state" float64 (10,)."""
        parts: dict[str, spaces.Space] = {}
        if self.pixels:
            parts["pixels"] = spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        if "state" in self.obs_type:
            parts["state"] = spaces.Box(-STATE_BOUND, STATE_BOUND, (STATE_SIZE,), np.float64)
        return spaces.Dict(parts)

    @property
    def action_space(self) -> spaces.Box:
        """Of one environment: [-1, 1] when relative, [0, 512] px when absolute."""
        low, high = (-1.0, 1.0) if self.action_mode == "relative" else (0.0, WORLD_SIZE)
        return spaces.Box(low, high, (2,), np.float32)


def _marked(goals: Array) -> Array:
    """Return where the goal's marker is drawn (B, 10): at a block pose; a goal with an agent leaves it at the default.

    Such a goal is a scene to reach, told by its own picture, so the present picture must not give it away.
    """
    return np.where(np.isnan(goals[:, :1]), goals, as_goal(DEFAULT_GOAL))


class Scenes:
    """B scenes stepped together: a `wmkit.envs.scene_env.SceneBatch`.

    Attributes after `begin`:
        states: float64 (B, 10).
        goals: float64 (B, 10); NaN where the agent's position does not count.
        goal_states: the same, with the agent's start position in place of NaN.
        coverages: float64 (B,).
        successes: bool (B,), by the chosen rule.
        goal_pixels: uint8 (B, S, S, 3) when there are pixels: the scenes at `goal_states`.
    """

    render_size = 512

    def __init__(self, options: SceneOptions, count: int) -> None:
        self.options = options
        self.observation_space, self.action_space = options.observation_space, options.action_space
        self._low, self._high = options.action_space.low, options.action_space.high
        self.states, self.goals, self.goal_states = np.zeros((3, count, STATE_SIZE))
        self.coverages = np.zeros(count)
        self.successes = np.zeros(count, bool)
        self._worlds: list[World | None] = [None] * count
        self._variations = [Variation()] * count
        self._first_variations = [Variation()] * count
        size = options.image_size if options.pixels else 0
        self._background, self.goal_pixels = np.zeros((2, count, size, size, 3), np.uint8)
        self._renderer: Renderer | None = None

    def begin(self, options: Mapping[int, Mapping[str, Any]], rngs: Sequence[np.random.Generator]) -> None:
        """Begin new episodes; see `starts.make_start` for the options."""
        starts = {index: make_start(one, rngs[index]) for index, one in options.items()}
        for index, start in starts.items():
            self.states[index], self.goals[index] = start.state, start.goal
            self.goal_states[index] = np.where(np.isnan(start.goal), start.state, start.goal)
            self._variations[index] = self._first_variations[index] = start.variation
            self._worlds[index] = World(start.state, start.variation)
        rows = np.array(sorted(starts), int)
        self._measure(rows)
        if self.options.pixels:
            renderer = self._paint()
            self.goal_pixels[rows] = renderer.draw(self._background, self.goal_states)[rows]

    def set_states(self, rows: NDArray[np.int64], states: Array) -> None:
        """Put the things of the given scenes elsewhere, states (M, 5 | 7 | 10) for rows (M,); goals stay as they are.

        Raises:
            ValueError: before the first reset, or for states of another length or not finite.
        """
        states = as_state(states)
        self._check_started(rows)
        self.states[rows] = states
        for index in rows.tolist():
            self._worlds[index] = World(self.states[index], self._variations[index])
        self._measure(rows)

    def set_variations(self, changes: Mapping[int, Mapping[str, Any] | Variation | None]) -> None:
        """Change looks and floor of the scenes whose index is given, from now on; see `merge_variation`.

        Goals, and the pictures of them, stay as they are. A scene whose floor changes loses the memory of its contacts.

        Raises:
            ValueError: before the first reset, or for a change that only a reset can make; nothing is changed then.
        """
        self._check_started(np.array(sorted(changes), int))
        new = {i: merge_variation(self._variations[i], one, self._first_variations[i]) for i, one in changes.items()}
        for index, variation in new.items():
            if variation.floor_slip != self._variations[index].floor_slip:
                self._worlds[index] = World(self.states[index], variation)
            self._variations[index] = variation
        if self.options.pixels and new:
            self._paint()

    def variations(self) -> list[dict[str, Any]]:
        """The present variation of each scene, names -> values, all names."""
        return [one.named() for one in self._variations]

    def step(self, actions: ArrayLike, active: NDArray[np.bool_] | None = None) -> None:
        """Advance by one step (0.1 s).

        Args:
            actions: (B, 2), clipped into the action space.
            active: bool (B,), scenes to advance; by default all.

        Raises:
            ValueError: for a wrong shape or a value that is not finite.
        """
        actions = np.asarray(actions, np.float64)
        if actions.shape != (len(self.states), 2) or not np.isfinite(actions).all():
            raise ValueError(f"actions must be finite and of shape {(len(self.states), 2)}, got {actions!r}")
        actions = np.clip(actions, self._low, self._high)
        aims = targets(actions, self.states[:, :2], self.options.action_mode)
        before = self.states[:, 2:5].copy()
        for i, (world, (x, y)) in enumerate(zip(self._worlds, aims.tolist(), strict=True)):
            if active is None or active[i]:
                if world is None:
                    raise ValueError("call reset() before step()")
                world.step(x, y)
                self.states[i] = world.read()
        moved = (before != self.states[:, 2:5]).any(axis=1)
        if self.options.success == "pose":
            self.successes = pose_success(self.states, self.goals)
        if moved.any():
            self._measure(np.flatnonzero(moved))

    def pixels(self) -> NDArray[np.uint8]:
        """Frames uint8 (B, S, S, 3) of the present states.

        Raises:
            ValueError: before the first reset.
        """
        if self._renderer is None:
            raise ValueError("call reset() before asking for pixels")
        return self._renderer.draw(self._background, self.states)

    def render(self, index: int, size: int) -> NDArray[np.uint8]:
        """One scene for people, uint8 (size, size, 3): the marker is at the goal, whatever the goal is."""
        renderer = Renderer(size, self._variations[index])
        background = renderer.background(self.goals[index : index + 1])
        return renderer.draw(background, self.states[index : index + 1])[0]

    def observation(self) -> dict[str, Any]:
        """The batched observation; arrays are the caller's own."""
        observation: dict[str, Any] = {}
        if self.options.pixels:
            observation["pixels"] = self.pixels()
        if "state" in self.options.obs_type:
            observation["state"] = self.states.copy()
        return observation

    def info(self, with_goal_pixels: bool) -> dict[str, Any]:
        """Batched info: "state", "goal_state", "coverage", "success" and, if asked and drawn, "goal_pixels"."""
        info: dict[str, Any] = {
            "state": self.states.copy(),
            "goal_state": self.goal_states.copy(),
            "coverage": self.coverages.copy(),
            "success": self.successes.copy(),
        }
        if with_goal_pixels and self.options.pixels:
            info["goal_pixels"] = self.goal_pixels.copy()
        return info

    def rewards(self) -> Array:
        """gym-pusht's reward (B,): coverage over 0.95, at most 1."""
        return np.minimum(self.coverages / COVERAGE_THRESHOLD, 1.0)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def _paint(self) -> Renderer:
        """Draw everything that does not move anew, for the present looks; returns what draws the rest."""
        same = all(v == self._variations[0] for v in self._variations)
        self._renderer = Renderer(self.options.image_size, self._variations[0] if same else self._variations)
        self._background = self._renderer.background(_marked(self.goals))
        return self._renderer

    def _check_started(self, rows: NDArray[np.int64]) -> None:
        if any(self._worlds[index] is None for index in rows.tolist()):
            raise ValueError("call reset() before changing a scene")

    def _measure(self, rows: NDArray[np.int64]) -> None:
        """Bring coverage and success up to date where the block has moved."""
        shapes = [self._variations[i].shape for i in rows]
        for shape in set(shapes):
            same = rows[[s is shape for s in shapes]]
            self.coverages[same] = coverage(self.states[same], self.goals[same], shape)
        if self.options.success == "pose":
            self.successes[rows] = pose_success(self.states[rows], self.goals[rows])
        else:
            self.successes[rows] = self.coverages[rows] > COVERAGE_THRESHOLD
