"""The reward that an evaluation is asked for: one of the task's by name, or a user's own function."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..tasks import Task

__all__ = ["NamedReward", "find_reward"]

_FILE = ".py:"


@dataclass(frozen=True)
class NamedReward:
    """A reward and what shows it best.

    Attributes:
        name: as it was asked for.
        function: (states (..., S), actions (..., action_size) or None) -> (...), for arrays and tensors.
        statistics: names of the task's statistics that show it; empty for a user's own function.
    """

    name: str
    function: Callable[..., Any]
    statistics: tuple[str, ...] = ()


def find_reward(task: Task, name: str | None = None) -> NamedReward:
    """Return a reward.

    Args:
        task: has rewards.
        name: of one of the task's rewards, with "=NUMBER" where it takes one; "FILE.py:FUNCTION" for a function in a
            Python file, which is run; None for the task's first.

    Raises:
        UserError: there is no such reward, file or function, or the function gives no number for each state.
    """
    if not task.rewards:
        raise UserError(f"{task.name} has no rewards; it is measured by success")
    name = name or next(iter(task.rewards))
    if _FILE in name:
        function = _from_file(name)
        _try(function, name, len(task.state), len(task.action_low))
        return NamedReward(name, function)
    try:
        function = task.rewards[name]
    except KeyError:
        known = ", ".join(task.rewards)
        raise UserError(f"unknown reward {name!r} of {task.name}; known: {known}, or give FILE.py:FUNCTION") from None
    except ValueError as error:
        raise UserError(str(error)) from error
    plain = name.partition("=")[0]
    return NamedReward(name, function, tuple(key for key, one in task.statistics.items() if plain in one.rewards))


def _from_file(name: str) -> Callable[..., Any]:
    """Run "FILE.py" of "FILE.py:FUNCTION" and return the function."""
    file, _, attribute = name.rpartition(":")
    if not Path(file).is_file():
        raise UserError(f"--reward {name}: there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"_reward_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"--reward {name}: {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"--reward {name}: {file} fails with {type(error).__name__}: {_line(error)}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        found = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"--reward {name}: {file} has no function {attribute!r}; it has {', '.join(found) or 'none'}")
    return function


def _try(function: Callable[..., Any], name: str, state_size: int, action_size: int) -> None:
    """Call a user's function as an environment and as a planner will, and check what it gives."""
    import torch

    states, actions = np.full((2, 3, 4, state_size), 0.1), np.full((2, 3, 4, action_size), 0.1)
    for convert in (np.asarray, torch.from_numpy):
        kind = "tensors" if convert is torch.from_numpy else "arrays"
        try:
            given = torch.as_tensor(function(convert(states), convert(actions)))
        except Exception as error:
            text = f"{type(error).__name__}: {_line(error)}"
            raise UserError(f"--reward {name} fails on {kind} of states and actions with {text}") from error
        if tuple(given.shape) != states.shape[:-1]:
            text = f"shape {tuple(given.shape)} for states {states.shape}, not {states.shape[:-1]}"
            raise UserError(f"--reward {name} gave {text}: it takes (..., {state_size}) and gives (...)")
        if not torch.isfinite(given).all():
            raise UserError(
                f"--reward {name} gave {given[~torch.isfinite(given)][0].item()} for a state of 0.1 throughout"
            )


def _line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return next(iter(str(error).splitlines()), "")
