"""Named variations of PushCube: looks, and the cube's size, mass and friction.

Pass them at reset: ``env.reset(options={"variation": {"cube.color": (60, 90, 200), "cube.mass": 0.3}})``. All but the
size can also change in the middle of an episode: ``env.unwrapped.set_variation({"cube.friction": 0.2})``. With
`randomise` an environment draws them at every reset, from the ranges here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..variation_table import VariationSpec, draw, merge, named_values, resolve
from ..variation_table import check_names as _check_names

__all__ = ["VARIATIONS", "Variation", "check_names", "make_variation", "merge_variation", "sample_variation"]

Color = tuple[int, int, int]


VARIATIONS: dict[str, VariationSpec] = {
    "cube.color": VariationSpec("color", (200, 40, 40), "the cube"),
    "cube.size": VariationSpec("number", 0.05, "edge of the cube in m", 0.04, 0.06),
    "cube.mass": VariationSpec("number", 0.1, "mass of the cube in kg", 0.03, 1.0, log=True),
    "cube.friction": VariationSpec("number", 0.6, "sliding friction of the cube, on table and hand", 0.2, 0.9),
    "table.color": VariationSpec("color", (222, 208, 190), "the table"),
    "target.color": VariationSpec("color", (60, 170, 90), "the mark of the target"),
}
_FIXED = ("cube.size",)
"""What only a reset can change: the goal would be another."""


@dataclass(frozen=True)
class Variation:
    """Resolved variations: one field for each name in `VARIATIONS`, with `_` for `.`; colours are RGB 0 to 255."""

    cube_color: Color = VARIATIONS["cube.color"].default
    cube_size: float = VARIATIONS["cube.size"].default
    cube_mass: float = VARIATIONS["cube.mass"].default
    cube_friction: float = VARIATIONS["cube.friction"].default
    table_color: Color = VARIATIONS["table.color"].default
    target_color: Color = VARIATIONS["target.color"].default

    def named(self) -> dict[str, Any]:
        """Return all values by the names of `VARIATIONS`."""
        return named_values(VARIATIONS, self)


def make_variation(named: Mapping[str, Any] | Variation | None = None) -> Variation:
    """Resolve named variations over the defaults; one made by hand is checked, too.

    Raises:
        ValueError: an unknown name (the message lists the known ones) or a value outside its range.
    """
    named = named.named() if isinstance(named, Variation) else named
    return Variation(**resolve(VARIATIONS, named, "PushCube"))


def merge_variation(present: Variation, change: Mapping[str, Any] | Variation | None, first: Variation) -> Variation:
    """Return what a scene becomes by a change in the middle of an episode; see `variation_table.merge`.

    Raises:
        ValueError: an unknown name, a value outside its range, or another size of the cube.
    """
    return merge(present, change, first, make_variation, _FIXED)


def sample_variation(rng: np.random.Generator, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Draw values for the names (by default all), uniform over their ranges; masses log-uniform."""
    names = tuple(VARIATIONS) if names is None else names
    check_names(names)
    return {name: draw(VARIATIONS[name], rng) for name in names}


def check_names(names: Sequence[str] | Mapping[str, Any]) -> None:
    """Refuse unknown names with a ValueError that lists the known ones."""
    _check_names(VARIATIONS, names, "PushCube")
