"""Runs a real-time controller on the pairs of a manifest, one after the other, in wall-clock time or in lock step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..control.realtime import RealTimeController
from ..control.realtime_clock import Clock, Metronome
from ..tasks import Task
from .manifest import Manifest
from .runner import reset_to

__all__ = ["Drive", "drive"]


@dataclass(frozen=True)
class Drive:
    """How a real-time controller did on the P episodes that it had time for.

    Attributes:
        first_success: (P,) int64, environment step of the first success, from 1; -1 where there was none.
        pairs: (P,) int64, numbers of the pairs in the manifest.
        unsafe: actions that were not finite or out of the environment's bounds.
        skipped: ticks left out because the environment took more than a period.
    """

    first_success: np.ndarray
    pairs: np.ndarray
    unsafe: int
    skipped: int

    @property
    def success(self) -> np.ndarray:
        """(P,) bool."""
        return self.first_success > 0


def drive(
    task: Task,
    manifest: Manifest,
    controller: RealTimeController,
    clock: Clock,
    *,
    seconds: float | None = None,
    delay: int = 0,
    image_size: int = 64,
    shrink: bool = True,
    observes: str = "pixels",
    progress: Callable[[int], None] | None = None,
) -> Drive:
    """Run episodes until the time is up, or each pair once.

    An episode ends with its success, by the manifest's rule, or its budget. Each action is an environment step; those
    that go out while the first plan is made count too.

    Args:
        task: the environment.
        manifest: the pairs; they repeat where there is time.
        controller: started, with its clock being `clock`.
        clock: paces the loop at the controller's rate.
        seconds: how long; an episode that is cut short does not count. None runs each pair once.
        delay: environment steps after which an observation reaches the controller, stamped with its age.
        image_size: pixels.
        shrink: whether the controller is told how many steps the recording took to the goal.
        observes: the environment's `obs_type`.
        progress: called with the episodes done.
    """
    env = task.make_vector(num_envs=1, obs_type=observes, image_size=image_size)
    end = np.inf if seconds is None else clock.now() + seconds
    episode = _Episode(task, manifest, controller, clock, env, delay, shrink)
    found: list[tuple[int, int]] = []
    try:
        while clock.now() < end and (seconds is not None or len(found) < len(manifest.pairs)):
            number = len(found) % len(manifest.pairs)
            first = episode.run(number, end)
            if first is not None:
                found.append((first, number))
            if progress is not None:
                progress(len(found))
    finally:
        env.close()
    table = np.array(found, np.int64).reshape(-1, 2)
    return Drive(table[:, 0], table[:, 1], episode.unsafe, episode.skipped)


@dataclass
class _Episode:
    """One episode after another in one environment."""

    task: Task
    manifest: Manifest
    controller: RealTimeController
    clock: Clock
    env: Any
    delay: int
    shrink: bool
    unsafe: int = 0
    skipped: int = 0

    def run(self, number: int, end: float) -> int | None:
        """Return the step of the first success, -1 without one, or None where the time was up before."""
        pair, goal = self.manifest.pairs[number], self.manifest.goals[number : number + 1]
        observations, info = reset_to(
            self.env, [pair], self.manifest.starts[number : number + 1], goal, self.manifest.seed
        )
        goal_of = {"pixels": "goal_pixels", "state": "goal_state"}
        self.controller.reset()
        steps = pair.goal_row - pair.start_row if self.shrink and pair.episode >= 0 else None
        self.controller.set_goal({key: np.array(info[goal_of[key]][0]) for key in observations}, steps=steps)
        metronome = Metronome(self.controller.rate_hz, self.clock)
        queue = [(self._one(observations), self.controller.count)]
        first = None
        for step in range(1, pair.budget + 1):
            metronome.wait()
            seen, stamp = queue.pop(0) if step == 1 or len(queue) > self.delay else (None, None)
            action = self.controller.step(seen, stamp)
            observations, info = self._act(action)
            queue.append((self._one(observations), self.controller.count))
            if self.task.success(np.array(info["state"], float), goal, self.manifest.rule, False)[0]:
                first = step
                break
            if self.clock.now() >= end:
                break
        else:
            first = -1
        self.skipped += metronome.skipped
        return first

    def _act(self, action: np.ndarray) -> tuple[Any, Any]:
        """Step the environment; count an action that it should never have got."""
        low, high = (np.asarray(bound, np.float32) for bound in (self.task.action_low, self.task.action_high))
        self.unsafe += not (np.isfinite(action).all() and (action >= low).all() and (action <= high).all())
        observations, _, _, _, info = self.env.step(action[None].astype(np.float64))
        return observations, info

    @staticmethod
    def _one(observations: Any) -> dict[str, np.ndarray]:
        """Return the observation of the only environment."""
        return {key: np.array(value[0]) for key, value in observations.items()}
