"""Checks of observations at the controller's boundary."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import ObservationSpec

__all__ = ["checked", "selected"]


def checked(
    observation: Mapping[str, Any], specs: Mapping[str, ObservationSpec]
) -> tuple[dict[str, np.ndarray | Tensor], bool]:
    """Check one instant's observation and give it a batch axis.

    Args:
        observation: by key (B, ...), or (...) for one environment; keys that `specs` does not name are left out.
        specs: what the model expects.

    Returns:
        Arrays or tensors (B, ...) by key, and whether the input had a batch axis.

    Raises:
        ValueError: a key is missing or has another shape, dtype or batch size than expected, or is not finite.
    """
    found: dict[str, np.ndarray | Tensor] = {}
    sizes: dict[str, int | None] = {}
    for key, spec in specs.items():
        if key not in observation:
            present = ", ".join(map(str, observation)) or "nothing"
            raise ValueError(f"observation {key!r} is missing; found: {present}; expected {_text(spec)}")
        value = observation[key] if isinstance(observation[key], Tensor) else np.asarray(observation[key])
        _check_value(key, value, spec)
        batched = value.ndim > len(spec.shape)
        sizes[key] = value.shape[0] if batched else None
        found[key] = value if batched else value[None]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"observations differ in their batch sizes: {sizes}; expected one (B, ...) for all, or none")
    return found, None not in sizes.values()


def selected(observation: Mapping[str, np.ndarray | Tensor], rows: np.ndarray) -> dict[str, Any]:
    """Return rows (R,) of observations (B, ...) with a time axis, (R, 1, ...)."""
    return {
        key: (value[torch.from_numpy(rows)] if isinstance(value, Tensor) else value[rows])[:, None]
        for key, value in observation.items()
    }


def _check_value(key: str, value: np.ndarray | Tensor, spec: ObservationSpec) -> None:
    shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
    if shape[len(shape) - len(spec.shape) :] != tuple(spec.shape) or len(shape) - len(spec.shape) not in (0, 1):
        raise ValueError(f"observation {key!r} has shape {shape}; expected (B, *shape) or shape, {_text(spec)}")
    floating = np.issubdtype(np.dtype(spec.dtype), np.floating)
    if dtype != spec.dtype and not (floating and dtype.startswith(("float", "bfloat"))):
        raise ValueError(f"observation {key!r} has dtype {dtype}; expected {_text(spec)}")
    if floating and not bool(torch.isfinite(value).all() if isinstance(value, Tensor) else np.isfinite(value).all()):
        raise ValueError(f"observation {key!r} has values that are not finite; expected {_text(spec)}, all finite")


def _text(spec: ObservationSpec) -> str:
    return f"{spec.dtype} {tuple(spec.shape)}"
