"""Windows of observations and action blocks for training, drawn from recorded episodes.

A window is T frames of one episode, `action_repeat` environment steps apart, with the T - 1 action blocks between them;
no window crosses from one episode into the next. Frames are addressed by their row, 0..F-1, in the chosen episodes laid
end to end, so that a stage of training can encode `frames` once and then draw windows of latents with `index`.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .episodes import EpisodeStore
from .splits import load_splits
from .transfer import send

__all__ = ["Cache", "Windows"]

Cache = Literal["auto", "cpu", "gpu", "memory", "disk"]
"""Where frames are kept; "auto" takes the first of gpu, memory and disk that has room, "cpu" of the latter two."""

_SHARE_OF_FREE = 0.6
_ACTION = "action"


class Windows:
    """Windows of one split of a store.

    Args:
        store: the episodes.
        split: "train", "validation", "heldout", "all", or episode indices.
        frames: T, frames of a window.
        action_repeat: environment steps between the frames of a window, and actions in a block.
        columns: columns stored per frame that `sample` returns.
        cache: where the frames are kept. "gpu" also puts all results there.

    Attributes:
        store: the episodes.
        episodes: (E,) int64, indices of the chosen episodes.
        offsets: (E + 1,) int64, row of each episode's first frame, and the number of rows; on `device`.
        lengths: (E,) int64, environment steps of each episode; on `device`.
        cache: "gpu", "memory" or "disk", after "auto" is decided.
        device: where results are.

    Raises:
        UserError: a name is unknown, or no episode is as long as a window.
    """

    def __init__(
        self,
        store: EpisodeStore,
        split: str | Sequence[int],
        frames: int,
        action_repeat: int,
        columns: Sequence[str] = ("pixels",),
        cache: Cache = "auto",
    ) -> None:
        if frames < 1 or action_repeat < 1:
            raise UserError(f"frames={frames} and action_repeat={action_repeat} must both be at least 1")
        self.store, self.columns = store, tuple(columns)
        self.window, self.action_repeat = frames, action_repeat
        indices = load_splits(store).episodes(split) if isinstance(split, str) else tuple(split)
        self._positions = _positions(store, indices)
        lengths = store.lengths[self._positions]
        self.cache = _choose(cache, self._bytes(lengths))
        self.device = torch.device("cuda" if self.cache == "gpu" else "cpu")
        self.episodes = torch.as_tensor(store.episodes[self._positions], device=self.device)
        self.lengths = torch.as_tensor(lengths, device=self.device)
        self.offsets = torch.as_tensor(np.cumsum([0, *(lengths + 1)]), device=self.device)
        self._frames = {} if self.cache == "disk" else {name: self._load(name) for name in self.columns}
        self._known_places: dict[int, tuple[Tensor, ...]] = {}
        self._places(frames)

    def __len__(self) -> int:
        """Number of different windows."""
        return int(self._counts(self.window)[-1])

    def frames(self, column: str) -> Tensor:
        """Return all rows of a column per frame, (F, ...), one contiguous tensor in the store's dtype.

        Raises:
            UserError: the cache is "disk" or the column was not asked for; `frame_batches` serves both.
        """
        if column not in self._frames:
            raise UserError(f"column {column!r} is not in memory (cache {self.cache!r}, columns {self.columns})")
        return self._frames[column]

    def frame_batches(self, column: str, size: int) -> Iterator[Tensor]:
        """Yield all rows of a column per frame in order, at most `size` (size, ...) at a time, whatever the cache."""
        if column in self._frames:
            yield from self._frames[column].split(size)
            return
        for position in self._positions.tolist():
            yield from torch.from_numpy(self.store.read(column, [position])).to(self.device).split(size)

    def index(self, n: int, generator: torch.Generator, frames: int | None = None, per_episode: int = 1) -> Tensor:
        """Draw the frame rows of n windows.

        Args:
            n: how many windows.
            generator: source of all randomness, on the CPU or on `device`.
            frames: T; None takes the constructor's.
            per_episode: windows drawn from the same episode; they stand next to each other. n is a multiple of it.

        Returns:
            (n, T) int64. With per_episode 1 every window is equally likely; otherwise an episode is as likely as it has
            windows.

        Raises:
            UserError: no episode is long enough.
            ValueError: n is no multiple of per_episode.
        """
        if per_episode < 1 or n % per_episode:
            raise ValueError(f"n={n} must be a multiple of per_episode={per_episode}")
        frames = frames or self.window
        counts, ends, offsets = (each.to(generator.device) for each in self._places(frames))
        chance = torch.rand(n // per_episode, 1, generator=generator, device=generator.device, dtype=torch.float64)
        episode = torch.searchsorted(ends, (chance * ends[-1]).long(), right=True)
        episode = episode.expand(-1, per_episode).reshape(n)
        within = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
        start = (within * counts[episode]).long()
        return self._rows(send(offsets[episode] + start, self.device), frames)

    def ordered(self, frames: int | None = None, stride: int | None = None) -> Tensor:
        """Return the frame rows (W, T) of windows in order, starting every `stride` environment steps.

        Args:
            frames: T; None takes the constructor's.
            stride: environment steps between starts; None takes `action_repeat`.
        """
        frames, stride = frames or self.window, stride or self.action_repeat
        counts = self._windows_in(frames).tolist()
        starts = [
            offset + torch.arange(0, count, stride, device=self.device)
            for offset, count in zip(self.offsets[:-1].tolist(), counts, strict=True)
        ]
        return self._rows(torch.cat(starts), frames)

    def sample(self, n: int, generator: torch.Generator, per_episode: int = 1) -> dict[str, Tensor]:
        """Draw n windows; see `index` for the arguments and `batch` for the result."""
        return self.batch(self.index(n, generator, per_episode=per_episode), check=False)

    def batch(self, rows: Tensor, check: bool = True) -> dict[str, Tensor]:
        """Return the windows at frame rows (n, T); see `blocks` for `check`.

        Returns:
            Each column (n, T, ...) in the store's dtype; "action" (n, T-1, A) float32, the first step's action first;
            "episode" (n,) int64, the episode's index in the store; "start" (n,) int64, the window's first frame in it.
        """
        place = torch.searchsorted(self.offsets, rows[:, 0].contiguous(), right=True) - 1
        result = {name: self._gather(name, rows, place) for name in self.columns}
        result[_ACTION] = self.actions(rows, check)
        return result | {"episode": self.episodes[place], "start": rows[:, 0] - self.offsets[place]}

    def actions(self, rows: Tensor, check: bool = True) -> Tensor:
        """Return the action blocks between the frame rows (n, T) of windows: (n, T-1, A) float32; see `blocks`."""
        return self.blocks(rows[:, :-1], check)

    def blocks(self, rows: Tensor, check: bool = True) -> Tensor:
        """Return the `action_repeat` actions that follow each of the frame rows (...): (..., A) float32.

        Args:
            rows: frame rows.
            check: whether to look at the rows, for which the host waits for the device; needless for those of `index`.

        Raises:
            ValueError: an episode ends within a block.
        """
        steps = torch.arange(self.action_repeat, device=self.device)
        actions, left = self._actions
        if check and rows.numel() and int(left[rows].min()) < self.action_repeat:
            raise ValueError(f"a row has fewer than action_repeat={self.action_repeat} steps of its episode left")
        return actions[rows[..., None] + steps].flatten(-2)

    @cached_property
    def _actions(self) -> tuple[Tensor, Tensor]:
        """Actions by frame row (F, action_size), zero where none follows, and the steps left in the episode (F,)."""
        size = self.store.metadata.column(_ACTION).shape
        actions = np.zeros((int(self.offsets[-1]), *size), np.float32)
        lengths = self.store.lengths[self._positions]
        left = np.concatenate([np.arange(length, -1, -1) for length in lengths.tolist()])
        actions[left > 0] = self.store.read(_ACTION, self._positions)
        return torch.from_numpy(actions).to(self.device), torch.from_numpy(left).to(self.device)

    def _gather(self, name: str, rows: Tensor, place: Tensor) -> Tensor:
        """Return a column at frame rows (n, T) of the episodes `place` (n,)."""
        if name in self._frames:
            frames = self._frames[name]
            return frames.index_select(0, rows.reshape(-1)).reshape(*rows.shape, *frames.shape[1:])
        local = (rows - self.offsets[place][:, None]).cpu().numpy()
        windows = []
        for position, wanted in zip(self._positions[place.cpu().numpy()].tolist(), local, strict=True):
            first, last = int(wanted.min()), int(wanted.max())
            windows.append(self.store.rows(name, position, first, last + 1)[wanted - first])
        column = self.store.metadata.column(name)
        empty = np.zeros((0, rows.shape[1], *column.shape), column.dtype)
        return torch.from_numpy(np.stack(windows) if windows else empty).to(self.device)

    def _load(self, name: str) -> Tensor:
        """Read a column of all chosen episodes into one tensor on the device."""
        return torch.from_numpy(self.store.read(name, self._positions)).to(self.device)

    def _rows(self, first: Tensor, frames: int) -> Tensor:
        """Return the rows (n, T) of the windows that begin at the frame rows (n,)."""
        return first[:, None] + self.action_repeat * torch.arange(frames, device=self.device)

    def _windows_in(self, frames: int) -> Tensor:
        """Return how many windows of T frames each episode has, (E,)."""
        return (self.lengths + 1 - (frames - 1) * self.action_repeat).clamp(min=0)

    def _counts(self, frames: int) -> Tensor:
        """Return the windows of T frames in the episodes up to each, (E,). Raises UserError if there are none."""
        ends = self._windows_in(frames).cumsum(0)
        if not len(ends) or not ends[-1]:
            longest = int(self.lengths.max()) if len(self.lengths) else 0
            span = (frames - 1) * self.action_repeat
            raise UserError(
                f"no window fits: {frames} frames span {span} environment steps, the longest of "
                f"{len(self.lengths)} episodes in this split has {longest}"
            )
        return ends

    def _places(self, frames: int) -> tuple[Tensor, ...]:
        """Return, on the CPU, `_windows_in`, `_counts` and `offsets`; computed once for each T."""
        if frames not in self._known_places:
            places = self._windows_in(frames), self._counts(frames), self.offsets
            self._known_places[frames] = tuple(each.cpu() for each in places)
        return self._known_places[frames]

    def _bytes(self, lengths: np.ndarray) -> int:
        """Return the memory that all frames of the columns take; refuse columns that are not stored per frame."""
        total = 0
        for name in self.columns:
            column = self.store.metadata.column(name)
            if column.per != "frame":
                raise UserError(f"column {name!r} is stored per {column.per}; windows hold columns per frame")
            total += int((lengths + 1).sum()) * int(np.prod(column.shape)) * np.dtype(column.dtype).itemsize
        return total


def _positions(store: EpisodeStore, indices: Sequence[int]) -> np.ndarray:
    """Return the positions (E,) of episode indices in the store. Raises UserError for one that is not there."""
    found = np.searchsorted(store.episodes, indices)
    known = found < len(store)
    known[known] = store.episodes[found[known]] == np.asarray(indices)[known]
    if not known.all():
        raise UserError(f"{store.folder} has no episode {np.asarray(indices)[~known][0]}")
    return found


def _choose(cache: Cache, size: int) -> str:
    """Decide where `size` bytes of frames go."""
    if cache not in get_args(Cache):
        raise UserError(f"unknown cache {cache!r}; known: {', '.join(get_args(Cache))}")
    if cache == "gpu" and not torch.cuda.is_available():
        raise UserError("cache 'gpu' needs a CUDA device, and there is none; use 'auto'")
    if cache not in ("auto", "cpu"):
        return cache
    if cache == "auto" and torch.cuda.is_available() and size <= _SHARE_OF_FREE * torch.cuda.mem_get_info()[0]:
        return "gpu"
    return "memory" if size <= _SHARE_OF_FREE * _free_memory() else "disk"


def _free_memory() -> int:
    """Return the bytes of main memory to be had without swapping, within the container's limit if there is one."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
        return min(free, limit - used)
    except (OSError, ValueError, StopIteration):
        return free
