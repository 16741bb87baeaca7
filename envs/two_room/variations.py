"""The one table of what may vary in TwoRoom, by name, with ranges; values are checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .world import PIXEL

__all__ = ["VARIATIONS", "Variation", "parse_variations"]


@dataclass(frozen=True)
class Variation:
    """One thing that a reset may set.

    Attributes:
        field: Name of the field of `Scene` that it sets.
        low: Smallest value allowed, in widths (colours: 0..255).
        high: Largest value allowed.
        shape: () or (3,) for a colour.
    """

    field: str
    low: float
    high: float
    shape: tuple[int, ...] = ()


VARIATIONS: dict[str, Variation] = {
    "door.position": Variation("door_position", 0.2, 0.8),
    "door.size": Variation("door_size", 0.08, 0.16),
    "wall.position": Variation("wall_position", 0.3, 0.7),
    "wall.thickness": Variation("wall_thickness", 7 * PIXEL, 28 * PIXEL),
    "wall.color": Variation("wall_color", 0, 255, (3,)),
    "background.color": Variation("background_color", 0, 255, (3,)),
    "agent.color": Variation("agent_color", 0, 255, (3,)),
    "agent.radius": Variation("agent_radius", 5 * PIXEL, 12 * PIXEL),
    "agent.speed": Variation("agent_speed", 1 * PIXEL, 10 * PIXEL),
}
"""Every variation by name. Any combination within the ranges leaves a door that the agent fits through."""


def parse_variations(values: Mapping[str, Any], batch: tuple[int, ...]) -> dict[str, npt.NDArray[np.float64]]:
    """Checks variations given by a user and spreads them over the batch.

    Args:
        values: Name -> one value for all or one for each environment: () or (*batch), colours (3,) or (*batch, 3).
        batch: Leading shape of the environments, usually (B,).

    Returns:
        Field of `Scene` -> (*batch) or (*batch, 3) float64.

    Raises:
        ValueError: If a name is unknown, or a value has the wrong shape or lies outside its range.
    """
    parsed = {}
    for name, value in values.items():
        if name not in VARIATIONS:
            raise ValueError(f"unknown variation {name!r}; known: {', '.join(VARIATIONS)}")
        variation, full = VARIATIONS[name], (*batch, *VARIATIONS[name].shape)
        array = np.asarray(value, np.float64)
        if array.shape not in (variation.shape, full):
            raise ValueError(f"variation {name!r}: shape {array.shape}, expected {variation.shape} or {full}")
        if not np.all((array >= variation.low) & (array <= variation.high)):
            raise ValueError(
                f"variation {name!r}: values in [{array.min():g}, {array.max():g}], "
                f"allowed are [{variation.low:g}, {variation.high:g}]"
            )
        parsed[variation.field] = np.broadcast_to(array, full)
    return parsed
