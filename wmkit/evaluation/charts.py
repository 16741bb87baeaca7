"""Small charts as inline SVG, without a plotting package."""

import html
import math
from collections.abc import Mapping, Sequence

__all__ = ["bars", "lines"]

_WIDTH, _HEIGHT = 440, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 34
_COLORS = ("#1f5f8b", "#c8553d", "#4d7c4a", "#8a6d3b")

Points = Sequence[tuple[float, float]]


def lines(series: Mapping[str, Points], x_label: str, *, logarithmic: bool = False) -> str:
    """Draw curves with a legend; points that are not finite are left out.

    Args:
        series: name -> (x, y) in order.
        x_label: what x is.
        logarithmic: whether y is; points at 0 or below are left out.

    Returns:
        An <svg> element; "" where there is nothing to draw.
    """
    usable = {name: _usable(points, logarithmic) for name, points in series.items()}
    usable = {name: points for name, points in usable.items() if points}
    if not usable:
        return ""
    xs = [x for points in usable.values() for x, _ in points]
    ys = [y for points in usable.values() for _, y in points]
    x_axis, y_axis = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT), _y_axis(ys, logarithmic)
    parts = [_grid(x_axis, y_axis, logarithmic, x_label)]
    for number, points in enumerate(usable.values()):
        color = _COLORS[number % len(_COLORS)]
        path = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"/>')
        if len(points) == 1:
            parts.append(
                f'<circle cx="{x_axis(points[0][0]):.1f}" cy="{y_axis(points[0][1]):.1f}" r="3" fill="{color}"/>'
            )
    legend = "".join(
        f'<span><i style="background:{_COLORS[number % len(_COLORS)]}"></i>{html.escape(name)}</span>'
        for number, name in enumerate(usable)
    )
    return f'{_svg("".join(parts), _HEIGHT)}<div class="legend">{legend}</div>'


def bars(rows: Sequence[tuple[str, float, tuple[float, float], bool]]) -> str:
    """Draw shares as horizontal bars with intervals.

    Args:
        rows: label, share in [0, 1], its interval, and whether the row is the one that the page is about.

    Returns:
        An <svg> element.
    """
    left, right, height = 150, 560, 30
    scale, bottom = right - left, height * len(rows)
    ticks = [(left + scale * k / 4, f"{25 * k} %") for k in range(5)]
    parts = [
        f'<line x1="{x:.0f}" x2="{x:.0f}" y1="4" y2="{bottom + 4}" class="grid"/>'
        f'<text x="{x:.0f}" y="{bottom + 20}" text-anchor="middle">{text}</text>'
        for x, text in ticks
    ]
    for number, (label, share, (low, high), main) in enumerate(rows):
        y = 4 + number * height
        middle = y + height / 2
        parts += [
            f'<text x="{left - 10}" y="{middle + 4}" text-anchor="end">{html.escape(label)}</text>',
            f'<rect x="{left}" y="{y + 7}" width="{scale * share:.1f}" height="{height - 14}" rx="2" '
            f'fill="{_COLORS[0] if main else "#b9c4cc"}"/>',
            f'<path d="M{left + scale * low:.1f} {middle}H{left + scale * high:.1f}" class="whisker"/>',
            f'<text x="{right + 12}" y="{middle + 4}" class="value">{100 * share:.0f} %</text>',
        ]
    return _svg("".join(parts), bottom + 28, width=620)


class _Axis:
    """Maps numbers to pixels."""

    def __init__(self, low: float, high: float, start: float, stop: float, logarithmic: bool = False) -> None:
        self.low, self.high, self._start, self._stop, self._log = low, high, start, stop, logarithmic
        self._from, self._to = (math.log10(low), math.log10(high)) if logarithmic else (low, high)

    def __call__(self, value: float) -> float:
        """Return the pixel of a number."""
        place = math.log10(value) if self._log else value
        span = self._to - self._from or 1.0
        return self._start + (place - self._from) / span * (self._stop - self._start)


def _usable(points: Points, logarithmic: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and (y > 0 or not logarithmic)]


def _y_axis(ys: Sequence[float], logarithmic: bool) -> _Axis:
    """Return an axis with room above and below, from 0 where that is near."""
    low, high = min(ys), max(ys)
    if logarithmic:
        return _Axis(low / 1.2, high * 1.2, _HEIGHT - _BOTTOM, _TOP, True)
    margin = 0.06 * (high - low or abs(high) or 1.0)
    low = min(0.0, low) if 0 <= low <= 0.5 * high else low - margin
    return _Axis(low, high + margin, _HEIGHT - _BOTTOM, _TOP)


def _grid(x_axis: _Axis, y_axis: _Axis, logarithmic: bool, x_label: str) -> str:
    y_ticks = _decades(y_axis.low, y_axis.high) if logarithmic else _ticks(y_axis.low, y_axis.high, 4)
    parts = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_axis(y):.1f}" y2="{y_axis(y):.1f}" class="grid"/>'
        f'<text x="{_LEFT - 7}" y="{y_axis(y) + 4:.1f}" text-anchor="end">{y:.3g}</text>'
        for y in y_ticks
    ]
    parts += [
        f'<text x="{x_axis(x):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x:,.0f}</text>'
        for x in _ticks(x_axis.low, x_axis.high, 4)
    ]
    label = html.escape(x_label)
    return (
        "".join(parts) + f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 3}" text-anchor="end" class="axis">{label}</text>'
    )


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return round numbers between low and high."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between low and high, powers alone where that is enough."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    full = [10.0**p for p in powers if low <= 10.0**p <= high]
    return full if len(full) >= 3 else [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


def _svg(content: str, height: float, width: int = _WIDTH) -> str:
    return f'<svg viewBox="0 0 {width} {height:.0f}" role="img" xmlns="http://www.w3.org/2000/svg">{content}</svg>'
