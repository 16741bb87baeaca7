"""The scene as the window shows it: the picture enlarged; goal, imagined futures and alarm over it. Needs pygame."""

from collections.abc import Sequence

import numpy as np
import pygame

from .snapshot import Snapshot
from .theme import ACCENT, ALARM, CARD, GOAL, INK, MUTED, Color, Theme, enlarge, premultiplied

__all__ = ["Stage"]

_SMOOTH = 2
"""Outlines are drawn so many times larger and shrunk, for smooth edges."""
_TITLES = {
    "looks": "It looks different",
    "state": "Something was moved",
    "dynamics": "Things answer differently",
    "sensor": "Its eyes are disturbed",
    "unknown": "Something is not as expected",
}


class Stage:
    """Draws one snapshot's scene into a square.

    Args:
        side: pixels of the square.
        theme: fonts and scale.
    """

    def __init__(self, side: int, theme: Theme) -> None:
        self._side, self._theme = side, theme
        self._large = pygame.Surface((side * _SMOOTH, side * _SMOOTH), pygame.SRCALPHA)
        self._overlay = pygame.Surface((side, side), pygame.SRCALPHA)
        self._picture = pygame.Surface((side, side), depth=32)

    def draw(self, surface: pygame.Surface, place: tuple[int, int], snapshot: Snapshot) -> None:
        """Draw everything of the scene with its upper left corner at a place."""
        enlarge(snapshot.picture, self._picture)
        surface.blit(self._picture, place)
        self._large.fill((0, 0, 0, 0))
        self._futures(snapshot)
        for outline in snapshot.goal_outline:
            self._dashes(outline, GOAL)
        self._lay_over(surface, place)
        rect = pygame.Rect(place, (self._side, self._side))
        if snapshot.alarms and snapshot.alarms[-1]:
            self._banner(surface, rect, snapshot)
        self._foot(surface, rect, snapshot)

    def draw_dragged(self, surface: pygame.Surface, place: tuple[int, int], outlines: Sequence[np.ndarray]) -> None:
        """Draw what the mouse holds, outlines (M, 2) in [0, 1], over a scene drawn before."""
        if not outlines:
            return
        self._large.fill((0, 0, 0, 0))
        for outline in outlines:
            pygame.draw.polygon(self._large, premultiplied(INK, 0.15), self._pixels(outline))
            self._polygon(outline, premultiplied(INK, 0.9), 2.0)
        self._lay_over(surface, place)

    def _lay_over(self, surface: pygame.Surface, place: tuple[int, int]) -> None:
        """Shrink the large surface and blend it over the scene."""
        pygame.transform.smoothscale(self._large, self._overlay.get_size(), self._overlay)
        surface.blit(self._overlay, place, special_flags=pygame.BLEND_PREMULTIPLIED)

    def _futures(self, snapshot: Snapshot) -> None:
        """Draw the candidates' outlines, the best last and strongest, of each the later steps fainter."""
        count = len(snapshot.futures)
        for rank in range(count - 1, -1, -1):
            strength = 0.9 if rank == 0 else 0.34 * (1.0 - rank / (count + 1))
            future = snapshot.futures[rank]
            for step in range(len(future) - 1, -1, -1):
                alpha = strength * (1.0 - 0.7 * step / max(len(future) - 1, 1))
                for outline in future[step]:
                    if rank == 0 and step == len(future) - 1:
                        pygame.draw.polygon(self._large, premultiplied(ACCENT, 0.08), self._pixels(outline))
                    self._polygon(outline, premultiplied(ACCENT, alpha), 2.4 if rank == 0 else 1.2)

    def _polygon(self, outline: np.ndarray, color: tuple[int, int, int, int], width: float) -> None:
        """Draw a closed outline on the large surface; sharp corners get round joints."""
        points, pixels = self._pixels(outline), max(2, self._theme.px(width * _SMOOTH))
        pygame.draw.lines(self._large, color, True, points, pixels)
        for point in points if pixels > 3 and len(points) < 16 else ():
            pygame.draw.circle(self._large, color, point, pixels / 2)

    def _dashes(self, outline: np.ndarray, color: Color) -> None:
        """Draw a closed dashed outline on the large surface."""
        points = np.array([*self._pixels(outline), self._pixels(outline)[0]], float)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        dash = min(self._theme.px(10) * _SMOOTH, along[-1] / 8)
        paint, width = premultiplied(color, 0.95), max(2, self._theme.px(2.6 * _SMOOTH))
        for start in np.arange(0.0, along[-1], 1.8 * dash) if along[-1] > 0 else ():
            end = min(start + dash, along[-1])
            stops = [start, *along[(along > start) & (along < end)], end]
            places = [(np.interp(s, along, points[:, 0]), np.interp(s, along, points[:, 1])) for s in stops]
            pygame.draw.lines(self._large, paint, False, places, width)

    def _pixels(self, outline: np.ndarray) -> list[tuple[float, float]]:
        """Return an outline's points on the large surface."""
        side = self._side * _SMOOTH
        return [(float(x) * side, float(y) * side) for x, y in outline]

    def _banner(self, surface: pygame.Surface, scene: pygame.Rect, snapshot: Snapshot) -> None:
        """Frame the scene red and say at its top what is wrong."""
        theme, kind = self._theme, snapshot.kind or "unknown"
        pygame.draw.rect(surface, ALARM, scene, width=theme.px(4))
        rect = pygame.Rect(scene.left, scene.top, scene.width, theme.px(50))
        surface.fill(ALARM, rect)
        middle = (rect.left + theme.px(28), rect.centery)
        pygame.draw.circle(surface, CARD, middle, theme.px(12))
        theme.text(surface, "!", middle, "title", ALARM, "center")
        left, right = rect.left + theme.px(52), rect.right - theme.px(14)
        title = _TITLES.get(kind, kind.capitalize())
        theme.text(surface, title, (left, rect.top + theme.px(7)), "title", CARD)
        theme.text(surface, f"surprise: {kind}", (right, rect.top + theme.px(9)), "small", CARD, "topright")
        text = theme.fitted(snapshot.text, "small", right - left)
        theme.text(surface, text, (left, rect.top + theme.px(28)), "small", CARD)

    def _foot(self, surface: pygame.Surface, scene: pygame.Rect, snapshot: Snapshot) -> None:
        """Write at the scene's bottom what a person changed, and that the goal is reached or time stands still."""
        theme, y = self._theme, scene.bottom - self._theme.px(22)
        x = scene.left + theme.px(12)
        for change in snapshot.changes:
            x = theme.chip(surface, change, (x, y), MUTED) + theme.px(6)
        word, ground = ("paused", INK) if snapshot.paused else ("goal reached", GOAL)
        if snapshot.paused or snapshot.success:
            width = theme.width(word, "small") + theme.px(16)
            theme.chip(surface, word, (scene.right - theme.px(12) - width, y), ground)
