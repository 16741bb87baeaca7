"""What proposals that are learned from data share: configuration, checks, files and the view of a context."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from wmkit.contracts import Context, ModelSpec
from wmkit.data.latents import SequenceBatch
from wmkit.diffusion.features import FeatureConfig, Features
from wmkit.diffusion.process import DiffusionConfig
from wmkit.errors import UserError
from wmkit.model_folder import load_folder, save_folder

__all__ = ["LearnedProposal", "ProposalConfig", "View", "weighted_mean"]


@dataclass(frozen=True)
class ProposalConfig:
    """What a learned proposal is for, and how it is built.

    Attributes:
        features: sizes, history, horizon, and whether it is told a goal.
        action_low: (action_size,), lower bounds of one environment action, environment units.
        action_high: (action_size,), upper bounds of one environment action, environment units.
        action_repeat: environment steps per model step.
        seconds_per_step: seconds of one model step.
        network: options of the network; see the proposal's class.
        diffusion: how it is trained to denoise; None for a regression.
        joint: denoise the latents that follow along with the actions.
    """

    features: FeatureConfig
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    action_repeat: int
    seconds_per_step: float
    network: dict[str, Any] = field(default_factory=dict)
    diffusion: DiffusionConfig | None = None
    joint: bool = False

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ProposalConfig":
        """Return the configuration from plain JSON values."""
        diffusion = values.get("diffusion")
        return cls(
            **dict(values)
            | {
                "features": FeatureConfig.from_dict(values["features"]),
                "action_low": tuple(values["action_low"]),
                "action_high": tuple(values["action_high"]),
                "diffusion": None if diffusion is None else DiffusionConfig.from_dict(diffusion),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        diffusion = None if self.diffusion is None else self.diffusion.to_dict()
        values = {"features": self.features.to_dict(), "diffusion": diffusion}
        return asdict(replace(self, diffusion=None)) | values


@dataclass(frozen=True)
class View:
    """What a learned proposal sees of contexts.

    Attributes:
        vectors: (M, C), the contexts as the network takes them.
        anchor: (M, D), the newest latents.
        goal: (M, D), or None.
    """

    vectors: Tensor
    anchor: Tensor
    goal: Tensor | None

    def repeated(self, n: int) -> "View":
        """Return every row n times, side by side."""
        goal = None if self.goal is None else self.goal.repeat_interleave(n, dim=0)
        return View(self.vectors.repeat_interleave(n, dim=0), self.anchor.repeat_interleave(n, dim=0), goal)


class LearnedProposal(nn.Module, ABC):
    """A proposal with weights, for models of one kind of latent and action.

    Where its features have a goal, the horizon that it is asked for is the number of model steps in which the goal
    should be reached. The draws of a batch are those of its rows one by one from the same generator.

    Attributes:
        kind: class attribute, registered name.
        config: the configuration.
        features: statistics of latents and actions; fit them before the training.
        metadata: plain JSON values for the model card, e.g. "data" and "training".
    """

    kind: ClassVar[str]

    def __init__(self, config: ProposalConfig) -> None:
        """Create a proposal without statistics; see the class of it."""
        super().__init__()
        low, high = (torch.tensor(bound * config.action_repeat) for bound in (config.action_low, config.action_high))
        if len(low) != config.features.block_size or len(high) != len(low):
            raise ValueError(
                f"{type(self).__name__}: {len(config.action_low)} and {len(config.action_high)} bounds of one action, "
                f"repeated {config.action_repeat} times, are not block_size {config.features.block_size}"
            )
        self.config = config
        self.features = Features(config.features)
        self.metadata: dict[str, Any] = {}
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        self.low: Tensor
        self.high: Tensor

    @abstractmethod
    def training_loss(
        self, batch: SequenceBatch, generator: torch.Generator, fixed: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of windows, and figures to log.

        Steps beyond a window's goal do not count.

        Args:
            batch: windows of T + F latents.
            generator: source of all randomness.
            fixed: draw the same noise for the same window always.
        """

    @abstractmethod
    def _draw(self, view: View, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        """Return one candidate (B * n, H, A) for each row of a view, the n of a row side by side; no gradients."""

    def propose(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        """Return n candidates (B, n, H, A), within the bounds.

        Raises:
            ValueError: the horizon is longer than the trained one, sizes that do not fit, or a goal is missing.
        """
        with torch.no_grad():
            drawn = self._draw(self.view(context, horizon).repeated(n), n, horizon, generator)
        return drawn.unflatten(0, (context.batch, n))

    def continued(self, context: Context, n: int, horizon: int, steps: int, generator: torch.Generator) -> Tensor:
        """Return one candidate (B * n, H, A) for each of B * n contexts; see `SupportsContinue`.

        Raises:
            ValueError: see `propose`.
        """
        with torch.no_grad():
            return self._draw(self.view(context, horizon, steps), n, horizon, generator)

    def view(self, context: Context, horizon: int, steps: int | None = None) -> View:
        """Return what the network sees of B contexts.

        Args:
            context: B contexts.
            horizon: H.
            steps: model steps that remain to the goal; None for the horizon.

        Raises:
            ValueError: see `propose`.
        """
        name, features = type(self).__name__, self.config.features
        if not 1 <= horizon <= features.horizon:
            raise ValueError(f"{name} plans 1 to {features.horizon} model steps, not {horizon}; change the horizon")
        sizes = (context.latents.shape[-1], context.actions.shape[-1])
        if sizes != (features.latent_size, features.block_size):
            raise ValueError(
                f"{name} is for latents of {features.latent_size} and action blocks of {features.block_size} numbers, "
                f"and the context has {sizes[0]} and {sizes[1]}; train a proposal for this model"
            )
        if features.goal and context.goal is None:
            raise ValueError(f"{name}: the context has no goal; set one, or use a proposal without goals")
        goal = None if context.goal is None else context.goal.to(self.low)
        latents = context.latents.to(self.low)
        left = torch.full((context.batch,), horizon if steps is None else steps, device=latents.device)
        vectors = self.features.context(latents, context.actions.to(self.low), goal, left)
        return View(vectors, latents[:, -1], goal)

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model whose latents, actions or rate are not those that the proposal is for.

        Raises:
            ValueError: what differs, in one line.
        """
        features, config = self.config.features, self.config
        pairs = {
            "latent_size": (features.latent_size, spec.latent_size),
            "block_size": (features.block_size, spec.block_size),
            "action_repeat": (config.action_repeat, spec.action_repeat),
            "seconds_per_step": (config.seconds_per_step, spec.seconds_per_step),
        }
        for item, (own, other) in pairs.items():
            if not math.isclose(own, other, rel_tol=1e-6):
                raise ValueError(
                    f"{type(self).__name__} is for models with {item} {own:g}, and this one has {other:g}; "
                    "train a proposal for this model"
                )

    def parameter_count(self) -> int:
        """Return how many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save_pretrained(self, folder: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
        """Write `config.json`, `model.safetensors` and `README.md`.

        Args:
            folder: where to.
            metadata: plain JSON values for the model card; None takes the proposal's `metadata`.

        Raises:
            UserError: see `wmkit.model_folder.save_folder`.
        """
        metadata = self.metadata if metadata is None else metadata
        save_folder(folder, self.kind, self._document(), self.state_dict(), metadata)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load a proposal, in evaluation mode.

        Args:
            name: a folder, or "owner/name" on the Hugging Face hub.
            device: where to.

        Raises:
            UserError: there is no such proposal, or its files are damaged or do not fit each other.
        """
        document, state, metadata = load_folder(name, cls.kind)
        try:
            proposal = cls._built(document)
            proposal.load_state_dict(state)
        except UserError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"weights and configuration of {name} do not fit: {text}") from None
        proposal.metadata = metadata
        return proposal.to(device).eval()

    def _document(self) -> dict[str, Any]:
        """Return the plain JSON values that `_built` reads."""
        return self.config.to_dict()

    @classmethod
    def _built(cls, document: Mapping[str, Any]) -> Self:
        """Return the proposal of a document, without its weights."""
        return cls(ProposalConfig.from_dict(document))

    def _inputs(self, batch: SequenceBatch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch's contexts (M, C), normalised future actions (M, F, A), and weights (M, F, 1) of the steps.

        A quarter of the batches shows a shorter history, as there is at the start of an episode.
        """
        t = self.config.features.history
        seen = t
        if t > 1:
            draw = torch.rand(2, generator=generator, device=generator.device).tolist()
            seen = t if draw[0] > 0.25 else 1 + int(draw[1] * (t - 1))
        past = batch.latents[:, t - seen : t], batch.actions[:, t - seen : t - 1]
        goals = (batch.goal, batch.steps) if self.config.features.goal else (None, None)
        vectors = self.features.context(*past, *goals)
        actions = self.features.scale_actions(batch.actions[:, t - 1 :])
        weights = torch.ones_like(actions[..., :1])
        if self.config.features.goal and batch.steps is not None:
            step = torch.arange(actions.shape[1], device=actions.device)
            weights = (step < batch.steps[:, None].to(step)).unsqueeze(-1).to(actions)
        return vectors, actions, weights


def weighted_mean(errors: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of errors (M, F, S) by weights (M, F, 1)."""
    return (errors * weights).sum() / (weights.sum() * errors.shape[-1])
