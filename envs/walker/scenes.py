"""A batch of walkers: what `WalkerEnv` (one) and `WalkerVectorEnv` (many) share."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from ..mujoco_support import cores, load_mujoco
from .kinematics import JOINTS, STATE_SIZE, features
from .model import ACTION_SIZE, SUBSTEPS, shared_model
from .rewards import RewardFunction, evaluate_reward, get_reward
from .variations import VARIATIONS, Variation, make_variation

if TYPE_CHECKING:
    from .render import Renderer

__all__ = ["OBS_TYPES", "SceneOptions", "Scenes", "Start", "draw_state", "make_start"]

OBS_TYPES = ("state", "features", "pixels", "pixels_state")
_BOUND = 1e6
"""Far beyond any state: the walker may run as far as it likes."""
_RESET_KEYS = ("state", "variation", "task")
_THREADED_FROM = 8
"""Walkers from which on threads pay."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SceneOptions:
    """The constructor arguments of the environments, checked.

    Attributes:
        obs_type: one of `OBS_TYPES`.
        image_size: S, pixels of a side of the observation, 16 to 1024.
    """

    obs_type: str = "state"
    image_size: int = 64

    def __post_init__(self) -> None:
        if self.obs_type not in OBS_TYPES:
            raise ValueError(f"unknown obs_type {self.obs_type!r}; choose from {', '.join(OBS_TYPES)}")
        if not 16 <= self.image_size <= 1024:
            raise ValueError(f"image_size must be from 16 to 1024, got {self.image_size}")

    @property
    def observation_space(self) -> spaces.Dict:
        """Of one environment."""
        parts: dict[str, spaces.Space] = {
            "pixels": spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8),
            "state": spaces.Box(-_BOUND, _BOUND, (STATE_SIZE,), np.float64),
            "features": spaces.Box(-_BOUND, _BOUND, (24,), np.float64),
        }
        return spaces.Dict({key: parts[key] for key in self.obs_type.split("_")})

    @property
    def action_space(self) -> spaces.Box:
        """Of one environment: the six motors."""
        return spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)


@dataclass(frozen=True)
class Start:
    """One episode's start: state (18,), variation, and the reward, or None to keep the one before."""

    state: Array
    variation: Variation
    reward: RewardFunction | None


def draw_state(rng: np.random.Generator) -> Array:
    """Draw a start (18,) as dm-control does: limited joints in their range, the pitch anywhere, the rest at 0."""
    model = shared_model(Variation())
    state = np.zeros(STATE_SIZE)
    limited = np.asarray(model.jnt_limited, bool)
    low, high = np.where(limited, model.jnt_range.T, ((-np.pi,), (np.pi,)))
    turning = slice(2, len(JOINTS))
    state[turning] = rng.uniform(low[turning], high[turning])
    return state


def make_start(options: Mapping[str, Any], default: Variation, rng: np.random.Generator) -> Start:
    """Resolve the reset options of one environment.

    Raises:
        ValueError: for an unknown option, reward or variation, or a state of a wrong length.
    """
    unknown = sorted(set(options) - set(_RESET_KEYS))
    if unknown:
        raise ValueError(f"unknown reset option {', '.join(map(repr, unknown))}; known: {', '.join(_RESET_KEYS)}")
    given, named, task = (options.get(key) for key in _RESET_KEYS)
    state = draw_state(rng) if given is None else np.array(given, np.float64)
    if state.shape != (STATE_SIZE,) or not np.isfinite(state).all():
        raise ValueError(f"state: expected {STATE_SIZE} finite numbers, got shape {state.shape}: {given!r}")
    return Start(state, default if named is None else make_variation(named), None if task is None else get_reward(task))


class Scenes:
    """B walkers stepped together: a `wmkit.envs.scene_env.SceneBatch`.

    Args:
        options: what the walkers are observed by.
        count: B.
        reward: of all walkers, until a reset or `set_reward` names another.
        variation: of episodes whose reset names none.

    Attributes after `begin`:
        states: float64 (B, 18).
        successes: bool (B,), False: a walker never arrives.
    """

    render_size = 480

    def __init__(self, options: SceneOptions, count: int, reward: RewardFunction, variation: Variation) -> None:
        self.options = options
        self.observation_space, self.action_space = options.observation_space, options.action_space
        self.states = np.zeros((count, STATE_SIZE))
        self.successes = np.zeros(count, bool)
        self._default = variation
        self._rewards = np.zeros(count)
        self._functions = [reward] * count
        self._variations = [Variation()] * count
        self._stuck = np.zeros((count, STATE_SIZE))
        self._models = [shared_model(Variation())] * count
        self._mujoco = load_mujoco()
        self._datas = [self._mujoco.MjData(model) for model in self._models]
        self._started = np.zeros(count, bool)
        self._pool: ThreadPoolExecutor | None = None
        self._renderers: dict[int, Renderer] = {}

    def begin(self, options: Mapping[int, Mapping[str, Any]], rngs: Sequence[np.random.Generator]) -> None:
        """Begin new episodes of the walkers whose index is given; see `make_start` for the options."""
        starts = {index: make_start(one, self._default, rngs[index]) for index, one in options.items()}
        for index, start in starts.items():
            self._rewards[index] = 0.0
            self._place(index, start.state)
            self._vary(index, start.variation)
            self._stuck[index] = start.state
            self._functions[index] = start.reward or self._functions[index]
            self._started[index] = True

    def set_states(self, rows: NDArray[np.int64], states: Array) -> None:
        """Put walkers (M,) into other states (M, 18); variations, what a broken sensor shows and rewards stay.

        Raises:
            ValueError: before the first reset, or for states of another length or not finite.
        """
        if states.shape[1:] != (STATE_SIZE,) or not np.isfinite(states).all():
            raise ValueError(f"state: expected {STATE_SIZE} finite numbers, got shape {states.shape[1:]}")
        if not self._started[rows].all():
            raise ValueError("call reset() before set_state()")
        for index, state in zip(rows.tolist(), states, strict=True):
            self._place(index, state)

    def variations(self) -> list[dict[str, float]]:
        """The present variation of each walker, all names -> numbers."""
        return [variation.named() for variation in self._variations]

    def set_variations(self, changes: Mapping[int, str | Mapping[str, Any] | Variation | None]) -> None:
        """Change physics and sensors of the walkers given from now on; nothing is changed if one is refused."""
        new = {index: make_variation(one) for index, one in changes.items()}
        for index, variation in new.items():
            self._vary(index, variation)

    def set_reward(self, index: int, function: RewardFunction) -> None:
        """Change one walker's reward from the next step on."""
        self._functions[index] = function

    def step(self, actions: ArrayLike, active: NDArray[np.bool_] | None = None) -> None:
        """Advance by one control step (0.025 s).

        Args:
            actions: (B, 6), clipped to [-1, 1].
            active: bool (B,), walkers to advance; by default all.

        Raises:
            ValueError: a wrong shape, a value that is not finite, a simulation that diverged, or a bad reward.
        """
        actions = np.asarray(actions, np.float64)
        if actions.shape != (len(self.states), ACTION_SIZE) or not np.isfinite(actions).all():
            raise ValueError(f"actions must be finite and of shape {(len(self.states), ACTION_SIZE)}, got {actions!r}")
        rows = np.arange(len(self.states)) if active is None else np.flatnonzero(active)
        if not self._started[rows].all():
            raise ValueError("call reset() before step()")
        actions = np.clip(actions, -1.0, 1.0)
        self._advance(rows, actions)
        if not np.isfinite(self.states[rows]).all():
            raise ValueError("the walker's simulation diverged; reset it to a state within reason")
        self._reward(rows, actions)

    def observation(self) -> dict[str, Any]:
        """The batched observation; arrays are the caller's own."""
        kinds = self.options.obs_type.split("_")
        found: dict[str, Any] = {}
        if "pixels" in kinds:
            found["pixels"] = self._renderer(self.options.image_size).draw(self.states)
        if "state" in kinds:
            found["state"] = self._sensed()
        if "features" in kinds:
            found["features"] = features(self._sensed())
        return found

    def rewards(self) -> Array:
        """Of the last step, (B,); 0 after a reset."""
        return self._rewards.copy()

    def info(self, with_goal_pixels: bool = False) -> dict[str, Any]:
        """Batched info: the true "state" (B, 18) and "variation", name -> (B,); there are no goals to show."""
        named = [variation.named() for variation in self._variations]
        return {
            "state": self.states.copy(),
            "variation": {name: np.array([one[name] for one in named]) for name in VARIATIONS},
        }

    def render(self, index: int, size: int) -> NDArray[np.uint8]:
        """One walker at another size: uint8 (size, size, 3)."""
        return self._renderer(size).draw(self.states[index : index + 1])[0]

    def close(self) -> None:
        """Free threads and OpenGL contexts."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        while self._renderers:
            self._renderers.popitem()[1].close()

    def _place(self, index: int, state: Array) -> None:
        data = self._datas[index]
        self._mujoco.mj_resetData(self._models[index], data)
        data.qpos[:], data.qvel[:] = np.split(state, 2)
        self.states[index] = state

    def _vary(self, index: int, variation: Variation) -> None:
        """Change one walker's physics and sensors; a sensor that breaks freezes at the present value."""
        if variation.broken_sensor != self._variations[index].broken_sensor:
            self._stuck[index] = self.states[index]
        self._variations[index] = variation
        self._models[index] = shared_model(variation.dynamics)

    def _advance(self, rows: NDArray[np.int64], actions: Array) -> None:
        """Step the physics of the given rows, by threads where there are many."""
        if len(rows) < _THREADED_FROM:
            self._advance_some(rows, actions)
            return
        threads = cores()
        self._pool = self._pool or ThreadPoolExecutor(threads)
        list(self._pool.map(lambda some: self._advance_some(some, actions), np.array_split(rows, threads)))

    def _advance_some(self, rows: NDArray[np.int64], actions: Array) -> None:
        for index in rows.tolist():
            data = self._datas[index]
            data.ctrl[:] = actions[index]
            self._mujoco.mj_step(self._models[index], data, SUBSTEPS)
            self.states[index, : len(JOINTS)], self.states[index, len(JOINTS) :] = data.qpos, data.qvel

    def _reward(self, rows: NDArray[np.int64], actions: Array) -> None:
        """Bring the rewards of the given rows up to date, with one call for all that share a function."""
        functions = [self._functions[index] for index in rows.tolist()]
        for function in {id(one): one for one in functions}.values():
            same = rows[[one is function for one in functions]]
            self._rewards[same] = evaluate_reward(function, self.states[same], actions[same])

    def _sensed(self) -> Array:
        """States (B, 18) as the sensors read them."""
        sensed = self.states.copy()
        for row, variation in enumerate(self._variations):
            if variation.broken_sensor:
                numbers = [variation.broken_sensor_joint, variation.broken_sensor_joint + len(JOINTS)]
                stuck = 0.0 if variation.broken_sensor_zero else self._stuck[row, numbers]
                sensed[row, numbers] += variation.broken_sensor * (stuck - sensed[row, numbers])
        return sensed

    def _renderer(self, size: int) -> "Renderer":
        if size not in self._renderers:
            from .render import Renderer

            self._renderers[size] = Renderer(size)
        return self._renderers[size]
