"""One window's frames: events in, commands out, a picture on the screen. Needs pygame."""

import time
from pathlib import Path

import numpy as np
import pygame

from ..errors import UserError
from ..tasks import Playground
from .app import Simulation, Stats
from .controls import Controls, Wish
from .recorder import Recorder, next_path
from .snapshot import Snapshot
from .view import View

__all__ = ["Loop"]

_LEAST_SIZE = (240, 140)
"""Pixels; a window that is smaller keeps the drawing of before."""
_RECORDING = Path("wmkit-demo.gif")
"""Where V records to unless told otherwise; a number is added where there is such a file."""


class Loop:
    """Runs and draws a session, and passes on what the person does.

    Args:
        session: not yet started.
        playground: what the mouse can do in its scene.
        surface: of the window.
        fps: frames a second.
        record: file to record to from the first frame on.
    """

    def __init__(
        self, session: Simulation, playground: Playground, surface: pygame.Surface, fps: int, record: Path | None
    ) -> None:
        self._session, self._surface, self._fps = session, surface, fps
        self._handles = tuple(playground.handles)
        self._view = View(surface.get_size(), self._handles)
        self._controls = Controls(playground, session.post, lambda pixel: self._view.place(pixel))
        self._record = record
        self._recorder = None if record is None else Recorder(record, time.monotonic())
        self._finished: list[Recorder] = []
        self._exposed = True
        self._clock, self._due = pygame.time.Clock(), time.monotonic()

    def run(self, seconds: float | None) -> Stats:
        """Draw until the person quits or the time is over, then stop the session; also when interrupted.

        What is being recorded is written in any case.

        Raises:
            Exception: what ended the session.
            UserError: a recording could not be written.
        """
        times: list[float] = []
        first, start = self._session.snapshot().tick, time.monotonic()
        self._session.start()
        try:
            while self._session.error is None and (seconds is None or time.monotonic() - start < seconds):
                began = time.perf_counter()
                going = self._frame()
                times.append(1000 * (time.perf_counter() - began))
                if not going:
                    break
                self._wait()
        finally:
            elapsed, last = time.monotonic() - start, self._session.snapshot().tick
            self._session.stop()
            self._end_recordings()
        if self._session.error is not None:
            raise self._session.error
        p50, p99 = np.percentile(times, [50, 99]) if times else (0.0, 0.0)
        return Stats(len(times), float(p50), float(p99), last - first, elapsed)

    def _wait(self) -> None:
        """Sleep until the next frame is due; frames that came late are not made up for."""
        self._due = max(self._due + 1.0 / self._fps, time.monotonic())
        time.sleep(max(self._due - time.monotonic(), 0.0))
        self._clock.tick()

    def _frame(self) -> bool:
        """Take the events and draw one frame; return whether to go on."""
        now, snapshot = time.monotonic(), self._session.snapshot()
        for event in pygame.event.get():
            if not self._take(event, snapshot, now):
                return False
        self._controls.flush(now)
        recorder = self._recorder
        changed = self._view.draw(
            self._surface,
            snapshot,
            fps=self._clock.get_fps(),
            recording=recorder is not None,
            dragged=self._controls.dragged(snapshot),
        )
        if changed or self._exposed:
            pygame.display.update([self._surface.get_rect()] if self._exposed else changed)
        self._exposed = False
        if recorder is not None:
            recorder.add(self._surface, now)
        return True

    def _take(self, event: pygame.event.Event, snapshot: Snapshot, now: float) -> bool:
        """Take one event; return whether to go on."""
        if event.type == pygame.WINDOWEXPOSED:
            self._exposed = True
        if event.type == pygame.VIDEORESIZE:
            self._surface = pygame.display.get_surface() or self._surface
            width, height = self._surface.get_size()
            if width >= _LEAST_SIZE[0] and height >= _LEAST_SIZE[1]:
                self._view = View((width, height), self._handles)
            return True
        wish = self._controls.handle(event, snapshot, now)
        if wish is Wish.RECORD:
            self._switch_recording(now)
        return wish is not Wish.QUIT

    def _switch_recording(self, now: float) -> None:
        """Begin or end a recording, and say in the window's title which, or why it cannot be."""
        if self._recorder is not None:
            self._recorder.finish()
            self._finished.append(self._recorder)
            self._recorder = None
            pygame.display.set_caption(f"wmkit - recorded {self._finished[-1].path}")
            return
        try:
            taken = [recorder.path for recorder in self._finished]
            self._recorder = Recorder(next_path(self._record or _RECORDING, taken), now)
            pygame.display.set_caption(f"wmkit - recording {self._recorder.path}")
        except UserError as error:
            pygame.display.set_caption(f"wmkit - {error}")

    def _end_recordings(self) -> None:
        """Write what has been recorded and wait for it."""
        if self._recorder is not None:
            self._recorder.finish()
            self._finished.append(self._recorder)
            self._recorder = None
        for recorder in self._finished:
            recorder.wait()
