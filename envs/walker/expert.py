"""The walker's expert: a planner over the true simulator, as good or as bad as is asked for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wmkit import registry

from .model import ACTION_SIZE
from .rewards import RewardFunction, get_reward

if TYPE_CHECKING:
    from torch import Tensor

    from wmkit.contracts import Rollout
    from wmkit.control.controller import Controller

__all__ = ["QUALITIES", "WalkerExpert"]

QUALITIES = {"expert": (1.0, 1.0), "medium": (0.5, 0.5), "mixed": (0.0, 1.0)}
"""Name -> range of qualities: "medium" is meant to return half of "expert", "mixed" is anything from random on."""

_EASY, _HARD = {"samples": 48, "iterations": 1, "std": 0.8}, {"samples": 64, "iterations": 2, "std": (1.0, 0.5)}
"""Settings of the planner for standing and walking, and for all else."""
_HORIZON, _KNOTS = 20, 5
"""Control steps of a plan, half a second; knots of the linear spline that each candidate changes the last plan by."""
_CORRELATION = 0.9
"""Of the noise between two control steps."""
_REDRAWS = 0.1
"""Chance at each control step that it is drawn anew whether to plan."""
_EXPONENT = {"stand": 1.0, "walk": 1.0}
"""Reward -> p, 0.4 for all others: the share of time planned is quality^p, so that the returns fall roughly alike."""


class WalkerExpert:
    """Plans through the simulator, and knows of the scene's variation.

    The quality is roughly the share of the best return that is reached. Below 1 the walker stumbles: four times a
    second, on average, it is drawn whether what follows is planned or smooth random actions. At 0 nothing is planned.

    Args:
        seed: of the planner and of the noise.
        reward: what to maximise: a name or a function as in `rewards`.
        quality: from 0 (random) to 1 (nothing but the plan).

    Raises:
        ValueError: an unknown reward, or a quality outside its range.
    """

    def __init__(self, seed: int = 0, reward: str | RewardFunction = "walk", quality: float = 1.0) -> None:
        if not 0 <= quality <= 1:
            raise ValueError(f"quality is {quality!r}; give a number from 0 (random) to 1 (the best)")
        self._seed, self._reward = seed, get_reward(reward)
        name = reward if isinstance(reward, str) else ""
        self._settings = _EASY if name in _EXPONENT else _HARD
        self._share = quality ** _EXPONENT.get(name, 0.4)
        self._rng, self._noise, self._plans = np.random.default_rng(seed), np.zeros(ACTION_SIZE), False
        self._controller: Controller | None = None

    def reset(self, state: np.ndarray, goal: np.ndarray, variation: Mapping[str, Any]) -> None:
        """Start an episode from `state` (18,) in a scene with the given variation; there is no goal, (0,)."""
        self._rng = np.random.default_rng(self._seed)
        self._noise = self._rng.standard_normal(ACTION_SIZE)
        self._plans = self._rng.random() < self._share
        self._controller = self._make_controller(variation) if self._share > 0 else None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return one action (6,) in [-1, 1] for the state (18,)."""
        fresh = self._rng.standard_normal(ACTION_SIZE)
        self._noise = _CORRELATION * self._noise + np.sqrt(1 - _CORRELATION**2) * fresh
        if self._rng.random() < _REDRAWS:
            self._plans = self._rng.random() < self._share
        if self._plans and self._controller is not None:
            return self._controller.act({"state": state})
        return np.clip(self._noise, -1.0, 1.0).astype(np.float32)

    def _make_controller(self, variation: Mapping[str, Any]) -> "Controller":
        import torch

        from wmkit.control.controller import Controller

        model = registry.load("models", "simulator").from_task("walker", variation, action_repeat=1)
        mppi = registry.load("planners", "mppi")
        planner = mppi(model, horizon=_HORIZON, noise_knots=_KNOTS, temperature=0.1, **self._settings)
        return Controller(planner, _NegativeReward(self._reward), generator=torch.Generator().manual_seed(self._seed))


class _NegativeReward:
    """The planner's cost: the negative of the rewards of a plan's steps, summed."""

    def __init__(self, function: RewardFunction) -> None:
        self._function = function

    def cost(self, rollout: "Rollout", actions: "Tensor") -> "Tensor":
        """Return (B, N) from states (B, N, H, 18) and actions (B, N, H, 6)."""
        return -self._function(rollout.latents, actions).sum(dim=-1)

    def select(self, rows: "Tensor") -> "_NegativeReward":
        """Return itself: all rows share it."""
        return self
