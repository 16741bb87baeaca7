"""Runs the violation-of-expectation study: the same episodes, once as ever and once for each change in their middle.

An episode is paired with itself: start, goal, planner's seed, policy's noise and the moment of the change are the same
in every condition. The change is made after the observation of that environment step was acted upon, so the first
observation that can show it is the next environment step's, and the first that a monitor can see is the next at the
start of a model step.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from ..contracts import WorldModel
from ..monitor.report import KINDS, Surprise
from ..tasks import Task
from .agents import Agent
from .violation_episodes import Starts

__all__ = ["Change", "Monitor", "Trace", "watch"]


class Monitor(Protocol):
    """What watches; see `wmkit.SurpriseMonitor`."""

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget the rows of `mask` (B,), or all."""
        ...

    def update(
        self, latents: torch.Tensor, blocks: torch.Tensor | None, observation: Mapping[str, Any] | None = None
    ) -> list[Surprise]:
        """Take the latents (B, D) of a model step's start, the actions (B, A) that led to it and what was seen."""
        ...


@dataclass(frozen=True)
class Change:
    """What is changed, and when.

    Attributes:
        moments: (P,), environment step after whose observation it is made; the step that follows is the first to
            show it.
        name: a perturbation's name; None changes nothing.
        strength: of the perturbation.
    """

    moments: np.ndarray
    name: str | None = None
    strength: float = 0.5


@dataclass(frozen=True)
class Trace:
    """What a monitor said of P episodes at M starts of model steps, in one condition.

    Attributes:
        steps: (M,) int64, environment step of each observation.
        score: (P, M) float32, NaN where the monitor had none, or after an episode's end: success, leaving the
            task's domain (`Task.valid`), or its budget.
        alarm: (P, M) bool.
        kind: (P, M) int8, place in `KINDS`; -1 without one.
        signals: name -> (P, M) float32.
        success: (P,) bool, whether the goal was reached within the budget; None for a task without goals.
        frames: (F, longest budget + 1, ...) uint8, what the model saw in the first F episodes; None without pixels.
        ends: (P,) int64, environment step at which each episode ended; None where all ran until the last observation.
        seconds: wall time of the run.
    """

    steps: np.ndarray
    score: np.ndarray
    alarm: np.ndarray
    kind: np.ndarray
    signals: Mapping[str, np.ndarray]
    success: np.ndarray | None = None
    frames: np.ndarray | None = field(default=None, repr=False)
    ends: np.ndarray | None = None
    seconds: float = 0.0

    def select(self, rows: np.ndarray) -> "Trace":
        """Return the trace of some episodes, by a mask (P,) bool, without frames."""
        signals = {name: values[rows] for name, values in self.signals.items()}
        success, ends = (None if x is None else x[rows] for x in (self.success, self.ends))
        arrays = (self.score[rows], self.alarm[rows], self.kind[rows])
        return Trace(self.steps, *arrays, signals, success, None, ends, self.seconds)


def watch(
    task: Task,
    starts: Starts,
    agent: Agent,
    model: WorldModel,
    monitor: Monitor,
    change: Change,
    *,
    wrap: Callable[[Any, int], Any] | None = None,
    rule: str | None = None,
    image_size: int = 64,
    batch: int = 100,
    frames: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Run all episodes of one condition while a monitor watches.

    Args:
        task: the environment.
        starts: the episodes.
        agent: who acts, in closed loop, not knowing of the monitor.
        model: whose latents are watched, at the starts of its model steps, with the actions that were asked for.
        monitor: reset before each batch.
        change: what is changed and when.
        wrap: given a vector environment and a number, its seed, returns one with `switch(name, strength, mask)`.
        rule: success rule; None takes the task's first.
        image_size: pixels.
        batch: episodes side by side.
        frames: F.
        progress: called with environment steps done and in all.

    Raises:
        UserError: the environment knows no such perturbation.
        ValueError: a change without `wrap`.
    """
    if change.name is not None and wrap is None:
        raise ValueError(f"the change {change.name!r} needs wrap, which makes an environment that can be changed")
    began, longest = time.perf_counter(), int(starts.budgets.max())
    chunks = [np.arange(first, min(first + batch, starts.count)) for first in range(0, starts.count, batch)]
    parts = []
    for number, rows in enumerate(chunks):
        run = _Run(task, starts, rows, agent, model, monitor, change, rule, max(0, frames - int(rows[0])))
        env = task.make_vector(num_envs=len(rows), obs_type=agent.observes, image_size=image_size)
        env = env if wrap is None else wrap(env, int(rows[0]))
        try:
            parts.append(run.play(env, longest, _reporter(progress, number, len(chunks), longest)))
        finally:
            env.close()
    return _joined(parts, time.perf_counter() - began)


def _reporter(
    progress: Callable[[int, int], None] | None, number: int, chunks: int, steps: int
) -> Callable[[int], None]:
    if progress is None:
        return lambda step: None
    return lambda step: progress(number * steps + step, chunks * steps)


@dataclass
class _Run:
    """One batch of episodes."""

    task: Task
    starts: Starts
    rows: np.ndarray
    agent: Agent
    model: WorldModel
    monitor: Monitor
    change: Change
    rule: str | None
    frames: int

    def play(self, env: Any, steps: int, report: Callable[[int], None]) -> Trace:
        """Act for `steps` environment steps; return what was seen."""
        repeat = self.model.spec.action_repeat
        observations, start = self.starts.begin(env, self.rows)
        self.agent.reset(start)
        self.monitor.reset()
        states, reached, block = start.states, np.zeros(len(self.rows), bool), []
        ends = self.starts.budgets[self.rows]
        seen, shown = [], [self._frames(observations)]
        for step in range(steps + 1):
            if step % repeat == 0:
                seen.append(self._look(observations, block))
                block = []
            if step == steps:
                break
            block.append(np.array(self.agent.act(observations, states), np.float32))
            self._switch(env, step)
            observations, _, _, _, info = env.step(block[-1])
            states = np.array(info["state"], float)
            hits = self._successes(states, start.goals) & (step + 1 <= ends)
            over = (hits | ~self.task.valid(states)) & (step + 1 <= ends)
            reached, ends = reached | hits, np.where(over, step + 1, ends)
            shown.append(self._frames(observations))
            report(step + 1)
        return self._trace(seen, reached, shown, ends)

    def _look(self, observations: Mapping[str, np.ndarray], block: list[np.ndarray]) -> list[Surprise]:
        """Show the monitor the start of a model step."""
        seen = {key: np.asarray(observations[key]) for key in self.model.spec.observations}
        with torch.no_grad():
            latents = self.model.encode({key: value[:, None] for key, value in seen.items()})[:, -1]
        actions = torch.from_numpy(np.concatenate(block, axis=1)).to(latents) if block else None
        return self.monitor.update(latents, actions, seen)

    def _switch(self, env: Any, step: int) -> None:
        """Change the rows whose moment this is."""
        mask = self.change.moments[self.rows] == step
        if self.change.name is not None and mask.any():
            env.switch(self.change.name, self.change.strength, mask)

    def _successes(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        if not self.task.has_goals:
            return np.zeros(len(states), bool)
        return np.asarray(self.task.success(states, goals, self.rule or self.task.rules[0], False), bool)

    def _frames(self, observations: Mapping[str, np.ndarray]) -> np.ndarray | None:
        return np.array(observations["pixels"][: self.frames]) if "pixels" in observations else None

    def _trace(
        self,
        seen: Sequence[Sequence[Surprise]],
        reached: np.ndarray,
        shown: Sequence[np.ndarray | None],
        ends: np.ndarray,
    ) -> Trace:
        steps = np.arange(len(seen)) * self.model.spec.action_repeat
        late = steps[None] > ends[:, None]
        score = np.where(late, np.nan, _table(seen, lambda one: one.score))
        alarm = _table(seen, lambda one: one.alarm).astype(bool) & ~late
        kind = np.where(late, -1, _table(seen, lambda one: -1 if one.kind is None else KINDS.index(one.kind)))
        names = dict.fromkeys(name for rows in seen for one in rows for name in one.signals)
        signals = {
            name: np.where(late, np.nan, _table(seen, lambda one, name=name: one.signals.get(name, np.nan)))
            for name in names
        }
        frames = None if shown[0] is None else np.stack([frame for frame in shown if frame is not None], axis=1)
        success = reached if self.task.has_goals else None
        floats = {name: values.astype(np.float32) for name, values in signals.items()}
        return Trace(steps, score.astype(np.float32), alarm, kind.astype(np.int8), floats, success, frames, ends)


def _table(seen: Sequence[Sequence[Surprise]], read: Callable[[Surprise], float]) -> np.ndarray:
    """Return a number of every row and model step, (B, M) float64."""
    return np.array([[read(one) for one in rows] for rows in seen], np.float64).T


def _joined(parts: Sequence[Trace], seconds: float) -> Trace:
    """Put batches under each other; a signal that one batch lacks is NaN there."""
    names = dict.fromkeys(name for part in parts for name in part.signals)
    signals = {
        name: np.concatenate([part.signals.get(name, np.full_like(part.score, np.nan)) for part in parts])
        for name in names
    }
    success, frames, ends = ([getattr(part, name) for part in parts] for name in ("success", "frames", "ends"))
    return Trace(
        parts[0].steps,
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.alarm for part in parts]),
        np.concatenate([part.kind for part in parts]),
        signals,
        None if success[0] is None else np.concatenate(success),
        None if frames[0] is None else np.concatenate(frames),
        np.concatenate(ends),
        seconds,
    )
