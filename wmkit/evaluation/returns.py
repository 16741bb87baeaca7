"""Runs an agent for the reward of a task without goals: returns, with intervals, and what the behaviour was like."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..data.episodes import EpisodeStore
from ..errors import UserError
from ..tasks import Task
from .agents import Agent, Start
from .manifest import Pair
from .rewards import NamedReward
from .statistics import bootstrap, percentiles

__all__ = ["ControllerAgent", "Returns", "data_returns", "evaluate_returns"]

_DATA_EPISODES = 200


@dataclass(frozen=True)
class Returns:
    """What one agent got in E episodes of the same length.

    Attributes:
        name: the agent.
        kind: "model" or "floor".
        reward: name of the reward.
        steps: environment steps of an episode.
        returns: (E,) float64, sum of the rewards of each episode.
        statistics: name -> (E,) float64, what each episode was like; see `wmkit.tasks.Statistic`.
        states: (E, steps + 1, S) float32; empty for recorded data.
        seconds: wall time of the run.
        decision: {"p50", "p99", "count"} of one decision in seconds; None where it was not measured.
    """

    name: str
    kind: str
    reward: str
    steps: int
    returns: np.ndarray
    statistics: Mapping[str, np.ndarray]
    states: np.ndarray = field(repr=False)
    seconds: float = 0.0
    decision: Mapping[str, float] | None = None

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of the mean return."""
        return bootstrap(self.returns)

    def timed(self, seconds: Sequence[float]) -> "Returns":
        """Return the same with the percentiles of decision times in seconds; no times leave it as it is."""
        return replace(self, decision=percentiles(seconds)) if len(seconds) else self

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the states."""
        means = {name: float(values.mean()) for name, values in self.statistics.items()}
        return {
            "name": self.name,
            "kind": self.kind,
            "reward": self.reward,
            "steps": self.steps,
            "episodes": len(self.returns),
            "mean": self.mean,
            "interval": list(self.interval),
            "returns": self.returns.tolist(),
            "statistics": means,
            "statistics_intervals": {name: list(bootstrap(values)) for name, values in self.statistics.items()},
            "seconds": self.seconds,
            "decision": None if self.decision is None else dict(self.decision),
        }


class ControllerAgent:
    """A model behind a controller whose objective needs no goal.

    Args:
        controller: makes a controller for B environments.
        name: row of the table.
        observes: the environment's `obs_type`.
    """

    def __init__(self, controller: Callable[[int], Any], name: str = "model", observes: str = "state") -> None:
        self.name, self.observes, self.controller = name, observes, controller
        self._controller: Any = None

    @property
    def decisions(self) -> list[float]:
        """Seconds of each decision of the last episodes, of all B together."""
        return [] if self._controller is None else list(self._controller.decisions)

    def reset(self, start: Start) -> None:
        """Begin B episodes."""
        self._controller = self.controller(len(start.states))

    def act(self, observations: Mapping[str, np.ndarray], states: np.ndarray) -> np.ndarray:
        """Return the controller's actions (B, action_size)."""
        return np.asarray(self._controller.act(dict(observations)), np.float64)


def evaluate_returns(
    task: Task,
    agent: Agent,
    reward: NamedReward,
    *,
    episodes: int = 20,
    steps: int = 250,
    seed: int = 0,
    variation: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    batch: int = 100,
    kind: str = "model",
    progress: Callable[[int, int], None] | None = None,
) -> Returns:
    """Run an agent from the environment's own starts, the same for every agent with the same seed.

    Args:
        task: the environment.
        agent: who acts.
        reward: what counts; the agent's own objective is its own affair.
        episodes: E.
        steps: environment steps of each.
        seed: episode i starts from the environment's seed `seed` + i.
        variation: what is changed about the environment, name -> value.
        env: further keywords of the environment, e.g. image_size.
        batch: episodes side by side.
        kind: "model" or "floor".
        progress: called with environment steps done and in all.

    Raises:
        UserError: the environment refuses the variation, or the agent or the reward fails with a ValueError.
    """
    if min(episodes, steps, batch) < 1:
        raise UserError(f"episodes {episodes}, steps {steps} and batch {batch} must be at least 1")
    begin = time.perf_counter()
    chunks = [np.arange(first, min(first + batch, episodes)) for first in range(0, episodes, batch)]
    found = []
    for number, rows in enumerate(chunks):
        report = _reporter(progress, number, len(chunks), steps)
        try:
            found.append(_run(task, agent, reward, rows, steps, seed, dict(variation or {}), dict(env or {}), report))
        except ValueError as error:
            raise UserError(str(error)) from error
    states, rewards = (np.concatenate(parts) for parts in zip(*found, strict=True))
    statistics = _statistics(task, states)
    seconds = time.perf_counter() - begin
    kept = states.astype(np.float32)
    return Returns(agent.name, kind, reward.name, steps, rewards.sum(axis=1), statistics, kept, seconds)


def data_returns(
    task: Task, store: EpisodeStore, reward: NamedReward, steps: int = 250, most: int = _DATA_EPISODES
) -> Returns:
    """Return what the policy of a data set got in its first steps, by a reward that need not be the recorded one.

    Shorter episodes count as if they had gone on alike.

    Args:
        task: the environment.
        store: the episodes, with the columns "state" and "action".
        reward: what counts.
        steps: environment steps from each episode's start.
        most: take at most so many episodes, evenly spread.

    Raises:
        UserError: the store is of another task, or has no episode with a step; or the reward fails, or is not one
            finite number for each state.
    """
    if store.metadata.task != task.name:
        raise UserError(f"{store.folder} holds episodes of {store.metadata.task}, not of --env {task.name}")
    long = np.flatnonzero(np.asarray(store.lengths) > 0)
    if not len(long):
        raise UserError(f"{store.folder} has no episode with a step; collect more")
    chosen = long[np.unique(np.linspace(0, len(long) - 1, min(most, len(long))).round().astype(int))].tolist()
    returns, parts = [], []
    for position in chosen:
        count = min(steps, int(store.lengths[position]))
        states = store.rows("state", position, 0, count + 1).astype(np.float64)
        actions = store.rows("action", position, 0, count).astype(np.float64)
        rewards = _rewards(reward, states[1:], actions)
        returns.append(float(rewards.mean()) * steps)
        parts.append(_statistics(task, states[None]))
    statistics = {name: np.concatenate([part[name] for part in parts]) for name in task.statistics}
    return Returns("data policy", "floor", reward.name, steps, np.array(returns), statistics, np.zeros((0, 0, 0)))


def _rewards(reward: NamedReward, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Return the rewards (L,) of states (L, S) and actions (L, action_size); UserError where they are no such thing."""
    try:
        rewards = np.asarray(reward.function(states, actions), np.float64)
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(f"reward {reward.name} fails on recorded states with {type(error).__name__}: {text}") from error
    if rewards.shape != states.shape[:-1]:
        raise UserError(f"reward {reward.name} gave shape {rewards.shape} for states {states.shape}; give one for each")
    lost = np.flatnonzero(~np.isfinite(rewards))
    if len(lost):
        state = states[lost[0]].tolist()
        raise UserError(f"reward {reward.name} gave {rewards[lost[0]]} for the recorded state {state}")
    return rewards


def _reporter(
    progress: Callable[[int, int], None] | None, number: int, chunks: int, steps: int
) -> Callable[[int], None]:
    if progress is None:
        return lambda step: None
    return lambda step: progress(number * steps + step, chunks * steps)


def _run(
    task: Task,
    agent: Agent,
    reward: NamedReward,
    rows: np.ndarray,
    steps: int,
    seed: int,
    variation: dict[str, Any],
    options: dict[str, Any],
    report: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Run one chunk; return states (B, steps + 1, S) and rewards (B, steps)."""
    env = task.make_vector(num_envs=len(rows), obs_type=agent.observes, task=reward.function, **options)
    try:
        observations, info = env.reset(seed=seed + int(rows[0]), options={"variation": variation} if variation else {})
        states, rewards = [np.array(info["state"])], []
        agent.reset(_start(observations, states[0], rows, steps, variation))
        for step in range(steps):
            observations, earned, _, _, info = env.step(agent.act(observations, states[-1]))
            states.append(np.array(info["state"]))
            rewards.append(np.array(earned))
            report(step + 1)
    finally:
        env.close()
    return np.stack(states, axis=1), np.stack(rewards, axis=1)


def _start(
    observations: Mapping[str, np.ndarray], states: np.ndarray, rows: np.ndarray, steps: int, variation: dict[str, Any]
) -> Start:
    """Return what agents know at the start, without goals."""
    nothing = np.zeros((len(rows), 0))
    pairs = [Pair(state.tolist(), [], steps, variation=variation) for state in states]
    return Start(observations, {}, states, nothing, pairs, rows)


def _statistics(task: Task, states: np.ndarray) -> dict[str, np.ndarray]:
    """Return what episodes (E, S + 1, state size) were like, name -> (E,)."""
    return {name: np.asarray(one.function(states), np.float64) for name, one in task.statistics.items()}
