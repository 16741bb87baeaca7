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
"""Name -> range of qualities: "medium" returns a third to a half of "expert", "mixed" is anything from random on."""

_SKILL = {"run": 0.3, "walk": 0.52, "stand": 0.25}
"""Reward -> exponent p: skill = quality^p, so that the returns fall roughly alike; 0.6 for other rewards."""

_PLANNER = "predictive-sampling"
_SETTINGS: dict[str, Any] = {"horizon": 20, "iterations": 1, "noise_exponent": 2.0, "std": 0.4}
"""Settings of the planner: half a second ahead, replanned at every control step."""
_SAMPLES = (4, 64)
"""Candidates of one plan at the skills 0 and 1."""
_CORRELATION = 0.9
"""Of the noise between two control steps."""


class WalkerExpert:
    """Plans through the simulator, and knows of the scene's variation.

    The quality is roughly the share of the best return that is reached. It is turned into a skill from 0 to 1, which
    sets how many candidates there are, from 4 to 64 in equal ratios, and mixes noise in: the action is as much plan as
    there is skill, and the rest smooth random actions. At 0 nothing is planned.

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
        self._skill = quality ** _SKILL.get(reward if isinstance(reward, str) else "", 0.6)
        self._rng = np.random.default_rng(seed)
        self._noise = np.zeros(ACTION_SIZE)
        self._controller: Controller | None = None

    def reset(self, state: np.ndarray, goal: np.ndarray, variation: Mapping[str, Any]) -> None:
        """Start an episode from `state` (18,) in a scene with the given variation; there is no goal, (0,)."""
        self._rng = np.random.default_rng(self._seed)
        self._noise = self._rng.standard_normal(ACTION_SIZE)
        self._controller = self._make_controller(variation) if self._skill > 0 else None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return one action (6,) in [-1, 1] for the state (18,)."""
        plan = np.zeros(ACTION_SIZE) if self._controller is None else self._controller.act({"state": state})
        return np.clip(self._skill * plan + (1 - self._skill) * self._smooth(), -1.0, 1.0).astype(np.float32)

    def _smooth(self) -> np.ndarray:
        """Return noise (6,) of variance 1, correlated with the one before."""
        fresh = np.sqrt(1 - _CORRELATION**2) * self._rng.standard_normal(ACTION_SIZE)
        self._noise = _CORRELATION * self._noise + fresh
        return self._noise

    def _make_controller(self, variation: Mapping[str, Any]) -> "Controller":
        import torch

        from wmkit.control.controller import Controller

        low, high = _SAMPLES
        model = registry.load("models", "simulator").from_task("walker", variation, action_repeat=1)
        samples = round(low * (high / low) ** self._skill)
        planner = registry.load("planners", _PLANNER)(model, samples=samples, **_SETTINGS)
        generator = torch.Generator().manual_seed(self._seed)
        return Controller(planner, _NegativeReward(self._reward), generator=generator)


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
