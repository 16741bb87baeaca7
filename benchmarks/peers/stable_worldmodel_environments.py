"""stable-worldmodel's side of `environments.py`: `python stable_worldmodel_environments.py SECONDS`, where installed.

Its TwoRoom draws 224 pixels only. Its observations are states, so a frame is a step and a `render()`.
"""

import importlib
from typing import Any

from timing import print_rates, stepper


def _make(module: str, name: str, **options: Any) -> Any:
    return getattr(importlib.import_module(f"stable_worldmodel.envs.{module}"), name)(**options)


if __name__ == "__main__":
    cases = {
        "two-room/pixels/224": stepper(_make("two_room.env", "TwoRoomEnv"), -1, 1, render=True),
        "pusht/state": stepper(_make("pusht.env", "PushT"), -1, 1, render=False),
    }
    for size in (64, 96, 224):
        cases[f"pusht/pixels/{size}"] = stepper(_make("pusht.env", "PushT", resolution=size), -1, 1, render=True)
    print_rates(cases)
