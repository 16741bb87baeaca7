"""Frames a second of the environments on one core, beside a peer's where it has the same.

For example:

    wmkit bench env
    wmkit bench env --seconds 2 --json
    wmkit bench env --peer stable-worldmodel --peer-python PEER/bin/python --rounds 5 --out env.json

Actions are random, and an episode ends after 200 steps. A pixel case draws every frame; a batched one steps many
environments at once, and is measured beside the peer's single one of the same size. PushCube stands beside the peer's
environment that is most like it, OGBench's cube, where that is installed: another arm, which has to grasp.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wmkit.errors import UserError
from wmkit.provenance import provenance

from .bench_report import beside, check_machine, check_positive, check_unused, finish, ratios_to, seconds_of

if TYPE_CHECKING:
    from wmkit.timing import Peer, Timed

__all__ = ["EnvBench", "run"]

_BATCH = 128
_SCENES = 32
"""Batch of the environments on MuJoCo."""
_EPISODE = 200
_PIXELS = (64, 96, 224)


@dataclass(frozen=True)
class EnvBench:
    """What `wmkit bench env` is asked for."""

    cases: tuple[str, ...] = ()
    """Cases to measure, by the beginning of their names, e.g. pusht/pixels; all by default."""
    seconds: float = 1.0
    """Seconds that one turn of a case lasts."""
    rounds: int = 1
    """Turns of each case that are timed; one more before them is not."""
    peer: str | None = None
    """Another package to measure beside, e.g. stable-worldmodel."""
    peer_python: Path | None = None
    """Its Python; by default WMKIT_PEER_PYTHON names it."""
    out: Path | None = None
    """Write the result to this JSON file."""
    json: bool = False
    """Print the result as one JSON object instead of a table."""


def run(config: EnvBench) -> None:
    """Measure, and print each case as it is done.

    Raises:
        UserError: options out of range, an unknown case, no peer, or one that fails.
    """
    check_positive(config, "seconds", "rounds")
    if config.peer is None:
        check_unused(config, ("peer_python",), "only with --peer")
    cases = _chosen(config.cases)
    check_machine(config)
    timed: dict[str, Mapping[str, Timed]] = {}
    with contextlib.ExitStack() as stack:
        peer, facts = _open(config, stack)
        for case in cases:
            timed[case] = _measure(config, case, peer, facts.get("cases", ()))
            if not config.json:
                print(_line(case, timed[case]), flush=True)
    compared = {case: runs for case, runs in timed.items() if len(runs) > 1}
    result = {
        "provenance": provenance(),
        "peer": facts or None,
        "settings": {name: asdict(config)[name] for name in ("seconds", "rounds", "peer")},
        "rates": {case: runs["wmkit"].rate for case, runs in timed.items()},
        "seconds_a_frame": seconds_of(timed),
        "ratios": {case: ratios_to(str(config.peer), runs)["wmkit"] for case, runs in compared.items()},
    }
    finish(result, config.out, config.json, "")


def _cases() -> dict[str, Callable[[], Any]]:
    """Return case -> what makes its environment; a case is name/observation/image size, and the batch if there is."""
    from ..envs.push_cube import PushCubeEnv, PushCubeVectorEnv
    from ..envs.pusht import PushTEnv, PushTVectorEnv
    from ..envs.two_room import TwoRoomEnv, TwoRoomVectorEnv
    from ..envs.walker import WalkerEnv

    batched: dict[str, Any] = {"num_envs": _BATCH, "autoreset_mode": "Disabled", "obs_type": "pixels"}
    makers: dict[str, Callable[[], Any]] = {}
    for name, one, many in (("two-room", TwoRoomEnv, TwoRoomVectorEnv), ("pusht", PushTEnv, PushTVectorEnv)):
        for size in _PIXELS:
            makers[f"{name}/pixels/{size}"] = _maker(one, obs_type="pixels", image_size=size)
            makers[f"{name}/pixels/{size}/batch {_BATCH}"] = _maker(many, image_size=size, **batched)
    cameras, batch = {"obs_type": "pixels", "cameras": ("front", "side")}, batched | {"num_envs": _SCENES}
    return makers | {
        "pusht/state": _maker(PushTEnv, obs_type="state"),
        "walker/state": _maker(WalkerEnv),
        "push-cube/pixels/64": _maker(PushCubeEnv, obs_type="pixels"),
        f"push-cube/pixels/64/batch {_SCENES}": _maker(PushCubeVectorEnv, **batch),
        "push-cube/two cameras/64": _maker(PushCubeEnv, **cameras),
        "push-cube/state": _maker(PushCubeEnv, obs_type="state"),
    }


def _maker(environment: Callable[..., Any], **options: Any) -> Callable[[], Any]:
    return lambda: environment(**options)


def _chosen(wanted: tuple[str, ...]) -> dict[str, Callable[[], Any]]:
    """Return the cases whose names begin as asked for."""
    cases = _cases()
    for beginning in wanted:
        if not any(case.startswith(beginning) for case in cases):
            raise UserError(f"no case begins with {beginning!r}; known: {', '.join(cases)}")
    return {case: make for case, make in cases.items() if not wanted or case.startswith(wanted)}


def _open(config: EnvBench, stack: contextlib.ExitStack) -> "tuple[Peer | None, dict[str, Any]]":
    """Return the peer and what it says of itself, nothing without one; it ends with the stack."""
    if config.peer is None:
        return None, {}
    from .peers import open_peer

    peer = stack.enter_context(open_peer(config.peer, "env", config.peer_python))
    return peer, peer.ask("describe")


def _measure(config: EnvBench, case: str, peer: "Peer | None", theirs: tuple[str, ...]) -> "dict[str, Timed]":
    """Time one case; what is timed is the seconds of one step of all its environments."""
    from wmkit.timing import per_unit, take_turns

    env = _cases()[case]()
    try:
        contestants = {"wmkit": per_unit(_stepper(env), config.seconds)}
        work = {"wmkit": float(getattr(env, "num_envs", 1))}
        same = case.partition("/batch")[0]
        if peer is not None and same in theirs:
            asked = peer

            def step(count: int) -> float:
                return float(asked.ask("step", case=same, count=count, episode=_EPISODE)["seconds"])

            contestants[asked.package.name] = per_unit(step, config.seconds)
        return take_turns(contestants, config.rounds, work=work)
    finally:
        env.close()


def _stepper(env: Any) -> Callable[[int], float]:
    """Return a function that takes so many steps with random actions, resetting now and then; it returns seconds."""
    actions = np.random.default_rng(0).uniform(-1, 1, (_EPISODE, *env.action_space.shape)).astype(np.float32)
    steps = _endless(env, actions)

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            next(steps)
        return time.perf_counter() - start

    return run


def _endless(env: Any, actions: np.ndarray) -> Iterator[None]:
    """Take one step at a time, for ever."""
    while True:
        env.reset(seed=0)
        for action in actions:
            env.step(action)
            yield


def _line(case: str, runs: "Mapping[str, Timed]") -> str:
    """Return one case as text."""
    line = f"{case:<34}{runs['wmkit'].rate:>12,.0f} /s"
    for name, timed in runs.items():
        if name != "wmkit":
            line += f"{timed.rate:>12,.0f} /s {name}{beside(ratios_to(name, runs)['wmkit'])}"
    return line
