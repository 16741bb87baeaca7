"""Rewards of the walker, by name: functions of states and actions alone, for NumPy arrays and torch tensors.

`jump`, `lean-back`, `walk-backward`, `target-height` and `target-speed` are for planners that were trained on none of
them; all lie in [0, 1]. The last two take a number: "target-height=0.8" in metres, "target-speed=0.5" in m/s.

A reward takes states (..., 18) and the actions (..., 6) that led to them, or None, and gives (...). `stand`, `walk` and
`run` are dm-control's; all three lie in [0, 1], so that an episode of 1000 steps gives at most 1000. The centre of mass
is that of the unchanged walker, whatever the variation.

The same function drives the environment (with arrays) and a planner (with tensors):

    register_reward("lean", lambda states, actions=None: 1 - abs(states[..., 2] - 0.4))
    env.unwrapped.set_reward("lean")
    objective = RewardObjective(get_reward("lean"), "state")
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from .kinematics import center_of_mass_velocity, foot_clearance, namespace, torso_height, torso_pitch, torso_upright

__all__ = [
    "REWARDS",
    "RewardFunction",
    "evaluate_reward",
    "get_reward",
    "jump",
    "lean_back",
    "register_reward",
    "run",
    "stand",
    "target_height",
    "target_speed",
    "walk",
    "walk_backward",
]

RewardFunction = Callable[..., Any]
"""(states (..., 18), actions (..., 6) or None) -> (...)."""

STAND_HEIGHT = 1.2
"""Height of the torso in metres from which on `stand` is content; below, a Gaussian falls to 0.1 over half of it."""
WALK_SPEED = 1.0
"""Speed in m/s from which on `walk` is content; below, the reward falls in a line to 0 at speed 0."""
RUN_SPEED = 8.0
"""The same for `run`."""
JUMP_CLEARANCE = 0.25
"""Metres between the lower foot and the floor from which on `jump` is content."""
LEAN = -0.6
"""Pitch of the torso in radians that `lean-back` asks for."""

_LOW = 0.9
"""Height of the torso in metres at which `jump` gives nothing, whatever the feet do."""
_LEAN_SHARPNESS = 8.0
"""Upright, 0.6 rad away, `lean-back` gives a quarter of its best."""
_HEIGHT_TOLERANCE, _SPEED_TOLERANCE = 0.2, 0.3
"""Metres and m/s away from its target at which a reward has fallen to 37 % and to half."""


def stand(states: Any, actions: Any = None) -> Any:
    """Return dm-control's reward for standing (...), in [0, 1]: three parts height, one part upright torso."""
    return (3 * _standing(states) + (1 + torso_upright(states)) / 2) / 4


def walk(states: Any, actions: Any = None) -> Any:
    """Return dm-control's reward for walking at 1 m/s or faster (...), in [0, 1]."""
    return _move(states, WALK_SPEED)


def run(states: Any, actions: Any = None) -> Any:
    """Return dm-control's reward for running at 8 m/s or faster (...), in [0, 1]."""
    return _move(states, RUN_SPEED)


def jump(states: Any, actions: Any = None) -> Any:
    """Return a reward for both feet off the floor (...), in [0, 1].

    Upright with a high torso gives a quarter; a clearance of `JUMP_CLEARANCE` under the lower foot the rest.
    """
    xp = namespace(states)
    upright = xp.clip(torso_upright(states), 0.0, 1.0)
    high = xp.clip((torso_height(states) - _LOW) / (STAND_HEIGHT - _LOW), 0.0, 1.0)
    return upright * high * (1 + 3 * xp.clip(foot_clearance(states) / JUMP_CLEARANCE, 0.0, 1.0)) / 4


def lean_back(states: Any, actions: Any = None) -> Any:
    """Return a reward for standing with the torso at `LEAN` (...), in [0, 1]."""
    away = 1 - namespace(states).cos(torso_pitch(states) - LEAN)
    return _standing(states) * namespace(states).exp(-_LEAN_SHARPNESS * away)


def walk_backward(states: Any, actions: Any = None) -> Any:
    """Return `walk` the other way (...), in [0, 1]: content from 1 m/s backwards on."""
    return _move(states, -WALK_SPEED)


@lru_cache(maxsize=64)
def target_height(height: float) -> RewardFunction:
    """Return the reward for holding the torso at a height in metres: three parts height, one part upright.

    Raises:
        ValueError: a height outside (0, 2].
    """
    if not 0 < height <= 2:
        raise ValueError(f"target-height={height:g}: give metres above 0, up to 2")

    def reward(states: Any, actions: Any = None) -> Any:
        xp = namespace(states)
        close = xp.exp(-(((torso_height(states) - height) / _HEIGHT_TOLERANCE) ** 2))
        return (3 * close + (1 + torso_upright(states)) / 2) / 4

    reward.__name__ = f"target-height={height:g}"
    return reward


@lru_cache(maxsize=64)
def target_speed(speed: float) -> RewardFunction:
    """Return the reward for walking at a speed in m/s, backward below 0: `stand` times five sixths for the speed.

    Raises:
        ValueError: a speed outside [-10, 10].
    """
    if not -10 <= speed <= 10:
        raise ValueError(f"target-speed={speed:g}: give m/s from -10 to 10")

    def reward(states: Any, actions: Any = None) -> Any:
        away = (center_of_mass_velocity(states) - speed) / _SPEED_TOLERANCE
        return stand(states) * (5 / (1 + away**2) + 1) / 6

    reward.__name__ = f"target-speed={speed:g}"
    return reward


_REWARDS: dict[str, RewardFunction] = {
    "walk": walk,
    "stand": stand,
    "run": run,
    "jump": jump,
    "lean-back": lean_back,
    "walk-backward": walk_backward,
    "target-height": target_height(0.9),
    "target-speed": target_speed(0.5),
}
_TAKING_A_NUMBER: dict[str, Callable[[float], RewardFunction]] = {
    "target-height": target_height,
    "target-speed": target_speed,
}


class _Rewards(Mapping[str, RewardFunction]):
    """The registered rewards; looking one up takes a number with its name."""

    def __getitem__(self, name: str) -> RewardFunction:
        plain, equals, number = name.partition("=")
        if not equals:
            return _REWARDS[name]
        if plain not in _REWARDS:
            raise KeyError(name)
        if plain not in _TAKING_A_NUMBER:
            raise ValueError(f"the reward {plain!r} takes no number; these do: {', '.join(_TAKING_A_NUMBER)}")
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"{name}: {number!r} is no number; give e.g. {plain}=0.5") from None
        return _TAKING_A_NUMBER[plain](value)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self[name] is not None
        except (KeyError, ValueError):
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(_REWARDS)

    def __len__(self) -> int:
        return len(_REWARDS)


REWARDS: Mapping[str, RewardFunction] = _Rewards()
"""The known rewards by name; `register_reward` adds to it, and "target-speed=0.5" gives one with another number."""


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
    """Return a reward by its name, with a number as in "target-speed=0.5" where it takes one; a function as it is.

    Raises:
        ValueError: an unknown name (the message lists the known ones), or a bad number.
    """
    if callable(reward):
        return reward
    try:
        return REWARDS[reward]
    except KeyError:
        known = ", ".join(_REWARDS)
        raise ValueError(f"unknown walker reward {reward!r}; known: {known}, or give a function") from None


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


def _standing(states: Any) -> Any:
    """Return how nearly the torso is as high as in standing (...), in (0, 1]."""
    xp = namespace(states)
    below = xp.clip(STAND_HEIGHT - torso_height(states), 0.0, None) / (STAND_HEIGHT / 2)
    return xp.exp(math.log(0.1) * below**2)


def _move(states: Any, speed: float) -> Any:
    """Return `stand` times one sixth for nothing and five sixths for speed, in m/s."""
    share = namespace(states).clip(center_of_mass_velocity(states) / speed, 0.0, 1.0)
    return stand(states) * (5 * share + 1) / 6
