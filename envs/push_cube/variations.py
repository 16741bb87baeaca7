"""Named variations of PushCube: looks, and the cube's size, mass and friction.

Pass them at reset: ``env.reset(options={"variation": {"cube.color": (60, 90, 200), "cube.mass": 0.3}})``. All but the
size can also change in the middle of an episode: ``env.unwrapped.set_variation({"cube.friction": 0.2})``. With
`randomise` an environment draws them at every reset, from the ranges here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "VARIATIONS",
    "Variation",
    "VariationSpec",
    "check_names",
    "make_variation",
    "merge_variation",
    "sample_variation",
]

Color = tuple[int, int, int]


@dataclass(frozen=True)
class VariationSpec:
    """One row of the table.

    Attributes:
        kind: "color" (three whole numbers 0 to 255) or "number".
        default: its value where nothing is said.
        text: what it changes.
        low: smallest number allowed.
        high: largest number allowed.
    """

    kind: str
    default: Any
    text: str
    low: float = 0.0
    high: float = 255.0


VARIATIONS: dict[str, VariationSpec] = {
    "cube.color": VariationSpec("color", (200, 40, 40), "the cube"),
    "cube.size": VariationSpec("number", 0.05, "edge of the cube in m", 0.04, 0.06),
    "cube.mass": VariationSpec("number", 0.1, "mass of the cube in kg", 0.03, 1.0),
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
        return {name: getattr(self, name.replace(".", "_")) for name in VARIATIONS}


def make_variation(named: Mapping[str, Any] | Variation | None = None) -> Variation:
    """Resolve named variations over the defaults.

    Raises:
        ValueError: an unknown name (the message lists the known ones) or a value outside its range.
    """
    if isinstance(named, Variation):
        return named
    named = _mapping(named or {})
    check_names(named)
    return Variation(**{name.replace(".", "_"): _checked(name, value) for name, value in named.items()})


def merge_variation(present: Variation, change: Mapping[str, Any] | Variation | None, first: Variation) -> Variation:
    """Return what a scene becomes by a change in the middle of an episode.

    Args:
        present: as the scene is.
        change: names -> values to change; None goes back to `first`.
        first: as the scene was after its reset.

    Raises:
        ValueError: an unknown name, a value outside its range, or another size of the cube.
    """
    if change is None:
        return first
    merged = change if isinstance(change, Variation) else make_variation(present.named() | _mapping(change))
    fixed = [name for name in _FIXED if merged.named()[name] != present.named()[name]]
    if fixed:
        raise ValueError(f"{', '.join(fixed)} cannot change in the middle of an episode; pass it at reset instead")
    return merged


def sample_variation(rng: np.random.Generator, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Draw values for the names (by default all), uniform over their ranges; masses log-uniform."""
    names = tuple(VARIATIONS) if names is None else names
    check_names(names)
    return {name: _drawn(name, rng) for name in names}


def check_names(names: Sequence[str] | Mapping[str, Any]) -> None:
    """Refuse unknown names with a ValueError that lists the known ones."""
    unknown = sorted(set(map(str, names)) - set(VARIATIONS))
    if unknown:
        raise ValueError(f"unknown PushCube variation {', '.join(map(repr, unknown))}; known: {', '.join(VARIATIONS)}")


def _mapping(named: Any) -> dict[str, Any]:
    if not isinstance(named, Mapping):
        raise ValueError(f"variation: expected a mapping of names to values, got {named!r}; known: {', '.join(VARIATIONS)}")
    return dict(named)


def _drawn(name: str, rng: np.random.Generator) -> Any:
    spec = VARIATIONS[name]
    if spec.kind == "color":
        return tuple(int(value) for value in rng.integers(0, 256, 3))
    if name == "cube.mass":
        return float(np.exp(rng.uniform(np.log(spec.low), np.log(spec.high))))
    return float(rng.uniform(spec.low, spec.high))


def _checked(name: str, value: Any) -> Any:
    spec = VARIATIONS[name]
    if spec.kind == "color":
        color = np.asarray(value)
        numeric = color.shape == (3,) and color.dtype.kind in "iuf"
        if not numeric or not ((color >= 0) & (color <= 255)).all():
            raise ValueError(f"{name}: expected three numbers from 0 to 255, got {value!r}")
        return tuple(int(v) for v in color)
    number = np.asarray(value)
    numeric = number.shape == () and number.dtype.kind in "iuf"
    if not numeric or not spec.low <= float(number) <= spec.high:
        raise ValueError(f"{name}: expected a number from {spec.low:g} to {spec.high:g}, got {value!r}")
    return float(number)
