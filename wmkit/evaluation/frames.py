"""Recorded frames of one split, encoded, with the quantities that a task names for probes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..contracts import WorldModel
from ..data.episodes import EpisodeStore
from ..data.latents import check_actions
from ..data.splits import Splits
from ..errors import UserError
from ..tasks import Task

__all__ = ["Frames", "check_fit", "encode_frames", "observation_key", "read_frames"]

_FRAMES_AT_ONCE = 256
_LARGEST = 64


@dataclass(frozen=True)
class Frames:
    """Every so many frames of some episodes, episodes end to end.

    Attributes:
        latents: (F, D) float32, on the CPU.
        episodes: (F,) int64, which episode each frame is of.
        targets: by name, (F, size) float32: the task's probes.
        actions: (F, A) float32, of the model step that begins at the frame, padded with 0 at the end of an episode.
        pixels: (F, S, S, 3) uint8, what was encoded, S at most 64; None for a model over states.
    """

    latents: Tensor
    episodes: Tensor
    targets: dict[str, Tensor]
    actions: Tensor
    pixels: Tensor | None

    @property
    def count(self) -> int:
        """How many episodes."""
        return len(self.episodes.unique())


def observation_key(model: WorldModel) -> str:
    """Return the one observation key that a model reads; raises UserError where it reads several."""
    names = list(model.spec.observations)
    if len(names) != 1:
        raise UserError(f"the model reads {', '.join(names)}; only models of one observation can be looked into")
    return names[0]


def check_fit(model: WorldModel, store: EpisodeStore) -> None:
    """Refuse data that a model cannot encode or roll out.

    Raises:
        UserError: a column is missing or has another shape, or actions or clock differ.
    """
    key = observation_key(model)
    names = [column.name for column in store.metadata.columns]
    if key not in names:
        raise UserError(f"{store.folder} has no {key!r}, which the model reads; collect data with `--obs-type {key}`")
    found, wanted = tuple(store.metadata.column(key).shape), tuple(model.spec.observations[key].shape)
    if found != wanted:
        raise UserError(f"{store.folder} has {key} {found}, the model takes {wanted}; give data of the same size")
    if "state" not in names:
        raise UserError(f"{store.folder} has no 'state', from which the probes are taken")
    check_actions(store, model.spec)


def read_frames(
    model: WorldModel, task: Task, store: EpisodeStore, splits: Splits, split: str, most: int, stride: int
) -> Frames:
    """Read and encode frames of a split.

    Args:
        model: reads one observation.
        task: names the probes.
        store: the data set; see `check_fit`.
        splits: its splits.
        split: name of one.
        most: episodes, spread evenly over the split's.
        stride: environment steps between frames; the model's action repeat makes them a model step apart.

    Raises:
        UserError: the split has fewer than two episodes, or numbers are not finite.
    """
    positions = _positions(store, splits, split, most)
    key, repeat = observation_key(model), model.spec.action_repeat
    latents, states, episodes, actions, pixels = [], [], [], [], []
    for position in positions:
        observed = store.read(key, [position])[::stride]
        latents.append(encode_frames(model, observed).float().cpu())
        states.append(store.read("state", [position])[::stride])
        episodes.append(np.full(len(observed), int(store.episodes[position])))
        actions.append(_blocks(store.read("action", [position]), len(observed), stride, repeat))
        if key == "pixels":
            pixels.append(_small(torch.as_tensor(observed)))
    known = np.concatenate(states)
    if not (np.isfinite(known).all() and all(bool(torch.isfinite(part).all()) for part in latents)):
        raise UserError(f"states of {store.folder}, or their latents, are not finite (wmkit data validate)")
    return Frames(
        latents=torch.cat(latents),
        episodes=torch.as_tensor(np.concatenate(episodes)),
        targets={name: torch.as_tensor(np.asarray(read(known), np.float32)) for name, read in task.probes.items()},
        actions=torch.as_tensor(np.concatenate(actions)),
        pixels=torch.cat(pixels) if pixels else None,
    )


def encode_frames(model: WorldModel, frames: np.ndarray) -> Tensor:
    """Return the latents (F, D) of frames (F, ...), a batch at a time."""
    key = observation_key(model)
    with torch.no_grad():
        return torch.cat([model.encode({key: batch[:, None]})[:, 0] for batch in _split(frames)])


def _split(frames: np.ndarray) -> Iterator[np.ndarray]:
    """Yield frames (F, ...) in batches."""
    for first in range(0, len(frames), _FRAMES_AT_ONCE):
        yield frames[first : first + _FRAMES_AT_ONCE]


def _positions(store: EpisodeStore, splits: Splits, split: str, most: int) -> list[int]:
    """Return the positions of at most so many episodes, spread evenly over a split's."""
    wanted = set(splits.episodes(split))
    positions = [position for position, number in enumerate(store.episodes.tolist()) if number in wanted]
    if len(positions) < 2:
        raise UserError(f"{store.folder} has {len(positions)} {split} episodes; 2 are needed, collect more")
    chosen = np.linspace(0, len(positions) - 1, min(most, len(positions))).round().astype(int)
    return [positions[index] for index in chosen]


def _blocks(actions: np.ndarray, frames: int, stride: int, repeat: int) -> np.ndarray:
    """Return the actions (frames, A) of the model steps that begin at every so many of the steps (L, action size)."""
    padded = np.concatenate([actions, np.zeros((repeat, actions.shape[1]), actions.dtype)])
    rows = np.minimum(np.arange(frames) * stride, len(actions))
    return padded[rows[:, None] + np.arange(repeat)].reshape(frames, -1).astype(np.float32)


def _small(frames: Tensor) -> Tensor:
    """Return frames (F, S, S, 3) uint8 with S brought down to 64 where it is larger."""
    if frames.shape[1] <= _LARGEST:
        return frames
    wide = functional.interpolate(frames.permute(0, 3, 1, 2).float(), (_LARGEST, _LARGEST), mode="area")
    return wide.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
