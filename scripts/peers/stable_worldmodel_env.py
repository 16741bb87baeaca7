"""stable-worldmodel's environments for `wmkit bench env`; run by a Python that has stable-worldmodel 0.1.1.

Requests (see `serving.serve`):

    describe    versions, and the cases that there are
    step        takes steps with random actions; their seconds

Its observations are states, so a frame is a step and a `render()`. Its TwoRoom draws 224 pixels only. What stands for
PushCube is its cube of OGBench, which needs `ogbench` beside it.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import time
from collections.abc import Iterator
from typing import Any

_CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "two-room/pixels/224": ("two_room.env", "TwoRoomEnv", {}),
    "pusht/state": ("pusht.env", "PushT", {}),
    "pusht/pixels/64": ("pusht.env", "PushT", {"resolution": 64}),
    "pusht/pixels/96": ("pusht.env", "PushT", {"resolution": 96}),
    "pusht/pixels/224": ("pusht.env", "PushT", {"resolution": 224}),
    "push-cube/pixels/64": ("ogbench", "CubeEnv", {"env_type": "single", "height": 64, "width": 64}),
}
_NEEDS = {"push-cube/pixels/64": "ogbench"}
_PACKAGES = ("stable-worldmodel", "pymunk", "torch")

_running: dict[str, Iterator[None]] = {}


def describe() -> dict[str, Any]:
    """Return versions and cases; one thread from here on."""
    importlib.import_module("stable_worldmodel")
    importlib.import_module("torch").set_num_threads(1)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    there = [case for case in _CASES if case not in _NEEDS or importlib.util.find_spec(_NEEDS[case])]
    versions |= {_NEEDS[case]: importlib.metadata.version(_NEEDS[case]) for case in there if case in _NEEDS}
    return {"packages": versions, "cases": there}


def step(case: str, count: int, episode: int) -> dict[str, Any]:
    """Take `count` steps of a case, resetting after every `episode` of them."""
    if case not in _running:
        _running[case] = _endless(case, episode)
        next(_running[case])
    steps = _running[case]
    start = time.perf_counter()
    for _ in range(count):
        next(steps)
    return {"seconds": time.perf_counter() - start}


def _endless(case: str, episode: int) -> Iterator[None]:
    """Take one step at a time, for ever."""
    module, name, options = _CASES[case]
    env = getattr(importlib.import_module(f"stable_worldmodel.envs.{module}"), name)(**options)
    size = (episode, *env.action_space.shape)
    actions = importlib.import_module("numpy").random.default_rng(0).uniform(-1, 1, size).astype("float32")
    while True:
        env.reset(seed=0)
        for action in actions:
            env.step(action)
            if "/pixels/" in case:
                env.render()
            yield


if __name__ == "__main__":
    os.environ.setdefault("MUJOCO_GL", "egl")
    from serving import serve

    serve({"describe": describe, "step": step})
