"""The window's colours, type and small parts, all kept between frames. Needs pygame."""

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pygame

__all__ = [
    "ACCENT",
    "ALARM",
    "ALARM_PALE",
    "CARD",
    "GOAL",
    "GRID",
    "INK",
    "MUTED",
    "PAGE",
    "Color",
    "Theme",
    "enlarge",
    "premultiplied",
]

Color = tuple[int, int, int]

PAGE: Color = (243, 244, 246)
CARD: Color = (255, 255, 255)
INK: Color = (31, 41, 55)
MUTED: Color = (107, 117, 133)
GRID: Color = (224, 228, 233)
ACCENT: Color = (47, 95, 208)
GOAL: Color = (22, 140, 78)
ALARM: Color = (208, 48, 48)
ALARM_PALE: Color = (248, 205, 203)

_SIZES = {"tiny": 10.5, "small": 12.0, "body": 13.5, "strong": 13.5, "title": 15.0, "number": 22.0}
_BOLD = ("strong", "title", "number")
_KEPT = 400
"""Rendered texts that are kept."""


def premultiplied(color: Color, alpha: float) -> tuple[int, int, int, int]:
    """Return a colour (0 to 255) of an opacity in [0, 1] for a surface that is blended with BLEND_PREMULTIPLIED."""
    red, green, blue = color
    return round(red * alpha), round(green * alpha), round(blue * alpha), round(255 * alpha)


def enlarge(picture: np.ndarray, into: pygame.Surface) -> None:
    """Fill a surface of 32 bits a pixel with a picture (height, width, 3) uint8, smoothly scaled.

    Surfaces of 24 bits are avoided: scaling into them corrupted memory in pygame 2.6.1.
    """
    source = pygame.Surface((picture.shape[1], picture.shape[0]), depth=32)
    pygame.surfarray.blit_array(source, picture.swapaxes(0, 1))
    pygame.transform.smoothscale(source, into.get_size(), into)


class Theme:
    """Fonts at one scale, and drawing of text, cards and keycaps with them.

    Args:
        scale: of all lengths; 1 for the default window.
    """

    def __init__(self, scale: float) -> None:
        pygame.font.init()
        self.scale = scale
        regular, bold = _font_files()
        self._fonts = {
            name: pygame.font.Font(bold if name in _BOLD else regular, max(6, round(size * scale)))
            for name, size in _SIZES.items()
        }
        self._texts: OrderedDict[tuple[str, str, Color], pygame.Surface] = OrderedDict()

    def px(self, length: float) -> int:
        """Return a length of the default window in pixels of this one."""
        return round(length * self.scale)

    def text(
        self, surface: pygame.Surface, text: str, place: tuple[float, float], font: str = "body", color: Color = INK,
        anchor: str = "topleft",
    ) -> pygame.Rect:  # fmt: skip
        """Write one line and return where it is.

        Args:
            surface: written on.
            text: the line.
            place: x and y in pixels of what `anchor` names.
            font: "tiny", "small", "body", "strong", "title" or "number".
            color: of the line.
            anchor: one of the names of a pygame rectangle's points, e.g. "midright".
        """
        drawn = self._rendered(text, font, color)
        rect = drawn.get_rect(**{anchor: (round(place[0]), round(place[1]))})
        surface.blit(drawn, rect)
        return rect

    def width(self, text: str, font: str = "body") -> int:
        """Return the width of one line in pixels."""
        return self._fonts[font].size(text)[0]

    def fitted(self, text: str, font: str, width: float) -> str:
        """Return the line, shortened with an ellipsis where it is wider than `width` pixels."""
        if self.width(text, font) <= width:
            return text
        while text and self.width(text + "…", font) > width:
            text = text[:-1]
        return text.rstrip() + "…"

    def card(self, surface: pygame.Surface, rect: pygame.Rect) -> None:
        """Draw the white ground of one part of the panel."""
        pygame.draw.rect(surface, CARD, rect, border_radius=self.px(8))
        pygame.draw.rect(surface, GRID, rect, width=1, border_radius=self.px(8))

    def key(self, surface: pygame.Surface, label: str, place: tuple[float, float]) -> int:
        """Draw a keycap with its left edge's middle at a place; return its right edge."""
        font = "tiny"
        width, height = max(self.width(label, font) + self.px(8), self.px(18)), self.px(17)
        rect = pygame.Rect(round(place[0]), round(place[1] - height / 2), width, height)
        pygame.draw.rect(surface, PAGE, rect, border_radius=self.px(4))
        pygame.draw.rect(surface, (190, 197, 207), rect, width=1, border_radius=self.px(4))
        self.text(surface, label, rect.center, font, INK, "center")
        return rect.right

    def chip(
        self, surface: pygame.Surface, label: str, place: tuple[float, float], ground: Color, color: Color = CARD
    ) -> int:
        """Draw a filled pill with its left edge's middle at a place; return its right edge."""
        width, height = self.width(label, "small") + self.px(16), self.px(20)
        rect = pygame.Rect(round(place[0]), round(place[1] - height / 2), width, height)
        pygame.draw.rect(surface, ground, rect, border_radius=height // 2)
        self.text(surface, label, rect.center, "small", color, "center")
        return rect.right

    def _rendered(self, text: str, font: str, color: Color) -> pygame.Surface:
        key = (text, font, color)
        if key in self._texts:
            self._texts.move_to_end(key)
            return self._texts[key]
        self._texts[key] = self._fonts[font].render(text, True, color)
        if len(self._texts) > _KEPT:
            self._texts.popitem(last=False)
        return self._texts[key]


def _font_files() -> tuple[str | None, str | None]:
    """Return the files of a regular and a bold face: matplotlib's, else the system's, else pygame's own (None)."""
    spec = find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
        files = folder / "DejaVuSans.ttf", folder / "DejaVuSans-Bold.ttf"
        if all(file.is_file() for file in files):
            return str(files[0]), str(files[1])
    families = "dejavusans,liberationsans,segoeui,helveticaneue,arial"
    return pygame.font.match_font(families), pygame.font.match_font(families, bold=True)
