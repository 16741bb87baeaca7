"""What the controller remembers of each environment."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..contracts import Context, Planner

__all__ = ["Rows"]


@dataclass
class Rows:
    """What the controller remembers of each row; tensors and arrays have B first.

    Attributes:
        latents: (B, T, D), at the starts of the last model steps, newest last; `count` of them are valid.
        actions: (B, T, A), of the model steps before each latent.
        plans: (B, H, A), the last plans, the last step repeated behind short ones.
        block: (B, action_repeat, action_size), float32, the actions of the present model step.
        count: (B,), valid latents.
        phase: (B,), environment steps into the present model step.
        length: (B,), model steps of each plan.
        cursor: (B,), model steps of each plan that were begun.
        has_plan: (B,), whether a plan is valid.
        has_acted: (B,), whether `block` holds actions of this episode.
    """

    latents: Tensor
    actions: Tensor
    plans: Tensor
    block: np.ndarray
    count: np.ndarray
    phase: np.ndarray
    length: np.ndarray
    cursor: np.ndarray
    has_plan: np.ndarray
    has_acted: np.ndarray

    @classmethod
    def empty(cls, batch: int, planner: Planner) -> "Rows":
        """Return rows that remember nothing."""
        spec = planner.model.spec
        numbers = [np.zeros(batch, dtype=np.int64) for _ in range(4)]
        return cls(
            torch.zeros(batch, spec.history, spec.latent_size),
            torch.zeros(batch, spec.history, spec.block_size),
            torch.zeros(batch, planner.horizon, spec.block_size),
            np.zeros((batch, spec.action_repeat, spec.action_size), dtype=np.float32),
            *numbers,
            has_plan=np.zeros(batch, dtype=bool),
            has_acted=np.zeros(batch, dtype=bool),
        )

    @property
    def batch(self) -> int:
        """B."""
        return len(self.count)

    def remember(self, rows: np.ndarray, latents: Tensor) -> None:
        """Append latents (R, D), and the actions of the model step that led to them."""
        if self.latents.device != latents.device or self.latents.dtype != latents.dtype:
            self.latents, self.actions, self.plans = (x.to(latents) for x in (self.latents, self.actions, self.plans))
        index = torch.from_numpy(rows).to(latents.device)
        block = torch.from_numpy(self.block[rows].reshape(len(rows), -1)).to(latents)
        self.latents[index] = torch.cat([self.latents[index, 1:], latents.unsqueeze(1)], dim=1)
        self.actions[index] = torch.cat([self.actions[index, 1:], block.unsqueeze(1)], dim=1)
        self.count[rows] = np.minimum(self.count[rows] + 1, self.latents.shape[1])

    def context(self, rows: np.ndarray) -> Context:
        """Return the context, without a goal, of rows that are alike in `count` and `has_acted`."""
        index = torch.from_numpy(rows).to(self.latents.device)
        count = int(self.count[rows[0]])
        actions = self.actions[index][:, self.actions.shape[1] - count + 1 :]
        last = torch.from_numpy(self.block[rows, -1]).to(actions) if self.has_acted[rows[0]] else None
        return Context(self.latents[index, -count:], actions, last_action=last)

    def remaining(self, rows: np.ndarray) -> Tensor:
        """Return what remains of the plans (R, H, A), the last step repeated."""
        steps = np.minimum(self.cursor[rows, None] + np.arange(self.plans.shape[1]), self.plans.shape[1] - 1)
        device = self.plans.device
        return self.plans[torch.from_numpy(rows).to(device)[:, None], torch.from_numpy(steps).to(device)]

    def keep(self, rows: np.ndarray, actions: Tensor) -> None:
        """Take over new plans (R, H', A), H' at most H."""
        missing = self.plans.shape[1] - actions.shape[1]
        tail = actions[:, -1:].expand(-1, missing, -1)
        self.plans[torch.from_numpy(rows).to(self.plans.device)] = torch.cat([actions, tail], dim=1).to(self.plans)
        self.length[rows], self.cursor[rows], self.has_plan[rows] = actions.shape[1], 0, True

    def rest(self, rows: np.ndarray, action: np.ndarray) -> None:
        """Load an action (action_size,) for a whole model step, in place of a plan, which is dropped."""
        self.block[rows] = action
        self.has_plan[rows], self.has_acted[rows] = False, True

    def load(self, rows: np.ndarray, repeat: int) -> None:
        """Load the next model step of the plans."""
        device = self.plans.device
        index, step = (torch.from_numpy(x).to(device) for x in (rows, self.cursor[rows]))
        actions = self.plans[index, step].float().cpu().numpy()
        self.block[rows] = actions.reshape(len(rows), repeat, -1)
        self.cursor[rows] += 1
        self.has_acted[rows] = True
