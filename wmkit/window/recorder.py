"""Records the window to a GIF or an MP4 file, which appears whole or not at all. Needs pygame."""

import contextlib
import os
import shutil
import threading
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pygame
from PIL import Image

from ..errors import UserError
from . import theme

__all__ = ["FORMATS", "Recorder", "check_path", "next_path"]

FORMATS = (".gif", ".mp4")
_FPS = 12.5
"""Frames a second of a recording."""
_WIDTH = 800
"""Pixels; wider windows are shrunk."""
_SECONDS = 60.0
"""Longest recording; what comes later is left out."""
_FREE = 32 * 2**20
"""Bytes that must be free on the disk before a recording starts."""
_SAMPLES = 12
"""Frames from which most of a GIF's palette is taken."""
_TINTS = [
    tuple(round(255 + share * (part - 255)) for part in color)
    for color in (theme.ACCENT, theme.ALARM, theme.GOAL, theme.INK)
    for share in (0.25, 0.5, 0.75, 1.0)
] + [theme.PAGE, theme.CARD]
"""Colours that no recording may lose, however few of its pixels have them."""


def check_path(path: Path) -> None:
    """Raise UserError, naming the reason, if a recording cannot be written to `path`; make its folder if need be."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: a recording is a {' or '.join(FORMATS)} file")
    if path.suffix.lower() == ".mp4":
        _ffmpeg()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the recording's file name")
        aside = _aside(path)
        aside.touch()
        aside.unlink()
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise UserError(f"cannot write the recording {path}: {error.strerror}") from None
    if free < _FREE:
        raise UserError(f"cannot write the recording {path}: only {free / 2**20:.0f} MB are free on its disk")


def next_path(path: Path, taken: Collection[Path] = ()) -> Path:
    """Return `path`, or with a number in its name if there is such a file already, or it is taken."""
    number, candidate = 1, path
    while candidate in taken or candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


class Recorder:
    """Collects frames, compressed, and writes them when finished.

    Args:
        path: the file, .gif or .mp4; it is overwritten.
        now: seconds, monotonic, of the first frame.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path, now: float) -> None:
        check_path(path)
        self.path = path
        self._start, self._size = now, (0, 0)
        self._frames: list[bytes] = []
        self._small: pygame.Surface | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def add(self, surface: pygame.Surface, now: float) -> None:
        """Take a frame if one is due: 12.5 a second, for a minute."""
        due = min(int((now - self._start) * _FPS) + 1, int(_FPS * _SECONDS))
        if len(self._frames) >= due:
            return
        if self._small is None:
            scale = min(1.0, _WIDTH / surface.get_width())
            self._size = (2 * round(surface.get_width() * scale / 2), 2 * round(surface.get_height() * scale / 2))
            self._small = pygame.Surface(self._size, 0, surface)
        pygame.transform.smoothscale(surface, self._size, self._small)
        frame = zlib.compress(pygame.image.tobytes(self._small, "RGB"), 1)
        self._frames += [frame] * (due - len(self._frames))

    def finish(self) -> None:
        """Begin to write the file, in a thread: the window goes on meanwhile; nothing without a frame."""
        if self._frames and self._thread is None:
            self._thread = threading.Thread(target=self._write, name="wmkit-recorder")
            self._thread.start()

    def wait(self) -> None:
        """Wait until the file is written.

        Raises:
            UserError: it cannot be written; what was there before is kept.
        """
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise UserError(f"cannot write the recording {self.path}: {self._error}") from self._error

    @property
    def writing(self) -> bool:
        """Whether the file is being written."""
        return self._thread is not None and self._thread.is_alive()

    def _write(self) -> None:
        """Write the file aside and put it in its place; an error is kept for `wait`."""
        aside = _aside(self.path)
        try:
            (self._write_gif if self.path.suffix.lower() == ".gif" else self._write_mp4)(aside)
            os.replace(aside, self.path)
        except Exception as error:
            self._error = error
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    def _images(self) -> Iterator[Image.Image]:
        for frame in self._frames:
            yield Image.frombytes("RGB", self._size, zlib.decompress(frame))

    def _write_gif(self, path: Path) -> None:
        """Write an endless GIF with one palette for all frames, taken from some of them; the last stays a second."""
        palette = self._palette()
        images = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in self._images())
        durations = [round(1000 / _FPS)] * (len(self._frames) - 1) + [1000]
        first = next(images)
        first.save(path, "GIF", save_all=True, append_images=images, duration=durations, loop=0)

    def _palette(self) -> Image.Image:
        """Return an image with a palette for all frames: the theme's colours, and others taken from some frames."""
        rows = sorted({round(k) for k in np.linspace(0, len(self._frames) - 1, _SAMPLES)})
        sample = b"".join(zlib.decompress(self._frames[row]) for row in rows)
        sampled = Image.frombytes("RGB", (self._size[0], self._size[1] * len(rows)), sample).quantize(256 - len(_TINTS))
        palette = Image.new("P", (1, 1))
        palette.putpalette([*sum(_TINTS, ()), *(sampled.getpalette() or [])][: 3 * 256])
        return palette

    def _write_mp4(self, path: Path) -> None:
        """Write an MP4 with the ffmpeg that comes with imageio-ffmpeg."""
        options: dict[str, Any] = {"fps": _FPS, "macro_block_size": 2, "ffmpeg_log_level": "error"}
        writer = _ffmpeg().write_frames(str(path), self._size, **options)
        writer.send(None)
        try:
            for frame in self._frames:
                writer.send(zlib.decompress(frame))
        finally:
            writer.close()


def _aside(path: Path) -> Path:
    """Return where a recording is written before it is whole."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def _ffmpeg() -> Any:
    """Return imageio_ffmpeg. Raises UserError where it is not installed."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UserError("an MP4 needs imageio-ffmpeg: pip install 'wmkit[demo]'; or record a .gif") from None
    return imageio_ffmpeg
