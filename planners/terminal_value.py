"""What a reward still brings after a plan ends: a learned, discounted return-to-go."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn

from wmkit.contracts import ModelSpec, Rollout
from wmkit.diffusion.features import FeatureConfig, Features
from wmkit.errors import UserError
from wmkit.model_folder import load_folder, save_folder

from .objectives import Term

__all__ = ["TerminalObjective", "TerminalValue", "ValueBatch", "ValueConfig"]

_KIND = "terminal-value"


@dataclass(frozen=True)
class ValueConfig:
    """What a value is of, and how its network is built.

    Attributes:
        features: sizes; history and horizon are 1.
        action_repeat: environment steps per model step.
        seconds_per_step: seconds of one model step.
        reward: name of the reward that is summed up.
        discount: of each model step's reward against the one before, in (0, 1).
        width: of the hidden layers.
        depth: hidden layers.
    """

    features: FeatureConfig
    action_repeat: int
    seconds_per_step: float
    reward: str
    discount: float = 0.99
    width: int = 128
    depth: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.discount < 1 or self.width < 1 or self.depth < 1:
            raise ValueError(f"discount {self.discount} must be in (0, 1), width and depth at least 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ValueConfig":
        """Return the configuration from plain JSON values."""
        options: dict[str, Any] = dict(values) | {"features": FeatureConfig.from_dict(values["features"])}
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"features": self.features.to_dict()}


@dataclass(frozen=True)
class ValueBatch:
    """What followed M latents in the data, for as many model steps as was drawn for each.

    Attributes:
        latents: (M, D) float32.
        returns: (M,) float32, discounted rewards of these steps.
        later: (M, D) float32, the latent after them.
        discounts: (M,) float32, the discount to the power of their number.
    """

    latents: Tensor
    returns: Tensor
    later: Tensor
    discounts: Tensor


class TerminalValue(nn.Module):
    """The expected discounted return of one reward from a latent on, under the policy of the data.

    Attributes:
        config: the configuration.
        features: statistics of the latents; fit them before the training.
        metadata: plain JSON values for the model card.
    """

    def __init__(self, config: ValueConfig) -> None:
        """Create a value that is 0 everywhere until `set_scale` is called and it is trained."""
        super().__init__()
        self.config = config
        self.features = Features(config.features)
        self.metadata: dict[str, Any] = {}
        sizes = [self.features.context_size, *[config.width] * config.depth]
        pairs = pairwise(sizes)
        hidden = [part for pair in pairs for part in (nn.Linear(*pair), nn.LayerNorm(pair[1]), nn.SiLU())]
        self.network = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.mean: Tensor
        self.std: Tensor

    def set_scale(self, rewards: Tensor) -> None:
        """Take the range of values from the rewards (F,) of single model steps."""
        horizon = 1 / (1 - self.config.discount)
        self.mean = (horizon * rewards.mean()).to(self.mean)
        self.std = (horizon * rewards.std(unbiased=False)).clamp(min=1e-3).to(self.std)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the value (...) of latents (..., D), in units of the reward."""
        flat = latents.reshape(-1, 1, latents.shape[-1]).to(self.mean)
        nothing = flat.new_zeros(len(flat), 0, self.config.features.block_size)
        value = self.network(self.features.context(flat, nothing))[:, 0]
        return (self.mean + self.std * value).view(latents.shape[:-1])

    def training_loss(
        self, batch: ValueBatch, generator: torch.Generator | None = None, target: "TerminalValue | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the squared error against what the data gave and what came after is worth.

        Args:
            batch: M latents.
            generator: unused; losses of all trained parts take one.
            target: says what comes after; None for this value itself, without a gradient.
        """
        with torch.no_grad():
            later = (self if target is None else target)(batch.later)
        wanted = batch.returns + batch.discounts * later
        loss = ((self(batch.latents) - wanted) / self.std).square().mean()
        return loss, {"value": wanted.mean().detach()}

    def objective(self, weight: float = 1.0) -> "TerminalObjective":
        """Return what the value adds to a planner's cost; its partner is a `RewardObjective` of the same discount."""
        return TerminalObjective(self, weight)

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model whose latents or rate are not those that the value is for.

        Raises:
            ValueError: what differs, in one line.
        """
        config = self.config
        pairs = {
            "latent_size": (config.features.latent_size, spec.latent_size),
            "action_repeat": (config.action_repeat, spec.action_repeat),
            "seconds_per_step": (config.seconds_per_step, spec.seconds_per_step),
        }
        for item, (own, other) in pairs.items():
            if not math.isclose(own, other, rel_tol=1e-6):
                raise ValueError(f"TerminalValue is for models with {item} {own:g}, and this one has {other:g}")

    def save_pretrained(self, folder: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Write `config.json`, `model.safetensors` and `README.md`.

        Args:
            folder: where to.
            metadata: plain JSON values for the model card; None takes the value's `metadata`.

        Raises:
            UserError: see `wmkit.model_folder.save_folder`.
        """
        metadata = self.metadata if metadata is None else metadata
        save_folder(folder, _KIND, self.config.to_dict(), self.state_dict(), {**metadata, "reward": self.config.reward})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load a value, in evaluation mode.

        Args:
            name: a folder, or "owner/name" on the Hugging Face hub.
            device: where to.

        Raises:
            UserError: there is no such value, or its files are damaged or do not fit each other.
        """
        document, state, metadata = load_folder(name, _KIND)
        try:
            value = cls(ValueConfig.from_dict(document))
            value.load_state_dict(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"weights and configuration of {name} do not fit: {text}") from None
        value.metadata = metadata
        return value.to(device).eval()


class TerminalObjective(Term):
    """The negative of what a learned value says of the last latent, discounted over the plan's H steps.

    With a `RewardObjective` that sums the same reward with the same discount, the two add up to the negative of a
    return without end. Another discount of the reward's shortens or lengthens its sight against the value's.
    """

    def __init__(self, value: TerminalValue, weight: float = 1.0) -> None:
        """Create the objective from a value and its weight."""
        self.value = value
        self.weight = weight

    def cost(self, rollout: Rollout, actions: Tensor) -> Tensor:
        """Return the cost (B, N) of rollouts over H steps."""
        discount = self.value.config.discount ** actions.shape[2]
        return (-self.weight * discount) * self.value(rollout.latents[:, :, -1]).to(rollout.latents)
