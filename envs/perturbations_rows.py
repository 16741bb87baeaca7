"""Which perturbations there are, and what is on in each of B rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from wmkit.errors import UserError
from wmkit.tasks import Task

from .perturbations_actions import Motors
from .perturbations_sensors import Sensors

__all__ = ["PERTURBATIONS", "Rows"]

PERTURBATIONS: dict[str, str] = {
    "teleport": "puts something elsewhere at once, at strength 1 anywhere, at less that share of the way",
    "colour": "gives the thing that matters another hue; at less than 1 a blend with its own",
    "occlusion": "covers a square of the picture, 0.6 strength of its side, at a place drawn once",
    "lighting": "multiplies the picture's brightness by (1 - 0.85 strength)",
    "sensor-noise": "adds Gaussian noise anew to each observation: 64 strength grey levels, or 20 strength px, 0.2 "
    "strength rad and the like",
    "frozen-frame": "repeats the last observation, whatever the strength",
    "dropped-frame": "replaces each observation by zeros, black in pictures, with probability strength",
    "action-delay": "executes what was asked 2 strength model steps ago, at least one environment step",
    "action-gain": "executes (1 + strength) times what is asked, within the bounds",
    "weak-actuator": "executes (1 - strength) times what is asked, of one actuator or of all",
    "mass": "makes something heavier",
    "friction": "changes how slippery things are",
}
"""What each name does; `Task.changes` may add more. Actions are scaled about 0, or the nearest to it in the bounds."""

_ACTIONS = ("action-delay", "action-gain", "weak-actuator")
_SENSORS = ("occlusion", "lighting", "sensor-noise", "frozen-frame", "dropped-frame")
_PICTURES_ONLY = ("colour", "occlusion", "lighting")
_LONGEST_DELAY = 2
"""Model steps of delay at strength 1."""


class Rows:
    """What is perturbed in B rows.

    Args:
        scene: with `set_state`, `set_variation`, `variations` and `info` of wmkit's vector environments, where `task`
            says that anything uses them.
        task: what the environments are, or None.
        single: observation and action space of one environment.
        count: B.
        seed: of row 0.

    Attributes:
        names: what is supported.

    Raises:
        UserError: the observations are no dict.
    """

    def __init__(
        self, scene: Any, task: Task | None, single: tuple[spaces.Space, spaces.Space], count: int, seed: int
    ) -> None:
        observation, action = single
        if not isinstance(observation, spaces.Dict) or not isinstance(action, spaces.Box):
            raise UserError("perturbations need observations that are a dict of arrays, and actions that are an array")
        self._scene, self._task, self._count = scene, task, count
        self._longest = _LONGEST_DELAY * (task.action_repeat if task else 1)
        self._motors = Motors(action.low, action.high, count, self._longest)
        self._sensors = Sensors(observation, task, count)
        self.names = self._supported()
        self._seeds = [seed + row for row in range(count)]
        self._episodes = [0] * count
        self._rngs = [np.random.default_rng()] * count
        self._changes: list[dict[str, Mapping[str, Any]]] = [{} for _ in range(count)]
        self._first: list[Mapping[str, Any]] = [{}] * count
        self._active: list[dict[str, float]] = [{} for _ in range(count)]
        self._started = False

    @property
    def active(self) -> tuple[dict[str, float], ...]:
        """What is on in each row, name -> strength."""
        return tuple(dict(one) for one in self._active)

    def reset(self, mask: ArrayLike | None, seed: int | Sequence[int | None] | None) -> None:
        """Turn all off in the rows of the mask, and seed them anew where there is a seed."""
        rows = np.flatnonzero(self._mask(mask)).tolist()
        for row in rows:
            given = seed + row if isinstance(seed, int | np.integer) else seed[row] if seed is not None else None
            if given is not None:
                self._seeds[row], self._episodes[row] = int(given), 0
            self._rngs[row] = np.random.default_rng((self._seeds[row], self._episodes[row]))
            self._sensors.reset(row, (self._seeds[row], self._episodes[row]))
            self._episodes[row] += 1
            self._changes[row], self._active[row] = {}, {}
        self._motors.reset(rows)
        self._started = True

    def act(self, actions: Any) -> Any:
        """Return what is executed for actions (B, A); the same object while nothing concerns actions."""
        self._sensors.tick()
        return self._motors(actions)

    def sense(self, observation: Mapping[str, NDArray[Any]]) -> Any:
        """Return what is observed, key -> (B, ...); the same object while nothing concerns observations."""
        return self._sensors(observation)

    def switch(self, name: str, strength: float, mask: ArrayLike | None, actuator: int | None) -> None:
        """Turn a perturbation on; see `PerturbedVectorEnv.switch`."""
        self._check(name, strength, actuator)
        chosen = self._mask(mask)
        rows = np.flatnonzero(chosen).tolist()
        if name == "teleport":
            self._teleport(rows, chosen, strength)
            return
        if name in _ACTIONS:
            self._motors.switch(name, strength, rows, actuator)
        elif name in _SENSORS:
            for row in rows:
                self._sensors.switch(name, strength, row, self._rngs[row])
        else:
            self._change(name, rows, chosen, strength)
        self._note(name, rows, strength)

    def _note(self, name: str, rows: Sequence[int], strength: float) -> None:
        """Remember what is on."""
        for row in rows:
            now = self._motors.weakest(row) if name == "weak-actuator" else strength
            self._active[row].pop(name, None)
            if now > 0:
                self._active[row][name] = now

    def _teleport(self, rows: Sequence[int], chosen: NDArray[np.bool_], strength: float) -> None:
        if self._task is None or self._task.teleport is None or strength == 0:
            return
        states, variations = np.array(self._scene.info()["state"], np.float64), self._scene.variations()
        for row in rows:
            states[row] = self._task.teleport(states[row], strength, self._rngs[row], variations[row])
        self._scene.set_state(states, chosen)

    def _change(self, name: str, rows: Sequence[int], chosen: NDArray[np.bool_], strength: float) -> None:
        """Set the variations that the changes which are on amount to, over those of the reset."""
        present = self._scene.variations()
        variations = list(present)
        for row in rows:
            if not self._changes[row]:
                self._first[row] = present[row]
            self._changes[row].pop(name, None)
            if self._task is not None and strength > 0:
                self._changes[row][name] = self._task.changes[name](strength, self._rngs[row])
            variations[row] = dict(self._first[row])
            for change in self._changes[row].values():
                variations[row] |= change
        self._scene.set_variation(variations, chosen)

    def _check(self, name: str, strength: float, actuator: int | None) -> None:
        known = tuple(dict.fromkeys((*PERTURBATIONS, *(self._task.changes if self._task else ()))))
        if name not in known:
            raise UserError(f"unknown perturbation {name!r}; known: {', '.join(known)}")
        if name not in self.names:
            raise UserError(f"perturbation {name!r} is not supported here; supported: {', '.join(self.names)}")
        if not self._started:
            raise ValueError("call reset() before switch(); a reset turns all perturbations off")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength is {strength!r}; give a number from 0, which is off, to 1")
        size = self._motors.size
        if actuator is not None and (name != "weak-actuator" or not 0 <= actuator < size):
            raise ValueError(f"actuator is {actuator!r}; give one from 0 to {size - 1}, with 'weak-actuator' alone")

    def _supported(self) -> tuple[str, ...]:
        changes = tuple(self._task.changes) if self._task else ()
        found = {*_ACTIONS, *_SENSORS, *changes, *(["teleport"] if self._task and self._task.teleport else [])}
        found -= set() if self._sensors.pictures else set(_PICTURES_ONLY)
        return tuple(name for name in dict.fromkeys((*PERTURBATIONS, *changes)) if name in found)

    def _mask(self, mask: ArrayLike | None) -> NDArray[np.bool_]:
        """Return a mask (B,); None stands for all."""
        found = np.ones(self._count, bool) if mask is None else np.asarray(mask, bool)
        if found.shape != (self._count,):
            raise ValueError(f"mask: expected shape {(self._count,)}, got {found.shape}")
        return found
