"""What mouse and keys ask of the simulation. Needs pygame."""

from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np
import pygame

from ..tasks import Playground
from .snapshot import Command, Snapshot

__all__ = ["KEYS", "Controls", "Wish"]

KEYS = {
    pygame.K_c: "recolour",
    pygame.K_w: "weaken",
    pygame.K_t: "teleport",
    pygame.K_p: "planner",
    pygame.K_o: "protocol",
    pygame.K_a: "reaction",
    pygame.K_SPACE: "pause",
    pygame.K_s: "step",
    pygame.K_RIGHT: "step",
    pygame.K_r: "reset",
}
"""Keys that are commands."""
_NOTCH = np.pi / 12
"""Radians by which one notch of the wheel turns what can be turned."""
_TURN = 2 * np.pi
"""Radians for a right-drag across the whole scene."""
_INTERVAL = 1.0 / 15.0
"""Seconds between two commands of one movement; what the mouse does between them is summed up."""

_Place = tuple[float, float]


class Wish(Enum):
    """What a person wants of the window itself."""

    QUIT = "quit"
    RECORD = "record"


class Controls:
    """Turns pygame's events into commands, and knows what the mouse holds.

    A movement is sent at most 15 times a second, its end at once. What is held is drawn where the mouse has it, before
    the simulation has answered.

    Args:
        playground: what can be grabbed.
        post: takes the commands.
        place: pixel of the window -> place in the scene, [0, 1] inside.
    """

    def __init__(
        self,
        playground: Playground,
        post: Callable[[Command], None],
        place: Callable[[tuple[int, int]], _Place],
    ) -> None:
        self._playground, self._post, self.place = playground, post, place
        self._handle: str | None = None
        self._offset: _Place = (0.0, 0.0)
        self._target: _Place | None = None
        self._moved = False
        self._spinning: float | None = None
        self._spin = 0.0
        self._goal_key = False
        self._sent_at = -np.inf

    def handle(self, event: pygame.event.Event, snapshot: Snapshot, now: float) -> Wish | None:
        """Take one event.

        Args:
            event: of pygame's queue.
            snapshot: what is on the screen.
            now: seconds, monotonic.

        Returns:
            What is wanted of the window, None for nothing.
        """
        if event.type == pygame.QUIT:
            return Wish.QUIT
        if event.type in (pygame.KEYDOWN, pygame.KEYUP):
            return self._key(event)
        if event.type == pygame.MOUSEBUTTONDOWN:
            self._press(event, snapshot)
        elif event.type == pygame.MOUSEMOTION:
            self._move(self.place(event.pos))
        elif event.type == pygame.MOUSEBUTTONUP:
            self._release(event.button)
        elif event.type == pygame.MOUSEWHEEL:
            self._spin += _NOTCH * event.y
        self.flush(now)
        return None

    def flush(self, now: float) -> None:
        """Send the movement that has not been sent, if it is time; `now` in seconds, monotonic."""
        if now - self._sent_at >= _INTERVAL and (self._moved or self._spin):
            self._send()
            self._sent_at = now

    def dragged(self, snapshot: Snapshot) -> Sequence[np.ndarray]:
        """Return the outlines (M, 2) in [0, 1] of what the mouse holds, where it would be; empty for nothing."""
        if self._handle is None and not self._spin:
            return ()
        state, handle = snapshot.state, self._handle or self._playground.handles[0]
        if self._handle is not None and self._target is not None:
            state = self._playground.drag(state, handle, *self._target)
        return self._playground.outline(self._playground.spin(state, self._spin) if self._spin else state, handle)

    def _key(self, event: pygame.event.Event) -> Wish | None:
        down = event.type == pygame.KEYDOWN
        if event.key == pygame.K_g:
            self._goal_key = down
        elif down and event.key == pygame.K_ESCAPE:
            return Wish.QUIT
        elif down and event.key == pygame.K_v:
            return Wish.RECORD
        elif down and event.key in KEYS:
            self._post(Command(KEYS[event.key]))
        return None

    def _press(self, event: pygame.event.Event, snapshot: Snapshot) -> None:
        """Begin a drag or a spin, or put the goal somewhere."""
        x, y = self.place(event.pos)
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            return
        if event.button == 1 and (self._goal_key or pygame.key.get_mods() & pygame.KMOD_SHIFT):
            self._post(Command("goal", x=x, y=y))
        elif event.button == 1:
            self._handle = self._playground.grab(snapshot.state, x, y)
            self._target, self._offset = None, self._grip(snapshot.state, x, y)
        elif event.button == 3:
            self._spinning = x

    def _grip(self, state: np.ndarray, x: float, y: float) -> _Place:
        """Return how far the mouse is from the place of what it grabbed."""
        if self._handle is None:
            return 0.0, 0.0
        left, top = self._playground.place(state, self._handle)
        return x - left, y - top

    def _move(self, place: _Place) -> None:
        """Go on with a drag or a spin."""
        if self._handle is not None:
            x, y = place[0] - self._offset[0], place[1] - self._offset[1]
            self._target, self._moved = (min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)), True
        if self._spinning is not None:
            self._spin += _TURN * (place[0] - self._spinning)
            self._spinning = place[0]

    def _release(self, button: int) -> None:
        """End a drag or a spin with its last movement."""
        if button == 1 and self._handle is not None:
            self._send()
            self._post(Command("release", self._handle))
            self._handle = self._target = None
        elif button == 3 and self._spinning is not None:
            self._send()
            self._post(Command("release"))
            self._spinning = None

    def _send(self) -> None:
        """Post the movement so far."""
        if self._moved and self._handle is not None and self._target is not None:
            self._post(Command("drag", self._handle, *self._target))
        if self._spin:
            self._post(Command("spin", angle=self._spin))
        self._moved, self._spin = False, 0.0
