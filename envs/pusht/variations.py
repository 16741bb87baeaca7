"""Named variations of PushT: looks, the block's and agent's size and shape, and how slippery the floor is.

Pass them at reset: ``env.reset(options={"variation": {"block.color": (200, 60, 60), "block.scale": 25.0}})``. All but
sizes and shapes can also change in the middle of an episode: ``env.unwrapped.set_variation({"floor.slip": 0.5})``.
`VARIATIONS` is the one table of names, defaults and ranges.

There is no mass to vary: the agent moves as it wants whatever it meets, and the block moves only as far as it is
pushed, so that a heavier block, with a moment of inertia to match, moves alike to the last digit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .geometry import SHAPES, BlockShape, block_shape

__all__ = [
    "VARIATIONS",
    "Variation",
    "VariationSpec",
    "make_variation",
    "merge_variation",
    "sample_variation",
    "variation_names",
]

Color = tuple[int, int, int]


@dataclass(frozen=True)
class VariationSpec:
    """One row of the table.

    Attributes:
        kind: "color" (three whole numbers 0 to 255), "number", "choice" or "bool".
        default: gym-pusht's value.
        low: smallest number allowed.
        high: largest number allowed.
        choices: allowed values of a "choice".
        text: what it changes.
    """

    kind: str
    default: Any
    text: str
    low: float = 0.0
    high: float = 255.0
    choices: tuple[str, ...] = ()


VARIATIONS: dict[str, VariationSpec] = {
    "agent.color": VariationSpec("color", (65, 105, 225), "rim of the agent's disc"),
    "agent.radius": VariationSpec("number", 15.0, "agent's radius in px; changes the physics", 8.0, 30.0),
    "background.color": VariationSpec("color", (255, 255, 255), "floor"),
    "block.color": VariationSpec("color", (119, 136, 153), "rim of the block; the inside is a fifth lighter"),
    "block.scale": VariationSpec("number", 30.0, "width of the block's bars in px; changes the physics", 15.0, 40.0),
    "block.shape": VariationSpec("choice", "T", "shape of block and goal; changes the physics", choices=tuple(SHAPES)),
    "frame.color": VariationSpec("color", (211, 211, 211), "walls"),
    "goal.color": VariationSpec("color", (144, 238, 144), "goal region"),
    "goal.visible": VariationSpec("bool", True, "whether the goal region is drawn"),
    "stem.color": VariationSpec("color", None, "every bar of the block but the first; None is the block's colour"),
    "floor.slip": VariationSpec(
        "number", 0.0, "share of its speed that a free block keeps over 0.1 s; changes the physics", 0.0, 0.9
    ),
}

_FIXED = ("agent.radius", "block.scale", "block.shape")
"""What only a reset can change: the block would land in the agent, and the goal would be another."""


@dataclass(frozen=True)
class Variation:
    """Resolved variations: one field for each name in `VARIATIONS`, with `_` for `.`; colours are RGB 0 to 255."""

    agent_color: Color = (65, 105, 225)
    agent_radius: float = 15.0
    background_color: Color = (255, 255, 255)
    block_color: Color = (119, 136, 153)
    block_scale: float = 30.0
    block_shape: str = "T"
    frame_color: Color = (211, 211, 211)
    goal_color: Color = (144, 238, 144)
    goal_visible: bool = True
    stem_color: Color | None = None
    floor_slip: float = 0.0

    @property
    def shape(self) -> BlockShape:
        """The block's geometry."""
        return block_shape(self.block_shape, self.block_scale)


def make_variation(named: Mapping[str, Any] | None = None) -> Variation:
    """Resolve named variations over the defaults.

    Raises:
        ValueError: for an unknown name (the message lists the known ones) or a value outside its range.
    """
    named = dict(named or {})
    unknown = sorted(set(named) - set(VARIATIONS))
    if unknown:
        raise ValueError(f"unknown PushT variation {', '.join(map(repr, unknown))}; known: {', '.join(VARIATIONS)}")
    values = {name.replace(".", "_"): _checked(name, value) for name, value in named.items()}
    return Variation(**values)


def variation_names(variation: Variation) -> dict[str, Any]:
    """Return all values by the names of `VARIATIONS`."""
    return {name: getattr(variation, name.replace(".", "_")) for name in VARIATIONS}


def merge_variation(present: Variation, change: Mapping[str, Any] | Variation | None, first: Variation) -> Variation:
    """Return what a scene becomes by a change in the middle of an episode.

    Args:
        present: as the scene is.
        change: names -> values to change, or all of them; None goes back to `first`.
        first: as the scene was after its reset.

    Raises:
        ValueError: for an unknown name, a value outside its range, or a size or shape other than the present one.
    """
    if change is None:
        return first
    merged = change if isinstance(change, Variation) else make_variation(variation_names(present) | dict(change))
    fixed = [
        name for name in _FIXED if getattr(merged, name.replace(".", "_")) != getattr(present, name.replace(".", "_"))
    ]
    if fixed:
        raise ValueError(f"{', '.join(fixed)} cannot change in the middle of an episode; pass it at reset instead")
    return merged


def sample_variation(rng: np.random.Generator, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Draw values for the names (all but the shape and `goal.visible` by default), uniform over the declared ranges."""
    names = names or tuple(n for n, s in VARIATIONS.items() if s.kind in ("color", "number"))
    return {name: _drawn(VARIATIONS[name], rng) for name in names}


def _drawn(spec: VariationSpec, rng: np.random.Generator) -> Any:
    if spec.kind == "color":
        return tuple(int(v) for v in rng.integers(0, 256, 3))
    if spec.kind == "number":
        return float(rng.uniform(spec.low, spec.high))
    return str(rng.choice(spec.choices)) if spec.kind == "choice" else bool(rng.integers(2))


def _checked(name: str, value: Any) -> Any:
    spec = VARIATIONS[name]
    if value is None and spec.default is None:
        return None
    if spec.kind == "color":
        color = np.asarray(value)
        if color.shape != (3,) or not np.issubdtype(color.dtype, np.number) or ((color < 0) | (color > 255)).any():
            raise ValueError(f"{name}: expected three numbers from 0 to 255, got {value!r}")
        return tuple(int(v) for v in color)
    if spec.kind == "choice":
        if value not in spec.choices:
            raise ValueError(f"{name}: expected one of {', '.join(spec.choices)}, got {value!r}")
        return value
    if spec.kind == "bool":
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}: expected True or False, got {value!r}")
        return bool(value)
    if not isinstance(value, int | float | np.number) or not spec.low <= float(value) <= spec.high:
        raise ValueError(f"{name}: expected a number from {spec.low:g} to {spec.high:g}, got {value!r}")
    return float(value)
