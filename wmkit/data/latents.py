"""Windows of latents and action blocks, all in memory, for models and proposals over sequences."""

import hashlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..contracts import WorldModel
from ..diffusion.features import FeatureConfig, Features
from ..errors import UserError
from .episodes import EpisodeStore
from .splits import load_splits
from .windows import Windows

__all__ = [
    "ActionRate",
    "LatentCache",
    "LatentWindows",
    "SequenceBatch",
    "check_actions",
    "check_statistics",
    "chosen_episodes",
]

LatentCache = MutableMapping[tuple[str, str, tuple[int, ...]], Tensor]
"""Encoded frames (rows, D) by encoder, fingerprint of the store and episodes: several parts of a run encode once."""

_FRAMES_AT_ONCE = 512
_FARTHEST = 30.0
"""Root mean square, in the model's standard deviations, beyond which data are not what the model was normalised for."""


@dataclass(frozen=True)
class SequenceBatch:
    """Windows of T latents of history and F of future, with the action blocks between them.

    With a goal, a window may reach beyond the end of its episode, though its goal does not: there the last latent and
    the last action block are repeated, and a loss leaves out what lies beyond `steps`.

    Attributes:
        latents: (M, T + F, D) float32; the first T are the history.
        actions: (M, T + F - 1, A) float32, environment units; the last F are the future's.
        goal: (M, D) float32, a latent of the same episode; None where the features have no goal.
        steps: (M,) int64, model steps from the newest latent of the history to the goal, at least 1; None with it.
        rows: (M,) int64, which window this is: the same number for the same window of the same data, always.
    """

    latents: Tensor
    actions: Tensor
    goal: Tensor | None
    steps: Tensor | None
    rows: Tensor

    def split(self, size: int) -> "list[SequenceBatch]":
        """Return the same windows in batches of at most `size`."""
        columns = (self.latents, self.actions, self.goal, self.steps, self.rows)
        count = -(-len(self.rows) // size)
        parts = [[None] * count if column is None else column.split(size) for column in columns]
        return [SequenceBatch(*part) for part in zip(*parts, strict=True)]


class ActionRate(Protocol):
    """What a model's configuration or spec says of its actions and its clock."""

    @property
    def action_low(self) -> tuple[float, ...]:
        """(action_size,), environment units."""
        ...

    @property
    def action_high(self) -> tuple[float, ...]:
        """(action_size,), environment units."""
        ...

    @property
    def action_repeat(self) -> int:
        """Environment steps per model step."""
        ...

    @property
    def seconds_per_step(self) -> float:
        """Seconds of one model step."""
        ...


class LatentWindows:
    """Windows of T + F latents of one split of a store, for features of history T and horizon F.

    Args:
        store: the episodes.
        split: "train", "validation", "heldout", "all", or episode indices.
        features: sizes, and whether batches have goals.
        action_repeat: environment steps of a model step.
        encoder: makes latents from one column that the store holds; None takes the column "state" as it is.
        episodes: keep the first so many episodes of the split; None keeps all.
        device: where batches are.
        cache: of encoded frames; None encodes anew.

    Attributes:
        episodes: how many episodes there are.
        latents: (rows, D) float32, of all frames, episodes end to end.

    Raises:
        UserError: columns or sizes do not fit, too few episodes or none that is long enough, or numbers that are not
            finite.
    """

    def __init__(
        self,
        store: EpisodeStore,
        split: str | tuple[int, ...],
        features: FeatureConfig,
        action_repeat: int,
        encoder: WorldModel | None = None,
        *,
        episodes: int | None = None,
        device: torch.device | str = "cpu",
        cache: LatentCache | None = None,
    ) -> None:
        self.features = features
        chosen = chosen_episodes(store, split, episodes)
        self.episodes = len(chosen)
        self._device = torch.device(device)
        span = features.history + features.horizon
        self._windows = Windows(store, chosen, span, action_repeat, (), "memory")
        size = store.metadata.column("action").shape[-1] * action_repeat
        if size != features.block_size:
            raise UserError(
                f"{store.folder} has action blocks of {size} numbers (action repeat {action_repeat}), the model takes "
                f"{features.block_size}; give data of the same task and rate"
            )
        frames = _latents(store, self._windows, chosen, encoder, cache)
        if frames.shape[-1] != features.latent_size:
            raise UserError(
                f"{store.folder} gives latents of {frames.shape[-1]} numbers, the model takes {features.latent_size}; "
                "give data with the same columns"
            )
        self.latents = frames.to(self._device)
        self._actions = self._blocks(store)

    def __len__(self) -> int:
        """Number of different windows that lie within their episodes."""
        return len(self._windows)

    def sample(self, n: int, generator: torch.Generator) -> SequenceBatch:
        """Draw n windows, each equally likely; goals uniformly 1 to `reach` model steps ahead within the episode.

        Args:
            n: M.
            generator: source of all randomness, on the CPU.
        """
        config = self.features
        frames = config.history + (1 if config.goal else config.horizon)
        return self._batch(self._windows.index(n, generator, frames)[:, 0], generator)

    def all(self, stride: int = 1, most: int | None = None) -> SequenceBatch:
        """Return the windows that lie within their episodes, in order.

        Args:
            stride: environment steps between the starts in an episode.
            most: keep at most so many, spread evenly.
        """
        starts = self._windows.ordered(stride=stride)[:, 0]
        if most is not None and len(starts) > most:
            starts = starts[torch.linspace(0, len(starts) - 1, most).round().long()]
        return self._batch(starts, torch.Generator().manual_seed(0))

    def _batch(self, starts: Tensor, generator: torch.Generator) -> SequenceBatch:
        """Return the windows that begin at the frame rows (M,)."""
        config, windows = self.features, self._windows
        end = windows.offsets[torch.searchsorted(windows.offsets, starts.contiguous(), right=True)] - 1
        frames = starts[:, None] + windows.action_repeat * torch.arange(config.history + config.horizon)
        blocks = frames[:, :-1].minimum(end[:, None] - windows.action_repeat)
        goal, steps = self._goals(frames[:, config.history - 1], end, generator) if config.goal else (None, None)
        latents = self.latents[frames.minimum(end[:, None]).to(self._device)]
        return SequenceBatch(latents, self._actions[blocks.to(self._device)], goal, steps, starts.to(self._device))

    def _goals(self, newest: Tensor, end: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return goals (M, D) and the steps to them (M,), after the frames `newest` (M,) and at most at `end` (M,)."""
        repeat = self._windows.action_repeat
        most = ((end - newest) // repeat).clamp(max=self.features.reach)
        steps = 1 + (torch.rand(len(newest), generator=generator) * most).long().minimum(most - 1)
        return self.latents[(newest + steps * repeat).to(self._device)], steps.to(self._device)

    def _blocks(self, store: EpisodeStore) -> Tensor:
        """Return the action block (rows, A) that follows each frame, 0 where the episode ends within it."""
        windows = self._windows
        rows = windows.ordered(frames=2, stride=1)[:, 0]
        actions = torch.zeros(len(self.latents), self.features.block_size)
        actions[rows] = windows.blocks(rows)
        if not (torch.isfinite(actions).all() and torch.isfinite(self.latents).all()):
            raise UserError(f"{store.folder} holds states or actions that are not finite (wmkit data validate)")
        return actions.to(self._device)


def check_actions(store: EpisodeStore, wanted: ActionRate) -> None:
    """Refuse data whose actions or clock are not the model's.

    Args:
        store: the data.
        wanted: the model's spec, or a configuration.

    Raises:
        UserError: the size or the bounds of an action, or the seconds of a model step differ.
    """
    data = store.metadata
    if len(data.action_low) != len(wanted.action_low):
        raise UserError(
            f"{store.folder} has actions of {len(data.action_low)} numbers, the model takes {len(wanted.action_low)}; "
            "give data of the same task"
        )
    found, expected = (data.action_low, data.action_high), (wanted.action_low, wanted.action_high)
    if not torch.allclose(torch.tensor(found), torch.tensor([list(each) for each in expected])):
        raise UserError(
            f"{store.folder} has action bounds {found}, the model has {expected}; give data of the same task"
        )
    seconds = data.seconds_per_step * wanted.action_repeat
    if abs(seconds - wanted.seconds_per_step) > 1e-6 * seconds:
        raise UserError(
            f"{store.folder} was recorded at {data.seconds_per_step:.6g} s a step, {wanted.action_repeat} of them make "
            f"{seconds:.6g} s; the model's step lasts {wanted.seconds_per_step:.6g} s: give data of the same rate"
        )


def check_statistics(features: Features, windows: LatentWindows) -> None:
    """Refuse data that a model's normalisation was not made for, e.g. of other units.

    Raises:
        UserError: a number that the model sees of a latent is on average more than 30 standard deviations off.
    """
    batch = windows.all(most=1024)
    history, size = windows.features.history, features.input_size + 1
    context = features.context(batch.latents[:, :history], batch.actions[:, : history - 1], batch.goal, batch.steps)
    seen = context[:, : history * size].reshape(-1, size)[:, :-1]
    off = seen.square().mean(0).sqrt()
    if float(off.max()) > _FARTHEST:
        raise UserError(
            f"column {int(off.argmax())} of the data's latents is {float(off.max()):.0f} standard deviations from what "
            "the model was normalised for; check units and columns of the data"
        )


def chosen_episodes(store: EpisodeStore, split: str | tuple[int, ...], count: int | None) -> tuple[int, ...]:
    """Return the indices of the episodes to take.

    Args:
        store: the episodes.
        split: name of a split, or indices.
        count: take the first so many; None takes all.

    Raises:
        UserError: the count is below 1, or above what there is.
    """
    chosen = load_splits(store).episodes(split) if isinstance(split, str) else split
    if count is None:
        return chosen
    if not 1 <= count <= len(chosen):
        raise UserError(f"episodes={count}, but {store.folder} has {len(chosen)} to take from; give 1 to that many")
    return chosen[:count]


def _latents(
    store: EpisodeStore,
    windows: Windows,
    chosen: tuple[int, ...],
    encoder: WorldModel | None,
    cache: LatentCache | None,
) -> Tensor:
    """Return the latents (rows, D) float32 of all frames."""
    if encoder is None:
        if len(store.metadata.column("state").shape) != 1:
            raise UserError(f"{store.folder} holds states {store.metadata.column('state').shape}, not flat ones")
        return torch.cat(list(windows.frame_batches("state", _FRAMES_AT_ONCE))).float()
    if cache is None:
        return _encoded(store, windows, encoder)
    key = (_weights_hash(encoder), store.fingerprint, chosen)
    if key not in cache:
        cache[key] = _encoded(store, windows, encoder)
    return cache[key]


def _weights_hash(encoder: WorldModel) -> str:
    """Return a hash of an encoder's class and weights."""
    digest = hashlib.sha256(type(encoder).__qualname__.encode())
    for name, tensor in encoder.state_dict().items() if isinstance(encoder, nn.Module) else ():
        digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _encoded(store: EpisodeStore, windows: Windows, encoder: WorldModel) -> Tensor:
    """Return the encoder's latents (rows, D) of all frames."""
    names = list(encoder.spec.observations)
    if len(names) != 1:
        raise UserError(f"the encoder reads {', '.join(names)}; latents are made from one column alone")
    shape = store.metadata.column(names[0]).shape
    wanted = encoder.spec.observations[names[0]].shape
    if tuple(shape) != tuple(wanted):
        raise UserError(f"{store.folder} holds {names[0]} {tuple(shape)}, the encoder takes {tuple(wanted)}")
    device = next(encoder.parameters()).device if isinstance(encoder, nn.Module) else torch.device("cpu")
    parts = [
        encoder.encode({names[0]: batch.to(device)[:, None]})[:, 0].float().cpu()
        for batch in windows.frame_batches(names[0], _FRAMES_AT_ONCE)
    ]
    return torch.cat(parts)
