"""What presets of models and proposals over sequences have in common: from a folder of episodes to a recipe."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from .. import registry
from ..contracts import WorldModel
from ..data.episodes import EpisodeStore
from ..data.latents import LatentCache, LatentWindows, check_actions
from ..data.splits import load_splits
from ..errors import UserError
from ..model_folder import kind_of, resolve
from ..tasks import Task
from ..training.overrides import apply_overrides
from .features import FeatureConfig
from .process import DiffusionConfig
from .runs import folder_hash
from .stage import SequenceSettings, SequenceStage

__all__ = ["PAPER_NETWORK", "SequencePreset", "SequenceRecipe"]

PAPER_NETWORK = {"width": 256, "depth": 5, "heads": 8, "mlp_size": 2048}
"""Size of the networks of D-MPC (arXiv 2410.05364)."""

_STATE_HORIZON, _LATENT_HORIZON = 16, 5
_FEWEST_TOKENS = 4
_FIT_WINDOWS = 4096
_COUNTS = ("history", "horizon", "reach", "width", "depth", "heads", "mlp_size", "patch", "samples", "execute")
"""Settings that are 1 or more; some may be None."""
_EXECUTED_SHARE = 16


@dataclass(frozen=True)
class SequenceRecipe:
    """A model and its only stage, for the training loop.

    Attributes:
        model: the average of the weights, which is saved.
        stages: one.
        settings: resolved settings and the data's fingerprint.
    """

    model: nn.Module
    stages: tuple[SequenceStage, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class SequencePreset(SequenceSettings):
    """Everything that a training run needs beside the data; a family defines `_build`.

    What is None follows from the data: 16 steps of states or 5 of an encoder's latents, tokens of up to 8 steps, and
    goals where the task has them.

    Attributes:
        name: of the preset.
        part: what is trained, "dynamics" or "proposal"; names the stage.
        encoder: a model whose latents take the place of states: a folder, pretrained:NAME, or owner/name; "" for none.
        episodes: train on the first so many training episodes; None takes all.
        history: T, latents that the network looks back on.
        horizon: F, model steps predicted at once.
        reach: most model steps to a goal; None takes the horizon.
        width: size of a token.
        depth: blocks.
        heads: attention heads.
        mlp_size: hidden size of the blocks' MLPs.
        patch: steps of a token.
        dropout: in training alone.
        diffusion: the diffusion process; None for families without one.
        samples: candidates of a plan.
        execute: model steps executed before planning anew; None takes a sixteenth of the horizon, at least one.

    Raises:
        ValueError: see `SequenceSettings`.
        UserError: a size or a number of steps or candidates is below 1.
    """

    patches: ClassVar[tuple[int, ...]] = (8, 4, 2, 1)
    """Steps of a token to choose from, the first that leaves enough tokens."""

    name: str = ""
    part: str = "dynamics"
    encoder: str = ""
    episodes: int | None = None
    history: int = 1
    horizon: int | None = None
    reach: int | None = None
    width: int = 96
    depth: int = 3
    heads: int = 4
    mlp_size: int = 256
    patch: int | None = None
    dropout: float = 0.0
    diffusion: DiffusionConfig | None = None
    samples: int = 64
    execute: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; give 1 or more")

    def describe(self) -> str:
        """Return one line."""
        return f"{self.name}: a {self.part} over sequences, {self.depth} blocks of width {self.width}"

    def recipe(
        self,
        data: Path,
        device: str = "cpu",
        overrides: Mapping[str, Any] | None = None,
        cache: LatentCache | None = None,
    ) -> SequenceRecipe:
        """Build the module, its windows and its stage for a folder of episodes.

        Args:
            data: from `wmkit collect`.
            device: where to train.
            overrides: settings to change, "diffusion.kind" for a field of the diffusion.
            cache: of encoded frames, shared by the parts of a run.

        Raises:
            UserError: a setting is unknown or out of range, or the data do not fit.
        """
        preset = apply_overrides(self, overrides or {})
        store = EpisodeStore.open(data)
        encoder, encoder_hash = _load_encoder(preset.encoder, store, device)
        preset = preset._resolved(encoder)
        task = registry.load("environments", store.metadata.task)
        features = preset._features(store, task, encoder)
        repeat = store.metadata.action_repeat if encoder is None else encoder.spec.action_repeat
        options = {"encoder": encoder, "device": device, "cache": cache}
        train = LatentWindows(store, "train", features, repeat, episodes=preset.episodes, **options)
        validation = LatentWindows(store, "validation", features, repeat, **options)
        module = preset._module(store, features, repeat, encoder)
        fitted = train.all(most=_FIT_WINDOWS)
        module.features.fit(fitted.latents, fitted.actions)
        module.metadata = preset._metadata(store, train) | ({"encoder": encoder_hash} if encoder_hash else {})
        stage = SequenceStage(preset.part, module.to(device), train, validation, preset)
        settings = dataclasses.asdict(preset) | {"fingerprint": store.fingerprint, "encoder_sha256": encoder_hash}
        return SequenceRecipe(stage.averaged, (stage,), settings)

    def _build(self, common: Mapping[str, Any], task: str, encoder: WorldModel | None) -> Any:
        """Make the module.

        Args:
            common: features, action_low, action_high, action_repeat, seconds_per_step, network and diffusion.
            task: the data's.
            encoder: whose latents are predicted, or None.
        """
        raise NotImplementedError

    def _wants_goal(self, task: Task) -> bool:
        """Return whether the network is told a goal."""
        return False

    def _network(self) -> dict[str, Any]:
        """Return the options of the network."""
        names = ("width", "depth", "heads", "mlp_size", "patch", "dropout")
        return {name: getattr(self, name) for name in names}

    def _resolved(self, encoder: WorldModel | None) -> Any:
        """Return the preset with what follows from the data filled in."""
        usual = _STATE_HORIZON if encoder is None else _LATENT_HORIZON
        horizon = usual if self.horizon is None else self.horizon
        fitting = (p for p in self.patches if p == 1 or (horizon % p == 0 and horizon // p >= _FEWEST_TOKENS))
        follows = {
            "horizon": horizon,
            "reach": horizon,
            "patch": next(fitting),
            "execute": max(1, horizon // _EXECUTED_SHARE),
        }
        filled = {name: value for name, value in follows.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **filled)

    def _features(self, store: EpisodeStore, task: Task, encoder: WorldModel | None) -> FeatureConfig:
        """Return how latents and actions are seen."""
        data = store.metadata
        sizes: dict[str, Any] = {
            "history": self.history,
            "horizon": self.horizon,
            "reach": self.reach,
            "goal": self._wants_goal(task),
        }
        if encoder is not None:
            return FeatureConfig(encoder.spec.latent_size, encoder.spec.block_size, **sizes)
        state, names = data.column("state"), tuple(column.name for column in task.state)
        if state.shape != (len(names),) or (state.labels and tuple(state.labels) != names):
            raise UserError(
                f"{store.folder} holds states {', '.join(state.labels) or state.shape}, task {task.name} has "
                f"{', '.join(names)}; collect the data again"
            )
        sizes |= {"invariant": task.columns(task.invariant), "angles": task.columns(task.angles)}
        return FeatureConfig(len(names), len(data.action_low) * data.action_repeat, **sizes)

    def _module(self, store: EpisodeStore, features: FeatureConfig, repeat: int, encoder: WorldModel | None) -> Any:
        """Make the module from the data's description."""
        data = store.metadata
        common = {
            "features": features,
            "action_low": data.action_low,
            "action_high": data.action_high,
            "action_repeat": repeat,
            "seconds_per_step": data.seconds_per_step * repeat,
            "network": self._network(),
            "diffusion": self.diffusion,
        }
        try:
            return self._build(common, data.task, encoder)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"preset {self.name!r} cannot be built: {error}") from error

    def _metadata(self, store: EpisodeStore, train: LatentWindows) -> dict[str, Any]:
        """Return what the model folder says of training and planning."""
        planning = {"planner": "sample-score-rank", "samples": self.samples, "horizon": self.horizon}
        splits = load_splits(store).hashes
        return {
            "preset": self.name,
            "task": store.metadata.task,
            "planning": planning | {"execute": self.execute},
            "data": {"fingerprint": store.fingerprint, "splits": splits, "episodes": train.episodes},
            "training": {"steps": self.steps, "batch": self.batch, "lr": self.lr, "frozen_noise": self.frozen_noise},
        }


def _load_encoder(name: str, store: EpisodeStore, device: str) -> tuple[WorldModel | None, str]:
    """Return a frozen encoder and the hash of its folder; None and "" where there is no name.

    Raises:
        UserError: there is no such model, or its actions or rate are not the data's.
    """
    if not name:
        return None, ""
    folder = resolve(name)
    encoder = registry.load("models", kind_of(folder)).from_pretrained(folder).to(device).eval()
    encoder.requires_grad_(False)
    check_actions(store, encoder.spec)
    return encoder, folder_hash(folder)
