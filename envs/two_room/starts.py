"""Where TwoRoom's episodes start and where they are to end, drawn by rejection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .world import BORDER, Array, Bools, Scene, is_free, is_success, room_of

__all__ = ["draw_goals", "draw_states"]

_MAX_ROUNDS = 1000


def draw_states(generator: np.random.Generator, scene: Scene, count: int, cross_room: bool = False) -> Array:
    """Draws starts uniformly from the free space.

    Args:
        generator: Source of randomness.
        scene: The scenes; fields are single values or (B,).
        count: B.
        cross_room: Leave the doorway out, so that every start lies in a room.

    Returns:
        (B, 2) float64.
    """
    return _draw(generator, scene, count, _in_room(scene) if cross_room else lambda places: np.ones(count, bool))


def draw_goals(generator: np.random.Generator, scene: Scene, states: Array, cross_room: bool = False) -> Array:
    """Draws goals uniformly from the free space, none of them reached already.

    Args:
        generator: Source of randomness.
        scene: The scenes; fields are single values or (B,).
        states: (B, 2) float64, the starts.
        cross_room: Draw from the other room only, the doorway left out.

    Returns:
        (B, 2) float64.
    """

    def accept(places: Array) -> Bools:
        good = ~is_success(states, places)
        if cross_room:
            good &= _in_room(scene)(places) & (room_of(places, scene) != room_of(states, scene))
        return good

    return _draw(generator, scene, len(states), accept)


def _draw(generator: np.random.Generator, scene: Scene, count: int, accept: Callable[[Array], Bools]) -> Array:
    """Draws (count, 2) free places that the rule (count, 2) -> (count,) accepts."""
    places, pending = np.zeros((count, 2)), np.ones(count, bool)
    for _ in range(_MAX_ROUNDS):
        drawn = generator.uniform(BORDER, 1.0 - BORDER, (count, 2))
        good = pending & is_free(drawn, scene, slack=0.0) & accept(drawn)
        places[good], pending = drawn[good], pending & ~good
        if not pending.any():
            return places
    raise ValueError(f"no free place found in {_MAX_ROUNDS} rounds; widen the rooms")


def _in_room(scene: Scene) -> Callable[[Array], Bools]:
    """The rule that a place lies in a room, not in the doorway."""
    margin = 0.5 * np.asarray(scene.wall_thickness) + np.asarray(scene.agent_radius)
    return lambda places: np.abs(places[..., 0] - np.asarray(scene.wall_position)) >= margin
