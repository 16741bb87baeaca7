"""A plan one model step at a time: a proposal's next actions, and a model's next latents, in turn."""

from dataclasses import replace

import torch
from torch import Tensor

from wmkit.contracts import Context, ModelSpec, WorldModel
from wmkit.control.advance import extend

from .protocols import SupportsCheck, SupportsContinue

__all__ = ["SteppedProposal"]


class SteppedProposal:
    """Takes one step of a proposal, imagines where it leads, asks again from there: any horizon, many calls.

    Any horizon of the proposal's own will do, one step included; only its first step is taken. A proposal with a goal
    is told at step h of H that H - h steps remain.
    """

    def __init__(self, proposal: SupportsContinue, model: WorldModel) -> None:
        """Create the proposal.

        Args:
            proposal: e.g. `DiffusionProposal` or `RegressionProposal`.
            model: imagines the steps between.

        Raises:
            ValueError: the proposal cannot go on from imagined futures, or is for another kind of model.
        """
        if not isinstance(proposal, SupportsContinue):
            raise ValueError(f"{type(proposal).__name__} has no continued(); take a learned proposal")
        if isinstance(proposal, SupportsCheck):
            proposal.check(model.spec)
        self.proposal = proposal
        self.model = model

    @property
    def centred(self) -> bool:
        """Whether the first candidate is the plan to expect, as it is where its steps come from."""
        return getattr(self.proposal, "centred", True)

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that the proposal is not for; see `SupportsCheck`."""
        if isinstance(self.proposal, SupportsCheck):
            self.proposal.check(spec)

    def propose(self, context: Context, n: int, horizon: int, generator: torch.Generator) -> Tensor:
        """Return n candidates (B, n, H, A), within the bounds."""
        b = context.batch
        rows = torch.arange(b, device=context.latents.device).repeat_interleave(n)
        context = replace(context, pending=None).select(rows)
        taken = []
        for step in range(horizon):
            actions = self.proposal.continued(context, n, 1, horizon - step, generator).to(context.latents)
            taken.append(actions)
            if step + 1 < horizon:
                rollout = self.model.rollout(context, actions.unsqueeze(1), generator)
                context = extend(context, actions, rollout.latents[:, 0], self.model.spec.history)
        return torch.cat(taken, dim=1).unflatten(0, (b, n))
