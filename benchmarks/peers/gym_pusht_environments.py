"""gym-pusht's side of `environments.py`: `python gym_pusht_environments.py SECONDS`, where gym-pusht is installed."""

import importlib
from collections.abc import Callable
from typing import Any

import gymnasium
from timing import print_rates, stepper


def _case(**options: Any) -> Callable[[], int]:
    env = gymnasium.make("gym_pusht/PushT-v0", **options).unwrapped
    return stepper(env, 0, 512, render=False)


if __name__ == "__main__":
    importlib.import_module("gym_pusht")
    cases = {"pusht/state": _case(obs_type="state")}
    for size in (64, 96, 224):
        cases[f"pusht/pixels/{size}"] = _case(obs_type="pixels", observation_width=size, observation_height=size)
    print_rates(cases)
