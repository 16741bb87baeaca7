"""How a picture looks, apart from where things are: what a change of colour or light alters and a teleport does not."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contracts import ModelSpec

__all__ = ["BLANK", "ROUGHNESS", "Looks", "fingerprint"]

_LEVELS = 4
_BINS = _LEVELS**3
ROUGHNESS = _BINS
"""Index of the mean absolute difference between neighbouring pixels, in [0, 1]: high under sensor noise."""
BLANK = _BINS + 2
"""Index of the standard deviation of the brightness, in [0, 1]: 0 for an empty picture."""


class Looks:
    """Describes pictures by a coarse histogram of their colours, their roughness, brightness and contrast.

    Args:
        spec: the model's; its keys of uint8 images (S, S', 3) are looked at.

    Attributes:
        size: F, numbers that describe one observation; 0 where the model reads no images.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._keys = [
            key
            for key, each in spec.observations.items()
            if each.dtype == "uint8" and len(each.shape) == 3 and each.shape[-1] == 3
        ]
        self.size = (_BINS + 3) * len(self._keys)

    def __call__(self, observation: Mapping[str, Any] | None, rows: int) -> np.ndarray:
        """Return the description (R, F) of observations, each (R, S, S', 3); NaN without any."""
        if observation is None or not self._keys:
            return np.full((rows, self.size), np.nan)
        return np.concatenate([_described(np.asarray(observation[key])) for key in self._keys], axis=1)


def fingerprint(observation: Mapping[str, Any] | None, rows: int) -> np.ndarray:
    """Return a number (R,) int64 for each row's observation, equal for equal ones; 0 without any."""
    if observation is None:
        return np.zeros(rows, np.int64)
    arrays = [np.asarray(value) for value in observation.values()]
    return np.array([hash(tuple(array[row].tobytes() for array in arrays)) for row in range(rows)], np.int64)


def _described(pictures: np.ndarray) -> np.ndarray:
    """Return (R, _BINS + 3) of pictures (R, S, S', 3)."""
    level = (pictures >> 6).astype(np.int64)
    code = (level[..., 0] * _LEVELS + level[..., 1]) * _LEVELS + level[..., 2]
    rows = len(pictures)
    code = code.reshape(rows, -1) + _BINS * np.arange(rows)[:, None]
    shares = np.bincount(code.ravel(), minlength=rows * _BINS).reshape(rows, _BINS) / code.shape[1]
    grey = pictures.mean(axis=-1, dtype=np.float32) / 255
    rough = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    others = np.stack([rough, grey.mean(axis=(1, 2)), grey.std(axis=(1, 2))], axis=1)
    return np.concatenate([shares, others], axis=1)
