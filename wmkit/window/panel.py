"""The panel beside the scene: goal, choices, surprise, cost, times, and what keys and mouse do. Needs pygame."""

from collections.abc import Sequence

import numpy as np
import pygame

from .curves import Plot, score_height
from .snapshot import Snapshot
from .theme import ACCENT, ALARM, GRID, INK, MUTED, Color, Theme, enlarge

__all__ = ["LEGEND", "Panel"]

LEGEND = (
    (("drag", ""), ("right-drag", "or wheel: turn it")),
    (("shift-click", "new goal"), ("V", "record"), ("Esc", "quit")),
    (("C", "recolour"), ("W", "weaken the motor"), ("T", "teleport")),
    (("space", "pause"), ("S", "one step"), ("R", "start anew")),
)
"""Rows of keys and what they do, as the panel shows them all the time; the playground says what a drag moves."""
_HEIGHTS = {"state": 104, "surprise": 176, "cost": 96, "times": 58, "legend": 110}
_SPACING = 9


class Panel:
    """Draws one snapshot's numbers into a rectangle.

    Args:
        rect: where the panel is.
        theme: fonts and scale.
        handles: what can be dragged.
    """

    def __init__(self, rect: pygame.Rect, theme: Theme, handles: Sequence[str]) -> None:
        self._dragging = "move " + " or ".join(handles)
        self._theme, self._cards, top = theme, {}, float(rect.top)
        for name, height in _HEIGHTS.items():
            self._cards[name] = pygame.Rect(rect.left, round(top), rect.width, theme.px(height))
            top += (height + _SPACING) * theme.scale
        self._goal = pygame.Surface((theme.px(80), theme.px(80)), depth=32)
        self._scores = Plot(self._inner(self._cards["surprise"], 44, 12), theme.scale)
        self._costs = Plot(self._inner(self._cards["cost"], 38, 12), theme.scale)

    def draw(self, surface: pygame.Surface, snapshot: Snapshot) -> None:
        """Draw everything but the drawing's own rate."""
        for card in self._cards.values():
            self._theme.card(surface, card)
        self._state(surface, self._cards["state"], snapshot)
        self._surprise(surface, self._cards["surprise"], snapshot)
        self._cost(surface, self._cards["cost"], snapshot)
        for place, value, label in (
            (0, f"{snapshot.decision_ms:.0f} ms", "one decision"),
            (1, f"{snapshot.decision_p99_ms:.0f} ms", "slowest 1 %"),
            (2, f"{snapshot.control_hz:.1f} / s", "control steps"),
        ):
            self._tile(surface, place, value, label)
        self._legend(surface, self._cards["legend"])

    @property
    def rate(self) -> pygame.Rect:
        """Where the drawing's own rate is."""
        return self._cards["times"]

    def draw_rate(self, surface: pygame.Surface, fps: float) -> None:
        """Draw how many frames a second are drawn."""
        self._tile(surface, 3, f"{fps:.0f} / s", "frames drawn")

    def _state(self, surface: pygame.Surface, card: pygame.Rect, snapshot: Snapshot) -> None:
        """Draw the goal's picture, how many goals were reached, and the three choices with their keys."""
        theme, pad = self._theme, self._theme.px(12)
        enlarge(snapshot.goal_picture, self._goal)
        rect = surface.blit(self._goal, (card.left + pad, card.top + pad))
        pygame.draw.rect(surface, GRID, rect, width=1)
        left = rect.right + theme.px(14)
        theme.text(surface, "goal", (left, rect.top), "strong")
        theme.text(surface, f"{snapshot.reached} of {snapshot.episodes}", (left, rect.centery - theme.px(12)), "number")
        theme.text(surface, "reached so far", (left, rect.bottom - theme.px(16)), "small", MUTED)
        choices = (
            ("P", "planner", snapshot.planner),
            ("O", "protocol", snapshot.protocol),
            ("A", "if surprised", snapshot.reaction),
        )
        left = card.left + theme.px(222)
        for row, (key, label, value) in enumerate(choices):
            y = card.top + theme.px(25 + 27 * row)
            theme.key(surface, key, (left, y))
            theme.text(surface, label, (left + theme.px(26), y), "small", MUTED, "midleft")
            value = theme.fitted(value or "—", "strong", card.right - pad - left - theme.px(112))
            theme.text(surface, value, (left + theme.px(112), y), "strong", INK, "midleft")

    def _surprise(self, surface: pygame.Surface, card: pygame.Rect, snapshot: Snapshot) -> None:
        """Draw the surprise curve with its newest value, or what is missing for it."""
        theme, alarm = self._theme, bool(snapshot.alarms and snapshot.alarms[-1])
        newest = snapshot.scores[-1] if snapshot.scores else float("nan")
        self._title(surface, card, "Surprise", "what it sees, against what it imagined")
        self._newest(surface, card, "—" if np.isnan(newest) else f"{newest:.1f}", ALARM if alarm else INK)
        plot = self._scores.rect
        if not snapshot.scores and snapshot.hint:
            self._paragraph(surface, plot, snapshot.hint)
            return
        self._scores.scores(surface, snapshot.scores, snapshot.alarms)
        y = plot.bottom - score_height(1.0) * (plot.height - theme.px(2))
        theme.text(surface, "alarm", (card.right - theme.px(14), y), "tiny", MUTED, "midright")

    def _cost(self, surface: pygame.Surface, card: pygame.Rect, snapshot: Snapshot) -> None:
        """Draw the cost's curve with its newest value."""
        self._title(surface, card, "Cost", "of its best plan; 0 would be the goal")
        self._newest(surface, card, f"{snapshot.costs[-1]:.3g}" if snapshot.costs else "—", ACCENT)
        self._costs.costs(surface, snapshot.costs)

    def _title(self, surface: pygame.Surface, card: pygame.Rect, title: str, subtitle: str) -> None:
        """Write a card's title and what it means."""
        theme = self._theme
        rect = theme.text(surface, title, (card.left + theme.px(14), card.top + theme.px(10)), "title")
        place = (rect.right + theme.px(10), rect.bottom - theme.px(1))
        theme.text(surface, subtitle, place, "small", MUTED, "bottomleft")

    def _newest(self, surface: pygame.Surface, card: pygame.Rect, value: str, color: Color) -> None:
        """Write a curve's newest value at its card's upper right."""
        theme = self._theme
        place = (card.right - theme.px(14), card.top + theme.px(8))
        theme.text(surface, value, place, "number", color, "topright")

    def _inner(self, card: pygame.Rect, above: float, below: float) -> pygame.Rect:
        """Return the part of a card that is left for a curve; at right there is room for a label."""
        px = self._theme.px
        return pygame.Rect(
            card.left + px(14), card.top + px(above), card.width - px(66), card.height - px(above) - px(below)
        )

    def _paragraph(self, surface: pygame.Surface, rect: pygame.Rect, text: str) -> None:
        """Write a text in lines that fit a rectangle's width."""
        theme, line, y = self._theme, "", rect.top
        for word in [*text.split(), ""]:
            if word and theme.width(f"{line} {word}".strip(), "body") <= rect.width:
                line = f"{line} {word}".strip()
                continue
            theme.text(surface, line, (rect.left, y), "body", MUTED)
            line, y = word, y + theme.px(20)

    def _tile(self, surface: pygame.Surface, place: int, value: str, label: str) -> None:
        """Write one of four numbers over its label."""
        theme, card = self._theme, self._cards["times"]
        x = card.left + theme.px(14) + place * (card.width - theme.px(14)) / 4
        theme.text(surface, value, (x, card.top + theme.px(9)), "title")
        theme.text(surface, label, (x, card.top + theme.px(33)), "small", MUTED)

    def _legend(self, surface: pygame.Surface, card: pygame.Rect) -> None:
        """Show what mouse and keys do, in three columns."""
        theme = self._theme
        for row, entries in enumerate(LEGEND):
            y = card.top + theme.px(19 + 24 * row)
            column = (card.width - theme.px(14)) / (3 if row else 2)
            for place, (key, label) in enumerate(entries):
                right = theme.key(surface, key, (card.left + theme.px(14) + place * column, y))
                theme.text(surface, label or self._dragging, (right + theme.px(7), y), "small", INK, "midleft")
