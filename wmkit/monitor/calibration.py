"""Calibration: what is normal and where the alarm begins, from nominal episodes, with a promise about false alarms."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..contracts import WorldModel
from ..errors import UserError
from ..model_folder import resolve
from .conformal import episodes_needed, quantile_of_maxima, risk_threshold
from .hysteresis import Debounce
from .nominal import Nominal
from .signals import Raw

__all__ = ["FIT_SHARE", "Calibration", "calibrate", "episodes_for", "weights_hash"]

_FACTS, _ARRAYS = "surprise.json", "surprise.safetensors"
_VERSION = 2
FIT_SHARE = 0.3
"""Share of the episodes that say what is normal; the others set the thresholds."""
_FEWEST = 10
"""Least episodes to fit what is normal on."""


@dataclass(frozen=True)
class Calibration:
    """Made by `calibrate`; saved in the model's folder as `surprise.json` and `surprise.safetensors`.

    The promise: of the steps of new nominal episodes of the same kind, the expected share with a score above the
    threshold is at most `per_step`; with the other threshold, the chance of any alarm in an episode is at most
    `per_episode`. An alarm lasts a little longer than the score that raised it, see `Debounce`.

    Attributes:
        nominal: what is normal.
        step_threshold: of the largest signal, for the rate per step.
        episode_threshold: for the rate per episode; None where there were too few episodes for it.
        per_step: promised share.
        per_episode: promised chance.
        k: model steps of the longer prediction, 0 for none.
        debounce: when alarms rise and fall.
        facts: plain JSON values: "task", "action_repeat", "weights" (sha256 of the model's), "episodes" and more.
    """

    nominal: Nominal
    step_threshold: float
    episode_threshold: float | None
    per_step: float
    per_episode: float
    k: int
    debounce: Debounce = field(default_factory=Debounce)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def threshold(self, per: Literal["step", "episode"]) -> float:
        """Return the threshold for a rate per step or per episode.

        Raises:
            UserError: the calibration has none.
            ValueError: an unknown `per`.
        """
        if per not in ("step", "episode"):
            raise ValueError(f"per is {per!r}; give 'step' or 'episode'")
        found = self.step_threshold if per == "step" else self.episode_threshold
        if found is None:
            needed = episodes_for(self.per_episode)
            raise UserError(f"the calibration had too few episodes for a rate per episode: give {needed} or more")
        return found

    def check_task(self, task: str) -> None:
        """Raise UserError where the calibration is for another environment."""
        if self.facts.get("task") != task:
            raise UserError(
                f"the model was calibrated for {self.facts.get('task')}, not for {task}; "
                "run `wmkit calibrate RUN --data DIR` with episodes of it"
            )

    def check_model(self, model: WorldModel) -> None:
        """Raise UserError where the calibration is for another action repeat, latent or weights."""
        spec = model.spec
        for name, found in (("action_repeat", spec.action_repeat), ("latent_size", spec.latent_size)):
            if self.facts.get(name) != found:
                raise UserError(
                    f"the model was calibrated at {name} {self.facts.get(name)}, and has {found}; "
                    "run `wmkit calibrate RUN --data DIR` again"
                )
        if self.facts.get("weights") != weights_hash(model):
            raise UserError("the calibration is for other weights; run `wmkit calibrate RUN --data DIR` again")

    def save(self, folder: Path) -> None:
        """Write both files, each whole or not at all, the one that names the other's hash last."""
        arrays = save({each.name: np.ascontiguousarray(getattr(self.nominal, each.name)) for each in fields(Nominal)})
        document = {
            "format": "wmkit.surprise",
            "version": _VERSION,
            **{name: getattr(self, name) for name in _NUMBERS},
            "debounce": asdict(self.debounce),
            "facts": dict(self.facts),
            "sha256": hashlib.sha256(arrays).hexdigest(),
        }
        _replace(folder / _ARRAYS, arrays)
        _replace(folder / _FACTS, json.dumps(document, indent=2, allow_nan=False).encode())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Calibration":
        """Read the calibration of a model's folder, or of "pretrained:NAME".

        Raises:
            UserError: there is none, or it is damaged; the text says what to do.
        """
        place = resolve(folder)
        try:
            document = json.loads((place / _FACTS).read_text(encoding="utf-8"))
            content = (place / _ARRAYS).read_bytes()
        except FileNotFoundError:
            raise UserError(
                f"{folder} has no calibration, so no alarm can be raised; make one with "
                f"`wmkit calibrate {folder} --data DIR --false-alarms 0.01`"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{place / _FACTS} cannot be read ({' '.join(str(error).split())[:200]})") from None
        again = f"; run `wmkit calibrate {folder} --data DIR` again"
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            raise UserError(f"{place / _FACTS} is no calibration of version {_VERSION}{again}")
        if hashlib.sha256(content).hexdigest() != document.get("sha256"):
            raise UserError(f"{place / _ARRAYS} does not belong to {_FACTS}, or is damaged{again}")
        try:
            nominal = Nominal(**load(content))
            numbers = {name: document[name] for name in _NUMBERS}
            return cls(nominal, **numbers, debounce=Debounce(**document["debounce"]), facts=document["facts"])
        except (KeyError, TypeError, ValueError, SafetensorError):
            raise UserError(f"{place / _FACTS} is no complete calibration{again}") from None


_NUMBERS = ("step_threshold", "episode_threshold", "per_step", "per_episode", "k")


def episodes_for(rate: float) -> int:
    """Return how many episodes a false-alarm rate needs in all, those that say what is normal included."""
    total = needed = episodes_needed(rate)
    while total - _fitting(total) < needed:
        total += 1
    return total


def calibrate(
    episodes: Sequence[Sequence[Raw]],
    model: WorldModel,
    *,
    per_step: float = 0.01,
    per_episode: float = 0.05,
    k: int = 3,
    debounce: Debounce | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Calibration:
    """Calibrate on nominal episodes that no training step saw.

    The first `FIT_SHARE` of them say what is normal. On the others the threshold is the smallest that keeps the promise
    by conformal risk control, for any distribution of episodes no longer than the longest; an episode's loss is its
    steps above the threshold over the mean length. The threshold per episode is the conformal quantile of each
    episode's largest score.

    Args:
        episodes: raw signals of each step of each, see `wmkit.monitor.traces`; exchangeable, e.g. in random order.
        model: that they are of.
        per_step: in (0, 1).
        per_episode: in (0, 1).
        k: as in the `Signals` that gave them.
        debounce: when alarms rise and fall.
        facts: more to be kept, plain JSON values; "task" is what `Calibration.check_task` reads.

    Raises:
        UserError: fewer episodes than the rate per step needs.
    """
    usable = [steps for steps in episodes if len(steps) > 1 and all(bool(raw.finite.all()) for raw in steps)]
    if len(usable) < episodes_for(per_step):
        raise UserError(
            f"{len(usable)} usable nominal episodes are too few for a false-alarm rate of {per_step:g}: "
            f"it needs {episodes_for(per_step)}"
        )
    settings = Debounce() if debounce is None else debounce
    count = _fitting(len(usable))
    nominal = Nominal.fit(usable[:count], per_step)
    scores = _stacked([np.fmax.reduce(nominal.follow(steps).values, axis=1) for steps in usable[count:]])
    lengths = scores.shape[1] - np.isfinite(scores[:, ::-1]).argmax(axis=1)
    scores = np.where(np.arange(scores.shape[1]) < settings.settle, -np.inf, np.nan_to_num(scores, nan=-np.inf))
    step_threshold = _step_threshold(scores, lengths, per_step, len(usable))
    own = {
        "action_repeat": model.spec.action_repeat,
        "latent_size": model.spec.latent_size,
        "weights": weights_hash(model),
        "episodes": {"normal": count, "thresholds": len(usable) - count},
        "longest_episode": scores.shape[1],
        "share_above": float((scores > step_threshold).sum() / lengths.sum()),
    }
    return Calibration(
        nominal=nominal,
        step_threshold=step_threshold,
        episode_threshold=quantile_of_maxima(scores.max(axis=1), per_episode),
        per_step=per_step,
        per_episode=per_episode,
        k=k,
        debounce=settings,
        facts={**(facts or {}), **own},
    )


def _step_threshold(scores: np.ndarray, lengths: np.ndarray, rate: float, episodes: int) -> float:
    """Return the threshold for a rate per step, from scores (E, S) of episodes of some lengths (E,).

    Raises:
        UserError: too few of `episodes` episodes for it.
    """
    candidates = np.unique(np.quantile(scores[np.isfinite(scores)], np.linspace(0.5, 1, 2001)))
    most = float(lengths.max() / lengths.mean())
    found = risk_threshold(lambda value: (scores > value).sum(axis=1) / lengths.mean(), candidates, rate, most)
    if found is None:
        raise UserError(
            f"{episodes} usable nominal episodes are too few for a false-alarm rate of {rate:g}, as the longest is "
            f"{most:.1f} times as long as their mean: it needs about {episodes_for(rate / most)}"
        )
    return found


def weights_hash(model: Any) -> str:
    """Return sha256, hexadecimal, over a model's parameters and buffers; "" for one that has none."""
    if not hasattr(model, "state_dict"):
        return ""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _fitting(count: int) -> int:
    return max(_FEWEST, int(FIT_SHARE * count))


def _stacked(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Return scores (E, S) of episodes of different lengths, NaN behind their ends."""
    longest = max(len(one) for one in scores)
    return np.stack([np.pad(one, (0, longest - len(one)), constant_values=np.nan) for one in scores])


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
