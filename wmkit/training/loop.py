"""The training loop: stages in order, exact resume, best and last checkpoint, early stop."""

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..provenance import provenance
from . import checkpoint as files
from . import records
from .diagnostics import collapse_warnings
from .identity import plain_identity, refuse_other_files, refuse_other_run
from .randomness import derive_seed, isolated_random_state, seed_global
from .stage import Recipe, Stage
from .step import take_step

__all__ = ["Trainer", "TrainingResult"]


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `Trainer.run` ended.

    Attributes:
        finished: False where a signal stopped it; the same call again goes on.
        folder: the run's folder, which is the model's folder once finished.
        scores: best validation score by stage, for the stages that have one.
        seconds: wall time by stage, all sessions together.
    """

    finished: bool
    folder: Path
    scores: Mapping[str, float]
    seconds: Mapping[str, float]


@dataclass
class _State:
    """Where a run stands; what a checkpoint holds beside tensors."""

    stage: int = 0
    step: int = 0
    begun: bool = False
    stopped: bool = False
    best: float | None = None
    worse: int = 0
    sessions: int = 0
    metrics_bytes: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)


class Trainer:
    """Runs a recipe's stages in a folder.

    The folder gets `checkpoints/last.safetensors` (all that a resume needs), `checkpoints/best.safetensors` (weights of
    the stage's best score so far), `metrics.jsonl`, `run.json`, and at the end the model. Killed at any moment, the
    same call again goes on from the last checkpoint and ends with the weights of an uninterrupted run, bit for bit if
    the stage's operations are deterministic.

    Args:
        recipe: what to train. All modules of its stages exist before `Stage.begin`.
        out: the folder.
        seed: of all random numbers.
        config: resolved settings and the data's "fingerprint", plain JSON values; a resume refuses others.
        log_every: steps between rows of metrics; the only steps at which the loop waits for the device.
        validate_every: steps between validations, 0 for none but the one at the end of each stage.
        checkpoint_seconds: wall time between checkpoints; there are more at a better score, a stage's end and a signal.
        patience: validations without a better score after which a stage ends; None for never.
        keep: whether a stage hands on its best weights, by "score", or its last.
        logger: "tensorboard" writes event files beside metrics.jsonl.
        show: show a progress bar, validations and warnings on standard error.

    Raises:
        UserError: `out` holds something else, or a run with other settings.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        seed: int,
        config: Mapping[str, Any],
        *,
        log_every: int = 50,
        validate_every: int = 500,
        checkpoint_seconds: float = 60.0,
        patience: int | None = None,
        keep: Literal["best", "last"] = "best",
        logger: Literal["jsonl", "tensorboard"] = "jsonl",
        show: bool = True,
    ) -> None:
        self._recipe, self._stages = recipe, list(recipe.stages)
        self._out, self._seed = out, seed
        self._log_every, self._validate_every = log_every, validate_every
        self._checkpoint_seconds, self._patience, self._keep = checkpoint_seconds, patience, keep
        self._logger, self._show = logger, show
        self._identity = plain_identity(seed, config, self._stages, patience, keep)
        self._last, self._best = (out / "checkpoints" / f"{name}.safetensors" for name in ("last", "best"))
        self._state = _State()
        self._resumed: files.Checkpoint | None = None
        self._window = records.Window()
        self._optimizers: Sequence[torch.optim.Optimizer] = ()
        self._ahead: dict[tuple[str, int], torch.Generator] = {}
        self._signal: int | None = None
        self._started = 0.0
        self._provenance = provenance()

    def run(self) -> TrainingResult:
        """Train to the end, or until Ctrl-C or SIGTERM: then finish the step, save, and return unfinished.

        Raises:
            UserError: a loss or a weight is not finite, the disk is full, or a checkpoint is damaged; the last good
                checkpoint stays.
        """
        self._open()
        with isolated_random_state(), self._signals():
            try:
                while self._state.stage < len(self._stages) and self._signal is None:
                    self._run_stage(self._stages[self._state.stage])
            finally:
                for writer in self._writers:
                    writer.close()
        finished = self._state.stage == len(self._stages)
        if finished:
            _save_model(self._recipe.model, self._out)
        self._write_run(finished)
        return TrainingResult(finished, self._out, dict(self._state.scores), dict(self._state.seconds))

    def _open(self) -> None:
        """Read the last checkpoint or start anew, and open the writers."""
        if self._last.exists():
            self._resumed = files.load_checkpoint(self._last)
            refuse_other_run(self._out, self._resumed.state["identity"], self._identity)
            self._state = _State(**self._resumed.state["progress"])
            files.copy_tensors(self._resumed.tensors, self._weights(), strict=not self._state.begun)
        else:
            refuse_other_files(self._out)
        self._state.sessions += 1
        self._rows = records.JsonLines(self._out / "metrics.jsonl", self._state.metrics_bytes)
        self._writers: list[records.Writer] = [self._rows]
        if self._logger == "tensorboard":
            self._writers.append(records.TensorBoard(self._out / "tensorboard", self._global_step()))
        self._write_run(finished=False)

    def _run_stage(self, stage: Stage) -> None:
        """Run one stage from where the state stands to its end or to a signal."""
        state = self._state
        self._started = time.monotonic() - state.seconds.get(stage.name, 0.0)
        self._begin(stage)
        saved = time.monotonic()
        self._bar = records.ProgressBar(stage.name, stage.steps, state.step, show=self._show)
        try:
            while state.step < stage.steps and not state.stopped and self._signal is None:
                self._step(stage, state.step)
                state.step += 1
                if state.step % self._log_every == 0:
                    self._log(stage)
                improved = self._validate(stage) if self._validation_due(stage) else False
                if improved or time.monotonic() - saved > self._checkpoint_seconds:
                    self._save(stage)
                    saved = time.monotonic()
            self._save(stage)
        finally:
            self._bar.close()
        if self._signal is None:
            self._finish(stage)

    def _begin(self, stage: Stage) -> None:
        """Prepare the stage; put back weights, optimisers and the window after a resume, else save its start."""
        seed_global(derive_seed(self._seed, stage.name, "begin"))
        self._recipe.model.eval()
        stage.begin()
        self._optimizers = list(stage.optimizers())
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        resumed, self._resumed = self._resumed, None
        if resumed is None or not self._state.begun:
            self._state.begun = True
            self._save(stage)
        else:
            files.copy_tensors(resumed.tensors, self._weights())
            files.unpack_optimizers(self._optimizers, resumed.tensors, resumed.state["optimizers"])
            self._window.load(_strip(resumed.tensors, "window/"))
        stage.module.train()

    def _step(self, stage: Stage, step: int) -> None:
        """Take one optimiser step."""
        factor = stage.schedule(step)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        seed_global(derive_seed(self._seed, stage.name, step, "global"))
        generator = self._ahead.pop((stage.name, step), None) or self._generator(stage, step)
        prefetch, following = getattr(stage, "prefetch", None), step + 1
        if prefetch is not None and following < stage.steps:
            self._ahead = {(stage.name, following): self._generator(stage, following)}
            prefetch(following, self._ahead[stage.name, following])
        self._window.add(take_step(stage, self._optimizers, step, generator))

    def _generator(self, stage: Stage, step: int) -> torch.Generator:
        """Return the source of a step's random numbers."""
        return torch.Generator().manual_seed(derive_seed(self._seed, stage.name, step))

    def _log(self, stage: Stage) -> None:
        """Write the means since the last log."""
        self._check_window(stage)
        means = self._window.drain()
        group = self._optimizers[0].param_groups[0] if self._optimizers else {"lr": 0.0}
        self._write(stage, "train", {**means, "lr": group["lr"]})
        self._bar.update(self._state.step, loss=means["loss"])

    def _validation_due(self, stage: Stage) -> bool:
        """Return whether to validate after this step."""
        step = self._state.step
        return step == stage.steps or (self._validate_every > 0 and step % self._validate_every == 0)

    def _validate(self, stage: Stage) -> bool:
        """Validate, keep the weights of a better score, count towards patience; return whether the score is better."""
        self._check_window(stage)
        state = self._state
        seed_global(derive_seed(self._seed, stage.name, "validate", "global"))
        stage.module.eval()
        with torch.no_grad():
            numbers = stage.validate(torch.Generator().manual_seed(derive_seed(self._seed, stage.name, "validate")))
        stage.module.train()
        self._write(stage, "validation", numbers)
        score = numbers.get("score")
        self._bar.update(state.step, score=score)
        self._say(stage, numbers)
        if score is None:
            return False
        improved = math.isfinite(score) and (state.best is None or score < state.best)
        state.worse = 0 if improved else state.worse + 1
        state.stopped = self._patience is not None and state.worse >= self._patience
        if improved:
            state.best = state.scores[stage.name] = float(score)
            content = {"stage": state.stage, "step": state.step, "score": state.best}
            files.save_checkpoint(self._best, self._weights(), content)
        return improved

    def _save(self, stage: Stage) -> None:
        """Write the last checkpoint, after a look whether all is finite."""
        self._check_window(stage)
        bad = _first_bad(stage.module)
        if bad is not None:
            raise UserError(self._non_finite(stage, self._state.step, bad))
        self._state.metrics_bytes = self._rows.sync()
        self._state.seconds[stage.name] = time.monotonic() - self._started
        optimizer_tensors, index = files.pack_optimizers(self._optimizers)
        window = {f"window/{name}": values for name, values in self._window.tensors().items()}
        state = {"identity": self._identity, "progress": asdict(self._state), "optimizers": index}
        files.save_checkpoint(self._last, {**self._weights(), **optimizer_tensors, **window}, state)

    def _finish(self, stage: Stage) -> None:
        """Hand the stage's best weights on and move to the next stage."""
        state = self._state
        if self._keep == "best" and state.best is not None:
            best = files.load_checkpoint(self._best)
            if best.state["stage"] == state.stage:
                files.copy_tensors(best.tensors, self._weights())
        stage.module.eval()
        state.steps[stage.name] = state.step
        self._optimizers, self._window = (), records.Window()
        state.stage, state.step, state.begun = state.stage + 1, 0, False
        state.stopped, state.best, state.worse = False, None, 0
        self._save(stage)

    def _weights(self) -> dict[str, Tensor]:
        """Return the model's tensors and those of every stage's module."""
        modules = {f"stage/{stage.name}": stage.module for stage in self._stages}
        return files.module_tensors({"model": self._recipe.model, **modules})

    def _check_window(self, stage: Stage) -> None:
        """Raise UserError where a loss or a gradient since the last log is not finite."""
        found = self._window.first_non_finite()
        if found is not None:
            age, terms = found
            raise UserError(self._non_finite(stage, self._state.step - age, ", ".join(terms)))

    def _non_finite(self, stage: Stage, step: int, what: str) -> str:
        """Return the text for terms that are not finite, at a step counted from 1."""
        advice = "lower the learning rate or check the data (wmkit data validate)"
        kept = f"; {self._last} holds the last good checkpoint" if self._last.exists() else ""
        return f"not finite in stage {stage.name!r} at step {step}: {what}; {advice}{kept}"

    def _write(self, stage: Stage, split: str, numbers: Mapping[str, float]) -> None:
        """Write one row of metrics."""
        seconds = round(time.monotonic() - self._started, 3)
        row = {"stage": stage.name, "step": self._state.step, "split": split, **numbers, "seconds": seconds}
        for writer in self._writers:
            writer.write(row, self._global_step())

    def _say(self, stage: Stage, numbers: Mapping[str, float]) -> None:
        """Show a validation and its warnings."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self._bar.say(f"{stage.name} {self._state.step}/{stage.steps}  {shown}")
        for line in collapse_warnings(numbers):
            self._bar.say(f"warning: {line}")

    def _global_step(self) -> int:
        """Return the steps over all stages."""
        return sum(self._state.steps.values()) + self._state.step

    def _write_run(self, finished: bool) -> None:
        """Write run.json."""
        state = self._state
        content = {
            **self._identity,
            "finished": finished,
            "sessions": state.sessions,
            "wall_seconds": sum(state.seconds.values()),
            "stage_seconds": state.seconds,
            "stage_steps": state.steps,
            "scores": state.scores,
            "threads": torch.get_num_threads(),
            "provenance": self._provenance,
        }
        records.write_json(self._out / "run.json", content)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Note the first Ctrl-C or SIGTERM; a second one interrupts at once."""
        self._signal = None
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: object) -> None:
            self._signal = number
            for each, handler in previous.items():
                signal.signal(each, handler)

        for number in previous:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _first_bad(module: nn.Module) -> str | None:
    """Return the name of a weight that is not finite, or of a buffer that holds NaN; None where all is well."""
    for name, tensor in module.state_dict(keep_vars=True).items():
        if tensor.is_floating_point():
            bad = ~torch.isfinite(tensor) if isinstance(tensor, nn.Parameter) else torch.isnan(tensor)
            if bad.any():
                return f"weight {name}"
    return None


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _save_model(model: nn.Module, out: Path) -> None:
    """Call the model's `save_pretrained`."""
    model.eval()
    save = getattr(model, "save_pretrained", None)
    if not callable(save):
        raise ValueError(f"{type(model).__name__} has no save_pretrained(folder)")
    try:
        save(out)
    except OSError as error:
        raise UserError(f"cannot write the model to {out}: {error.strerror or error}; make room and resume") from error
