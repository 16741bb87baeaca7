"""A pygame window for `render_mode="human"`; pygame is imported only when one opens."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Window"]


class Window:
    """Shows frames at a fixed rate.

    Args:
        size: pixels of a side.
        fps: frames a second.

    Raises:
        ValueError: if pygame is not installed.
    """

    def __init__(self, size: int, fps: int) -> None:
        try:
            import pygame
        except ImportError:
            raise ValueError('render_mode="human" needs pygame: pip install "wmkit[demo]"') from None
        self._pygame, self._fps = pygame, fps
        pygame.display.init()
        self._surface = pygame.display.set_mode((size, size))
        pygame.display.set_caption("wmkit PushT")
        self._clock = pygame.time.Clock()

    def show(self, frame: NDArray[np.uint8]) -> None:
        """Show a frame, uint8 (size, size, 3), and wait until its time is over."""
        self._pygame.surfarray.blit_array(self._surface, frame.swapaxes(0, 1))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
