"""The surprise monitor: watches a model at run time and says when it is wrong."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor

from ..contracts import WorldModel
from ..errors import UserError
from .calibration import Calibration
from .hysteresis import Hysteresis
from .kinds import Case, judge
from .looks import BLANK
from .nominal import SIGNALS, Accumulated, Scaled
from .report import Surprise
from .signals import Raw, Signals

__all__ = ["SurpriseMonitor"]

_ADOPT = 3
"""Model steps for which a new look must stay the same before it counts as normal."""


class SurpriseMonitor:
    """Says at each model step how surprising it is, whether that is an alarm, and what kind of surprise it is.

    Signals, each on a scale where 1 is rare on nominal episodes:

    - "one_step", "k_step": size of the latent's prediction errors over their nominal one: of one step the Mahalanobis
      length, over what is usual where the prediction depends as much on the actions; of k steps the root mean square;
    - "drift": logarithm of the capital of a bettor against the one-step errors being nominal (a conformal test
      martingale that starts anew from nothing, CUSUM), which small errors that persist drive up;
    - "gain", "actuation": CUSUM of the log-likelihood ratio of the best of some hypotheses under which the same model
      predicts what is seen: that all actuators have, e.g., half their effect, and that one has, or that all are late;
    - "looks": how far the picture's colours and roughness lie from normal, wherever things are;
    - "disagreement": the model's own uncertainty, where it has one, e.g. an ensemble;
    - "unlikeliness": of the actions under a proposal, where one with a likelihood is given.

    The score is the largest of them, divided by a threshold from the calibration (see `Calibration`). A look that stays
    for a while becomes the row's normal look, so that the alarm can fall again.

    Args:
        model: predicts; the one that the calibration was made with.
        calibration: thresholds and what is normal.
        per: what the false-alarm rate is of: "step", the expected share of steps with a score above 1; or "episode",
            the chance of any alarm in an episode, at any time.
        proposal: as in the calibration, for "unlikeliness".

    Attributes:
        calibration: as given.
        threshold: of the largest signal; scores are divided by it.

    Raises:
        UserError: the calibration is for another model, or promises nothing per episode.
    """

    def __init__(
        self,
        model: WorldModel,
        calibration: Calibration,
        *,
        per: Literal["step", "episode"] = "step",
        proposal: object | None = None,
    ) -> None:
        calibration.check_model(model)
        if proposal is not None and not np.isfinite(calibration.nominal.knots[SIGNALS.index("unlikeliness")]).all():
            raise UserError(
                "the calibration knows no proposal's likelihood; calibrate with the proposal, or leave it out"
            )
        self.calibration = calibration
        self.threshold = calibration.threshold(per)
        self._nominal = calibration.nominal
        self._signals = Signals(model, k=calibration.k, proposal=proposal)
        self._names = self._signals.hypotheses.names
        if len(self._names) != len(self._nominal.edges):
            raise UserError(
                "the calibration is of another version of wmkit; run `wmkit calibrate RUN --data DIR` again"
            )
        self._batch = -1
        self._memory: Accumulated
        self._alarms: Hysteresis

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        model: WorldModel,
        *,
        task: str | None = None,
        per: Literal["step", "episode"] = "step",
        proposal: object | None = None,
    ) -> Self:
        """Load the calibration that lies in a model's folder.

        Args:
            folder: of the model, or "pretrained:NAME".
            model: loaded from it.
            task: name of the environment, to be checked; None checks nothing.
            per: as in the class.
            proposal: as in the class.

        Raises:
            UserError: the model was not calibrated, or for something else; the text says what to do.
        """
        calibration = Calibration.load(folder)
        if task is not None:
            calibration.check_task(task)
        return cls(model, calibration, per=per, proposal=proposal)

    def reset(self, mask: np.ndarray | None = None) -> None:
        """Forget the rows of a mask (B,) bool, as at the start of an episode; None for all, whatever their number."""
        if mask is None or self._batch < 0:
            self._batch = -1
            self._signals.reset()
            return
        self._signals.reset(mask)
        self._memory.reset(mask, self._nominal)
        self._alarms.reset(mask)
        self._steps[mask], self._same_look[mask] = 0, 0
        self._last_look[mask] = np.nan
        for row in np.flatnonzero(mask):
            self._cases[row] = Case()

    def update(
        self,
        latents: Tensor,
        blocks: Tensor | None,
        observation: Mapping[str, Any] | None = None,
        rows: Sequence[int] | np.ndarray | None = None,
        batch: int | None = None,
    ) -> list[Surprise]:
        """Take the start of a model step of R rows.

        Args:
            latents: (R, D), observed.
            blocks: (R, A), the actions sent during the model step that led to them, environment units; None where
                these are the first observations.
            observation: what was seen, by key (R, ...); None leaves out what needs pictures.
            rows: (R,), which of B; None for all, in order.
            batch: B; None takes that of the call before, or R.

        Returns:
            R reports, in the order of the rows.

        Raises:
            ValueError: shapes that do not fit.
        """
        index = np.arange(len(latents)) if rows is None else np.asarray(rows, np.int64)
        batch = (max(self._batch, len(index)) if rows is None else self._batch) if batch is None else batch
        if latents.ndim != 2 or index.shape != (len(latents),) or not index.size or index.max() >= max(batch, 1):
            raise ValueError(f"latents {tuple(latents.shape)} and rows {index.tolist()} do not fit {batch} rows in all")
        if batch != self._batch:
            self._begin(batch)
        raw = self._signals.update(latents, blocks, observation, index, batch)
        scaled = self._nominal.scaled(raw, self._memory, index)
        scores = np.fmax.reduce(scaled.values, axis=1) / self.threshold
        scores[~raw.finite] = np.inf
        scores[self._steps[index] < self.calibration.debounce.settle] = np.nan
        began = self._alarms.update(scores, self._steps[index], index)
        found = [
            self._report(k, row, raw, scaled, float(scores[k]), bool(began[k]), observation)
            for k, row in enumerate(index.tolist())
        ]
        self._steps[index] += 1
        return found

    def _begin(self, batch: int) -> None:
        self._batch = batch
        self._memory = Accumulated.empty(batch, self._nominal, len(self._names))
        self._alarms = Hysteresis(self.calibration.debounce, batch)
        self._steps = np.zeros(batch, np.int64)
        self._cases = [Case() for _ in range(batch)]
        self._last_look = np.full((batch, self._signals.looks.size), np.nan)
        self._same_look = np.zeros(batch, np.int64)

    def _report(
        self,
        k: int,
        row: int,
        raw: Raw,
        scaled: Scaled,
        score: float,
        began: bool,
        observation: Mapping[str, Any] | None,
    ) -> Surprise:
        """Return the report of the k-th of R rows."""
        signals = dict(zip(SIGNALS, scaled.values[k].tolist(), strict=True))
        seen = None if observation is None else {key: value[k] for key, value in observation.items()}
        report = Surprise(row, int(self._steps[row]), score, bool(self._alarms.on[row]), began, signals=signals)
        self._adopt(row, raw.looks[k])
        if not report.alarm:
            self._cases[row] = Case()
            return replace(report, observation=seen)
        case = self._cases[row]
        looks = raw.looks[k : k + 1]
        case.add(
            signals,
            scaled.evidence[k],
            scaled.explained[k],
            scaled.effects[k],
            self._names,
            expected=float(np.nan_to_num(raw.expected[k]) / max(float(self._nominal.moves[0]), 1e-12)),
            frozen=bool(raw.frozen[k]),
            blank=looks.shape[1] > BLANK and bool(looks[0, BLANK] < 1e-3),
            rough=float(np.nan_to_num(self._nominal.rougher(looks)[0])),
            finite=bool(raw.finite[k]),
        )
        kind, evidence, text = judge(case)
        return replace(report, kind=kind, evidence=evidence, text=text, observation=seen)

    def _adopt(self, row: int, look: np.ndarray) -> None:
        """Make a look normal that is not, but has stayed the same."""
        if not look.size or not np.isfinite(look).all():
            return
        std = self._nominal.looks_std
        limit = self._nominal.high("looks")
        same = bool((np.abs(look - self._last_look[row]) / std).max() < limit)
        odd = bool(
            (np.abs(look - self._memory.look[row]) / std).max() > self._nominal.high("looks", max(1.0, self.threshold))
        )
        self._same_look[row] = self._same_look[row] + 1 if same and odd else 0
        self._last_look[row] = look
        if self._same_look[row] >= _ADOPT:
            self._memory.look[row] = look
            self._same_look[row] = 0
