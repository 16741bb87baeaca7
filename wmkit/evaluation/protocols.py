"""The protocols: how far away a goal is, how many steps are allowed, and which pairs count.

"papers" draws pairs as the world-model papers do, which keep those that are solved at the start. stable-worldmodel,
with which LeWM was measured, draws rows evenly and without repetition from all episodes, at least 25 steps before an
episode's end; the goal is the row 25 steps on; an episode has 50 steps, and counts as solved if the environment reports
success after any of them (`scripts/eval/config/cube.yaml`, `scripts/plan/eval_wm.py`, and `World.evaluate` of version
0.1.1). A pair that is solved at the start is thus solved by holding still. Two things differ here: the episodes are
held out, where those of the papers are the training data, and each episode gives about as many pairs as any other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UserError
from ..tasks import Task
from .manifest import HELD_OUT, KEPT, Manifest, Pair

__all__ = ["PROTOCOLS", "SETTLING_STEPS", "Protocol", "Recording", "draw_manifest", "needs_motion"]

SETTLING_STEPS = 5
"""`strict` success holds over this many last steps of the budget, with half the tolerance."""

_MAX_ROUNDS = 200
_MOVED = {"px": 5.0, "m": 0.01, "width": 0.02, "widths": 0.02, "rad": 0.1}
_REGION_SPLIT = {"two-room": 0.5}


@dataclass(frozen=True)
class Protocol:
    """How pairs are drawn.

    Attributes:
        name: how users call it.
        text: one line for tables.
        source: "window" (start and goal `offset` steps apart in an episode), "ends" (an episode's start and its final
            state, in different rooms) or "reset" (start and goal of the environment's own reset).
        offset: environment steps between start and goal, for "window".
        budget_factor: budget over the distance in steps, for "window" and "ends"; "reset" takes the task's `max_steps`.
        rule: success rule, where the task knows it; None takes the task's first.
        keep_trivial: whether pairs that are solved at the start stay, counted, in place of being left out.
    """

    name: str
    text: str
    source: str = "window"
    offset: int = 0
    budget_factor: int = 2
    rule: str | None = None
    keep_trivial: bool = False

    def default_rule(self, task: Task) -> str:
        """Return the success rule of this protocol on a task."""
        return self.rule if self.rule is not None and self.rule in task.rules else task.rules[0]


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("short", "goal 25 steps ahead, budget 50", offset=25),
        Protocol("papers", "as short, pairs that are solved at the start kept", offset=25, keep_trivial=True),
        Protocol("long50", "goal 50 steps ahead, budget 100", offset=50),
        Protocol("long75", "goal 75 steps ahead, budget 150", offset=75),
        Protocol("full", "the environment's own start and goal, budget max_steps", "reset", rule="coverage"),
        Protocol("cross", "an episode's start and final state in different rooms, budget twice its length", "ends"),
    )
}
"""Every protocol by name."""


@dataclass(frozen=True)
class Recording:
    """One recorded episode of L environment steps.

    Attributes:
        index: number of the episode in the data set.
        states: (L + 1, S) or (L, S); row t is the state before action t.
        actions: (L, action_size), environment units.
        variation: the scene: variation name -> value.
    """

    index: int
    states: np.ndarray
    actions: np.ndarray
    variation: Mapping[str, Any] = field(default_factory=dict)


def draw_manifest(
    task: Task,
    protocol: Protocol,
    count: int,
    seed: int = 0,
    *,
    recordings: Sequence[Recording] = (),
    fingerprint: str = "",
    split_hash: str = "",
    split: str = HELD_OUT,
    rule: str | None = None,
) -> Manifest:
    """Draw pairs, the same for the same arguments; those that need no action are left out or, in "papers", counted.

    Episodes are visited in random order, again and again with new starts, until there are enough pairs; so the pairs
    are spread over as many episodes as there are.

    Args:
        task: the environment.
        protocol: the kind of pairs.
        count: P.
        seed: of the draw.
        recordings: episodes that no training step saw; "reset" protocols need none.
        fingerprint: of the data set.
        split_hash: of its split.
        split: name of the split that the recordings are from.
        rule: success rule; None takes the protocol's.

    Raises:
        UserError: an unknown rule, or too few pairs in the recordings.
    """
    rule = rule or protocol.default_rule(task)
    if rule not in task.rules:
        raise UserError(f"unknown --rule {rule!r} for {task.name}; known: {', '.join(task.rules)}")
    if count < 1:
        raise UserError(f"--episodes {count}: ask for at least 1")
    if protocol.source != "reset" and not recordings:
        raise UserError(f"protocol {protocol.name!r} needs held-out episodes; give --data DIR or --manifest FILE")
    generator = np.random.default_rng([seed, 0x9A1E5])
    candidates = _resets(task, seed, count) if protocol.source == "reset" else _pairs(protocol, recordings, generator)
    pairs, excluded = _collect(task, protocol, rule, candidates, count)
    origin = ("reset", "", "") if protocol.source == "reset" else (split, fingerprint, split_hash)
    return Manifest(task.name, protocol.name, rule, seed, *origin, pairs=pairs, excluded=excluded)


def _collect(
    task: Task, protocol: Protocol, rule: str, candidates: Iterator[Pair], count: int
) -> tuple[tuple[Pair, ...], dict[str, int]]:
    """Take candidates until `count` are good; count the others, and the trivial ones in any case, by reason."""
    trivial = f"trivial{KEPT}" if protocol.keep_trivial else "trivial"
    excluded = {trivial: 0} | ({"same room": 0} if protocol.source == "ends" else {})
    pairs: list[Pair] = []
    seen: set[tuple[int, int]] = set()
    for pair in candidates:
        key = (pair.episode, pair.start_row)
        if pair.episode >= 0 and key in seen:
            continue
        seen.add(key)
        start, goal = np.array([pair.start], float), np.array([pair.goal], float)
        if protocol.source == "ends" and not _crosses(task, start, goal)[0]:
            excluded["same room"] += 1
            continue
        solved = bool(task.success(start, goal, rule, False)[0])
        excluded[trivial] += solved
        if protocol.keep_trivial or not solved:
            pairs.append(pair)
        if len(pairs) == count:
            return tuple(pairs), excluded
    left_out = ", ".join(f"{number} {reason}" for reason, number in excluded.items())
    raise UserError(
        f"only {len(pairs)} of {count} pairs for protocol {protocol.name!r} (left out: {left_out}); "
        f"collect more episodes or ask for --episodes {len(pairs)}"
    )


def _pairs(protocol: Protocol, recordings: Sequence[Recording], generator: np.random.Generator) -> Iterator[Pair]:
    """Yield candidates from recorded episodes."""
    rounds = 1 if protocol.source == "ends" else _MAX_ROUNDS
    for _ in range(rounds):
        for number in generator.permutation(len(recordings)):
            recording = recordings[number]
            last = min(len(recording.states) - 1, len(recording.actions))
            offset = last if protocol.source == "ends" else protocol.offset
            if offset < 1 or last < offset:
                continue
            start = int(generator.integers(0, last - offset + 1))
            yield _pair(recording, start, start + offset, protocol.budget_factor * offset)


def _pair(recording: Recording, start: int, goal: int, budget: int) -> Pair:
    """Make a pair of plain Python numbers."""
    actions = [[float(str(np.float32(number))) for number in row] for row in recording.actions[start:goal]]
    return Pair(
        start=np.asarray(recording.states[start], np.float64).tolist(),
        goal=np.asarray(recording.states[goal], np.float64).tolist(),
        budget=budget,
        episode=int(recording.index),
        start_row=start,
        goal_row=goal,
        actions=actions,
        variation={name: np.asarray(value).tolist() for name, value in recording.variation.items()},
    )


def _resets(task: Task, seed: int, count: int) -> Iterator[Pair]:
    """Yield candidates of the environment's own reset."""
    env = task.make_vector(num_envs=count, obs_type="state")
    try:
        for attempt in range(_MAX_ROUNDS):
            _, info = env.reset(seed=seed + attempt * count)
            known = {**info.get("variation", {}), **info}
            for row, (start, goal) in enumerate(zip(info["state"], info["goal_state"], strict=True)):
                scene = {name: np.asarray(known[name][row]).tolist() for name in task.scene}
                yield Pair(start.tolist(), goal.tolist(), task.max_steps, variation=scene)
    finally:
        env.close()


def _crosses(task: Task, starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Return which pairs (B, S) lie in different rooms, (B,) bool."""
    if task.name not in _REGION_SPLIT:
        raise UserError(f"protocol 'cross' needs rooms, which {task.name} has not; use another --protocol")
    wall = _REGION_SPLIT[task.name]
    return (starts[:, 0] > wall) != (goals[:, 0] > wall)


def needs_motion(task: Task, starts: np.ndarray, goals: np.ndarray) -> np.ndarray | None:
    """Return which pairs need something other than the agent to move, (P,) bool; None where there is only an agent.

    A block counts as moved by more than 5 px, 1 cm or 0.1 rad in any of its columns, angles compared on the circle.

    Args:
        task: its state columns named "block ...", "object ..." or "cube ..." are the ones that count.
        starts: (P, S).
        goals: (P, S).
    """
    found, moved = False, np.zeros(len(starts), bool)
    for index, column in enumerate(task.state):
        if not column.name.startswith(("block", "object", "cube")) or column.unit not in _MOVED:
            continue
        difference = goals[:, index] - starts[:, index]
        if column.unit == "rad":
            difference = np.angle(np.exp(1j * difference))
        found, moved = True, moved | (np.abs(difference) > _MOVED[column.unit])
    return moved if found else None
