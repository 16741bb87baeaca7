"""Frames a second of another package's environment, measured as `wmkit bench env` measures wmkit's."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["print_rates", "stepper"]

_EPISODE = 200


def stepper(env: Any, low: float, high: float, render: bool) -> Callable[[], int]:
    """Return a function that takes one step with random actions in [low, high], resetting now and then.

    Args:
        env: a Gymnasium environment.
        low: lower bound of both action numbers.
        high: upper bound of both action numbers.
        render: also call `env.render()`, for packages whose observations hold no pixels.
    """
    actions = np.random.default_rng(0).uniform(low, high, (_EPISODE, 2)).astype(np.float32)
    taken = 0

    def step() -> int:
        nonlocal taken
        if taken % _EPISODE == 0:
            env.reset(seed=taken)
        env.step(actions[taken % _EPISODE])
        if render:
            env.render()
        taken += 1
        return 1

    return step


def print_rates(cases: dict[str, Callable[[], int]]) -> None:
    """Measure every case for the seconds of the first argument and print {"rates": {case: rate}} as the last line."""
    print(json.dumps({"rates": {case: _rate(step, float(sys.argv[1])) for case, step in cases.items()}}))


def _rate(step: Callable[[], int], seconds: float) -> float:
    for duration in (seconds / 10, seconds):
        frames, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < duration or not frames:
            frames += step()
    return frames / elapsed
