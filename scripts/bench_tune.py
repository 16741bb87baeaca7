"""`wmkit bench plan RUN --deadline-ms MS`: what makes a deadline here and plans best; no command.

For example:

    wmkit bench plan pretrained:pusht-tiny --deadline-ms 20
    wmkit bench plan runs/pusht --deadline-ms 10 --data data/pusht --threads 1 --out tuned.json
    wmkit bench plan runs/walker --deadline-ms 25 --env walker --reward jump

A decision is all that the controller does from an observation to an action: encoding, planning and what is around them.
Of the settings whose p99 is within the deadline, those are taken whose plans cost least by the model's exact rollout.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit import registry
from wmkit.errors import UserError
from wmkit.provenance import provenance
from wmkit.threads import usable_cpus

from .assembly import controller_maker
from .bench_report import check_positive, finish
from .tune_subject import Subject, chosen, flags, read_subject
from .tune_text import text_of

if TYPE_CHECKING:
    from wmkit.tuning import Grid, Problems, Setting, Trade, Way

    from .bench_plan import PlanBench

__all__ = ["TuneOptions", "tune"]

_BUSY = 0.5
"""Programs that want to run for each core, from which on a machine counts as busy."""
_MOST_ITERATIONS = 30
"""Iterations to consider at most, unless told otherwise or the model's own are more."""
_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class TuneOptions:
    """What `wmkit bench plan` is asked for beside a deadline."""

    env: str | None = None
    """The environment; by default the one that the model was trained on."""
    reward: str | None = None
    """Without goals: what to maximise, as in `wmkit eval`."""
    data: Path | None = None
    """Data set whose held-out episodes give the problems; by default the pairs in the model's folder or, without such,
    the environment's own."""
    manifest: Path | None = None
    """File of the pairs."""
    protocol: str = "short"
    """How the pairs were drawn, as in `wmkit eval`."""
    problems: int = 32
    """Starts and goals that every setting plans for."""
    decisions: int = 200
    """Decisions that are timed of each setting."""
    verify: int = 4
    """Settings within the deadline that are timed, at most."""
    agreement: float = 0.95
    """Least share of the 30 best candidates that bfloat16 has in common with float32, for it to be offered."""
    long: float = 10.0
    """Times the deadline that the search may take which quality is measured against."""
    seed: int = 0
    """Of the problems' draw and of the planner."""
    save: bool = False
    """Make what was found the model's own setting, in its folder."""


def tune(config: "PlanBench") -> "Trade":
    """Tune, print the trade, and write what was asked for.

    Args:
        config: with a deadline; checked but for what is the tuner's alone.

    Raises:
        UserError: nothing makes the deadline (the text says the best this machine can do), options out of range, or a
            model, an environment and data that do not fit together.
        ValueError: there is no deadline.
    """
    if config.deadline_ms is None:
        raise ValueError("there is nothing to tune to: give deadline_ms")
    _check(config.tuning)
    subject = read_subject(config)
    if config.tuning.save:
        _check_folder(config, subject)
    problems, busy = subject.problems(), _busy()
    try:
        trade = _search(config, subject, problems, config.deadline_ms / 1e3)
    except UserError as error:
        raise (UserError(f"{error}; {busy}") if busy else error) from None
    result = _result(config, subject, problems, trade) | {"busy": busy}
    finish(result, config.out, config.json, text_of(config, subject, problems, trade, busy))
    if config.tuning.save and subject.folder is not None:
        _save(subject.folder, chosen(subject.planning, trade.chosen.setting))
    return trade


def _check(options: TuneOptions) -> None:
    """Raise UserError for an option out of its range."""
    check_positive(options, "decisions", "verify", "long")
    if options.problems < 2:
        raise UserError(f"--problems must be 2 or more, not {options.problems}")
    if not 0 <= options.agreement <= 1:
        raise UserError(f"--agreement must be a share from 0 to 1, not {options.agreement}")


def _search(config: "PlanBench", subject: Subject, problems: "Problems", deadline: float) -> "Trade":
    """Find the best plans within the deadline, in seconds."""
    from wmkit.tuning import Options, PlanningBench
    from wmkit.tuning import tune as search

    options = config.tuning
    make = _maker(subject, options.seed)
    bench = PlanningBench(subject.model, make, problems, options.seed, config.batch)
    found = Options(options.decisions, options.verify, options.agreement, options.long)
    with _progress(config.json) as report:
        return search(bench, _ways(config, subject.model), deadline, _grid(config, subject), found, report)


def _busy() -> str | None:
    """Return a remark where other programs keep the machine busy."""
    if not hasattr(os, "getloadavg"):
        return None
    load, cores = os.getloadavg()[0], usable_cpus()
    return None if load < _BUSY * cores else f"other programs were busy here (load {load:.1f} on {cores} cores)"


def _maker(subject: Subject, seed: int) -> "Callable[[Setting], Any]":
    """Return what makes a controller with a setting."""

    def make(setting: "Setting") -> Any:
        planning = subject.planning | chosen(subject.planning, setting)
        return controller_maker(subject.model, planning, seed, subject.cost)(1)

    return make


def _grid(config: "PlanBench", subject: Subject) -> "Grid":
    """Return the sizes to consider: the usual ones and the model's own, or what was given.

    Planners that make one iteration unless told otherwise only draw more candidates in further ones.
    """
    from wmkit.tuning import Grid

    planning = subject.planning
    own: int | None = planning["samples"]
    usual: set[int] = {*_SIZES, *([own] if own else [])}
    samples = (config.samples,) if config.samples else tuple(sorted(usual))
    refines = registry.load("planners", planning["planner"])(subject.model).iterations > 1
    most = config.iterations or max(_MOST_ITERATIONS, planning["iterations"] or 1)
    return Grid(samples, most if refines else 1)


def _ways(config: "PlanBench", model: Any) -> "list[Way]":
    """Return the ways of computing to consider.

    Raises:
        UserError: the options leave none.
    """
    from wmkit.tuning import ways

    found = ways(model, config.device, None if config.threads is None else (config.threads,))
    paths = {path.removesuffix("-eager") for path in config.paths}
    wanted = [way for way in found if way.dtype in config.dtypes and ({"auto", way.path} & paths or way.path is None)]
    if not wanted:
        offered = ", ".join(dict.fromkeys(str(way) for way in found))
        raise UserError(f"--dtypes and --paths leave nothing that this model has here; it has {offered}")
    return wanted


@contextlib.contextmanager
def _progress(quiet: bool) -> "Any":
    """Show on standard error what is being done."""
    from rich.console import Console

    if quiet:
        yield lambda text: None
        return
    with Console(stderr=True).status("tune") as status:
        yield status.update


def _result(config: "PlanBench", subject: Subject, problems: "Problems", trade: "Trade") -> dict[str, Any]:
    """Return all as plain JSON values, without where files lie."""
    options = asdict(config)
    settings: dict[str, Any] = options | options.pop("tuning") | {"model": subject.name}
    left_out = ("peer", "peer_python", "peer_dtypes", "parts", "rounds", "out", "json")
    settings = {name: value for name, value in settings.items() if name not in left_out}
    settings = {name: value.name if isinstance(value, Path) else value for name, value in settings.items()}
    setting = trade.chosen.setting
    return {
        "provenance": provenance(),
        "settings": settings,
        "planning": subject.planning | chosen(subject.planning, setting),
        "problems": problems.label,
        "tuning": trade.to_json(),
        "flags": flags(subject.planning, setting),
    }


def _check_folder(config: "PlanBench", subject: Subject) -> None:
    """Raise UserError where a model has no folder of its own to save settings in."""
    if subject.folder is None or config.model is None or not Path(config.model).is_dir():
        raise UserError(f"--save: {subject.name} is no folder of yours; save the model in one first")


def _save(folder: Path, chosen: Mapping[str, Any]) -> None:
    """Write planning settings into a model's configuration; its weights stay as they are."""
    path = folder / "config.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    metadata = document.setdefault("metadata", {})
    metadata["planning"] = dict(metadata.get("planning") or {}) | dict(chosen)
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
        file.write(json.dumps(document, indent=2))
    Path(file.name).chmod(path.stat().st_mode)
    os.replace(file.name, path)
    print(f"saved in {path}")
