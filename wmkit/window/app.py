"""The window's loop: it draws at a steady rate and never waits for the simulation.

pygame is imported by `run`, not with this module.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import UserError
from ..tasks import Playground
from .snapshot import Command, Snapshot

if TYPE_CHECKING:
    import pygame

__all__ = ["Simulation", "Stats", "run"]

_DRIVERS_WITHOUT_DISPLAY = ("dummy", "offscreen")
_DISPLAY_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


class Simulation(Protocol):
    """What the window needs of a session.

    Attributes:
        error: what ended its thread, or None.
    """

    error: Exception | None

    def start(self) -> None:
        """Let time run, in a thread."""
        ...

    def stop(self) -> None:
        """End the thread."""
        ...

    def post(self, command: Command) -> None:
        """Take a command, at once."""
        ...

    def snapshot(self) -> Snapshot:
        """Return the latest state of things, at once."""
        ...


@dataclass(frozen=True)
class Stats:
    """How smoothly a window ran.

    Attributes:
        frames: drawn.
        frame_ms_p50: median time to take the events and draw one frame, milliseconds, the wait for the next left out.
        frame_ms_p99: 99th percentile of the same.
        control_steps: that the simulation took meanwhile.
        seconds: from the first frame to the last.
    """

    frames: int
    frame_ms_p50: float
    frame_ms_p99: float
    control_steps: int
    seconds: float


def run(
    session: Simulation,
    playground: Playground,
    *,
    headless: bool = False,
    seconds: float | None = None,
    record: Path | None = None,
    fps: int = 40,
    size: tuple[int, int] | None = None,
) -> Stats:
    """Open the window, start the session, and draw until the person quits or the time is over; the session is stopped.

    Args:
        session: the simulation, not yet started.
        playground: what the mouse can do in its scene.
        headless: draw without a display; sets SDL_VIDEODRIVER for the time of the call.
        seconds: after which the window closes; None leaves it open.
        record: .gif or .mp4 file to record to from the first frame on; V ends that and starts another.
        fps: frames a second.
        size: width and height in pixels; None takes the view's default.

    Returns:
        How smoothly it ran.

    Raises:
        UserError: no pygame, no display, a recording that cannot be written, or what the session raised of the kind.
        Exception: what ended the session's thread.
    """
    _require_pygame()
    from .loop import Loop
    from .recorder import check_path
    from .view import DEFAULT_SIZE

    if record is not None:
        check_path(record)
    with _display(size or DEFAULT_SIZE, headless) as surface:
        return Loop(session, playground, surface, fps, record).run(seconds)


def _require_pygame() -> None:
    """Import pygame without its greeting. Raises UserError where it is not installed."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame  # noqa: F401
    except ImportError:
        raise UserError("the window needs pygame: pip install 'wmkit[demo]'") from None


@contextlib.contextmanager
def _display(size: tuple[int, int], headless: bool) -> Iterator[pygame.Surface]:
    """Open the window, and close it afterwards.

    Without a display SDL quietly draws to nowhere (its driver "offscreen"), or raises; both become a UserError. On
    Linux SDL is not even asked, since it writes a line of its own, unless SDL_VIDEODRIVER says what to use. The
    window is drawn by software: with OpenGL behind it, X ends a program in which a simulator's OpenGL is in use.
    """
    import pygame

    os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
    driver = os.environ.get("SDL_VIDEODRIVER")
    if headless:
        os.environ["SDL_VIDEODRIVER"] = "dummy"
    try:
        with _one_line_errors():
            if sys.platform == "linux" and not any(map(os.environ.get, _DISPLAY_VARIABLES)):
                raise pygame.error("neither DISPLAY nor WAYLAND_DISPLAY is set")
            pygame.display.init()
            if not headless and pygame.display.get_driver() in _DRIVERS_WITHOUT_DISPLAY:
                raise pygame.error(f"SDL offers only its driver {pygame.display.get_driver()!r}")
            surface = pygame.display.set_mode(size, 0 if headless else pygame.RESIZABLE)
        pygame.display.set_caption("wmkit")
        yield surface
    finally:
        pygame.display.quit()
        if headless:
            os.environ.pop("SDL_VIDEODRIVER")
            os.environ.update({} if driver is None else {"SDL_VIDEODRIVER": driver})


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Say in one line that there is no display, and what to do."""
    import pygame

    try:
        yield
    except pygame.error as error:
        raise UserError(
            f"no display to open a window on ({error}); run it with --headless, and --record FILE.gif to see something"
        ) from None
