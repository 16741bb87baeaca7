"""What a run writes and shows: metrics.jsonl, TensorBoard, JSON files and the progress bar."""

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import UserError
from .checkpoint import write_aside

__all__ = [
    "JsonLines",
    "ProgressBar",
    "TensorBoard",
    "Window",
    "Writer",
    "plain",
    "write_json",
]


class Window:
    """Scalars of the steps since the last log; they stay on their device until they are asked for."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Keep one step's detached scalars."""
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)

    def tensors(self) -> dict[str, Tensor]:
        """Return each scalar's values, (steps,), oldest first."""
        return {name: torch.stack(values) for name, values in self._values.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._values = {name: list(values.unbind()) for name, values in tensors.items()}

    def drain(self) -> dict[str, float]:
        """Return each scalar's mean and forget the values."""
        names, tensors = list(self._values), self.tensors()
        self._values = {}
        if not names:
            return {}
        device = tensors[names[0]].device
        means = torch.stack([tensors[name].double().mean().to(device) for name in names])
        return dict(zip(names, means.tolist(), strict=True))

    def first_non_finite(self) -> tuple[int, list[str]] | None:
        """Return how many steps ago "loss" or "grad_norm" first was not finite, and the terms that were not; or None.

        The last step counts as 0 steps ago.
        """
        finite = {name: torch.isfinite(values).tolist() for name, values in self.tensors().items()}
        watched = [finite[name] for name in ("loss", "grad_norm") if name in finite]
        ages = [len(row) - 1 - row.index(False) for row in watched if not all(row)]
        if not ages:
            return None
        age = max(ages)
        return age, [name for name, row in finite.items() if len(row) > age and not row[-1 - age]]


class Writer(Protocol):
    """Where metrics go."""

    def write(self, row: Mapping[str, Any], step: int) -> None:
        """Write one row: "stage", "step", "split" and numbers; `step` counts over all stages."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class JsonLines:
    """Rows as JSON lines.

    Args:
        path: the file.
        size: bytes to keep of it, what the checkpoint knew of; rows after that are cut off.
    """

    def __init__(self, path: Path, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(min(size, path.stat().st_size))

    def write(self, row: Mapping[str, Any], step: int) -> None:
        """Append one row; numbers that are not finite become null."""
        try:
            self._file.write(json.dumps(plain(row)).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write {self._file.name}: {error.strerror}; make room and resume") from error

    def sync(self) -> int:
        """Flush to the disk and return the file's size, bytes."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Numbers as TensorBoard scalars "stage/split/name".

    Args:
        folder: for the event files.
        step: rows of this step over all stages and later ones, written before, are hidden.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "TensorBoard is not installed; pip install 'wmkit[train]', or use --logger jsonl"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=step)

    def write(self, row: Mapping[str, Any], step: int) -> None:
        """Add each number of a row."""
        for name, value in row.items():
            if isinstance(value, int | float) and name != "step":
                self._writer.add_scalar(f"{row['stage']}/{row['split']}/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class ProgressBar:
    """A bar on a terminal: loss, score, steps a second, time left; elsewhere only the lines given to `say`.

    Args:
        name: of the stage.
        steps: in all.
        done: before this session.
        show: False for silence.
    """

    def __init__(self, name: str, steps: int, done: int, *, show: bool = True) -> None:
        self._show = show
        self._last: dict[str, str] = {}
        disable = None if show else True
        self._bar = tqdm(desc=name, total=steps, initial=done, unit="step", disable=disable, dynamic_ncols=True)

    def update(self, step: int, **numbers: float | None) -> None:
        """Move to `step` and show the numbers that are not None."""
        self._last |= {name: f"{value:.4g}" for name, value in numbers.items() if value is not None}
        self._bar.set_postfix(self._last, refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """Show a line above the bar."""
        if self._show:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def plain(value: Any) -> Any:
    """Return `value` as plain JSON: tuples as lists, paths and other objects as text, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically."""
    write_aside(path, (json.dumps(plain(content), indent=2) + "\n").encode())
