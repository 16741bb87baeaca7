"""Nominal episodes as the monitor sees them: recorded ones, or ones that a controller plays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..contracts import WorldModel
from ..data.episodes import EpisodeStore
from ..errors import UserError
from .signals import Raw, Signals

__all__ = ["Table", "played", "recorded"]


def recorded(
    signals: Signals,
    store: EpisodeStore,
    positions: Sequence[int],
    *,
    longest: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Raw]]:
    """Return the raw signals of recorded episodes, as if the monitor had watched them.

    Args:
        signals: of the model; reset between episodes.
        store: the data set.
        positions: of the episodes in it.
        longest: model steps of an episode that are looked at; None for all.
        progress: called with episodes done and in all.

    Raises:
        UserError: the data do not fit the model; the text says how.
    """
    spec, found = signals.model.spec, []
    _check(signals.model, store)
    for number, position in enumerate(positions):
        steps = int(store.lengths[position]) // spec.action_repeat
        steps = steps if longest is None else min(steps, longest)
        stop = steps * spec.action_repeat
        seen = {
            key: store.read(key, [position])[: stop + 1 : spec.action_repeat].astype(each.dtype)
            for key, each in spec.observations.items()
        }
        sent = store.read("action", [position])[:stop].reshape(steps, -1)
        found.append(_watch(signals, seen, sent))
        if progress is not None:
            progress(number + 1, len(positions))
    return found


def _watch(signals: Signals, seen: Mapping[str, np.ndarray], sent: np.ndarray) -> list[Raw]:
    """Return the raw signals of one episode: observations (S + 1, ...) by key, actions (S, A)."""
    signals.reset()
    with torch.no_grad():
        latents = signals.model.encode({key: value[None] for key, value in seen.items()})[0]
    blocks, row = torch.as_tensor(sent, dtype=latents.dtype, device=latents.device), np.array([0])
    return [
        signals.update(
            latents[step : step + 1],
            blocks[step - 1 : step] if step else None,
            {key: value[step : step + 1] for key, value in seen.items()},
            row,
            1,
        )
        for step in range(len(latents))
    ]


def _check(model: WorldModel, store: EpisodeStore) -> None:
    """Raise UserError where recorded episodes do not fit a model."""
    spec, columns = model.spec, {column.name: column for column in store.metadata.columns}
    for key, each in spec.observations.items():
        found = columns.get(key)
        if found is None or tuple(found.shape) != tuple(each.shape):
            has = "none" if found is None else f"one of shape {tuple(found.shape)}"
            raise UserError(f"the model reads {key!r} of shape {tuple(each.shape)}; {store.folder} has {has}")
    if len(store.metadata.action_low) != spec.action_size:
        raise UserError(
            f"the model has {spec.action_size} numbers in an action, {store.folder} {len(store.metadata.action_low)}"
        )
    if not np.isclose(store.metadata.seconds_per_step * spec.action_repeat, spec.seconds_per_step, rtol=1e-6):
        raise UserError(
            f"a model step lasts {spec.seconds_per_step:g} s, {spec.action_repeat} steps of {store.folder} "
            f"{store.metadata.seconds_per_step * spec.action_repeat:g} s"
        )


@dataclass(frozen=True)
class Table:
    """R episodes about to be played side by side.

    Attributes:
        env: a vector environment that was reset.
        controller: with its goals set.
        observations: the first ones, by key (R, ...).
        finished: states (R, S) -> (R,) bool, which episodes end there: at their goal, or out of the task.
    """

    env: Any
    controller: Any
    observations: Mapping[str, Any]
    finished: Callable[[np.ndarray], np.ndarray]


def played(
    signals: Signals,
    begin: Callable[[np.ndarray], Table],
    budgets: np.ndarray,
    *,
    batch: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Raw]]:
    """Return the raw signals of episodes that a controller plays until they are finished.

    Args:
        signals: of the model; reset between batches.
        begin: called with the numbers (R,) of the episodes to play side by side.
        budgets: (E,), most environment steps of each episode.
        batch: episodes side by side.
        progress: called with episodes done and in all.
    """
    found: list[list[Raw]] = []
    for first in range(0, len(budgets), batch):
        rows = np.arange(first, min(first + batch, len(budgets)))
        table = begin(rows)
        try:
            found += _play(signals, table, budgets[rows])
        finally:
            table.env.close()
        if progress is not None:
            progress(len(found), len(budgets))
    return found


def _play(signals: Signals, table: Table, budgets: np.ndarray) -> list[list[Raw]]:
    """Play one batch."""
    signals.reset()
    spec, seen = signals.model.spec, table.observations
    keys, batch = list(spec.observations), len(next(iter(seen.values())))
    rows, sent, going = np.arange(batch), [], np.ones(batch, bool)
    found: list[list[Raw]] = [[] for _ in range(batch)]
    for step in range(int(budgets.max()) + 1):
        shown = {key: np.asarray(seen[key]) for key in keys}
        if step % spec.action_repeat == 0:
            with torch.no_grad():
                latents = signals.model.encode({key: value[:, None] for key, value in shown.items()})[:, 0]
            blocks = torch.as_tensor(np.concatenate(sent, axis=1)).to(latents) if sent else None
            raw, sent = signals.update(latents, blocks, shown, rows, batch), []
            for row in np.flatnonzero(going).tolist():
                found[row].append(_one(raw, row))
        going &= step < budgets
        if not going.any():
            break
        action = np.asarray(table.controller.act(shown))
        sent.append(action.astype(np.float32))
        seen, _, _, _, info = table.env.step(action.astype(np.float64))
        going &= ~table.finished(np.asarray(info["state"]))
    return found


def _one(raw: Raw, row: int) -> Raw:
    """Return the signals of one row."""
    return Raw(**{name: value[row : row + 1] for name, value in vars(raw).items()})
