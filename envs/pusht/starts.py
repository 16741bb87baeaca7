"""How PushT's episodes start, and where the block may be put in the middle of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .geometry import STATE_SIZE, as_goal, as_state, valid_state
from .variations import Variation, make_variation

__all__ = ["DEFAULT_GOAL", "SceneStart", "draw_start", "make_start", "move_block"]

DEFAULT_GOAL = (256.0, 256.0, np.pi / 4)
_RESET_KEYS = ("state", "goal", "variation")
_FAR = 100.0
"""Pixels by which a block that is moved anywhere at least moves."""
_TRIES = 200

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SceneStart:
    """One episode's start: state (10,), goal (10,) with NaN where the agent does not count, and the variation."""

    state: Array
    goal: Array
    variation: Variation


def draw_start(rng: np.random.Generator, variation: Variation) -> Array:
    """Draw a start state (10,) from gym-pusht's distribution, again until nothing overlaps.

    gym-pusht draws agent and block position and the block's angle, and turns the block about its centre of gravity
    after it has placed it. Some of its starts put the block in a wall or the agent in the block; those are drawn
    again here.
    """
    cx, cy = variation.shape.center_of_gravity
    while True:
        agent = rng.integers(50, 450), rng.integers(50, 450)
        x, y = rng.integers(100, 400), rng.integers(100, 400)
        angle = rng.uniform(-np.pi, np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        turned = np.array((x + cx - cos * cx + sin * cy, y + cy - sin * cx - cos * cy, angle))
        state = as_state(np.concatenate((agent, turned)))
        if valid_state(state, variation.shape, margin=0.0) and _clearance(state, variation) > 0:
            return state


def make_start(options: Mapping[str, Any], rng: np.random.Generator) -> SceneStart:
    """Resolve the reset options of one environment.

    Raises:
        ValueError: for an unknown option, a state or goal of a wrong length, or an unknown variation.
    """
    unknown = sorted(set(options) - set(_RESET_KEYS))
    if unknown:
        raise ValueError(f"unknown reset option {', '.join(map(repr, unknown))}; known: {', '.join(_RESET_KEYS)}")
    variation = make_variation(options.get("variation"))
    state, goal = options.get("state"), options.get("goal")
    start = draw_start(rng, variation) if state is None else as_state(state)
    resolved = as_goal(DEFAULT_GOAL if goal is None else goal)
    for name, array in (("state", start), ("goal", resolved)):
        if array.shape != (STATE_SIZE,):
            raise ValueError(f"{name}: expected one row for one environment, got shape {array.shape}")
    return SceneStart(start, resolved, variation)


def move_block(state: Array, strength: float, rng: np.random.Generator, variation: Mapping[str, Any]) -> Array:
    """Put the block somewhere else at a stroke, at rest, clear of agent and walls.

    A pose is drawn as for a start, at least 100 px from where the block is; the block goes the share `strength` of
    the way to it, in place and angle. Where no such place is free, as in a block stuck in a wall, it goes further.

    Args:
        state: (10,), left as it is.
        strength: in [0, 1]; at 1 the block may land anywhere.
        rng: source of randomness.
        variation: names -> values of the scene.

    Returns:
        (10,) float64; the agent keeps its place and velocity.
    """
    resolved, moved, tried = make_variation(variation), np.array(state, np.float64), 0
    moved[7:] = 0.0
    while True:
        share = min(1.0, strength + (1.0 - strength) * max(0.0, tried / _TRIES - 1.0))
        way = draw_start(rng, resolved)[2:5] - state[2:5]
        way[2] = (way[2] + np.pi) % (2 * np.pi) - np.pi
        moved[2:5] = state[2:5] + share * way
        tried += 1
        clear = valid_state(moved, resolved.shape, margin=0.0) and _clearance(moved, resolved) > 0
        if clear and np.hypot(way[0], way[1]) >= _FAR:
            return moved


def _clearance(state: Array, variation: Variation) -> float:
    """Distance between the agent's rim and the block; negative if they overlap."""
    offset = state[:2] - state[2:4]
    cos, sin = np.cos(state[4]), np.sin(state[4])
    local = np.array((cos * offset[0] + sin * offset[1], cos * offset[1] - sin * offset[0]))
    beyond = np.maximum(np.abs(local - variation.shape.centers) - variation.shape.halves, 0.0)
    return float(np.linalg.norm(beyond, axis=1).min() - variation.agent_radius)
