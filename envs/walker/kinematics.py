"""The walker's planar kinematics, from its state alone, for NumPy arrays and torch tensors with any leading axes.

A state is (..., 18) = positions (9) and velocities (9) of the joints in the order of `JOINTS`: the torso's height
above 1.3 m and its way in metres, its pitch in radians (forward is positive), and for each leg hip, knee and ankle in
radians. Everything lies in the x-z plane; a body's pitch is the torso's less the angles of the joints between. Lengths
and masses are those of dm-control's walker.xml, whose capsules have a density of 1000 kg/m^3.
"""

import math
import sys
from typing import Any

__all__ = [
    "BODIES",
    "JOINTS",
    "STATE_SIZE",
    "body_pitches",
    "center_of_mass_velocity",
    "foot_clearance",
    "features",
    "namespace",
    "torso_height",
    "torso_pitch",
    "torso_upright",
]

JOINTS = (
    "rootz",
    "rootx",
    "rooty",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
)
"""The joints in the order of the state's positions, and of its velocities."""

BODIES = ("torso", "right_thigh", "right_leg", "right_foot", "left_thigh", "left_leg", "left_foot")
"""The bodies in the order of `body_pitches` and `features`."""

STATE_SIZE = 2 * len(JOINTS)
_HEIGHT, _WAY, _PITCH, _RIGHT, _LEFT = 0, 1, 2, 3, 6
_STANDING = 1.3
"""Height of the torso's centre in metres where rootz is 0."""


def _capsule(radius: float, half: float) -> float:
    """Return the mass in kg of a capsule of 1000 kg/m^3; radius and half its cylinder's length in metres."""
    return 1000 * math.pi * radius**2 * (2 * half + 4 / 3 * radius)


_TORSO, _THIGH, _LEG, _FOOT = _capsule(0.07, 0.3), _capsule(0.05, 0.225), _capsule(0.04, 0.25), _capsule(0.05, 0.1)
_TOTAL = _TORSO + 2 * (_THIGH + _LEG + _FOOT)
_BELOW_TORSO = -0.3 * (_THIGH + _LEG + _FOOT) / _TOTAL
"""How far one leg's part of the centre of mass hangs along the torso, in metres; the next two along thigh and leg."""
_BELOW_THIGH = (-0.225 * _THIGH - 0.45 * (_LEG + _FOOT)) / _TOTAL
_BELOW_LEG = (-0.25 * _LEG - 0.5 * _FOOT) / _TOTAL
_BEFORE_FOOT = 0.06 * _FOOT / _TOTAL
"""How far a foot's part lies before its ankle, in metres."""

_HIP, _KNEE, _ANKLE = 0.3, 0.45, 0.5
"""How far each joint hangs below the one before along its body, in metres; the hip below the torso's centre."""
_HEEL, _TOE, _SOLE = -0.04, 0.16, 0.05
"""The ends of a foot's axis before its ankle, and the radius around it, in metres."""


def namespace(array: Any) -> Any:
    """Return the module whose functions fit an array: torch for tensors, NumPy otherwise."""
    name = "torch" if type(array).__module__.split(".")[0] == "torch" else "numpy"
    return sys.modules[name]


def torso_height(states: Any) -> Any:
    """Return the height (...) of the torso's centre over the floor, in metres."""
    return states[..., _HEIGHT] + _STANDING


def torso_pitch(states: Any) -> Any:
    """Return the torso's pitch (...) in radians, forward positive; it counts on after a somersault."""
    return states[..., _PITCH]


def torso_upright(states: Any) -> Any:
    """Return the projection (...) of the torso's axis on the vertical: 1 upright, -1 upside down."""
    return namespace(states).cos(states[..., _PITCH])


def body_pitches(states: Any) -> Any:
    """Return the pitch (..., 7) of each of `BODIES` in radians, forward positive."""
    return namespace(states).stack(_chain(states, 0), -1)


def center_of_mass_velocity(states: Any) -> Any:
    """Return the horizontal velocity (...) of the whole walker's centre of mass, in m/s, forward positive."""
    xp = namespace(states)
    pitches, rates = _chain(states, 0), _chain(states, len(JOINTS))
    velocity = states[..., len(JOINTS) + _WAY] + 2 * _BELOW_TORSO * xp.cos(pitches[0]) * rates[0]
    for thigh, leg, foot in ((1, 2, 3), (4, 5, 6)):
        velocity = velocity + _BELOW_THIGH * xp.cos(pitches[thigh]) * rates[thigh]
        velocity = velocity + _BELOW_LEG * xp.cos(pitches[leg]) * rates[leg]
        velocity = velocity - _BEFORE_FOOT * xp.sin(pitches[foot]) * rates[foot]
    return velocity


def foot_clearance(states: Any) -> Any:
    """Return how far (...) the lower foot is off the floor, in metres; slightly below 0 where it presses into it."""
    xp = namespace(states)
    pitches, hip = _chain(states, 0), torso_height(states)
    hip = hip - _HIP * xp.cos(pitches[0])
    lowest = []
    for thigh, leg, foot in ((1, 2, 3), (4, 5, 6)):
        ankle = hip - _KNEE * xp.cos(pitches[thigh]) - _ANKLE * xp.cos(pitches[leg])
        drop = xp.sin(pitches[foot])
        lowest.append(ankle - xp.maximum(_HEEL * drop, _TOE * drop) - _SOLE)
    return xp.minimum(*lowest)


def features(states: Any) -> Any:
    """Return dm-control's observation (..., 24): cosine and sine of each body's pitch, height, joint velocities (9)."""
    xp = namespace(states)
    parts = [turn(pitch) for pitch in _chain(states, 0) for turn in (xp.cos, xp.sin)]
    parts.append(torso_height(states))
    return xp.concatenate([xp.stack(parts, -1), states[..., len(JOINTS) :]], -1)


def _chain(states: Any, offset: int) -> list[Any]:
    """Sum joint angles, or velocities for an offset of 9, down the legs: one (...) for each of `BODIES`."""
    found = [states[..., offset + _PITCH]]
    for first in (_RIGHT, _LEFT):
        pitch = found[0]
        for joint in range(first, first + 3):
            pitch = pitch - states[..., offset + joint]
            found.append(pitch)
    return found
