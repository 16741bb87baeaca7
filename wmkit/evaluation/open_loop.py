"""What a model imagines under recorded actions, beside what came: pictures, and errors by how far it looks ahead."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..contracts import Context, WorldModel
from ..errors import UserError
from ..readout import Readout
from .frames import Frames
from .picture_decoder import PictureDecoder

__all__ = ["Strip", "imagine_windows", "quantity_errors", "strips", "windows"]

_WINDOWS_AT_ONCE = 64


@dataclass(frozen=True)
class Strip:
    """One held-out episode, from the last frame that the model was given to H model steps later.

    Attributes:
        episode: its index.
        start: model step of the first picture.
        real: (H + 1, S, S, 3) uint8.
        decoded: (H + 1, 64, 64, 3) uint8, the real frames' own latents: what the decoder can show at best.
        imagined: (H + 1, 64, 64, 3) uint8, the start and the imagined latents.
    """

    episode: int
    start: int
    real: np.ndarray
    decoded: np.ndarray
    imagined: np.ndarray


def windows(frames: Frames, length: int, most: int) -> Tensor:
    """Return the rows (B, length) of windows of consecutive frames of one episode, at most so many, spread evenly.

    Raises:
        UserError: no episode has so many frames.
    """
    rows = torch.arange(len(frames.episodes)).unfold(0, length, 1) if len(frames.episodes) >= length else None
    inside = None if rows is None else rows[frames.episodes[rows[:, 0]] == frames.episodes[rows[:, -1]]]
    if inside is None or not len(inside):
        raise UserError(
            f"no held-out episode has {length} model steps, which history and --horizon need together; "
            "give a smaller --horizon, or collect longer episodes"
        )
    return inside[torch.linspace(0, len(inside) - 1, min(most, len(inside))).round().long()]


@torch.no_grad()
def imagine_windows(model: WorldModel, latents: Tensor, actions: Tensor, seed: int = 0) -> Tensor:
    """Return the imagined latents (B, H, D), on the CPU, after the history's latents (B, T, D).

    Args:
        model: rolls out.
        latents: (B, T, D), recorded.
        actions: (B, T-1+H, A), recorded: the history's, then the future's.
        seed: of what a stochastic model draws.
    """
    past, found = latents.shape[1], []
    for seen, blocks in zip(latents.split(_WINDOWS_AT_ONCE), actions.split(_WINDOWS_AT_ONCE), strict=True):
        generator = torch.Generator().manual_seed(seed)
        context = Context(seen, blocks[:, : past - 1])
        found.append(model.rollout(context, blocks[:, None, past - 1 :], generator).latents[:, 0].float().cpu())
    return torch.cat(found)


def quantity_errors(
    readout: Readout, frames: Frames, rows: Tensor, imagined: Tensor, history: int
) -> dict[str, Mapping[str, list[float]]]:
    """Return how far what is read out of imagined latents is from the truth, by name and model step.

    Args:
        readout: reads latents.
        frames: that the windows are of.
        rows: (B, T + H) of the windows.
        imagined: (B, H, D).
        history: T.

    Returns:
        name -> {"imagined", "real", "copy_last"} -> H mean absolute errors in the target's unit, or in degrees for
        angles: of imagined latents, of the latents of the frames that came, and of the last frame seen.
    """
    last = rows[:, history - 1 : history].expand(-1, rows.shape[1] - history)
    sources = {
        "imagined": imagined,
        "real": frames.latents[rows[:, history:]],
        "copy_last": frames.latents[last],
    }
    return {
        name: {
            source: [_error(readout, name, latents[:, h], truth[rows[:, history + h]]) for h in range(latents.shape[1])]
            for source, latents in sources.items()
        }
        for name, truth in frames.targets.items()
    }


def _error(readout: Readout, name: str, latents: Tensor, truth: Tensor) -> float:
    """Return the mean absolute error of one quantity, in degrees for an angle."""
    from ..readout import score

    found = score(readout(latents)[name], truth)
    return found.get("degrees", found["error"])


def strips(
    model: WorldModel, decoder: PictureDecoder, frames: Frames, horizon: int, count: int, seed: int = 0
) -> list[Strip]:
    """Imagine the most eventful stretch of some episodes: where the latent at its end is farthest from its start.

    Args:
        model: rolls out.
        decoder: of its latents.
        frames: of held-out episodes, with pixels, a model step apart.
        horizon: H.
        count: episodes, spread evenly over those that are long enough.
        seed: of what a stochastic model draws.
    """
    history = model.spec.history
    rows = windows(frames, history + horizon, len(frames.episodes))
    if frames.pixels is None:
        raise ValueError("strips need pixels")
    found = frames.episodes[rows[:, 0]]
    known = found.unique()
    chosen = known[torch.linspace(0, len(known) - 1, min(count, len(known))).round().long()]
    moved = (frames.latents[rows[:, -1]] - frames.latents[rows[:, history - 1]]).norm(dim=1)
    picked = torch.stack([rows[found == episode][moved[found == episode].argmax()] for episode in chosen])
    imagined = imagine_windows(model, frames.latents[picked[:, :history]], frames.actions[picked[:, :-1]], seed)
    shown = picked[:, history - 1 :]
    pictures = decoder.pictures(torch.cat([frames.latents[shown[:, :1]], imagined], dim=1)).numpy()
    decoded = decoder.pictures(frames.latents[shown]).numpy()
    first = [int((frames.episodes == episode).nonzero()[0, 0]) for episode in chosen]
    return [
        Strip(int(chosen[i]), int(shown[i, 0]) - first[i], frames.pixels[shown[i]].numpy(), decoded[i], pictures[i])
        for i in range(len(chosen))
    ]
