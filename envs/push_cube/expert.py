"""A scripted expert for PushCube: go round the cube, push it, begin again with a new target.

Seen from above the fingers are a disc. A push goes from behind the cube, seen from the target, through its centre;
where the hand strays to the side it is steered back, and where it strays too far it goes round again. Near the target
it goes slowly, so that the cube does not slide on.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .control import HIGH, LOW, REACH
from .kinematics import CUBE, hand_position
from .starts import FIST, ZONE_HIGH, ZONE_LOW
from .variations import Variation, make_variation

__all__ = ["PushCubeExpert"]

_ARRIVED = 0.008
"""Metres between cube and target at which the push is over."""
_SIDE_GAIN = 2.5
"""How strongly a hand that strayed to the side is steered back."""
_ASTRAY = 0.6
"""Sine of the angle between the push and the way from hand to cube from which on the hand goes round again."""
_GAP = 0.015
"""Metres between fingers and cube while the hand goes round."""
_TURNS = (0.0, *(sign * angle for angle in np.linspace(0.2, 1.4, 7) for sign in (1, -1)))
"""Angles in rad by which a push may miss the target where the hand cannot get behind the cube."""
_ARC = np.linspace(0.0, 1.0, 18)[1:-1]
"""Where on its way round the hand is checked for being in the workspace, as shares of the way."""
_TIGHT = 0.005
"""Metres between fingers and cube with which the hand still gets round it along the workspace's edge."""
_WAIT = 5
"""Steps after which a hand that has arrived takes another target."""

Array = NDArray[np.float64]


class PushCubeExpert:
    """Solves PushCube with actions in the plane; see the module for how.

    After it has arrived it goes on with targets of its own, so that recorded episodes hold more than one push.

    Args:
        seed: of its own targets.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._target, self._radius = np.zeros(2), 0.0
        self._pushing, self._rest = False, 0

    def reset(self, state: ArrayLike, goal: ArrayLike, variation: Mapping[str, Any] | Variation | None = None) -> None:
        """Begin an episode.

        Args:
            state: the start, (25,); not used, since `act` is given every state.
            goal: state (25,) or the cube's place (2,) or (3,).
            variation: the scene's variation, as given to the environment.
        """
        goal = np.asarray(goal, np.float64)
        self._target = goal[CUBE][:2] if goal.shape[-1] > 3 else goal[:2]
        self._radius = FIST + make_variation(variation).cube_size / 2
        self._pushing, self._rest = False, _WAIT

    def act(self, state: ArrayLike) -> NDArray[np.float32]:
        """The next action (2,) in [-1, 1] for the state (25,)."""
        state = np.asarray(state, np.float64)
        hand, cube = hand_position(state)[:2], state[CUBE][:2]
        if np.linalg.norm(self._target - cube) < _ARRIVED:
            self._pushing = False
            self._rest -= 1
            if self._rest < 0:
                self._target, self._rest = self._rng.uniform(ZONE_LOW, ZONE_HIGH), _WAIT
            return np.zeros(2, np.float32)
        aim, straight = self._aim(cube)
        self._pushing = self._behind(hand, cube, aim, straight)
        step = self._push(hand, cube, aim) if self._pushing else self._go_round(hand, cube, aim)
        return (step / max(1.0, float(np.abs(step).max()))).astype(np.float32)

    def _aim(self, cube: Array) -> tuple[Array, bool]:
        """Return where to push, and whether that is straight to the target, else as near as the hand gets behind."""
        straight = self._target - cube
        straight /= np.linalg.norm(straight)
        for angle in _TURNS:
            turned = _turn(straight, angle)
            if _within(cube - (self._radius + _GAP) * turned):
                return turned, angle == 0.0
        return straight, False

    def _behind(self, hand: Array, cube: Array, aim: Array, straight: bool) -> bool:
        """Return whether a push from here goes through the cube's centre; at the workspace's edge it has to be exact.

        A cube that is pushed over the edge cannot be fetched back.
        """
        way = (cube - hand) / max(float(np.linalg.norm(cube - hand)), 1e-9)
        astray = _ASTRAY if self._pushing and straight else 0.5 * _ASTRAY
        return bool(way @ aim > 0 and abs(way[0] * aim[1] - way[1] * aim[0]) < astray)

    def _push(self, hand: Array, cube: Array, aim: Array) -> Array:
        """Return the action that pushes on, slower near the target and near the cube."""
        side = np.array((-aim[1], aim[0]))
        off = float((hand - cube) @ side)
        gap = max(0.0, float((cube - hand) @ aim) - self._radius)
        length = min(1.0, (float(np.linalg.norm(self._target - cube)) + gap) / REACH)
        direction = aim - _SIDE_GAIN * off / self._radius * side
        return length * direction / np.linalg.norm(direction)

    def _go_round(self, hand: Array, cube: Array, aim: Array) -> Array:
        """Return the action towards the place behind the cube, on a circle around it where that is in the way."""
        clear = self._radius * 1.15 + _GAP
        goal = (cube - clear * aim).clip(LOW[:2], HIGH[:2])
        way = goal - hand
        if _passes(hand, goal, cube, clear - 0.01):
            out = hand - cube
            distance = float(np.linalg.norm(out))
            out /= max(distance, 1e-9)
            side = np.array((-out[1], out[0]))
            turn = _sense(hand, goal, cube, self._radius + _TIGHT)
            way = REACH * turn * side + (clear - distance) * out
        length = float(np.linalg.norm(way))
        return way / max(length, 1e-9) * min(1.0, length / REACH)


def _turn(way: Array, angle: float) -> Array:
    """Return a way (2,) turned by an angle in rad."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array((cos * way[0] - sin * way[1], sin * way[0] + cos * way[1]))


def _within(places: Array) -> bool:
    """Return whether places (..., 2) are all in the workspace."""
    return bool(((places >= LOW[:2]) & (places <= HIGH[:2])).all())


def _sense(start: Array, end: Array, middle: Array, radius: float) -> float:
    """Return 1 to go round counter-clockwise, seen from above, or -1: the shorter way within the workspace."""
    (x, y), (u, v) = start - middle, end - middle
    angle = np.arctan2(y, x)
    shorter = (np.arctan2(v, u) - angle + np.pi) % (2 * np.pi) - np.pi
    for arc in (shorter, shorter - np.copysign(2 * np.pi, shorter)):
        angles = angle + arc * _ARC
        if _within(middle + radius * np.stack((np.cos(angles), np.sin(angles)), axis=-1)):
            return float(np.copysign(1.0, arc))
    return float(np.copysign(1.0, shorter))


def _passes(start: Array, end: Array, middle: Array, radius: float) -> bool:
    """Return whether a straight way comes nearer to a point than a radius."""
    way = end - start
    along = float(np.clip((middle - start) @ way / max(float(way @ way), 1e-12), 0.0, 1.0))
    return bool(np.linalg.norm(start + along * way - middle) < radius)
