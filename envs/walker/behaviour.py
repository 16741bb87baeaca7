"""How an episode of the walker was, in numbers that say what its rewards do not."""

from collections.abc import Mapping

import numpy as np

from wmkit.tasks import Statistic

from .kinematics import center_of_mass_velocity, foot_clearance, torso_height, torso_pitch

__all__ = ["STATISTICS"]

_OFF_FLOOR = 0.02
"""Clearance in metres under the lower foot from which on it counts as off the floor."""
_ON_ITS_FEET = 0.9
"""Height of the torso in metres below which the walker has fallen, and its feet are no jump."""


def _in_the_air(states: np.ndarray) -> np.ndarray:
    """Return the share of time (E,) in per cent with both feet off the floor and the torso high."""
    jumping = (foot_clearance(states) > _OFF_FLOOR) & (torso_height(states) > _ON_ITS_FEET)
    return 100.0 * jumping.mean(axis=-1)


def _highest(states: np.ndarray) -> np.ndarray:
    """Return the largest clearance (E,) under the lower foot while the torso is high, in metres, at least 0."""
    clearance = np.where(torso_height(states) > _ON_ITS_FEET, foot_clearance(states), 0.0)
    return clearance.max(axis=-1).clip(min=0.0)


def _pitch(states: np.ndarray) -> np.ndarray:
    """Return the mean direction (E,) of the torso's pitch in radians, forward positive."""
    pitch = torso_pitch(states)
    return np.arctan2(np.sin(pitch).mean(axis=-1), np.cos(pitch).mean(axis=-1))


STATISTICS: Mapping[str, Statistic] = {
    "speed": Statistic(
        "m/s",
        lambda states: center_of_mass_velocity(states).mean(axis=-1),
        ("walk", "run", "walk-backward", "target-speed"),
    ),
    "torso height": Statistic("m", lambda states: torso_height(states).mean(axis=-1), ("stand", "target-height")),
    "torso pitch": Statistic("rad", _pitch, ("lean-back",)),
    "in the air": Statistic("%", _in_the_air, ("jump",)),
    "highest jump": Statistic("m", _highest),
}
"""Name -> statistic; means are over all states of an episode."""
