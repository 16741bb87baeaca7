"""How PushCube's episodes start, what their goals are, and where the cube may be put in the middle of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..scene_checks import finite_numbers
from .control import HEIGHT, HIGH, LOW, joints_at
from .kinematics import (
    CUBE,
    CUBE_TURN,
    JOINTS,
    STATE_SIZE,
    SUCCESS_DISTANCE,
    as_state,
    cube_yaw,
    hand_position,
)
from .variations import VARIATIONS, Variation, make_variation, sample_variation

__all__ = [
    "FIST",
    "ZONE_HIGH",
    "ZONE_LOW",
    "Start",
    "as_goal",
    "clearance",
    "draw_cube",
    "is_valid",
    "make_start",
    "move_cube",
]

Array = NDArray[np.float64]

FIST = 0.055
"""Radius in m of a disc that holds the closed fingers, seen from above."""
ZONE_LOW, ZONE_HIGH = np.array((0.37, -0.12)), np.array((0.57, 0.12))
"""Where starts and targets put the cube's centre, x and y in m: the hand can get behind it from every side."""

_RESET_KEYS = ("state", "goal", "variation")
_GAP = 0.02
_FAR = 0.08
"""Metres between a start's cube and its target at the least, and by which a teleported cube at least moves."""
_TRIES = 200


@dataclass(frozen=True)
class Start:
    """One episode's start: state (25,), goal (25,) and the variation."""

    state: Array
    goal: Array
    variation: Variation


def make_start(options: Mapping[str, Any], rng: np.random.Generator, randomise: Sequence[str] | None = ()) -> Start:
    """Resolve the reset options of one environment. What is drawn puts cube and target 8 cm apart at the least.

    Args:
        options: "state" (25,), "goal" (2,), (3,) or (25,), and "variation"; what is not given is drawn.
        rng: source of randomness.
        randomise: names of the variations to draw where "variation" is not given; None for all.

    Raises:
        ValueError: an unknown option, a state or goal that `as_state` or `as_goal` refuses, or an unknown variation.
    """
    unknown = sorted(set(options) - set(_RESET_KEYS))
    if unknown:
        raise ValueError(f"unknown reset option {', '.join(map(repr, unknown))}; known: {', '.join(_RESET_KEYS)}")
    given, goal, named = (options.get(key) for key in _RESET_KEYS)
    variation = make_variation(sample_variation(rng, randomise) if named is None else named)
    state = _draw_state(rng, variation) if given is None else as_state(given)
    found = as_goal(_draw_target(rng, state) if goal is None else goal, state, variation)
    while given is None and goal is not None and _near(state, found[CUBE][:2]):
        state = _draw_state(rng, variation)
        found = as_goal(goal, state, variation)
    return Start(state, found, variation)


def as_goal(goal: ArrayLike, state: Array, variation: Variation) -> Array:
    """Return a goal as a state (25,).

    A goal that is a place is a scene in which the cube lies there, turned as it is now, and the hand is where a
    straight push would leave it.

    Args:
        goal: the cube's place (2,) or (3,) in m, or a state (25,), which is taken as it is.
        state: (25,), the start.
        variation: the scene's.

    Raises:
        ValueError: another length, a number that is not finite, a place out of the hand's reach, or one at which the
            cube could not lie on the table.
    """
    found, resting = finite_numbers("goal", goal, (2, 3, STATE_SIZE)), variation.cube_size / 2
    if len(found) == STATE_SIZE:
        return as_state(found, "goal")
    if ((found[:2] < LOW[:2]) | (found[:2] > HIGH[:2])).any():
        (left, low), (right, high) = LOW[:2], HIGH[:2]
        raise ValueError(
            f"goal: ({found[0]:g}, {found[1]:g}) is out of the hand's reach, x from {left:g} to {right:g} and "
            f"y from {low:g} to {high:g} m"
        )
    if len(found) == 3 and abs(found[2] - resting) > SUCCESS_DISTANCE:
        raise ValueError(
            f"goal: z = {found[2]:g} m is more than {SUCCESS_DISTANCE:g} from {resting:g}, where the centre of a cube "
            "on the table is; give x and y alone"
        )
    way = found[:2] - state[CUBE][:2]
    way /= max(float(np.linalg.norm(way)), 1e-9)
    place = np.concatenate((found, (resting,)))[:3]
    for turn in (0.0, 0.4, -0.4, 0.8, -0.8, 1.2, -1.2, np.pi):
        cos, sin = np.cos(turn), np.sin(turn)
        back = np.array((cos * way[0] - sin * way[1], sin * way[0] + cos * way[1]))
        hand = (place[:2] - (FIST + _GAP / 2 + variation.cube_size / 2**0.5) * back).clip(LOW[:2], HIGH[:2])
        made = _state(hand, place[:2], cube_yaw(state), variation)
        made[CUBE] = place
        if clearance(made, variation) > 0:
            break
    return made


def draw_cube(rng: np.random.Generator) -> tuple[Array, float]:
    """Draw a place (2,) and an angle for the cube."""
    return rng.uniform(ZONE_LOW, ZONE_HIGH), float(rng.uniform(-np.pi, np.pi))


def clearance(state: Array, variation: Variation) -> float:
    """Return the distance in m between the fingers, as a disc, and the cube, from above; negative if they overlap."""
    offset = hand_position(state)[:2] - state[CUBE][:2]
    yaw = cube_yaw(state)
    local = np.array(
        (np.cos(yaw) * offset[0] + np.sin(yaw) * offset[1], np.cos(yaw) * offset[1] - np.sin(yaw) * offset[0])
    )
    beyond = np.maximum(np.abs(local) - variation.cube_size / 2, 0.0)
    return float(np.linalg.norm(beyond)) - FIST


def move_cube(state: Array, strength: float, rng: np.random.Generator, variation: Mapping[str, Any]) -> Array:
    """Put the cube somewhere else at a stroke, at rest on the table, clear of the hand.

    A pose is drawn as for a start, at least 8 cm from where the cube is; the cube goes the share `strength` of the way
    there. Where no such place is free, it goes further.

    Args:
        state: (25,), left as it is.
        strength: in [0, 1]; at 1 the cube may land anywhere.
        rng: source of randomness.
        variation: names -> values of the scene.

    Returns:
        (25,) float64; the arm keeps its joints and their speeds.
    """
    resolved, tried = make_variation(variation), 0
    while True:
        share = min(1.0, strength + (1.0 - strength) * max(0.0, tried / _TRIES - 1.0))
        place, yaw = draw_cube(rng)
        way = place - state[CUBE][:2]
        moved = _state(None, state[CUBE][:2] + share * way, yaw, resolved)
        moved[: len(JOINTS)], moved[13 : 13 + len(JOINTS)] = state[: len(JOINTS)], state[13 : 13 + len(JOINTS)]
        tried += 1
        if np.linalg.norm(way) >= _FAR and clearance(moved, resolved) > 0:
            return moved


def _draw_state(rng: np.random.Generator, variation: Variation) -> Array:
    """Draw a start (25,): the cube anywhere in its zone, the hand anywhere in the plane but in the cube."""
    while True:
        place, yaw = draw_cube(rng)
        state = _state(rng.uniform(LOW[:2], HIGH[:2]), place, yaw, variation)
        if clearance(state, variation) > _GAP:
            return state


def _draw_target(rng: np.random.Generator, state: Array) -> Array:
    """Draw a place (2,) for the cube, not near where it is."""
    while True:
        place = rng.uniform(ZONE_LOW, ZONE_HIGH)
        if not _near(state, place):
            return place


def _near(state: Array, place: Array) -> bool:
    """Return whether the cube is so near to a place (2,) that an episode would be trivial."""
    return bool(np.linalg.norm(place - state[CUBE][:2]) < _FAR)


def _state(hand: Array | None, cube: Array, yaw: float | Array, variation: Variation) -> Array:
    """Return a state (25,) at rest; without a hand the joints are zero."""
    state = np.zeros(STATE_SIZE)
    if hand is not None:
        state[: len(JOINTS)] = joints_at((*hand, HEIGHT))[0]
    state[CUBE] = (*cube, variation.cube_size / 2)
    state[CUBE_TURN] = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
    return state


def is_valid(states: ArrayLike) -> NDArray[np.bool_]:
    """Return which states (..., 25) are fit for data: the cube flat on the table, where the hand can reach it.

    Flat is a height of the centre below 4 cm, half the largest cube and 1 cm, and a tilt below about 11 degrees.
    """
    states = np.asarray(states, np.float64)
    place = states[..., CUBE]
    inside = ((place[..., :2] > LOW[:2]) & (place[..., :2] < HIGH[:2])).all(axis=-1)
    tilt = np.abs(states[..., CUBE_TURN][..., 1:3]).max(axis=-1)
    flat = (place[..., 2] < VARIATIONS["cube.size"].high / 2 + 0.01) & (tilt < 0.1)
    return np.asarray(np.isfinite(states).all(axis=-1) & inside & flat)
