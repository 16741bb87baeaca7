"""The smallest world model that keeps every rule of the contract: linear dynamics of a fully observed state."""

from typing import Any

import torch
from torch import Tensor

from .contracts import Context, ModelSpec, Observations, ObservationSpec, Rollout

__all__ = ["LinearModel"]


class LinearModel:
    """z' = z A + u B for each environment step, observed in full under the key "state".

    A template for authors of models, and a model with known optimal plans to check planners with.
    """

    def __init__(
        self, transition: Tensor, control: Tensor, *, action_repeat: int = 1, history: int = 1, bound: float = 1.0
    ) -> None:
        """Create the model.

        Args:
            transition: A, (D, D), row latents are multiplied with it from the right.
            control: B, (action size, D).
            action_repeat: environment steps per model step.
            history: the most latents that contexts may bring; only the newest matters.
            bound: largest absolute value of an action, environment units.
        """
        size, latent = control.shape
        self._transition = transition
        self._control = control
        state = ObservationSpec((latent,), "float32", -float("inf"), float("inf"))
        self._spec = ModelSpec(
            {"state": state}, (-bound,) * size, (bound,) * size, action_repeat, history, latent, 0.1 * action_repeat
        )

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        return self._spec

    def encode(self, observations: Observations) -> Tensor:
        """Return the states (B, T, D) as they are."""
        return torch.as_tensor(observations["state"]).to(self._transition)

    def rollout(self, context: Context, actions: Tensor, generator: torch.Generator | None = None) -> Rollout:
        """Step through actions (B, N, H, A); nothing is random."""
        b, n, h, _ = actions.shape
        latent = context.latents[:, -1:].expand(b, n, -1)
        drive = actions.reshape(b, n, h, self._spec.action_repeat, -1) @ self._control.to(actions)
        transition = self._transition.to(actions)
        states = []
        for step in range(h):
            for part in range(self._spec.action_repeat):
                latent = latent @ transition + drive[:, :, step, part]
            states.append(latent)
        return Rollout(torch.stack(states, dim=2))

    def decode(self, latents: Tensor, name: str) -> Tensor:
        """Return the "state", which is the latent itself."""
        if name != "state":
            raise ValueError(f"unknown quantity {name!r}; known: state")
        return latents

    def inverse(self, latents: Tensor, goals: Tensor, steps: Tensor) -> Tensor:
        """Return the smallest actions (..., A) that cover 1 / steps of the way to the goals in one model step."""
        drive: list[Any] = [self._control.to(latents)]
        transition = self._transition.to(latents)
        for _ in range(self._spec.action_repeat - 1):
            drive.insert(0, drive[0] @ transition)
        drift = latents @ torch.linalg.matrix_power(transition, self._spec.action_repeat)
        wanted = latents + (goals - latents) / steps[..., None].to(latents)
        return (wanted - drift) @ torch.linalg.pinv(torch.cat(drive))
