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

from ..variation_table import VariationSpec, check_names, draw, merge, named_values, resolve
from .geometry import SHAPES, BlockShape, block_shape

__all__ = ["VARIATIONS", "Variation", "make_variation", "merge_variation", "sample_variation"]

Color = tuple[int, int, int]


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

    def named(self) -> dict[str, Any]:
        """Return all values by the names of `VARIATIONS`."""
        return named_values(VARIATIONS, self)


def make_variation(named: Mapping[str, Any] | Variation | None = None) -> Variation:
    """Resolve named variations over the defaults.

    Raises:
        ValueError: for an unknown name (the message lists the known ones) or a value outside its range.
    """
    return named if isinstance(named, Variation) else Variation(**resolve(VARIATIONS, named, "PushT"))


def merge_variation(present: Variation, change: Mapping[str, Any] | Variation | None, first: Variation) -> Variation:
    """Return what a scene becomes by a change in the middle of an episode; see `variation_table.merge`.

    Raises:
        ValueError: for an unknown name, a value outside its range, or a size or shape other than the present one.
    """
    return merge(present, change, first, make_variation, _FIXED)


def sample_variation(rng: np.random.Generator, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Draw values for the names (all but the shape and `goal.visible` by default), uniform over the declared ranges."""
    names = names or tuple(n for n, s in VARIATIONS.items() if s.kind in ("color", "number"))
    check_names(VARIATIONS, names, "PushT")
    return {name: draw(VARIATIONS[name], rng) for name in names}
