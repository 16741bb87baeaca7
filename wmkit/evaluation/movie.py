"""Pictures of what happened: successes and failures side by side with the goal, as a GIF."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..tasks import Task
from .manifest import Manifest
from .runner import Outcomes, reset_to

__all__ = ["choose", "gif_bytes", "render_pairs", "save_gif"]

_INK, _PAPER = (33, 37, 41), (255, 255, 255)
_GREEN, _RED = (38, 128, 66), (190, 45, 40)
_LABEL, _GAP = 18, 6


def choose(success: np.ndarray, count: int) -> list[int]:
    """Return up to `count` pairs, half of them successes and half failures where there are enough of both.

    Args:
        success: (P,) bool.
        count: pairs wanted.
    """
    good, bad = np.flatnonzero(success), np.flatnonzero(~success)
    failures = min(len(bad), max(count // 2, count - len(good)))
    return [*good[: count - failures].tolist(), *bad[:failures].tolist()]


def render_pairs(
    task: Task, manifest: Manifest, rows: Sequence[int], states: np.ndarray, image_size: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """Draw states and goals with the environment itself.

    Args:
        task: the environment.
        manifest: the pairs.
        rows: R pairs.
        states: (R, F, S), a trajectory for each.
        image_size: pixels.

    Returns:
        Frames (R, F, size, size, 3) and goals (R, size, size, 3), uint8.
    """
    pairs = [manifest.pairs[row] for row in rows]
    env = task.make_vector(num_envs=len(pairs), obs_type="pixels", image_size=image_size)
    targets, frames, goals = manifest.goals[list(rows)], [], np.zeros(0)
    try:
        for step in range(states.shape[1]):
            observations, info = reset_to(env, pairs, states[:, step].astype(np.float64), targets)
            frames.append(np.array(observations["pixels"]))
            goals = np.array(info["goal_pixels"]) if step == 0 else goals
    finally:
        env.close()
    return np.stack(frames, axis=1), goals


def gif_bytes(frames: Sequence[np.ndarray], seconds_per_frame: float) -> bytes:
    """Encode frames (height, width, 3) uint8 as an endless GIF; the last frame stays for a second.

    Raises:
        ValueError: no frames.
    """
    if not len(frames):
        raise ValueError("a GIF needs at least one frame")
    images = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    palette = Image.fromarray(np.concatenate([frames[k] for k in {0, len(frames) // 2, len(frames) - 1}])).quantize(256)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    duration = max(20, round(1000 * seconds_per_frame))
    durations = [duration] * (len(images) - 1) + [duration + 1000]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return buffer.getvalue()


def save_gif(
    path: Path,
    task: Task,
    manifest: Manifest,
    outcomes: Outcomes,
    *,
    count: int = 6,
    image_size: int = 128,
    seconds_per_frame: float = 0.08,
) -> list[int]:
    """Write successes and failures side by side, each above its goal, and return which pairs.

    Args:
        path: the file.
        task: the environment.
        manifest: the pairs.
        outcomes: of the agent.
        count: pairs shown.
        image_size: pixels of one picture.
        seconds_per_frame: of the GIF.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = choose(outcomes.success, min(count, len(manifest.pairs)))
    path.write_bytes(gif_bytes(movie(task, manifest, outcomes, rows, image_size), seconds_per_frame))
    return rows


def movie(
    task: Task, manifest: Manifest, outcomes: Outcomes, rows: Sequence[int], image_size: int = 128, frames: int = 100
) -> list[np.ndarray]:
    """Return the labelled frames (height, width, 3) of the given pairs until each one's success or budget.

    Long episodes are thinned out to at most `frames`.
    """
    ends = np.where(outcomes.success, outcomes.first_success, manifest.budgets)[list(rows)]
    steps = np.unique(np.linspace(0, ends.max(), min(frames, int(ends.max()) + 1)).round().astype(int))
    shown = np.minimum(steps[None, :], ends[:, None])
    states = np.take_along_axis(outcomes.states[list(rows)], shown[:, :, None], axis=1)
    pictures, goals = render_pairs(task, manifest, rows, states, image_size)
    labels = [_label(row, outcomes) for row in rows]
    return [_sheet(pictures[:, k], goals, labels) for k in range(len(steps))]


def _label(row: int, outcomes: Outcomes) -> tuple[str, tuple[int, int, int]]:
    step = int(outcomes.first_success[row])
    return (f"reached, step {step}", _GREEN) if step > 0 else ("not reached", _RED)


def _sheet(pictures: np.ndarray, goals: np.ndarray, labels: Sequence[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    """Lay out one frame: labels, pictures, the word "goal", goals; one column for each pair."""
    count, size = len(pictures), pictures.shape[1]
    sheet = Image.new("RGB", (count * (size + _GAP) + _GAP, 2 * (size + _LABEL) + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=max(9, size // 11))
    for column, (picture, goal, (text, color)) in enumerate(zip(pictures, goals, labels, strict=True)):
        x = _GAP + column * (size + _GAP)
        draw.text((x + 1, 2), text, fill=color, font=font)
        sheet.paste(Image.fromarray(picture), (x, _LABEL))
        draw.text((x + 1, size + _LABEL + 2), "goal", fill=_INK, font=font)
        sheet.paste(Image.fromarray(goal), (x, size + 2 * _LABEL))
        for top in (_LABEL, size + 2 * _LABEL):
            draw.rectangle((x, top, x + size - 1, top + size - 1), outline=(206, 212, 218))
    return np.asarray(sheet)
