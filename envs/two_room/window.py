"""A window for ``render_mode="human"``; pygame is imported when the first frame is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Window"]

_SCALE = 2


class Window:
    """Shows RGB frames in a window that opens with the first frame.

    Args:
        size: Side of the frames, in pixels; the window is twice as large.
        title: Title of the window.
    """

    def __init__(self, size: int, title: str) -> None:
        self._side, self._title = size * _SCALE, title
        self._screen: Any = None
        self._clock: Any = None

    def show(self, frame: npt.NDArray[np.uint8], fps: int) -> None:
        """Shows a frame (S, S, 3) uint8, then waits until the next one is due.

        Raises:
            ImportError: If pygame is not installed.
        """
        try:
            import pygame
        except ImportError as error:
            raise ImportError('render_mode="human" needs pygame: pip install "wmkit[demo]"') from error
        if self._screen is None:
            pygame.display.init()
            self._screen, self._clock = pygame.display.set_mode((self._side, self._side)), pygame.time.Clock()
            pygame.display.set_caption(self._title)
        picture = np.repeat(np.repeat(frame, _SCALE, axis=0), _SCALE, axis=1)
        pygame.surfarray.blit_array(self._screen, picture.swapaxes(0, 1))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(fps)

    def close(self) -> None:
        """Closes the window; a second call does nothing."""
        if self._screen is not None:
            import pygame

            pygame.display.quit()
            self._screen = None
