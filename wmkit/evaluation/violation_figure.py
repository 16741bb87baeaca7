"""A picture of surprise: what the model saw around the moment of a change, above the score and its threshold."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..monitor.report import KINDS
from .violation import Trace
from .violation_effects import Timing

__all__ = ["choose_episode", "figure_title", "save_figure"]

_BEFORE, _AFTER = 3, 6
_WIDTH, _CURVE, _MARGIN = 11.0, 1.05, 0.9
_TICKS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 10_000, 100_000, 1_000_000)
_INK, _SOFT, _BLUE, _RED, _GRID = "#212529", "#6c757d", "#1f5f8b", "#c0392b", "#e9ecef"


def choose_episode(traces: Mapping[str, Trace], timing: Timing, count: int) -> int:
    """Return the episode to show: of the first `count`, the one whose peaks after the change are in the middle.

    Episodes that were over before their change, or under an alarm, are passed over where there are others.

    Args:
        traces: condition -> trace.
        timing: of them.
        count: episodes to choose from.
    """
    after = timing.after[:count]
    early = np.any([(trace.alarm[:count] & ~after).any(axis=1) for trace in traces.values()], axis=0)
    over = np.any([~np.any(after & ~np.isnan(trace.score[:count]), axis=1) for trace in traces.values()], axis=0)
    usable = next((np.flatnonzero(mask) for mask in (~early & ~over, ~over) if mask.any()), np.arange(len(after)))
    peaks = [np.where(after, np.nan_to_num(trace.score[:count]), 0.0).max(axis=1) for trace in traces.values()]
    middle = np.mean([np.log(peak.clip(1e-6, 1e6)) for peak in peaks], axis=0)[usable]
    return int(usable[np.argsort(middle, kind="stable")[(len(middle) - 1) // 2]])


def save_figure(
    path: Path,
    traces: Mapping[str, Trace],
    timing: Timing,
    *,
    episode: int,
    seconds_per_step: float,
    title: str = "",
) -> None:
    """Draw one episode in several conditions, each what was seen above the curve of the score.

    Args:
        path: of the PNG.
        traces: condition -> trace, in the order to draw; frames are drawn where there are any.
        timing: of them.
        episode: which of P.
        seconds_per_step: of one environment step.
        title: above all.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = _shown(timing, episode)
    times = (timing.steps[shown] - timing.moments[episode]) * seconds_per_step
    spacing = float(np.diff(times).min()) if len(times) > 1 else 1.0
    limits = (times[0] - 0.55 * spacing, times[-1] + 0.55 * spacing)
    strip = (_WIDTH - 2 * _MARGIN) * 0.92 * spacing / (limits[1] - limits[0])
    with_frames = any(_has_frame(trace, episode) for trace in traces.values())
    heights = [height for _ in traces for height in (strip if with_frames else 0.05, _CURVE, 0.42)]
    height = sum(heights) + 1.0
    figure = Figure(figsize=(_WIDTH, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(heights),
        1,
        height_ratios=heights,
        hspace=0.0,
        left=_MARGIN / _WIDTH,
        right=1 - _MARGIN / _WIDTH,
        top=1 - 0.75 / height,
        bottom=0.25 / height,
    )
    tops = _limits(traces, episode, shown)
    for place, (name, trace) in enumerate(traces.items()):
        above, curve = (figure.add_subplot(grid[3 * place + k]) for k in (0, 1))
        _draw_strip(above, trace, timing, episode, shown, times, spacing)
        _draw_curve(curve, trace, episode, shown, times, tops, "no change" if name == "nominal" else "change")
        above.set_title(name, loc="left", fontsize=11, color=_INK, fontweight="bold", pad=4)
        for axes in (above, curve):
            axes.set_xlim(*limits)
        curve.tick_params(labelbottom=place == len(traces) - 1)
        if place == len(traces) - 1:
            curve.set_xlabel("seconds after the moment of the change", fontsize=9, color=_SOFT)
    figure.text(_MARGIN / _WIDTH, 1 - 0.32 / height, title, fontsize=12.5, color=_INK, va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _shown(timing: Timing, episode: int) -> np.ndarray:
    """Return the observations to draw, some before and some after the change."""
    first = int(timing.after[episode].argmax())
    return np.arange(max(0, first - _BEFORE), min(len(timing.steps), first + _AFTER + 1))


def _has_frame(trace: Trace, episode: int) -> bool:
    return trace.frames is not None and episode < len(trace.frames)


def _limits(traces: Mapping[str, Trace], episode: int, shown: np.ndarray) -> tuple[float, float]:
    """Return limits of a logarithmic axis around all scores and the threshold."""
    scores = np.concatenate([trace.score[episode, shown] for trace in traces.values()])
    known = scores[np.isfinite(scores) & (scores > 0)]
    low, high = (known.min(), known.max()) if known.size else (1.0, 1.0)
    return max(0.05, 0.6 * min(low, 0.5)), 2.2 * max(high, 2.0)


def _draw_strip(
    axes: Any,
    trace: Trace,
    timing: Timing,
    episode: int,
    shown: np.ndarray,
    times: np.ndarray,
    spacing: float,
) -> None:
    """Draw what was seen, each picture above its point of the curve."""
    axes.set_axis_off()
    axes.set_ylim(0, 1)
    if not _has_frame(trace, episode) or trace.frames is None:
        return
    for time, place in zip(times.tolist(), shown.tolist(), strict=True):
        if np.isnan(trace.score[episode, place]):
            continue
        frame = trace.frames[episode, timing.steps[place]]
        box = (time - 0.46 * spacing, time + 0.46 * spacing, 0.02, 0.98)
        axes.imshow(frame, extent=box, aspect="auto", interpolation="lanczos")
        alarmed = bool(trace.alarm[episode, place])
        x, y = [box[0], box[1], box[1], box[0], box[0]], [box[2], box[2], box[3], box[3], box[2]]
        axes.plot(x, y, color=_RED if alarmed else "#ced4da", linewidth=2.0 if alarmed else 0.8, clip_on=False)


def _draw_curve(
    axes: Any,
    trace: Trace,
    episode: int,
    shown: np.ndarray,
    times: np.ndarray,
    limits: tuple[float, float],
    label: str,
) -> None:
    """Draw the score with its threshold, the moment of the change and the alarm."""
    score, alarm = trace.score[episode, shown].astype(float), trace.alarm[episode, shown]
    score = np.clip(score, limits[0] * 1.1, limits[1] / 1.1)
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    ticks = [tick for tick in _TICKS if limits[0] <= tick <= limits[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.axhspan(1.0, limits[1], color=_RED, alpha=0.05, linewidth=0)
    axes.axhline(1.0, color=_RED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.axvline(0.0, color=_INK, linewidth=1.0, linestyle=":")
    axes.plot(times, score, color=_BLUE, linewidth=1.8, zorder=3)
    axes.scatter(times, score, s=26, c=[_RED if on else _BLUE for on in alarm], zorder=4)
    axes.annotate(label, (0.0, limits[0]), xytext=(4, 13), textcoords="offset points", fontsize=7.5, color=_SOFT)
    _label_kinds(axes, times, score, trace.kind[episode, shown], alarm, limits[1])
    axes.set_ylabel("surprise", fontsize=9, color=_SOFT)
    axes.tick_params(labelsize=8, colors=_SOFT, which="both", length=2)
    axes.grid(True, axis="y", color=_GRID, linewidth=0.8)
    axes.text(1.004, 1.0, "threshold", transform=axes.get_yaxis_transform(), fontsize=7.5, color=_RED, va="center")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#ced4da")


def _label_kinds(
    axes: Any, times: np.ndarray, score: np.ndarray, kinds: np.ndarray, alarm: np.ndarray, top: float
) -> None:
    """Write the reported kind where it is new."""
    last = -1
    for time, value, kind, on in zip(times.tolist(), score.tolist(), kinds.tolist(), alarm.tolist(), strict=True):
        if on and kind >= 0 and kind != last:
            high = value > 0.5 * top
            axes.annotate(
                KINDS[kind],
                (time, value),
                xytext=(5, -12 if high else 6),
                textcoords="offset points",
                fontsize=8.5,
                color=_RED,
                fontweight="bold",
            )
        last = kind if on else -1


def figure_title(task: str, count: int, names: Sequence[str]) -> str:
    """Return the title of a figure: what it shows and how the episode was chosen."""
    return f"{task}: one episode, {len(names)} times from the same start with the same seed (the median of {count})"
