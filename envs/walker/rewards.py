"""Rewards of the walker, by name: functions of states and actions alone, for NumPy arrays and torch tensors.

A reward takes states (..., 18) and the actions (..., 6) that led to them, or None, and gives (...). `stand`, `walk` and
`run` are dm-control's; all three lie in [0, 1], so that an episode of 1000 steps gives at most 1000. The centre of mass
is that of the unchanged walker, whatever the variation.

The same function drives the environment (with arrays) and a planner (with tensors):

    register_reward("lean", lambda states, actions=None: 1 - abs(states[..., 2] - 0.4))
    env.unwrapped.set_reward("lean")
    objective = RewardObjective(get_reward("lean"), "state")
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from .kinematics import center_of_mass_velocity, namespace, torso_height, torso_upright

__all__ = ["REWARDS", "RewardFunction", "evaluate_reward", "get_reward", "register_reward", "run", "stand", "walk"]

RewardFunction = Callable[..., Any]
"""(states (..., 18), actions (..., 6) or None) -> (...)."""

STAND_HEIGHT = 1.2
"""Height of the torso in metres from which on `stand` is content; below, a Gaussian falls to 0.1 over half of it."""
WALK_SPEED = 1.0
"""Speed in m/s from which on `walk` is content; below, the reward falls in a line to 0 at speed 0."""
RUN_SPEED = 8.0
"""The same for `run`."""


def stand(states: Any, actions: Any = None) -> Any:
    """Return dm-control's reward for standing (...), in [0, 1]: three parts height, one part upright torso."""
    xp = namespace(states)
    below = xp.clip(STAND_HEIGHT - torso_height(states), 0.0, None) / (STAND_HEIGHT / 2)
    standing = xp.exp(math.log(0.1) * below**2)
    return (3 * standing + (1 + torso_upright(states)) / 2) / 4


def walk(states: Any, actions: Any = None) -> Any:
    """Return dm-control's reward for walking at 1 m/s or faster (...), in [0, 1]."""
    return _move(states, WALK_SPEED)


def run(states: Any, actions: Any = None) -> Any:
    """Return dm-control's reward for running at 8 m/s or faster (...), in [0, 1]."""
    return _move(states, RUN_SPEED)


_REWARDS: dict[str, RewardFunction] = {"walk": walk, "stand": stand, "run": run}

REWARDS: Mapping[str, RewardFunction] = MappingProxyType(_REWARDS)
"""The known rewards by name; `register_reward` adds to it."""


def register_reward(name: str, function: RewardFunction) -> None:
    """Make a reward known by a name, to `task=` and `set_reward` of the environments and to `get_reward`.

    Raises:
        ValueError: the name is taken, or `function` cannot be called.
    """
    if name in _REWARDS:
        raise ValueError(f"reward {name!r} is registered already; choose another name")
    if not callable(function):
        raise ValueError(f"reward {name!r} is {function!r}; give a function of states (..., 18) and actions (..., 6)")
    _REWARDS[name] = function


def get_reward(reward: str | RewardFunction) -> RewardFunction:
    """Return a reward by its name, or a function as it is.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if callable(reward):
        return reward
    if reward not in _REWARDS:
        raise ValueError(f"unknown walker reward {reward!r}; known: {', '.join(_REWARDS)}, or give a function")
    return _REWARDS[reward]


def evaluate_reward(function: RewardFunction, states: np.ndarray, actions: np.ndarray | None) -> np.ndarray:
    """Call a reward that a user may have written, and check what it gives.

    Args:
        function: the reward.
        states: (B, 18) float64.
        actions: (B, 6) float64, or None.

    Returns:
        (B,) float64.

    Raises:
        ValueError: it gave another shape, something that is not a number, or NaN or infinity.
    """
    name = getattr(function, "__name__", type(function).__name__)
    given = function(states, actions)
    try:
        rewards = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"the reward {name!r} gave a {type(given).__name__}; it must give numbers") from None
    expected = states.shape[:-1]
    if rewards.shape != expected:
        raise ValueError(f"the reward {name!r} gave shape {rewards.shape} for states {states.shape}, not {expected}")
    if not np.isfinite(rewards).all():
        row = int(np.argmax(~np.isfinite(rewards)))
        raise ValueError(f"the reward {name!r} gave {rewards[row]} for the state {states[row].round(3).tolist()}")
    return rewards


def _move(states: Any, speed: float) -> Any:
    """Return `stand` times one sixth for nothing and five sixths for speed, in m/s."""
    share = namespace(states).clip(center_of_mass_velocity(states) / speed, 0.0, 1.0)
    return stand(states) * (5 * share + 1) / 6
