"""The whole window drawn from one snapshot: the scene at left, the panel at right. Needs pygame."""

from collections.abc import Sequence

import numpy as np
import pygame

from .panel import Panel
from .snapshot import Snapshot
from .stage import Stage
from .theme import ACCENT, ALARM, GOAL, GRID, MUTED, PAGE, Theme

__all__ = ["DEFAULT_SIZE", "View"]

DEFAULT_SIZE = (1080, 620)
"""Width and height of the window, pixels."""
_MARGIN, _SCENE = 20, 540


class View:
    """Draws snapshots; what a snapshot shows is drawn once and kept until the next one.

    Args:
        size: width and height in pixels; everything scales with the smaller of the two, relative to `DEFAULT_SIZE`.
        handles: what the mouse can drag.
    """

    def __init__(self, size: tuple[int, int] = DEFAULT_SIZE, handles: Sequence[str] = ("block", "agent")) -> None:
        scale = min(size[0] / DEFAULT_SIZE[0], size[1] / DEFAULT_SIZE[1])
        self._theme = theme = Theme(scale)
        self._place = (
            round((size[0] - DEFAULT_SIZE[0] * scale) / 2) + theme.px(_MARGIN),
            round((size[1] - DEFAULT_SIZE[1] * scale) / 2) + theme.px(_MARGIN),
        )
        self._side = theme.px(_SCENE)
        left = self._place[0] + self._side + theme.px(_MARGIN)
        width = theme.px(DEFAULT_SIZE[0] - 3 * _MARGIN - _SCENE)
        self._stage = Stage(self._side, theme)
        self._panel = Panel(pygame.Rect(left, self._place[1], width, theme.px(580)), theme, handles)
        self._canvas = pygame.Surface(size)
        self._shown: Snapshot | None = None
        self._recording = self._dragged = False
        self._rate = -1

    @property
    def scene(self) -> pygame.Rect:
        """Where the scene is, in pixels of the window."""
        return pygame.Rect(self._place, (self._side, self._side))

    def place(self, position: tuple[int, int]) -> tuple[float, float]:
        """Return the place in the scene of a pixel of the window: x and y in [0, 1] inside it, beyond outside."""
        return (position[0] - self._place[0]) / self._side, (position[1] - self._place[1]) / self._side

    def draw(
        self,
        surface: pygame.Surface,
        snapshot: Snapshot,
        *,
        fps: float,
        recording: bool,
        dragged: Sequence[np.ndarray] = (),
    ) -> list[pygame.Rect]:
        """Draw one frame, and return the parts of the surface that may have changed since the last one.

        Args:
            surface: of the view's size.
            snapshot: what to show; it is drawn anew only when it is another one than the last time.
            fps: frames drawn a second.
            recording: whether the window is being recorded.
            dragged: outlines (M, 2) in [0, 1] of what the mouse holds.
        """
        changed = [surface.get_rect()]
        if snapshot is self._shown and recording == self._recording:
            changed = [self._panel.rate] if round(fps) != self._rate else []
            changed += [self.scene] if dragged or self._dragged else []
        self._recording, self._dragged, self._rate = recording, bool(dragged), round(fps)
        if snapshot is not self._shown:
            self._canvas.fill(PAGE)
            self._stage.draw(self._canvas, self._place, snapshot)
            pygame.draw.rect(self._canvas, GRID, self.scene.inflate(2, 2), width=1)
            self._caption(self._canvas, snapshot)
            self._panel.draw(self._canvas, snapshot)
            self._shown = snapshot
        surface.blit(self._canvas, (0, 0))
        self._panel.draw_rate(surface, fps)
        if recording:
            self._recording_mark(surface)
        surface.set_clip(self.scene)
        self._stage.draw_dragged(surface, self._place, dragged)
        surface.set_clip(None)
        return changed

    def _caption(self, surface: pygame.Surface, snapshot: Snapshot) -> None:
        """Say below the scene what the lines in it are, and what happened last."""
        theme, scene = self._theme, self.scene
        x, y = scene.left, scene.bottom + theme.px(17)
        for k in range(3):
            start = x + theme.px(9 * k)
            pygame.draw.line(surface, GOAL, (start, y), (start + theme.px(6), y), theme.px(2))
        right = theme.text(surface, "goal", (x + theme.px(31), y), "small", MUTED, "midleft").right
        if snapshot.futures:
            x = right + theme.px(18)
            pygame.draw.line(surface, ACCENT, (x, y), (x + theme.px(24), y), theme.px(3))
            label = "what it imagines: best plan strong, others faint, later paler"
            theme.text(surface, label, (x + theme.px(31), y), "small", MUTED, "midleft")
        alarm = bool(snapshot.alarms and snapshot.alarms[-1])
        line = snapshot.hint if snapshot.hint and snapshot.scores else "" if alarm else snapshot.text
        line = theme.fitted(line, "small", scene.width - theme.px(60))
        theme.text(surface, line, (scene.left, y + theme.px(21)), "small", MUTED, "midleft")

    def _recording_mark(self, surface: pygame.Surface) -> None:
        """Put a red pill under the scene's lower right corner."""
        theme, scene = self._theme, self.scene
        left = scene.right - theme.width("rec", "small") - theme.px(16)
        theme.chip(surface, "rec", (left, scene.bottom + theme.px(38)), ALARM)
