"""What is refused in the arguments and results of scenes, in one line each."""

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["finite_actions", "finite_numbers", "refuse_diverged", "whole_number"]


def finite_numbers(name: str, value: ArrayLike, sizes: Sequence[int]) -> NDArray[np.float64]:
    """Return one row of numbers as an array of its own.

    Args:
        name: what it is, for the message.
        value: the numbers.
        sizes: how many there may be.

    Raises:
        ValueError: what is no row of so many finite numbers.
    """
    found = _as_array(name, value)
    if found.shape not in [(size,) for size in sizes] or not np.isfinite(found).all():
        *others, last = map(str, sizes)
        expected = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{name}: expected {expected} finite numbers, got {_told(found)}")
    return found


def whole_number(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return a whole number; raises ValueError for another one, or what is none."""
    if not isinstance(value, int | np.integer) or value < low or (high is not None and value > high):
        bounds = f"from {low} to {high}" if high is not None else f"of {low} or more"
        raise ValueError(f"{name} must be a whole number {bounds}, got {value!r}")
    return int(value)


def refuse_diverged(states: NDArray[np.float64]) -> None:
    """Raise ValueError, with their indices, where scenes' states (B, S) are not finite."""
    rows = np.flatnonzero(~np.isfinite(states).all(axis=1)).tolist()
    if rows:
        where = ", ".join(map(str, rows))
        raise ValueError(f"the simulation of environment {where} diverged; reset it to a state within reason")


def finite_actions(actions: ArrayLike, expected: tuple[int, ...]) -> NDArray[np.float64]:
    """Return actions of a shape as an array of its own; raises ValueError for another shape, or what is not finite."""
    found = _as_array("actions", actions)
    if found.shape != expected or not np.isfinite(found).all():
        raise ValueError(f"actions must be finite and of shape {expected}, got {_told(found)}")
    return found


def _as_array(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected an array of numbers, got {reprlib.repr(value)}") from None


def _told(array: NDArray[np.float64]) -> str:
    """Return an array's shape and how many of its numbers are not finite."""
    bad = np.count_nonzero(~np.isfinite(array))
    return f"shape {array.shape}" + (f" with {bad} not finite" if bad else "")
