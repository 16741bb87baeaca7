"""Runs an agent on the pairs of a manifest, all side by side, and times its decisions."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError
from ..tasks import Task
from .agents import Agent, Start
from .manifest import Manifest, Pair, reset_options
from .protocols import SETTLING_STEPS

__all__ = ["Outcomes", "begin_pairs", "decision_times", "evaluate", "reset_to"]


@dataclass(frozen=True)
class Outcomes:
    """How one agent did on P pairs.

    Attributes:
        first_success: (P,) int64, environment step of the first success, from 1; -1 where there was none.
        strict: (P,) bool, success with half the tolerance at each of the budget's last 5 steps.
        states: (P, longest budget + 1, S) float32, every state; after a pair's budget, what the agent did next.
        seconds: wall time of the run.
    """

    first_success: np.ndarray
    strict: np.ndarray
    states: np.ndarray
    seconds: float

    @property
    def success(self) -> np.ndarray:
        """(P,) bool."""
        return self.first_success > 0


def evaluate(
    task: Task,
    manifest: Manifest,
    agent: Agent,
    *,
    rule: str | None = None,
    image_size: int = 64,
    batch: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Outcomes:
    """Run an agent on every pair.

    Success counts at any step within the pair's budget; for the strict measure the agent acts on until its end.

    Args:
        task: the environment.
        manifest: the pairs.
        agent: who acts.
        rule: success rule; None takes the manifest's.
        image_size: pixels.
        batch: pairs side by side.
        progress: called with environment steps done and in all.

    Raises:
        UserError: the manifest is for another environment, or the rule is unknown.
    """
    rule = rule or manifest.rule
    if manifest.environment != task.name:
        raise UserError(f"the manifest is for {manifest.environment}, not for --env {task.name}")
    if rule not in task.rules:
        raise UserError(f"unknown --rule {rule!r} for {task.name}; known: {', '.join(task.rules)}")
    begin, count = time.perf_counter(), len(manifest.pairs)
    longest = int(manifest.budgets.max())
    states = np.empty((count, longest + 1, manifest.starts.shape[1]), np.float32)
    hits = np.zeros((count, longest + 1, 2), bool)
    chunks = [np.arange(first, min(first + batch, count)) for first in range(0, count, batch)]
    for number, rows in enumerate(chunks):
        report = _reporter(progress, number, len(chunks), longest)
        states[rows], hits[rows] = _run(task, manifest, rows, agent, rule, image_size, longest, report)
    first, strict = _judge(hits, manifest.budgets)
    return Outcomes(first, strict, states, time.perf_counter() - begin)


def _reporter(
    progress: Callable[[int, int], None] | None, number: int, chunks: int, longest: int
) -> Callable[[int], None]:
    if progress is None:
        return lambda step: None
    return lambda step: progress(number * longest + step, chunks * longest)


def _run(
    task: Task,
    manifest: Manifest,
    rows: np.ndarray,
    agent: Agent,
    rule: str,
    image_size: int,
    steps: int,
    report: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Run one chunk; return states (B, steps + 1, S) and successes (B, steps + 1, 2), plain and at half tolerance."""
    env = task.make_vector(num_envs=len(rows), obs_type=agent.observes, image_size=image_size)
    try:
        observations, start = begin_pairs(env, manifest, rows)
        agent.reset(start)
        history, hits = [start.states], [_hits(task, start.states, start.goals, rule)]
        for step in range(steps):
            actions = agent.act(observations, history[-1])
            observations, _, _, _, info = env.step(actions)
            history.append(np.array(info["state"]))
            hits.append(_hits(task, history[-1], start.goals, rule))
            report(step + 1)
    finally:
        env.close()
    return np.stack(history, axis=1), np.stack(hits, axis=1)


def reset_to(
    env: Any, pairs: Sequence[Pair], states: np.ndarray, goals: np.ndarray, seed: int = 0
) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """Reset a vector environment of B to states and goals, each (B, S), in the scenes of B pairs; as `env.reset`.

    Raises:
        ValueError: the environment refuses.
    """
    forms = reset_options(pairs)
    for form in forms[:-1]:
        try:
            return env.reset(seed=seed, options={"state": states, "goal": goals, **form})
        except (TypeError, ValueError):
            continue
    return env.reset(seed=seed, options={"state": states, "goal": goals, **forms[-1]})


def begin_pairs(env: Any, manifest: Manifest, rows: np.ndarray) -> tuple[Mapping[str, np.ndarray], Start]:
    """Reset the environments to the pairs' starts, goals and scenes."""
    pairs, goals = [manifest.pairs[row] for row in rows], manifest.goals[rows]
    observations, info = reset_to(env, pairs, manifest.starts[rows], goals, manifest.seed)
    goal_of = {"pixels": "goal_pixels", "state": "goal_state"}
    goal_observations = {key: np.array(info[goal_of[key]]) for key in observations}
    return observations, Start(observations, goal_observations, np.array(info["state"], float), goals, pairs, rows)


def _hits(task: Task, states: np.ndarray, goals: np.ndarray, rule: str) -> np.ndarray:
    """Return (B, 2) bool: success, and success at half the tolerance."""
    return np.stack([task.success(states, goals, rule, False), task.success(states, goals, rule, True)], axis=1)


def _judge(hits: np.ndarray, budgets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first success (P,) and strict success (P,) from successes (P, steps + 1, 2) and budgets (P,)."""
    steps = np.arange(hits.shape[1])
    counted = hits[:, :, 0] & (steps >= 1) & (steps <= budgets[:, None])
    first = np.where(counted.any(axis=1), counted.argmax(axis=1), -1)
    tail = (steps <= budgets[:, None]) & (steps > budgets[:, None] - SETTLING_STEPS)
    return first, (hits[:, :, 1] | ~tail).all(axis=1)


def decision_times(
    task: Task,
    manifest: Manifest,
    agent: Agent,
    *,
    image_size: int = 64,
    episodes: int = 3,
    warm_up: int = 1,
    decided: Callable[[], Any] | None = None,
) -> list[float]:
    """Time an agent's decisions in single environments, in seconds.

    The first `warm_up` episodes are run and left out.

    Args:
        task: the environment.
        manifest: the pairs; the first ones are used.
        agent: who acts.
        image_size: pixels.
        episodes: timed episodes.
        warm_up: episodes before them.
        decided: returns an object that changes whenever a new plan is made (the plan itself); with it only the calls
            that made a plan are counted. None counts every call.
    """
    times: list[float] = []
    for number in range(min(warm_up + episodes, len(manifest.pairs))):
        seconds = _timed_episode(task, manifest, agent, number, image_size, decided)
        times += seconds if number >= min(warm_up, len(manifest.pairs) - 1) else []
    return times


def _timed_episode(
    task: Task, manifest: Manifest, agent: Agent, number: int, image_size: int, decided: Callable[[], Any] | None
) -> list[float]:
    env = task.make_vector(num_envs=1, obs_type=agent.observes, image_size=image_size)
    times: list[float] = []
    try:
        observations, start = begin_pairs(env, manifest, np.array([number]))
        agent.reset(start)
        states, before = start.states, None
        for _ in range(manifest.pairs[number].budget):
            begin = time.perf_counter()
            action = agent.act(observations, states)
            seconds = time.perf_counter() - begin
            plan = decided() if decided else object()
            times += [seconds] if plan is not before else []
            before = plan
            observations, _, _, _, info = env.step(action)
            states = np.array(info["state"])
    finally:
        env.close()
    return times
