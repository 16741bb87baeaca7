"""Imagination as pictures without a decoder: the recorded frame whose latent is nearest to the imagined one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..contracts import Context, WorldModel
from ..data.episodes import EpisodeStore
from ..data.splits import Splits
from ..errors import UserError
from .frames import encode_frames
from .manifest import HELD_OUT

__all__ = ["Imagined", "imagine"]

_LIBRARY_FRAMES = 4000


@dataclass(frozen=True)
class Imagined:
    """What a model imagines under recorded actions of held-out episodes, H model steps from one frame.

    Attributes:
        real: (H + 1, S, S, 3) uint8, of the first episode: the start and the frame after each model step.
        nearest: (H + 1, S, S, 3) uint8, recorded training frames nearest to the start's and the imagined latents.
        errors: (H,), distance between the states of the nearest and of the real frame, mean over episodes, in the unit
            of the state columns compared.
        stay: (H,), the same for the start's real state: the error of imagining that nothing moves.
        floor: the same for the real frames' own latents: what the search for a nearest frame costs.
        episodes: how many episodes the means are over.
        frames: training frames searched.
    """

    real: np.ndarray
    nearest: np.ndarray
    errors: np.ndarray
    stay: np.ndarray
    floor: float
    episodes: int
    frames: int


def imagine(
    model: WorldModel, store: EpisodeStore, splits: Splits, columns: Sequence[int], horizon: int = 6, episodes: int = 40
) -> Imagined:
    """Let the model imagine, and look for its latents among the training frames.

    Args:
        model: reads "pixels" alone.
        store: the data set.
        splits: its splits; frames to search are of the training split, starts of the held-out one.
        columns: state columns whose distance is the error, all of one unit.
        horizon: H.
        episodes: at most so many held-out ones.

    Raises:
        UserError: no held-out episode is long enough.
    """
    repeat, index = model.spec.action_repeat, list(columns)
    long = _positions(store, splits, HELD_OUT, horizon * repeat)[:episodes]
    if not long:
        raise UserError(f"no held-out episode of {store.folder} has {horizon * repeat} steps; collect longer ones")
    pixels = np.stack([store.read("pixels", [p])[: horizon * repeat + 1 : repeat] for p in long])
    states = np.stack([store.read("state", [p])[: horizon * repeat + 1 : repeat] for p in long])[..., index]
    actions = np.stack([store.read("action", [p])[: horizon * repeat] for p in long])
    frames, places = _library(store, splits, index)
    library = encode_frames(model, frames)
    real = encode_frames(model, pixels.reshape(-1, *pixels.shape[2:])).unflatten(0, pixels.shape[:2])
    blocks = torch.as_tensor(actions, dtype=real.dtype, device=real.device).reshape(len(long), 1, horizon, -1)
    with torch.no_grad():
        future = model.rollout(Context(real[:, :1], blocks[:, 0, :0]), blocks).latents[:, 0]
    found = _nearest(torch.cat([real[:, :1], future], dim=1), library)
    itself = _nearest(real, library)
    return Imagined(
        real=pixels[0],
        nearest=frames[found[0]],
        errors=_distance(places[found[:, 1:]], states[:, 1:]),
        stay=_distance(states[:, :1], states[:, 1:]),
        floor=float(_distance(places[itself], states).mean()),
        episodes=len(long),
        frames=len(frames),
    )


def _positions(store: EpisodeStore, splits: Splits, split: str, steps: int) -> list[int]:
    """Return the positions of a split's episodes of at least so many steps, the longest first."""
    wanted = set(splits.episodes(split))
    rows = [p for p, number in enumerate(store.episodes.tolist()) if number in wanted and store.lengths[p] >= steps]
    return sorted(rows, key=lambda p: -int(store.lengths[p]))


def _library(store: EpisodeStore, splits: Splits, columns: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return training frames (F, S, S, 3), spread evenly over the episodes, and their states (F, columns)."""
    positions = _positions(store, splits, "train", 0)
    stride = max(1, int(store.lengths[positions].sum() // _LIBRARY_FRAMES))
    frames = [store.read("pixels", [p])[::stride] for p in positions]
    states = [store.read("state", [p])[::stride] for p in positions]
    return np.concatenate(frames), np.concatenate(states)[:, columns]


def _nearest(latents: Tensor, library: Tensor) -> np.ndarray:
    """Return the rows of the library (F, D) nearest to latents (B, T, D), (B, T)."""
    return torch.cdist(latents.float(), library.float()).argmin(dim=-1).cpu().numpy()


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance over the last axis, mean over the first."""
    return np.linalg.norm(first - second, axis=-1).mean(axis=0)
