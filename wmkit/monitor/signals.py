"""What can be compared at the start of each model step: observed latents against what was predicted for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Context, SupportsLikelihood, WorldModel
from .hypotheses import Hypotheses
from .looks import Looks, fingerprint

__all__ = ["Raw", "Signals"]


@dataclass(frozen=True)
class Raw:
    """Unscaled signals of R rows at one step, NaN where there is too little history; all float64.

    Attributes:
        one_step: (R, D), observed latents minus those predicted one model step before.
        k_step: (R, D), the same for a prediction made k model steps before, under the actions sent since.
        others: (R, J, D), observed latents minus those predicted under each of the `Hypotheses`.
        expected: (R,), Euclidean length of the change that was predicted for the step.
        disagreement: (R,), the model's own uncertainty of the one-step prediction.
        unlikeliness: (R,), minus the log-likelihood of the actions of the last k model steps under a proposal.
        looks: (R, F), see `Looks`.
        frozen: (R,) bool, the observation is the same, to the last bit, as a model step before.
        finite: (R,) bool, the latent is finite.
    """

    one_step: np.ndarray
    k_step: np.ndarray
    others: np.ndarray
    expected: np.ndarray
    disagreement: np.ndarray
    unlikeliness: np.ndarray
    looks: np.ndarray
    frozen: np.ndarray
    finite: np.ndarray


class Signals:
    """Remembers the last latents and actions of B rows and compares each new latent with its predictions.

    Args:
        model: predicts.
        k: model steps of the longer prediction, at least 2; 0 leaves it out, for models whose rollouts are costly.
        proposal: whose likelihood of the executed actions is a signal; None for none.
        seed: of stochastic models.

    Raises:
        ValueError: k out of its range, or a proposal without a likelihood.
    """

    def __init__(self, model: WorldModel, *, k: int = 3, proposal: object | None = None, seed: int = 0) -> None:
        if k != 0 and k < 2:
            raise ValueError(f"k is {k!r}; give 2 or more model steps, or 0 for none")
        if proposal is not None and not isinstance(proposal, SupportsLikelihood):
            raise ValueError(f"{type(proposal).__name__} has no log_likelihood; give a proposal that has, or None")
        self.model, self.k = model, k
        self.hypotheses = Hypotheses(model.spec)
        self.looks = Looks(model.spec)
        self._proposal = proposal
        self._generator, self._seed = torch.Generator().manual_seed(seed), seed
        self._length = model.spec.history + max(k, 1)
        self._latents = torch.zeros(0)
        self._blocks = torch.zeros(0)
        self._count = np.zeros(0, np.int64)
        self._seen = np.zeros(0, np.int64)

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget the rows of a mask (B,) bool; None for all, whatever their number."""
        if mask is None:
            self._count = np.zeros(0, np.int64)
            self._generator.manual_seed(self._seed)
        else:
            self._count[mask], self._seen[mask] = 0, 0

    def update(
        self,
        latents: Tensor,
        blocks: Tensor | None,
        observation: Mapping[str, Any] | None,
        rows: np.ndarray,
        batch: int,
    ) -> Raw:
        """Take one more model step of R rows.

        Args:
            latents: (R, D), observed.
            blocks: (R, A), the actions sent during the model step that led to them; None for first observations.
            observation: what was seen, by key (R, ...), or None.
            rows: (R,), which of B.
            batch: B.
        """
        if len(self._count) != batch:
            self._begin(batch, latents)
        finite = torch.isfinite(latents).all(dim=1).numpy(force=True)
        known = torch.where(torch.from_numpy(finite).to(latents.device)[:, None], latents, torch.zeros_like(latents))
        self._remember(known, blocks, rows)
        raw = self._empty(len(rows), latents.shape[1])
        for count in np.unique(self._count[rows]):
            here = np.flatnonzero((self._count[rows] == count) & finite)
            if not here.size:
                continue
            self._compare(raw, here, rows[here], int(count))
        seen = fingerprint(observation, len(rows))
        frozen = (self._count[rows] > 1) & (seen == self._seen[rows]) & (observation is not None)
        self._seen[rows] = seen
        self._count[rows[~finite]] = 0
        one_step, k_step, others, expected, disagreement, unlikeliness = raw
        looks = self.looks(observation, len(rows))
        return Raw(one_step, k_step, others, expected, disagreement, unlikeliness, looks, frozen, finite)

    def _begin(self, batch: int, latents: Tensor) -> None:
        spec = self.model.spec
        self._latents = latents.new_zeros(batch, self._length, spec.latent_size)
        self._blocks = latents.new_zeros(batch, self._length, spec.block_size)
        self._count, self._seen = np.zeros(batch, np.int64), np.zeros(batch, np.int64)

    def _remember(self, latents: Tensor, blocks: Tensor | None, rows: np.ndarray) -> None:
        index = torch.from_numpy(rows).to(self._latents.device)
        sent = self._blocks.new_zeros(len(rows), self._blocks.shape[2]) if blocks is None else blocks.to(self._blocks)
        for memory, new in ((self._latents, latents), (self._blocks, sent)):
            memory[index] = torch.cat([memory[index, 1:], new.to(memory).unsqueeze(1)], dim=1)
        self._count[rows] = np.minimum(self._count[rows] + 1, self._length)

    def _empty(self, rows: int, size: int) -> tuple[np.ndarray, ...]:
        """Return NaN for the parts of `Raw` that need a prediction, in their order."""
        shapes = [(rows, size), (rows, size), (rows, len(self.hypotheses.names), size), (rows,), (rows,), (rows,)]
        return tuple(np.full(shape, np.nan) for shape in shapes)

    def _compare(self, raw: tuple[np.ndarray, ...], here: np.ndarray, rows: np.ndarray, count: int) -> None:
        """Fill in the parts of rows that have `count` latents, the new one included."""
        if count < 2:
            return
        index = torch.from_numpy(rows).to(self._latents.device)
        latents, blocks = self._latents[index, -count:], self._blocks[index, -count:]
        one_step, k_step, others, expected, disagreement, unlikeliness = raw
        found, uncertainty = self._predicted(latents, blocks, 1, alternatives=True)
        gaps = _numpy(latents[:, -1:] - found)
        one_step[here], others[here] = gaps[:, 0], gaps[:, 1:]
        expected[here] = _numpy((found[:, 0] - latents[:, -2]).norm(dim=1))
        if uncertainty is not None:
            disagreement[here] = _numpy(uncertainty)
        if self.k and count > self.k:
            far, _ = self._predicted(latents, blocks, self.k, alternatives=False)
            k_step[here] = _numpy(latents[:, -1] - far[:, 0])
            if self._proposal is not None:
                unlikeliness[here] = -_numpy(self._likelihood(latents, blocks))

    def _predicted(
        self, latents: Tensor, blocks: Tensor, steps: int, *, alternatives: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return what was predicted for the newest latent so many steps before, (R, 1 or 1 + J, D), and how surely."""
        context, sent = self._context(latents, blocks, steps), blocks[:, None, -steps:]
        if alternatives:
            before = blocks[:, -2] if latents.shape[1] > 2 else None
            sent = torch.cat([sent, self.hypotheses.actions(blocks[:, -1], before).unsqueeze(2)], dim=1)
        with torch.no_grad():
            rollout = self.model.rollout(context, sent, self._generator)
        uncertainty = None if rollout.uncertainty is None else rollout.uncertainty[:, 0, -1]
        return rollout.latents[:, :, -1], uncertainty

    def _context(self, latents: Tensor, blocks: Tensor, steps: int) -> Context:
        """Return what was known so many steps before the newest latent."""
        end = latents.shape[1] - steps
        start = max(0, end - self.model.spec.history)
        return Context(latents[:, start:end], blocks[:, start + 1 : end])

    def _likelihood(self, latents: Tensor, blocks: Tensor) -> Tensor:
        """Return the log-likelihood (R,) of the actions of the last k steps."""
        proposal: Any = self._proposal
        with torch.no_grad():
            return proposal.log_likelihood(self._context(latents, blocks, self.k), blocks[:, -self.k :])


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().numpy(force=True)
