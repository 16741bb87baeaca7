"""What can be perturbed in PushT and TwoRoom: where things are, and the variations that change mid-episode."""

import colorsys
from collections.abc import Mapping
from typing import Any

import numpy as np

from .pusht.variations import VARIATIONS as PUSHT_VARIATIONS
from .two_room.starts import draw_states
from .two_room.variations import parse_variations
from .two_room.world import Scene, is_free

__all__ = ["PUSHT_CHANGES", "TWO_ROOM_CHANGES", "move_agent", "recolour"]

Array = np.ndarray

_FAR = 0.2
"""Widths by which an agent that is put anywhere at least moves."""
_TRIES = 200
_SLIP = 0.8
"""Share of its speed that PushT's free block keeps over a step on the slipperiest floor."""
_DRAG = 0.75
"""Share of its speed that TwoRoom's agent loses on the roughest floor."""
_VIVID = 0.85
"""Saturation and brightness of a drawn colour."""
_HUES = (1 / 6, 2 / 3)
"""How far round the colour circle from the present hue one is drawn: not near it, nor near PushT's green goal."""


def move_agent(state: Array, strength: float, rng: np.random.Generator, variation: Mapping[str, Any]) -> Array:
    """Put TwoRoom's agent somewhere else at a stroke.

    A free place is drawn, at least 0.2 widths away; the agent goes the share `strength` of the way to it. Where no
    such place is free, it goes further.

    Args:
        state: (2,), left as it is.
        strength: in [0, 1]; at 1 the agent may land anywhere, in either room.
        rng: source of randomness.
        variation: names -> values of the scene.

    Returns:
        (2,) float64.
    """
    scene, tried = Scene(**parse_variations(variation, ())), 0
    while True:
        share = min(1.0, strength + (1.0 - strength) * max(0.0, tried / _TRIES - 1.0))
        way = draw_states(rng, scene, 1)[0] - state
        moved = state + share * way
        tried += 1
        if np.hypot(*way) >= _FAR and bool(is_free(moved, scene, slack=0.0)):
            return moved


def recolour(present: tuple[float, float, float], strength: float, rng: np.random.Generator) -> tuple[int, ...]:
    """Blend a colour, RGB 0 to 255, with a vivid one of another hue."""
    hue = colorsys.rgb_to_hsv(*(value / 255 for value in present))[0]
    drawn = colorsys.hsv_to_rgb((hue + rng.uniform(*_HUES)) % 1.0, _VIVID, _VIVID)
    return tuple(round((1 - strength) * old + strength * 255 * new) for old, new in zip(present, drawn, strict=True))


def _pusht_colour(strength: float, rng: np.random.Generator) -> dict[str, Any]:
    return {"block.color": recolour(PUSHT_VARIATIONS["block.color"].default, strength, rng)}


def _two_room_colour(strength: float, rng: np.random.Generator) -> dict[str, Any]:
    return {"agent.color": recolour(_default("agent_color"), strength, rng)}


def _two_room_friction(strength: float, rng: np.random.Generator) -> dict[str, Any]:
    return {"agent.speed": (1 - _DRAG * strength) * _default("agent_speed")}


def _default(field: str) -> Any:
    return getattr(Scene(), field)


PUSHT_CHANGES = {"colour": _pusht_colour, "friction": lambda strength, rng: {"floor.slip": _SLIP * strength}}
"""PushT's block in another colour, and a slippery floor, on which a block that was pushed slides on."""

TWO_ROOM_CHANGES = {"colour": _two_room_colour, "friction": _two_room_friction}
"""TwoRoom's agent in another colour, and a rough floor, on which it moves more slowly."""
