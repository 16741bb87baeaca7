"""What an evaluation by returns leaves behind: a table, a JSON file and a GIF."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from ..provenance import provenance
from ..tasks import Task
from .movie import gif_bytes
from .returns import Returns
from .rewards import NamedReward

__all__ = ["returns_table", "save_returns", "save_returns_gif", "statistics_lines"]

_INK, _PAPER = (33, 37, 41), (255, 255, 255)
_LABEL, _GAP = 18, 6


def returns_table(title: str, rows: Sequence[Returns]) -> Table:
    """Lay the rows out for a terminal of 80 columns; `statistics_lines` says the rest."""
    made = Table(title=title, title_justify="left", title_style="bold")
    made.add_column("agent")
    for label in ("mean return", "95 %", "episodes", "decision p50", "p99"):
        made.add_column(label, justify="right", no_wrap=True)
    for row in rows:
        low, high = row.interval
        times = ["-" if row.decision is None else f"{1000 * row.decision[key]:.0f} ms" for key in ("p50", "p99")]
        style = "bold" if row.kind == "model" else ""
        made.add_row(
            row.name, f"{row.mean:.1f}", f"{low:.1f} to {high:.1f}", str(len(row.returns)), *times, style=style
        )
    return made


def statistics_lines(task: Task, reward: NamedReward, rows: Sequence[Returns]) -> list[str]:
    """Return one line for each statistic, those that show the reward first and marked by a star."""
    first = [name for name in task.statistics if name in reward.statistics]
    names = first + [name for name in task.statistics if name not in first]
    return [
        f"{name}{' *' if name in first else ''}, {task.statistics[name].unit}: "
        + ", ".join(f"{row.name} {row.statistics[name].mean():.2f}" for row in rows)
        for name in names
    ]


def save_returns(path: Path, rows: Sequence[Returns], **more: Any) -> dict[str, Any]:
    """Write a result as JSON and return it.

    Args:
        path: the file.
        rows: one for each agent, the model's first.
        more: further entries, e.g. config and planning.
    """
    result = {"reward": rows[0].reward, "rows": [row.to_dict() for row in rows], **more, **provenance()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, default=str))
    return result


def save_returns_gif(
    path: Path,
    task: Task,
    shown: Returns,
    *,
    count: int = 3,
    image_size: int = 192,
    frames: int = 125,
    env: Mapping[str, Any] | None = None,
) -> list[int]:
    """Write a median, the best and the worst episode side by side, in real time as far as `frames` go.

    Args:
        path: the file.
        task: the environment; its pictures are drawn from states alone.
        shown: with states.
        count: episodes shown, at most.
        image_size: pixels of one picture.
        frames: at most; long episodes are thinned out.
        env: further keywords of the environment.

    Returns:
        The numbers of the episodes.

    Raises:
        UserError: the environment cannot draw here.
    """
    order = np.argsort(shown.returns)[::-1]
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    chosen = [int(order[place]) for place in places]
    steps = np.unique(np.linspace(0, shown.steps, min(frames, shown.steps + 1)).round().astype(int))
    labels = [f"return {shown.returns[row]:.0f}" for row in chosen]
    pictures = _pictures(task, shown.states[chosen][:, steps], image_size, dict(env or {}))
    sheets = [_sheet(pictures[k], labels) for k in range(len(steps))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gif_bytes(sheets, task.seconds_per_step * shown.steps / max(1, len(steps) - 1)))
    return chosen


def _pictures(task: Task, states: np.ndarray, size: int, options: dict[str, Any]) -> list[np.ndarray]:
    """Draw states (R, F, S) with the environment itself: F arrays (R, size, size, 3) uint8."""
    env = task.make_vector(num_envs=len(states), obs_type="pixels", image_size=size, **options)
    try:
        drawn = []
        for step in range(states.shape[1]):
            observations, _ = env.reset(seed=0, options={"state": states[:, step].astype(np.float64)})
            drawn.append(np.array(observations["pixels"]))
    finally:
        env.close()
    return drawn


def _sheet(pictures: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Lay out one frame: pictures (R, size, size, 3) side by side, each under its label."""
    count, size = len(pictures), pictures.shape[1]
    sheet = Image.new("RGB", (count * (size + _GAP) + _GAP, size + _LABEL + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=max(9, size // 14))
    for column, (picture, text) in enumerate(zip(pictures, labels, strict=True)):
        x = _GAP + column * (size + _GAP)
        draw.text((x + 1, 2), text, fill=_INK, font=font)
        sheet.paste(Image.fromarray(picture), (x, _LABEL))
    return np.asarray(sheet)
