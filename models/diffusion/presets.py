"""Presets of dynamics over sequences: diffusion, and its autoregressive counterpart of the same size."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from wmkit.contracts import WorldModel
from wmkit.diffusion.presets import PAPER_NETWORK, SequencePreset
from wmkit.diffusion.process import DiffusionConfig

from ..autoregressive import AutoregressiveDynamics, matched
from ..sequence import SequenceConfig
from .dynamics import DiffusionDynamics

__all__ = ["AUTOREGRESSIVE", "DIFFUSION", "PAPER_AUTOREGRESSIVE", "PAPER_DIFFUSION", "DynamicsPreset"]


@dataclass(frozen=True)
class DynamicsPreset(SequencePreset):
    """A dynamics; see `SequencePreset`.

    Attributes:
        family: "diffusion"; or "autoregressive", whose `mlp_size` is changed so that it has as many parameters as a
            diffusion dynamics with the same settings.
        causal: a step's latents see no later actions. Of "diffusion" alone.
    """

    patches: ClassVar[tuple[int, ...]] = (2, 1)

    family: Literal["diffusion", "autoregressive"] = "diffusion"
    causal: bool = False

    def _network(self) -> dict[str, Any]:
        """Return the options of the network."""
        return super()._network() | {"causal": self.causal}

    def _build(self, common: Mapping[str, Any], task: str, encoder: WorldModel | None) -> Any:
        """Make the model."""
        config = SequenceConfig(**common, task=task)
        if self.family == "diffusion":
            return DiffusionDynamics(config, encoder)
        return AutoregressiveDynamics(matched(config), encoder)


DIFFUSION = DynamicsPreset(
    name="diffusion-dynamics", steps=5000, lr=3e-3, muon=True, diffusion=DiffusionConfig(prediction="sample")
)
"""Small enough for a few minutes on one core.

It predicts the clean sequence: a token of several steps holds nearly as many numbers as the network is wide, so that
noise hardly passes through it, and smooth futures do.
"""

AUTOREGRESSIVE = DynamicsPreset(name="autoregressive-dynamics", steps=3000, lr=3e-3, muon=True, family="autoregressive")
"""As many parameters as the diffusion dynamics, and about as long to train."""

PAPER_DIFFUSION = replace(
    DIFFUSION, name="dmpc-diffusion-dynamics", steps=100_000, lr=1e-4, muon=False, **PAPER_NETWORK
)
"""The network of the paper's size. For a GPU."""

PAPER_AUTOREGRESSIVE = replace(
    AUTOREGRESSIVE, name="dmpc-autoregressive-dynamics", steps=100_000, lr=1e-4, muon=False, **PAPER_NETWORK
)
"""Its autoregressive counterpart. For a GPU."""
