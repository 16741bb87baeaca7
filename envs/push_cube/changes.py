"""What can be perturbed in PushCube beside the cube's place: the variations that change mid-episode."""

import numpy as np

from ..changes import recolour
from .variations import VARIATIONS

__all__ = ["CHANGES"]

_HEAVIEST, _SLIPPERIEST = VARIATIONS["cube.mass"].high, VARIATIONS["cube.friction"].low


def _colour(strength: float, rng: np.random.Generator) -> dict[str, tuple[int, ...]]:
    return {"cube.color": recolour(VARIATIONS["cube.color"].default, strength, rng)}


def _mass(strength: float, rng: np.random.Generator) -> dict[str, float]:
    mass = VARIATIONS["cube.mass"].default
    return {"cube.mass": mass * (_HEAVIEST / mass) ** strength}


def _friction(strength: float, rng: np.random.Generator) -> dict[str, float]:
    friction = VARIATIONS["cube.friction"].default
    return {"cube.friction": friction + strength * (_SLIPPERIEST - friction)}


CHANGES = {"colour": _colour, "mass": _mass, "friction": _friction}
"""The cube in another colour, heavier and more slippery. Mass and friction start at the defaults, whatever the scene's
own are, and go up to 1 kg, ten times the default, and down to 0.2."""
