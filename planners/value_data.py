"""What a terminal value learns from: latents, and the discounted rewards that followed them in recorded episodes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmkit.contracts import WorldModel
from wmkit.data.episodes import EpisodeStore
from wmkit.data.latents import LatentCache, LatentWindows
from wmkit.errors import UserError

from .terminal_value import ValueBatch, ValueConfig

__all__ = ["ValueData", "read_value_data"]


class ValueData:
    """Latents and what followed them, of whole episodes end to end.

    Args:
        latents: (rows, D) float32, an episode of L environment steps has L + 1 rows.
        rewards: (rows,), of the model step that begins at each row; what the last `action_repeat` rows of an episode
            hold is ignored.
        lengths: (E,), environment steps of each episode.
        discount: of each model step's reward against the one before.
        action_repeat: environment steps per model step.

    Attributes:
        latents: as given.
        rewards: (F,) float64, of all whole model steps.
        left: (rows,) int64, whole model steps until the episode's recording ends.

    Raises:
        ValueError: rewards that are not finite, or counts that do not fit.
    """

    def __init__(
        self, latents: Tensor, rewards: Tensor, lengths: Sequence[int], discount: float, action_repeat: int = 1
    ) -> None:
        self.latents, self._discount, self._repeat = latents, discount, action_repeat
        if len(latents) != len(rewards) or len(latents) != sum(length + 1 for length in lengths):
            raise ValueError(f"{len(latents)} latents and {len(rewards)} rewards for episodes of {list(lengths)[:5]}")
        self.left = torch.cat([torch.arange(length, -1, -1) // action_repeat for length in lengths])
        self._rows = torch.nonzero(self.left > 0)[:, 0]
        self.rewards = rewards.double()[self._rows]
        if not torch.isfinite(self.rewards).all():
            raise ValueError("the reward is not finite on the data's states; mend the reward, or the data")
        self._returns = self._summed(rewards.double(), lengths)

    def __len__(self) -> int:
        """Number of rows with at least one whole model step after them."""
        return len(self.rewards)

    def sample(self, n: int, generator: torch.Generator, trace: float) -> ValueBatch:
        """Draw n rows and for each the number of steps, geometric with the factor `trace`, up to its episode's end."""
        rows = self._rows[torch.randint(len(self), (n,), generator=generator)]
        chance = torch.rand(n, generator=generator, dtype=torch.float64).clamp(min=1e-12)
        steps = self.left[rows]
        if trace < 1:
            drawn = torch.ones(n) if trace == 0 else 1 + (chance.log() / np.log(trace)).floor()
            steps = steps.minimum(drawn.long())
        return self._batch(rows, steps)

    def all(self, most: int) -> ValueBatch:
        """Return rows spread evenly, at most so many, each with all steps to its episode's end."""
        rows = self._rows[torch.linspace(0, len(self) - 1, min(most, len(self))).round().long()]
        return self._batch(rows, self.left[rows])

    def _batch(self, rows: Tensor, steps: Tensor) -> ValueBatch:
        later, weights = rows + steps * self._repeat, self._discount ** steps.double()
        returns = self._returns[rows] - weights * self._returns[later]
        return ValueBatch(self.latents[rows], returns.float(), self.latents[later], weights.float())

    def _summed(self, rewards: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return the discounted rewards (rows,) float64 from each row to its episode's end."""
        longest, repeat = max(lengths), self._repeat
        known = torch.zeros(len(lengths), longest + 1 + repeat, dtype=torch.float64)
        inside = torch.arange(longest + 1 + repeat) <= torch.tensor(list(lengths))[:, None]
        known[inside] = torch.where(self.left > 0, rewards, 0.0)
        for column in range(longest - repeat, -1, -1):
            known[:, column] += self._discount * known[:, column + repeat]
        return known[inside]


def read_value_data(
    store: EpisodeStore,
    chosen: tuple[int, ...],
    config: ValueConfig,
    reward: Callable[..., Any],
    encoder: WorldModel | None = None,
    cache: LatentCache | None = None,
) -> ValueData:
    """Read latents and rewards of a store's episodes.

    Args:
        store: the episodes, with the columns "state" and "action".
        chosen: indices of the episodes, ascending.
        config: of the value.
        reward: a function of states and actions, as a task's.
        encoder: makes the latents; None for states.
        cache: of encoded frames.

    Raises:
        UserError: the data do not fit, or the reward is not finite on them.
    """
    repeat = config.action_repeat
    windows = LatentWindows(store, chosen, config.features, repeat, encoder, cache=cache)
    positions = np.searchsorted(store.episodes, chosen).tolist()
    rewards = [_rewards(store, position, reward, repeat) for position in positions]
    lengths = store.lengths[positions].tolist()
    found = torch.from_numpy(np.concatenate(rewards))
    try:
        return ValueData(windows.latents.cpu(), found, lengths, config.discount, repeat)
    except ValueError as error:
        raise UserError(f"{store.folder}, reward {config.reward!r}: {error}") from error


def _rewards(store: EpisodeStore, position: int, reward: Callable[..., Any], repeat: int) -> np.ndarray:
    """Return the reward (L + 1,) of the state that a model step from each row leads to; 0 where none does."""
    states = store.read("state", [position]).astype(np.float64)
    actions = store.read("action", [position]).astype(np.float64)
    found = np.zeros(len(states))
    if len(states) > repeat:
        found[:-repeat] = reward(states[repeat:], actions[repeat - 1 :])
    return found
