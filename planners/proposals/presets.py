"""Presets of learned proposals: diffusion, and regression for comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from wmkit.contracts import WorldModel
from wmkit.diffusion.presets import PAPER_NETWORK, SequencePreset
from wmkit.diffusion.process import DiffusionConfig
from wmkit.tasks import Task

from .diffusion import DiffusionProposal
from .learned import ProposalConfig
from .regression import RegressionProposal

__all__ = ["DIFFUSION", "PAPER_DIFFUSION", "REGRESSION", "ProposalPreset"]


@dataclass(frozen=True)
class ProposalPreset(SequencePreset):
    """A proposal; see `SequencePreset`.

    Attributes:
        family: "diffusion", or "regression", which reads width, depth and dropout alone.
        goal: whether the network is told a goal and the steps to it; None where the task has goals.
        joint: denoise the latents that follow along with the actions; "diffusion" alone.
    """

    part: str = "proposal"
    family: Literal["diffusion", "regression"] = "diffusion"
    goal: bool | None = None
    joint: bool = False

    def _build(self, common: Mapping[str, Any], task: str, encoder: WorldModel | None) -> Any:
        """Make the proposal; it works on the encoder's latents without the encoder."""
        config = ProposalConfig(**common, joint=self.joint)
        return DiffusionProposal(config) if self.family == "diffusion" else RegressionProposal(config)

    def _wants_goal(self, task: Task) -> bool:
        """Return whether the network is told a goal."""
        return task.has_goals if self.goal is None else self.goal

    def _network(self) -> dict[str, Any]:
        """Return the options of the network."""
        options = super()._network()
        return (
            options if self.family == "diffusion" else {name: options[name] for name in ("width", "depth", "dropout")}
        )


DIFFUSION = ProposalPreset(name="diffusion-proposal", steps=2000, lr=2e-3, muon=True, diffusion=DiffusionConfig())
"""Small enough for a minute or two on one core."""

REGRESSION = ProposalPreset(name="regression-proposal", steps=2000, family="regression", width=256, depth=2)
"""Behaviour cloning, or with goals an inverse dynamics."""

PAPER_DIFFUSION = replace(
    DIFFUSION, name="dmpc-diffusion-proposal", steps=100_000, lr=1e-4, muon=False, **PAPER_NETWORK
)
"""The network of the paper's size. For a GPU."""
