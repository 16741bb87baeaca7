"""A batch of PushCube scenes: what `PushCubeEnv` (one) and `PushCubeVectorEnv` (many) share."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..mujoco_support import cores, load_mujoco
from ..scene_checks import refuse_diverged, whole_number
from .control import ACTION_MODES, joint_speeds
from .kinematics import CUBE, JOINTS, POSITIONS, STATE_SIZE, VELOCITIES, as_state, hand_position, is_success
from .model import CAMERAS, SUBSTEPS, shared_model
from .starts import make_start
from .variations import VARIATIONS, Variation, check_names, merge_variation

if TYPE_CHECKING:
    from .render import Renderer

__all__ = ["OBS_TYPES", "SceneOptions", "Scenes"]

OBS_TYPES = ("pixels", "state", "proprioception", "pixels_state", "pixels_proprioception")
_PROPRIOCEPTION = 2 * len(JOINTS) + 3
_BOUND = 1e6
"""Far beyond any state."""
_THREADED_FROM = 8
"""Scenes from which on threads pay."""
_NEAR = 0.1
"""Metres from the goal at which the reward is a quarter."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SceneOptions:
    """The constructor arguments of the environments, checked.

    Attributes:
        obs_type: one of `OBS_TYPES`.
        image_size: S, pixels of a side of the observation, 16 to 1024.
        cameras: the first is seen under "pixels", others under "pixels_NAME"; names joined by commas will do, too.
        action_mode: "plane" or "space".
        randomise: names of the variations that every reset draws, joined by commas or not; "all" for all of them.
        show_target: whether the target's mark is in the observed pictures.
    """

    obs_type: str = "pixels"
    image_size: int = 64
    cameras: str | Sequence[str] = ("front",)
    action_mode: str = "plane"
    randomise: str | Sequence[str] = ()
    show_target: bool = False

    def __post_init__(self) -> None:
        for name, known in {"obs_type": OBS_TYPES, "action_mode": tuple(ACTION_MODES)}.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose from {', '.join(known)}")
        whole_number("image_size", self.image_size, 16, 1024)
        unknown = sorted(set(self.views) - set(CAMERAS))
        if unknown or not self.views or len(set(self.views)) < len(self.views):
            raise ValueError(f"cameras is {self.cameras!r}; choose one or more, each once, of {', '.join(CAMERAS)}")
        check_names(self.randomised or ())

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return _names("cameras", self.cameras, CAMERAS)

    @property
    def randomised(self) -> tuple[str, ...] | None:
        """Names of the variations that resets draw; None for all."""
        names = _names("randomise", self.randomise, ("all", *VARIATIONS))
        return None if names == ("all",) else names

    @property
    def pictures(self) -> dict[str, str]:
        """Observation key -> camera; empty where there are no pixels."""
        keys = ("pixels", *(f"pixels_{name}" for name in self.views[1:]))
        return dict(zip(keys, self.views, strict=True)) if "pixels" in self.obs_type else {}

    @property
    def observation_space(self) -> spaces.Dict:
        """Of one environment."""
        picture = spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        parts: dict[str, spaces.Space] = dict.fromkeys(self.pictures, picture)
        for key, size in (("state", STATE_SIZE), ("proprioception", _PROPRIOCEPTION)):
            if key in self.obs_type:
                parts[key] = spaces.Box(-_BOUND, _BOUND, (size,), np.float64)
        return spaces.Dict(parts)

    @property
    def action_space(self) -> spaces.Box:
        """Of one environment: displacements of the hand."""
        return spaces.Box(-1.0, 1.0, (ACTION_MODES[self.action_mode],), np.float32)


def _names(option: str, value: Any, known: Iterable[str]) -> tuple[str, ...]:
    """Return names that were given one by one or joined by commas."""
    parts = value.split(",") if isinstance(value, str) else value
    names = tuple(parts) if isinstance(parts, Iterable) else (value,)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{option} is {value!r}; give names, of {', '.join(known)}")
    return tuple(name.strip() for name in names)


class Scenes:
    """B scenes stepped together: a `wmkit.envs.scene_env.SceneBatch`.

    The physics starts cold at every control step, so that the future depends on the state and the actions alone.

    Attributes after `begin`:
        states: float64 (B, 25).
        goals: float64 (B, 25).
        successes: bool (B,).
        goal_pixels: key -> uint8 (B, S, S, 3) where there are pixels: the scenes at `goals`, "goal_" before the key.
    """

    render_size = 480

    def __init__(self, options: SceneOptions, count: int) -> None:
        self.options = options
        self.observation_space, self.action_space = options.observation_space, options.action_space
        self.states, self.goals = np.zeros((2, count, STATE_SIZE))
        self.successes = np.zeros(count, bool)
        side = options.image_size
        self.goal_pixels = {f"goal_{key}": np.zeros((count, side, side, 3), np.uint8) for key in options.pictures}
        self._variations = [Variation()] * count
        self._first = [Variation()] * count
        self._mujoco = load_mujoco()
        from wmkit.mujoco_rollout import silent_warnings

        self._silent = silent_warnings
        self._models = [shared_model(Variation())] * count
        self._datas = [self._mujoco.MjData(model) for model in self._models]
        self._started = np.zeros(count, bool)
        self._pool: ThreadPoolExecutor | None = None
        self._renderers: dict[int, Renderer] = {}

    def begin(self, options: Mapping[int, Mapping[str, Any]], rngs: Sequence[np.random.Generator]) -> None:
        """Begin new episodes; see `starts.make_start` for the options."""
        starts = {row: make_start(one, rngs[row], self.options.randomised) for row, one in options.items()}
        for row, start in starts.items():
            self._variations[row] = self._first[row] = start.variation
            self._models[row] = shared_model(start.variation)
            self.goals[row], self._started[row] = start.goal, True
            self._place(row, start.state)
        rows = np.array(sorted(starts), int)
        self._measure(rows)
        if len(rows):
            for key, camera in self.options.pictures.items():
                self.goal_pixels[f"goal_{key}"][rows] = self._draw(self.goals, camera, rows)

    def set_states(self, rows: NDArray[np.int64], states: Array) -> None:
        """Put the given scenes into other states (M, 25); goals stay as they are."""
        self._check_started(rows)
        for row, state in zip(rows.tolist(), [as_state(state) for state in states], strict=True):
            self._place(row, state)
        self._measure(rows)

    def set_variations(self, changes: Mapping[int, Mapping[str, Any] | Variation | None]) -> None:
        """Change the variation of the scenes given; goals, and the pictures of them, stay as they are."""
        self._check_started(np.array(sorted(changes), int))
        new = {i: merge_variation(self._variations[i], one, self._first[i]) for i, one in changes.items()}
        for row, variation in new.items():
            self._variations[row], self._models[row] = variation, shared_model(variation)

    def variations(self) -> list[dict[str, Any]]:
        """The present variation of each scene, all names -> values."""
        return [one.named() for one in self._variations]

    def step(self, actions: Array, active: NDArray[np.bool_] | None = None) -> None:
        """Advance by one control step (0.1 s).

        Args:
            actions: (B, 2 | 3), finite; clipped to [-1, 1].
            active: bool (B,), scenes to advance; by default all.

        Raises:
            ValueError: before the first reset; or simulations diverged, which leaves NaN in their states.
        """
        rows = np.arange(len(self.states)) if active is None else np.flatnonzero(active)
        self._check_started(rows)
        speeds = joint_speeds(self.states[rows, : len(JOINTS)], np.clip(actions[rows], -1.0, 1.0))
        with self._silent():
            self._advance(rows, speeds)
        self._measure(rows)
        refuse_diverged(self.states)

    def rewards(self) -> Array:
        """The rewards (B,): 1 at the goal, falling with the cube's distance from it, a quarter at 10 cm."""
        distances = np.linalg.norm(self.states[:, CUBE] - self.goals[:, CUBE], axis=1)
        return 0.25 ** (distances / _NEAR)

    def observation(self) -> dict[str, Any]:
        """The batched observation; arrays are the caller's own."""
        found: dict[str, Any] = {}
        for key, camera in self.options.pictures.items():
            found[key] = self._draw(self.states, camera, np.arange(len(self.states)))
        if "state" in self.options.obs_type:
            found["state"] = self.states.copy()
        if "proprioception" in self.options.obs_type:
            arm = self.states[:, : len(JOINTS)], self.states[:, VELOCITIES][:, : len(JOINTS)]
            found["proprioception"] = np.concatenate((*arm, hand_position(self.states)), axis=1)
        return found

    def info(self, with_goal_pixels: bool) -> dict[str, Any]:
        """Batched info: "state", "goal_state", "hand" (B, 3), "success", "variation"; if asked, the goals' pictures."""
        named = self.variations()
        info: dict[str, Any] = {
            "state": self.states.copy(),
            "goal_state": self.goals.copy(),
            "hand": hand_position(self.states),
            "success": self.successes.copy(),
            "variation": {name: np.array([one[name] for one in named]) for name in named[0]},
        }
        if with_goal_pixels:
            info |= {key: value.copy() for key, value in self.goal_pixels.items()}
        return info

    def render(self, index: int, size: int) -> NDArray[np.uint8]:
        """One scene for people, uint8 (size, size, 3), with the target's mark, through the first camera."""
        rows = slice(index, index + 1)
        renderer = self._renderer(size)
        return renderer.draw(self.states[rows], self._variations[rows], self.options.views[0], self.goals[rows])[0]

    def close(self) -> None:
        """Free threads and OpenGL contexts."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        while self._renderers:
            self._renderers.popitem()[1].close()

    def _place(self, row: int, state: Array) -> None:
        self._mujoco.mj_resetData(self._models[row], self._datas[row])
        self._datas[row].qpos[:], self._datas[row].qvel[:] = state[POSITIONS], state[VELOCITIES]
        self.states[row] = state

    def _advance(self, rows: NDArray[np.int64], speeds: Array) -> None:
        """Step the physics of the given rows, by threads where there are many."""
        if len(rows) < _THREADED_FROM:
            self._advance_some(rows, speeds)
            return
        threads = cores()
        self._pool = self._pool or ThreadPoolExecutor(threads)
        parts = zip(np.array_split(rows, threads), np.array_split(speeds, threads), strict=True)
        list(self._pool.map(lambda part: self._advance_some(*part), parts))

    def _advance_some(self, rows: NDArray[np.int64], speeds: Array) -> None:
        for row, speed in zip(rows.tolist(), speeds, strict=True):
            data = self._datas[row]
            data.ctrl[:], data.qacc_warmstart[:] = speed, 0.0
            self._mujoco.mj_step(self._models[row], data, SUBSTEPS)
            self.states[row, POSITIONS], self.states[row, VELOCITIES] = data.qpos, data.qvel

    def _measure(self, rows: NDArray[np.int64]) -> None:
        self.successes[rows] = is_success(self.states[rows], self.goals[rows])

    def _draw(self, states: Array, camera: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the pictures (M, S, S, 3) of rows (M,) in states (B, 25)."""
        looks = [self._variations[row] for row in rows.tolist()]
        targets = self.goals[rows] if self.options.show_target else None
        return self._renderer(self.options.image_size).draw(states[rows], looks, camera, targets)

    def _renderer(self, size: int) -> "Renderer":
        if size not in self._renderers:
            from .render import Renderer

            self._renderers[size] = Renderer(size)
        return self._renderers[size]

    def _check_started(self, rows: NDArray[np.int64]) -> None:
        if not self._started[rows].all():
            raise ValueError("call reset() before stepping or changing a scene")
