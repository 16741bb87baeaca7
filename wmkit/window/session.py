"""The simulation behind the window, in a thread of its own.

The world waits for the controller's plan, as in lock step; the window never waits for either. What a person does is
applied between two control steps, at once also while time stands still.
"""

import queue
import threading
import time
from dataclasses import replace

from .play import Play
from .snapshot import Command, Snapshot

__all__ = ["Session"]


class Session:
    """Runs a `Play` at a steady rate, does what it is told, and shows each step as a `Snapshot`.

    Attributes:
        error: what ended the thread, or None.
        rate_hz: control steps a second.
    """

    def __init__(self, play: Play, rate_hz: float | None = None) -> None:
        """Take over what happens; `start` lets time run.

        Args:
            play: the session closes it.
            rate_hz: control steps a second; None takes simulated time's.
        """
        self.error: Exception | None = None
        self.rate_hz = 1.0 / play.seconds_per_step if rate_hz is None else rate_hz
        self._play = play
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._snapshot = play.shown()

    def start(self) -> None:
        """Let time run, in a thread."""
        self._thread = threading.Thread(target=self._run, name="wmkit-session", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the environments; a second call does nothing."""
        if self._stopping:
            return
        self._stopping = True
        self._commands.put(None)
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        if self._thread is None or not self._thread.is_alive():
            self._play.close()

    def post(self, command: Command) -> None:
        """Ask for something; it happens between two control steps."""
        self._commands.put(command)

    def snapshot(self) -> Snapshot:
        """Return the latest state of things, at once."""
        return self._snapshot

    def decision_ms(self, quantile: float) -> float:
        """Return a quantile of the last decisions' times in milliseconds, 0 before the first."""
        return self._play.track.decision_ms(quantile)

    def tick(self) -> None:
        """Do what was asked for, and one control step unless time stands still; `start` calls this at the rate."""
        self._do(self._asked(), due=True)

    def _do(self, asked: list[Command], due: bool) -> None:
        """Do what was asked for, and a control step where one is due and no pause was asked for, or where one was."""
        play = self._play
        play.perform(asked)
        stepping = play.step_asked or (due and not play.paused)
        if stepping:
            play.advance()
        if stepping or asked:
            self._snapshot = play.shown()

    def _run(self) -> None:
        """Keep the rate until told to stop; an error ends the thread and is kept."""
        period, due = 1.0 / self.rate_hz, time.monotonic()
        try:
            while not self._stopping:
                asked = self._wait(due)
                if asked:
                    self._do(asked, due=False)
                else:
                    self.tick()
                    due = max(due + period, time.monotonic() - period)
        except Exception as error:
            self.error = error
            self._snapshot = replace(self._snapshot, text=f"stopped: {error}")

    def _wait(self, due: float) -> list[Command]:
        """Return what is asked for before the next control step is due; nothing once it is."""
        left = due - time.monotonic()
        if left <= 0:
            return []
        try:
            command = self._commands.get(timeout=left)
        except queue.Empty:
            return []
        return [] if command is None else [command, *self._asked()]

    def _asked(self) -> list[Command]:
        """Return the commands that wait, oldest first."""
        found: list[Command] = []
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return found
            if command is not None:
                found.append(command)
