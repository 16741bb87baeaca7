"""Recording what a robot does from an alarm on, as data that `wmkit adapt` reads.

The last environment steps of all rows are kept in memory. From `before` steps before an alarm on, a row's steps are cut
into episodes of `steps` each; the last one goes on to its full length, whether or not the alarm does. A reset of the
row, an observation that is not finite, or the end of the program cuts an episode short; at least half of its length is
kept.

Each finished episode is handed to a thread that writes it (`wmkit.monitor.episode_writer`), so the control loop does
not wait for the disk. A killed process loses at most the episode that was not finished; Ctrl-C and the end of the
program finish it first.
"""

import atexit
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.recording import load_task
from ..errors import UserError
from ..tasks import Task
from .episode_writer import EpisodeWriter
from .report import Surprise

__all__ = ["EpisodeCollector"]

_LOGGER = logging.getLogger(__name__)
_FEWEST = 3
"""Episodes that data need to be split."""


@dataclass(frozen=True)
class _Instant:
    """One environment step of all rows: observations (B, ...), actions (B, action_size), alarms (B,)."""

    observation: Mapping[str, np.ndarray]
    actions: np.ndarray
    alarm: np.ndarray


class EpisodeCollector:
    """A reaction that records episodes from an alarm on and, when there are enough, asks for an adaptation.

    Recorded are each key of the observation (per frame), "alarm" (per frame), and "action" (per step).

    Args:
        folder: of the data; an earlier collection of the same kind is continued.
        task: the environment, or its name.
        steps: environment steps of an episode; more than a window of the dynamics, history and horizon together.
        before: of these, steps before the alarm in the first episode: it comes later than the change.
        enough: episodes after which to ask for the adaptation.
        most: episodes after which nothing more is recorded.
        run: the run to adapt, as it stands in the command that is logged.
        env: keywords that the environment was made with, for the metadata.

    Attributes:
        folder: of the data.

    Raises:
        UserError: the folder holds other data or is being written to, or a number is out of its range.
    """

    def __init__(
        self,
        folder: str | Path,
        task: Task | str,
        *,
        steps: int = 100,
        before: int = 10,
        enough: int = 10,
        most: int = 200,
        run: str | Path = "RUN",
        env: Mapping[str, Any] | None = None,
    ) -> None:
        if steps < 2 or not 0 <= before < steps or not _FEWEST <= enough <= most:
            raise UserError(
                f"{steps=}, {before=}, {enough=} and {most=}: give steps of 2 or more, fewer steps before, "
                f"at least {_FEWEST} episodes, and enough of them below most"
            )
        self.folder = Path(folder)
        self._steps, self._before, self._enough, self._most, self._run = steps, before, enough, most, run
        self._writer = EpisodeWriter(folder, load_task(task) if isinstance(task, str) else task, steps, dict(env or {}))
        self._episodes, self._asked = self._writer.episodes, False
        self._past: deque[_Instant] = deque(maxlen=steps + 1)
        self._now = 0
        self._begun: dict[int, int] = {}
        self._earliest: dict[int, int] = {}
        self._on: set[int] = set()
        atexit.register(self.close)

    @property
    def episodes(self) -> int:
        """How many episodes the folder holds, those included that are being written."""
        return self._episodes

    @property
    def command(self) -> str:
        """The command that adapts the run on the data."""
        return f"wmkit adapt {self._run} --data {self.folder} --out {self._run}-adapted"

    def __call__(self, surprise: Surprise) -> None:
        """Begin to record where an alarm begins; it does not change what the robot does."""
        row = surprise.row
        if surprise.step == 0:
            self._cut(row)
            self._earliest[row] = self._now
        (self._on.add if surprise.alarm else self._on.discard)(row)
        if surprise.alarm and row not in self._begun:
            self._begun[row] = max(self._now - self._before, self._earliest.get(row, 0), self._oldest)

    def record(self, observation: Mapping[str, np.ndarray], actions: np.ndarray) -> None:
        """Take one environment step.

        Args:
            observation: by key (B, ...), copied.
            actions: (B, action_size), that go out for it, environment units.
        """
        actions = np.array(actions, np.float32)
        rows = len(actions)
        if self._past and rows != len(self._past[-1].actions):
            self._forget()
        seen = {key: np.array(value) for key, value in observation.items()}
        self._past.append(_Instant(seen, actions, np.isin(np.arange(rows), list(self._on))))
        self._now += 1
        for row in np.flatnonzero(~_finite(seen, rows)).tolist():
            self._lose(row)
        for row, first in list(self._begun.items()):
            if self._now - first == self._steps + 1:
                self._finish(row)

    def close(self) -> None:
        """Finish what is being recorded and wait until it is on disk; nothing is recorded after."""
        atexit.unregister(self.close)
        for row in list(self._begun):
            self._cut(row)
        self._writer.close()
        self._most = 0

    @property
    def _oldest(self) -> int:
        """Number of the oldest step in memory."""
        return self._now - len(self._past)

    def _lose(self, row: int) -> None:
        """Finish a row's episode before its newest observation, which is lost; it begins anew after it."""
        self._cut(row, self._now - 1)
        self._earliest[row] = self._now
        if row in self._on:
            self._begun[row] = self._now

    def _finish(self, row: int) -> None:
        """Write a row's whole episode; the next begins with its last frame if the alarm is still on."""
        self._write(row, self._begun.pop(row), self._now)
        self._earliest[row] = self._now - 1
        if row in self._on:
            self._begun[row] = self._now - 1

    def _cut(self, row: int, stop: int | None = None) -> None:
        """Write a row's episode as it stands, before the step `stop`, if it is half as long as it should be."""
        first, stop = self._begun.pop(row, None), self._now if stop is None else stop
        if first is not None and stop - 1 - first >= max(1, self._steps // 2):
            self._write(row, first, stop)

    def _write(self, row: int, first: int, stop: int) -> None:
        """Hand the frames `first` to `stop` - 1 of a row, and the actions between them, to the writer."""
        if self._episodes >= self._most:
            return
        kept = [self._past[index - self._oldest] for index in range(first, stop)]
        columns = {key: np.stack([each.observation[key][row] for each in kept]) for key in kept[0].observation}
        columns["alarm"] = np.array([each.alarm[row] for each in kept])
        columns["action"] = np.stack([each.actions[row] for each in kept[:-1]])
        self._writer.put(columns)
        self._episodes += 1
        if self._episodes >= self._enough and not self._asked:
            self._asked = True
            _LOGGER.warning("%d episodes since the alarm; adapt to them with: %s", self._episodes, self.command)

    def _forget(self) -> None:
        """Finish everything and begin with another number of rows."""
        for row in list(self._begun):
            self._cut(row)
        self._past.clear()
        self._earliest.clear()
        self._on.clear()


def _finite(observation: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """Return for each row (B,) whether all of its observation is finite."""
    numbers = [value.reshape(rows, -1) for value in observation.values() if value.dtype.kind == "f"]
    return np.all([np.isfinite(each).all(axis=1) for each in numbers], axis=0) if numbers else np.ones(rows, bool)
