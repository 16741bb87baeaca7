"""Curves of the last control steps: surprise with its threshold, and a plain one for the cost. Needs pygame."""

from collections.abc import Sequence

import numpy as np
import pygame

from .theme import ACCENT, ALARM, ALARM_PALE, CARD, GRID, INK, MUTED, Color

__all__ = ["CEILING", "Plot", "score_height"]

CEILING = 30.0
"""Surprise that fills the plot; the scale is linear to 1 and logarithmic above."""
_KNEE = 0.45
"""Share of the plot's height at which the threshold lies."""
_SHOWN = 60
"""Steps that a plot shows."""
_SMOOTH = 2
"""Curves are drawn so many times larger and shrunk, for smooth edges."""

_Point = tuple[float, float]


def score_height(score: float) -> float:
    """Return where a surprise is drawn, 0 bottom to 1 top: linear up to the threshold 1, logarithmic above."""
    if score <= 1.0:
        return _KNEE * max(score, 0.0)
    return min(1.0, _KNEE + (1.0 - _KNEE) * float(np.log(score) / np.log(CEILING)))


class Plot:
    """A rectangle in which one curve is drawn.

    Args:
        rect: where, in pixels of the window.
        scale: of lines and dots; 1 for the default window.
    """

    def __init__(self, rect: pygame.Rect, scale: float) -> None:
        self.rect = rect
        self._large = pygame.Surface((rect.width * _SMOOTH, rect.height * _SMOOTH))
        self._small = pygame.Surface(rect.size)
        self._unit = _SMOOTH * scale

    def scores(self, surface: pygame.Surface, scores: Sequence[float], alarms: Sequence[bool]) -> None:
        """Draw the surprise curve: its threshold dashed, red ground under steps with an alarm; NaN leaves a gap.

        Args:
            surface: drawn on.
            scores: (steps,), calibrated, oldest first.
            alarms: (steps,), for each whether the alarm was on.
        """
        points = self._points([score_height(s) if not np.isnan(s) else None for s in scores[-_SHOWN:]])
        self._clear()
        self._alarm_ground(points, alarms[-_SHOWN:])
        y, dash, width = round(self._y(_KNEE)), round(5 * self._unit), self._large.get_width()
        for x in range(0, width, 2 * dash):
            pygame.draw.line(self._large, MUTED, (x, y), (x + dash, y), max(1, round(self._unit)))
        self._curve(points, INK, ALARM if alarms and alarms[-1] else INK)
        self._show(surface)

    def costs(self, surface: pygame.Surface, costs: Sequence[float]) -> None:
        """Draw the curve of the costs (plans,), oldest first, from 0, or the lowest if below, to the highest shown."""
        shown = np.asarray(costs[-_SHOWN:], float)
        finite = shown[np.isfinite(shown)]
        low, high = (min(0.0, finite.min()), finite.max()) if len(finite) else (0.0, 1.0)
        heights = (shown - low) / max(high - low, 1e-9)
        self._clear()
        self._curve(self._points([float(h) if np.isfinite(h) else None for h in heights]), ACCENT, ACCENT)
        self._show(surface)

    def _clear(self) -> None:
        """Begin with an empty plot over a line at its bottom."""
        self._large.fill(CARD)
        bottom, width = self._large.get_height() - 1, self._large.get_width()
        pygame.draw.line(self._large, GRID, (0, bottom), (width, bottom), max(1, round(self._unit)))

    def _show(self, surface: pygame.Surface) -> None:
        pygame.transform.smoothscale(self._large, self.rect.size, self._small)
        surface.blit(self._small, self.rect)

    def _y(self, height: float) -> float:
        """Return y on the large surface of a height, 0 bottom to 1 top, with room for the newest value's dot."""
        margin = 4 * self._unit
        return self._large.get_height() - 1 - height * (self._large.get_height() - 1 - margin)

    def _points(self, heights: Sequence[float | None]) -> list[_Point | None]:
        """Return the places of the steps on the large surface, from the left; None where there is no height."""
        step = (self._large.get_width() - 8 * self._unit) / (_SHOWN - 1)
        return [None if h is None else (k * step, self._y(h)) for k, h in enumerate(heights)]

    def _alarm_ground(self, points: Sequence[_Point | None], alarms: Sequence[bool]) -> None:
        """Fill pale the whole height, and strong what lies under the curve, from one step before each alarm on."""
        bottom = self._large.get_height()
        for k, (point, alarm) in enumerate(zip(points, alarms, strict=False)):
            before = points[k - 1] if k else None
            if not alarm or point is None:
                continue
            start = point if before is None else before
            width = max(1, round(point[0]) - round(start[0]))
            self._large.fill(ALARM_PALE, (round(start[0]), 0, width, bottom))
            pygame.draw.polygon(self._large, ALARM, [start, point, (point[0], bottom), (start[0], bottom)])

    def _curve(self, points: Sequence[_Point | None], color: Color, newest: Color) -> None:
        """Draw a line through the places, with a gap at each None, and a dot on the newest."""
        width, run = max(2, round(1.8 * self._unit)), list[_Point]()
        for point in [*points, None]:
            if point is not None:
                run.append(point)
                continue
            if len(run) > 1:
                pygame.draw.lines(self._large, color, False, run, width)
            elif run:
                pygame.draw.circle(self._large, color, run[0], width)
            run = []
        if points and points[-1] is not None:
            pygame.draw.circle(self._large, newest, points[-1], 4 * self._unit)
