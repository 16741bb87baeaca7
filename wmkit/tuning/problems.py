"""What the settings are tried on: starts and goals, recorded, made by an environment, or drawn at random."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..contracts import ModelSpec, ObservationSpec
from ..data.episodes import EpisodeStore
from ..data.latents import check_actions
from ..data.windows import Windows
from ..errors import UserError
from ..evaluation.manifest import HELD_OUT, Manifest
from ..evaluation.runner import begin_pairs
from ..tasks import Task

__all__ = ["Problems", "random_problems", "recorded_problems", "staged_problems"]

_WARM_UP = 10
"""Most random actions before a start of an environment without goals."""


@dataclass(frozen=True)
class Problems:
    """P starts, each with a goal where the objective needs one.

    Attributes:
        observations: key -> (P, T, ...), the model's history up to the start, oldest first.
        actions: (P, T-1, A), float32, between them, environment units.
        goals: key -> (P, ...); None where the objective needs no goal.
        label: one line on where they are from.
    """

    observations: Mapping[str, np.ndarray]
    actions: np.ndarray
    goals: Mapping[str, np.ndarray] | None
    label: str

    def __len__(self) -> int:
        """P."""
        return len(self.actions)


def recorded_problems(
    spec: ModelSpec, store: EpisodeStore, count: int, ahead: int, *, goals: bool = True, seed: int = 0
) -> Problems:
    """Draw problems from held-out episodes, with the model's whole history.

    Args:
        spec: of the model.
        store: the data set.
        count: P.
        ahead: model steps from the start to the goal, which the same episode reached.
        goals: whether the objective needs goals.
        seed: of the draw.

    Raises:
        UserError: the data lack what the model observes, do not fit its actions, or have no episode of that length.
    """
    for key, wanted in spec.observations.items():
        columns = {column.name: tuple(column.shape) for column in store.metadata.columns}
        if columns.get(key) != tuple(wanted.shape):
            found = f"{key} {columns[key]}" if key in columns else f"no {key!r}"
            raise UserError(f"--data {store.folder} has {found}; the model observes {key} {tuple(wanted.shape)}")
    check_actions(store, spec)
    frames = spec.history + (ahead if goals else 0)
    windows = Windows(store, HELD_OUT, frames, spec.action_repeat, tuple(spec.observations), cache="disk")
    drawn = {
        key: value.cpu().numpy() for key, value in windows.sample(count, torch.Generator().manual_seed(seed)).items()
    }
    before = {key: _typed(drawn[key][:, : spec.history], item) for key, item in spec.observations.items()}
    reached = {key: _typed(drawn[key][:, -1], item) for key, item in spec.observations.items()}
    distance = f", goals {ahead} model steps ahead" if goals else ""
    label = f"{count} starts of held-out episodes{distance}"
    return Problems(before, drawn["action"][:, : spec.history - 1], reached if goals else None, label)


def staged_problems(spec: ModelSpec, task: Task, manifest: Manifest | None, count: int, seed: int = 0) -> Problems:
    """Let an environment show starts and goals.

    Args:
        spec: of the model.
        task: the environment.
        manifest: pairs of start and goal, of which the first P serve; None takes the environment's own starts, a few
            random actions on, without goals.
        count: P.
        seed: of the environment's own starts.

    Raises:
        UserError: the environment does not show what the model observes.
    """
    keys = sorted(spec.observations)
    options = {"image_size": spec.observations["pixels"].shape[0]} if "pixels" in keys else {}
    env = task.make_vector(num_envs=count, obs_type="_".join(keys), **options)
    try:
        if manifest is None:
            seen, goals = _starts(env, count, seed), None
            label = f"{count} starts of the environment {task.name}, a few random actions on"
        else:
            seen, start = begin_pairs(env, manifest, np.arange(count))
            goals = {key: _typed(np.asarray(start.goal_observations[key]), spec.observations[key]) for key in keys}
            label = f"{count} pairs of start and goal, {manifest.environment} {manifest.protocol}"
        found = {key: _typed(np.array(seen[key]), spec.observations[key]) for key in keys}
    finally:
        env.close()
    return _without_history(spec, found, goals, label)


def random_problems(spec: ModelSpec, count: int, *, goals: bool = True, seed: int = 0) -> Problems:
    """Draw starts and goals at random within what the model observes; pictures are then noise."""
    generator = np.random.default_rng(seed)
    found = {key: _noise(item, count, generator) for key, item in spec.observations.items()}
    reached = {key: _noise(item, count, generator) for key, item in spec.observations.items()}
    return _without_history(spec, found, reached if goals else None, f"{count} random observations")


def _without_history(
    spec: ModelSpec, seen: Mapping[str, np.ndarray], goals: Mapping[str, np.ndarray] | None, label: str
) -> Problems:
    """Return the problems of P single instants."""
    count = len(next(iter(seen.values())))
    actions = np.zeros((count, 0, spec.block_size), np.float32)
    return Problems({key: value[:, None] for key, value in seen.items()}, actions, goals, label)


def _starts(vector: Any, count: int, seed: int) -> Mapping[str, np.ndarray]:
    """Return the observations of an environment's starts, each after some random actions."""
    generator = np.random.default_rng(seed)
    seen, _ = vector.reset(seed=seed)
    low, high = vector.action_space.low, vector.action_space.high
    kept = {key: np.array(value) for key, value in seen.items()}
    stops = generator.integers(0, _WARM_UP + 1, count)
    for step in range(1, _WARM_UP + 1):
        seen, *_ = vector.step(generator.uniform(low, high).astype(low.dtype))
        for key, value in seen.items():
            kept[key][stops == step] = value[stops == step]
    return kept


def _noise(item: ObservationSpec, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return random observations (P, ...) within their limits, normal where there are none."""
    shape = (count, *item.shape)
    if np.issubdtype(np.dtype(item.dtype), np.integer):
        return generator.integers(int(item.low), int(item.high) + 1, shape).astype(item.dtype)
    if np.isfinite([item.low, item.high]).all():
        return generator.uniform(item.low, item.high, shape).astype(item.dtype)
    return generator.normal(size=shape).clip(item.low, item.high).astype(item.dtype)


def _typed(values: np.ndarray, item: ObservationSpec) -> np.ndarray:
    """Return values as the model observes them."""
    return values.astype(item.dtype, copy=False)
