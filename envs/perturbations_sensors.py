"""What becomes of an observation on its way from the sensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from wmkit.tasks import Task

__all__ = ["Sensors"]

_GREY_LEVELS = 64.0
"""Standard deviation of the noise on pictures at strength 1."""
_NOISE = {"px": 20.0, "px/s": 20.0, "rad": 0.2, "rad/s": 0.5, "m": 0.05, "m/s": 0.3, "width": 0.05}
"""The same on a number of the state, in its unit."""
_OTHER_NOISE = 0.1
"""The same on a number whose unit is unknown."""
_DARKEST = 0.15
"""Brightness at strength 1."""
_LARGEST_PATCH = 0.6
"""Side of the patch at strength 1, as a share of the picture's."""
_PATCH_COLOR = 40
_STREAM = 1
"""Tells the generator of a moment's noise from that of a row's switches."""

Observation = dict[str, NDArray[Any]]


@dataclass
class _Row:
    """What is on in one row, and when it is."""

    seeds: tuple[int, int] = (0, 0)
    steps: int = 0
    lighting: float = 0.0
    noise: float = 0.0
    dropping: float = 0.0
    patch: tuple[float, float, float] | None = None
    frozen: Observation | None = None

    @property
    def on(self) -> bool:
        """Whether anything is."""
        return bool(self.lighting or self.noise or self.dropping or self.patch or self.frozen)


class Sensors:
    """Perturbs the observations of B rows; while all is off, passes them on as they are.

    Pictures are the uint8 arrays of three axes, (S, S, 3).

    Args:
        single: observation space of one environment.
        task: names the units of the numbers under "state".
        count: B.

    Attributes:
        pictures: the keys that hold pictures.
    """

    def __init__(self, single: spaces.Dict, task: Task | None, count: int) -> None:
        self.pictures = {
            key for key, space in single.items() if space.dtype == np.uint8 and len(space.shape or ()) == 3
        }
        self.kinds = tuple("picture" if key in self.pictures else "numbers" for key in single)
        self._noise = np.array([_NOISE.get(column.unit, _OTHER_NOISE) for column in task.state] if task else [])
        self._rows = [_Row() for _ in range(count)]
        self._on: list[int] = []
        self._steps = 0
        self._last: Mapping[str, NDArray[Any]] = {}

    def reset(self, row: int, seeds: tuple[int, int]) -> None:
        """Turn all off in a row, whose noise is drawn from these seeds from now on."""
        self._rows[row] = _Row(seeds, self._steps)
        self._find()

    def tick(self) -> None:
        """Let an environment step pass."""
        self._steps += 1

    def switch(self, name: str, strength: float, row: int, rng: np.random.Generator) -> None:
        """Turn a perturbation on or off in a row."""
        one = self._rows[row]
        if name == "lighting":
            one.lighting = strength
        elif name == "sensor-noise":
            one.noise = strength
        elif name == "dropped-frame":
            one.dropping = strength
        elif name == "occlusion":
            side = _LARGEST_PATCH * strength
            one.patch = (side, *rng.uniform(0.0, 1.0 - side, 2).tolist()) if strength else None
        else:
            one.frozen = {key: value[row].copy() for key, value in self._last.items()} if strength else None
        self._find()

    def __call__(self, observation: Mapping[str, NDArray[Any]]) -> Any:
        """Return what is observed, key -> (B, ...): the same object while all is off, else arrays of its own."""
        if self._on:
            observation = {key: np.array(value) for key, value in observation.items()}
            for row in self._on:
                self._perturb(observation, row)
        self._last = observation
        return observation

    def _perturb(self, observation: Observation, row: int) -> None:
        """Change one row in place."""
        one = self._rows[row]
        rng = np.random.default_rng((*one.seeds, _STREAM + self._steps - one.steps))
        dropped = rng.uniform() < one.dropping
        for key, values in observation.items():
            if one.frozen is not None:
                values[row] = one.frozen[key]
            elif key in self.pictures:
                values[row] = self._picture(values[row], one, rng)
            elif one.noise and np.issubdtype(values.dtype, np.floating):
                values[row] += one.noise * self._scale(key, values) * rng.standard_normal(values[row].shape)
            if dropped:
                values[row] = 0

    def _scale(self, key: str, values: NDArray[Any]) -> Any:
        """Return the standard deviation of the noise at strength 1."""
        return self._noise if key == "state" and values.shape[1:] == self._noise.shape else _OTHER_NOISE

    def _picture(self, picture: NDArray[np.uint8], one: _Row, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a picture (S, S, 3) with lighting, occlusion and noise."""
        seen = picture.astype(np.float32) * np.float32(1.0 - (1.0 - _DARKEST) * one.lighting)
        if one.patch is not None:
            height, width = picture.shape[:2]
            side, down, right = one.patch
            top, left = round(down * height), round(right * width)
            seen[top : top + max(1, round(side * height)), left : left + max(1, round(side * width))] = _PATCH_COLOR
        if one.noise:
            seen += np.float32(_GREY_LEVELS * one.noise) * rng.standard_normal(seen.shape, dtype=np.float32)
        return np.rint(seen).clip(0, 255).astype(np.uint8)

    def _find(self) -> None:
        """Bring up to date in which rows anything is on."""
        self._on = [row for row, one in enumerate(self._rows) if one.on]


def _is_picture(space: spaces.Space) -> bool:
    return space.dtype == np.uint8 and len(space.shape or ()) == 3
