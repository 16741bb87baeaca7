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
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmkit import registry
from wmkit.errors import UserError
from wmkit.provenance import provenance

from .assembly import controller_maker
from .tune_subject import Subject, chosen, flags, read_subject
from .tune_text import text_of

if TYPE_CHECKING:
    from wmkit.tuning import Grid, Problems, Setting, Trade, Way

__all__ = ["Request", "TuneOptions", "tune"]

_BUSY = 0.5
"""Programs that want to run for each core, from which on a machine counts as busy."""
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
    """Seconds of the search that quality is measured against, over the deadline."""
    most_iterations: int = 30
    """Iterations to consider, at most."""
    seed: int = 0
    """Of the problems' draw and of the planner."""
    save: bool = False
    """Make what was found the model's own setting, in its folder."""


@dataclass(frozen=True)
class Request:
    """What is to be tuned: the options of `wmkit bench plan` that count here.

    Attributes:
        model: a folder, pretrained:NAME, or owner/name on the hub; None for the paper's LeWM with random weights.
        deadline_ms: of a decision, milliseconds.
        samples: candidates, where they are not to be chosen.
        iterations: at most so many.
        elites: candidates that the next iteration is drawn around, for `samples` or the model's own number of
            candidates; of others they are the same share. None takes the model's own setting.
        horizon: model steps; None takes the model's own setting.
        batch: robots that are planned for at once.
        threads: of the CPU, where they are not to be chosen.
        dtypes: to consider.
        paths: to consider, "auto" for all.
        device: "cpu" or "cuda".
        out: JSON file to write.
        json: print JSON instead of a table.
        tuning: the options of the tuner alone.
    """

    model: str | None
    deadline_ms: float
    samples: int | None = None
    iterations: int | None = None
    elites: int | None = None
    horizon: int | None = None
    batch: int = 1
    threads: int | None = None
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    paths: tuple[str, ...] = ("auto",)
    device: str = "cpu"
    out: Path | None = None
    json: bool = False
    tuning: TuneOptions = field(default_factory=TuneOptions)


def tune(config: Any) -> "Trade":
    """Tune, print the trade, and write what was asked for.

    Args:
        config: a `Request`, or anything with some of its attributes.

    Raises:
        UserError: nothing makes the deadline (the text says the best this machine can do), options out of range, or a
            model, an environment and data that do not fit together.
    """
    known = {item.name for item in fields(Request)}
    request = Request(**{name: getattr(config, name) for name in known if hasattr(config, name)})
    _check(request)
    subject = read_subject(request)
    if request.tuning.save:
        _check_folder(request, subject)
    problems, busy = subject.problems(), _busy()
    try:
        trade = _search(request, subject, problems)
    except UserError as error:
        raise (UserError(f"{error}; {busy}") if busy else error) from None
    result = _result(request, subject, problems, trade) | {"busy": busy}
    if request.out is not None:
        request.out.parent.mkdir(parents=True, exist_ok=True)
        request.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result) if request.json else text_of(request, subject, problems, trade, busy))
    if request.tuning.save and subject.folder is not None:
        _save(subject.folder, chosen(subject.planning, trade.chosen.setting))
    return trade


def _check(request: Request) -> None:
    """Raise UserError for an option out of its range."""
    options = request.tuning
    given = {
        name: getattr(request, name) for name in ("deadline_ms", "samples", "iterations", "elites", "horizon", "batch")
    }
    given |= {name: getattr(options, name) for name in ("decisions", "verify", "long", "most_iterations")}
    given |= {"threads": request.threads, "problems": options.problems - 1}
    for name, value in given.items():
        if value is not None and not 0 < value < float("inf"):
            least = "2 or more" if name == "problems" else "positive"
            shown = value + 1 if name == "problems" else value
            raise UserError(f"--{name.replace('_', '-')} must be {least}, not {shown}")
    if not 0 <= options.agreement <= 1:
        raise UserError(f"--agreement must be a share from 0 to 1, not {options.agreement}")
    if request.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no CUDA device here")


def _search(request: Request, subject: Subject, problems: "Problems") -> "Trade":
    """Find the best plans within the deadline."""
    from wmkit.tuning import Options, PlanningBench
    from wmkit.tuning import tune as search

    options = request.tuning
    make = _maker(subject, options.seed)
    bench = PlanningBench(subject.model, make, problems, options.seed, request.batch)
    found = Options(options.decisions, options.verify, options.agreement, options.long)
    with _progress(request.json) as report:
        return search(
            bench, _ways(request, subject.model), request.deadline_ms / 1e3, _grid(request, subject), found, report
        )


def _busy() -> str | None:
    """Return a remark where other programs keep the machine busy."""
    if not hasattr(os, "getloadavg"):
        return None
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return None if load < _BUSY * cores else f"other programs were busy here (load {load:.1f} on {cores} cores)"


def _maker(subject: Subject, seed: int) -> "Callable[[Setting], Any]":
    """Return what makes a controller with a setting."""

    def make(setting: "Setting") -> Any:
        planning = subject.planning | chosen(subject.planning, setting)
        return controller_maker(subject.model, planning, seed, subject.cost)(1)

    return make


def _grid(request: Request, subject: Subject) -> "Grid":
    """Return the sizes to consider: the usual ones and the model's own, or what was given.

    Planners that make one iteration unless told otherwise only draw more candidates in further ones.
    """
    from wmkit.tuning import Grid

    planning = subject.planning
    refines = registry.load("planners", planning["planner"])(subject.model).iterations > 1
    own: int | None = planning["samples"]
    usual: set[int] = {*_SIZES, *([own] if own else [])}
    samples = (request.samples,) if request.samples else tuple(sorted(usual))
    refines = registry.load("planners", planning["planner"])(subject.model).iterations > 1
    most = request.iterations or max(request.tuning.most_iterations, planning["iterations"] or 1)
    return Grid(samples, most if refines else 1)


def _ways(request: Request, model: Any) -> "list[Way]":
    """Return the ways of computing to consider.

    Raises:
        UserError: the options leave none.
    """
    from wmkit.tuning import ways

    found = ways(model, request.device, None if request.threads is None else (request.threads,))
    paths = {path.removesuffix("-eager") for path in request.paths}
    wanted = [way for way in found if way.dtype in request.dtypes and ({"auto", way.path} & paths or way.path is None)]
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


def _result(request: Request, subject: Subject, problems: "Problems", trade: "Trade") -> dict[str, Any]:
    """Return all as plain JSON values, without where files lie."""
    options = asdict(request)
    settings: dict[str, Any] = options | options.pop("tuning") | {"model": subject.name}
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


def _check_folder(request: Request, subject: Subject) -> None:
    """Raise UserError where a model has no folder of its own to save settings in."""
    if subject.folder is None or request.model is None or not Path(request.model).is_dir():
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
