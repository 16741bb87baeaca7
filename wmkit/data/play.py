"""Play: a trained proposal acts as the policy, with noise around what it would do."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import registry
from ..contracts import Context
from ..errors import UserError
from ..model_folder import kind_of, resolve
from ..tasks import Task
from .files import read_json

__all__ = ["ProposalPolicy", "proposal_folder"]

_KEPT = 4
"""A quarter of a proposed plan is executed before the next is drawn."""


def proposal_folder(name: str) -> Path:
    """Return the folder of a proposal: of a run its "proposal", else the folder itself.

    Raises:
        UserError: there is none.
    """
    run = Path(name)
    return run / "proposal" if (run / "proposal").is_dir() else resolve(name)


class ProposalPolicy:
    """A policy that draws plans from a proposal over states, executes the first quarter of each, and adds noise.

    Args:
        folder: of the proposal.
        task: whose states it reads.
        std: (action_size,), standard deviation of the noise, environment units.

    Attributes:
        sha256: of the proposal's weights, hexadecimal.

    Raises:
        UserError: the proposal does not act on the task's states or at its rate, or needs a goal.
    """

    def __init__(self, folder: Path, task: Task, std: np.ndarray) -> None:
        self.sha256 = str(read_json(folder / "config.json").get("sha256"))
        self._proposal = registry.load("proposals", kind_of(folder)).from_pretrained(folder).eval()
        features = self._proposal.config.features
        _check(folder, self._proposal.config, task)
        self._std, self._low, self._high = std, np.asarray(task.action_low), np.asarray(task.action_high)
        self._repeat, self._history, self._horizon = task.action_repeat, features.history, features.horizon
        self._random, self._generator = np.random.default_rng(0), torch.Generator()

    def reset(self, seed: int) -> None:
        """Start an episode; all randomness derives from the seed."""
        self._random, self._generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self._latents: list[np.ndarray] = []
        self._executed: list[np.ndarray] = []
        self._plan: list[np.ndarray] = []

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return one action (action_size,) float32, within the bounds, for the state (S,)."""
        if len(self._executed) % self._repeat == 0:
            self._latents.append(np.asarray(state, np.float32))
            if not self._plan:
                self._plan = self._draw()
        action = self._plan.pop(0) + self._std * self._random.standard_normal(len(self._std))
        self._executed.append(np.clip(action, self._low, self._high).astype(np.float32))
        return self._executed[-1]

    def _draw(self) -> list[np.ndarray]:
        """Return the environment actions of the first quarter of a plan."""
        past = min(self._history, len(self._latents))
        latents = torch.from_numpy(np.stack(self._latents[-past:]))[None]
        done = self._executed[len(self._executed) - (past - 1) * self._repeat :]
        blocks = torch.from_numpy(np.reshape(np.array(done, np.float32), (1, past - 1, self._repeat * len(self._std))))
        with torch.no_grad():
            plans = self._proposal.propose(Context(latents, blocks), 1, self._horizon, self._generator)
        kept = plans[0, 0, : max(1, self._horizon // _KEPT)]
        return list(kept.reshape(-1, len(self._std)).double().numpy())


def _check(folder: Path, config: Any, task: Task) -> None:
    """Raise UserError where a proposal does not act on the states of a task, or not at its rate."""
    if config.features.goal:
        raise UserError(f"{folder} needs a goal, and play has none; give a proposal that was trained without")
    wanted: Mapping[str, Any] = {
        "numbers of the state": (config.features.latent_size, len(task.state)),
        "action_repeat": (config.action_repeat, task.action_repeat),
        "action_low": (tuple(config.action_low), tuple(map(float, task.action_low))),
        "action_high": (tuple(config.action_high), tuple(map(float, task.action_high))),
    }
    for name, (found, expected) in wanted.items():
        if found != expected:
            raise UserError(f"{folder} does not act on the states of {task.name}: {name} is {found}, not {expected}")
    seconds = task.seconds_per_step * task.action_repeat
    if not math.isclose(config.seconds_per_step, seconds, rel_tol=1e-6):
        raise UserError(
            f"{folder} does not act at the rate of {task.name}: its step lasts {config.seconds_per_step:.6g} s, not "
            f"{seconds:.6g} s"
        )
