"""A batch of cubes: what `OGBenchCubeEnv` (one) and `OGBenchCubeVectorEnv` (many) share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ..scene_checks import finite_numbers, refuse_diverged, whole_number
from .engine import Engine, shared_engine
from .state import ACTION_SIZE, SHORT_SIZE, STATE_SIZE, is_success

if TYPE_CHECKING:
    from .render import Renderer

__all__ = ["OBS_TYPES", "VARIATIONS", "SceneOptions", "Scenes", "Start", "check_variation", "make_start"]

OBS_TYPES = ("state", "pixels", "pixels_state")
VARIATIONS: Mapping[str, Any] = {}
"""What can be varied: nothing."""
_BOUND = 1e9
"""Far beyond any state; accelerations in an impact are large."""
_LOW, _HIGH = np.array((0.25, -0.35, 0.02)), np.array((0.6, 0.35, 0.35))
"""OGBench's workspace: least and largest x, y and z of the hand, m. A cube on the table has its centre at 0.02."""
_RESET_KEYS = ("state", "goal", "variation")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SceneOptions:
    """The constructor arguments of the environments, checked.

    Attributes:
        obs_type: one of `OBS_TYPES`.
        image_size: S, pixels of a side of the observation, 16 to 1024.
    """

    obs_type: str = "pixels"
    image_size: int = 64

    def __post_init__(self) -> None:
        if self.obs_type not in OBS_TYPES:
            raise ValueError(f"unknown obs_type {self.obs_type!r}; choose from {', '.join(OBS_TYPES)}")
        whole_number("image_size", self.image_size, 16, 1024)

    @property
    def pixels(self) -> bool:
        """Whether observations hold pixels."""
        return "pixels" in self.obs_type

    @property
    def observation_space(self) -> spaces.Dict:
        """Of one environment: "pixels" uint8 (S, S, 3) and/or "state" float64 (74,)."""
        parts: dict[str, spaces.Space] = {
            "pixels": spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8),
            "state": spaces.Box(-_BOUND, _BOUND, (STATE_SIZE,), np.float64),
        }
        return spaces.Dict({key: parts[key] for key in self.obs_type.split("_")})

    @property
    def action_space(self) -> spaces.Box:
        """Of one environment."""
        return spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)


@dataclass(frozen=True)
class Start:
    """One episode's start and goal, each (74,)."""

    state: Array
    goal: Array


def check_variation(variation: Any) -> None:
    """Refuse every variation but none.

    Raises:
        ValueError: something is to vary.
    """
    if variation:
        names = variation if isinstance(variation, str) else ", ".join(map(repr, variation))
        raise ValueError(f"unknown variation {names}; OGBench's cube has none")


def make_start(engine: Engine, options: Mapping[str, Any], rng: np.random.Generator) -> Start:
    """Resolve the reset options of one environment.

    What is drawn, as in `Engine.draw`, is never solved at the start. A goal that is the cube's place, 3 numbers in
    metres, is the goal drawn with the cube there, upright.

    Raises:
        ValueError: an unknown option, any variation, or a state or goal of a wrong length, not finite or out of reach.
    """
    unknown = sorted(set(options) - set(_RESET_KEYS))
    if unknown:
        raise ValueError(f"unknown reset option {', '.join(map(repr, unknown))}; known: {', '.join(_RESET_KEYS)}")
    check_variation(options.get("variation"))
    given, aim = options.get("state"), options.get("goal")
    given = None if given is None else engine.complete(given)
    aim = None if aim is None else _as_goal(engine, aim)
    while True:
        state, goal = engine.draw(int(rng.integers(2**31)))
        state = state if given is None else given
        if aim is not None:
            goal = aim if len(aim) == STATE_SIZE else engine.with_cube(goal, aim)
        if not is_success(state, goal) or (given is not None and aim is not None):
            return Start(state, goal)


def _as_goal(engine: Engine, goal: ArrayLike) -> Array:
    """Return a goal as a state (74,), or the place (3,) that it is."""
    found = finite_numbers("goal", goal, (3, SHORT_SIZE, STATE_SIZE))
    if len(found) > 3:
        return engine.complete(found)
    if ((found < _LOW) | (found > _HIGH)).any():
        ranges = ", ".join(f"{axis} {a:g} to {b:g}" for axis, a, b in zip("xyz", _LOW, _HIGH, strict=True))
        raise ValueError(f"goal: ({', '.join(f'{v:g}' for v in found)}) is out of the hand's reach; {ranges} m")
    return found


class Scenes:
    """B cubes, stepped one after another by the one engine that they share; a batch as `SceneEnv` wants it.

    Attributes:
        states: float64 (B, 74).
        goals: float64 (B, 74).
        goal_pixels: uint8 (B, S, S, 3) where there are pixels, else (B, 0, 0, 3).
    """

    render_size = 480

    def __init__(self, options: SceneOptions, count: int) -> None:
        self.observation_space, self.action_space = options.observation_space, options.action_space
        self.options, self.engine = options, shared_engine()
        self.states, self.goals = np.zeros((2, count, STATE_SIZE))
        size = options.image_size if options.pixels else 0
        self.goal_pixels = np.zeros((count, size, size, 3), np.uint8)
        self._started = np.zeros(count, bool)
        self._renderers: dict[int, Renderer] = {}

    @property
    def successes(self) -> NDArray[np.bool_]:
        """Whether each cube is at its goal, (B,)."""
        return is_success(self.states, self.goals)

    def rewards(self) -> NDArray[np.float64]:
        """Return 1 where the cube is at its goal, else 0, (B,)."""
        return self.successes.astype(float)

    def begin(self, options: Mapping[int, Mapping[str, Any]], rngs: Sequence[np.random.Generator]) -> None:
        """Begin new episodes in the rows given, with their reset options; see `make_start`. `rngs` has one for each."""
        starts = {row: make_start(self.engine, chosen, rngs[row]) for row, chosen in options.items()}
        for row, start in starts.items():
            self.states[row], self.goals[row], self._started[row] = start.state, start.goal, True
        rows = sorted(starts)
        if self.options.pixels and rows:
            self.goal_pixels[rows] = self._renderer(self.options.image_size).draw(self.goals[rows])

    def set_states(self, rows: NDArray[np.int64], states: Array) -> None:
        """Put rows (M,) into other states (M, 74) or (M, 41); their goals stay.

        Raises:
            ValueError: before the first reset, or for another shape or a number that is not finite.
        """
        if not self._started[rows].all():
            raise ValueError("call reset() before set_state()")
        self.states[rows] = np.reshape([self.engine.complete(state) for state in states], (-1, STATE_SIZE))

    def set_variations(self, changes: Mapping[int, Any]) -> None:
        """Change nothing: there are no variations. Raises ValueError for every name."""
        for variation in changes.values():
            check_variation(variation)

    def variations(self) -> list[dict[str, Any]]:
        """The present variation of each scene: empty."""
        return [{} for _ in self.states]

    def step(self, actions: Array, active: NDArray[np.bool_] | None = None) -> None:
        """Advance by one control step (0.05 s).

        Args:
            actions: (B, 5), finite; clipped to [-1, 1].
            active: bool (B,), scenes to advance; by default all.

        Raises:
            ValueError: before the first reset; or simulations diverged, which leaves NaN in their states.
        """
        rows = np.arange(len(self.states)) if active is None else np.flatnonzero(active)
        if not self._started[rows].all():
            raise ValueError("call reset() before step()")
        for row in rows.tolist():
            self.states[row] = self.engine.advance(self.states[row], actions[row])
        refuse_diverged(self.states)

    def observation(self) -> dict[str, Any]:
        """The batched observation; arrays are the caller's own."""
        found: dict[str, Any] = {}
        if self.options.pixels:
            found["pixels"] = self._renderer(self.options.image_size).draw(self.states)
        if "state" in self.options.obs_type:
            found["state"] = self.states.copy()
        return found

    def info(self, with_goal_pixels: bool) -> dict[str, Any]:
        """Batched info: "state", "goal_state", "success" and, if asked and drawn, "goal_pixels"."""
        info: dict[str, Any] = {
            "state": self.states.copy(),
            "goal_state": self.goals.copy(),
            "success": self.successes,
        }
        if with_goal_pixels and self.options.pixels:
            info["goal_pixels"] = self.goal_pixels.copy()
        return info

    def render(self, index: int, size: int) -> NDArray[np.uint8]:
        """One scene at another size: uint8 (size, size, 3)."""
        return self._renderer(size).draw(self.states[index : index + 1])[0]

    def close(self) -> None:
        """Free the OpenGL contexts."""
        while self._renderers:
            self._renderers.popitem()[1].close()

    def _renderer(self, size: int) -> "Renderer":
        if size not in self._renderers:
            from .render import Renderer

            self._renderers[size] = Renderer(size)
        return self._renderers[size]
