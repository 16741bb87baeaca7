"""Change something in the middle of an episode and see whether the surprise monitor notices.

    wmkit surprise pretrained:pusht-tiny --env pusht
    wmkit surprise runs/pusht --env pusht --data data/pusht --episodes 200 --perturbations teleport colour weak-actuator
    wmkit surprise runs/pusht --env pusht --data data/pusht --strength weak-actuator=0.3 teleport=1
    wmkit surprise runs/walker/dynamics --env walker --policy expert --quality medium --steps 250

The violation-of-expectation study: the same held-out starts and goals with the same seeds, once as ever and once for
each perturbation, which is switched on in each episode at the same environment step and stays on (a teleport happens
once). The controller plays on until the goal is reached or the budget used up, and the monitor watches. Episodes that
are over before their change are counted apart. The model must have been calibrated with `wmkit calibrate`. The results
are result.json, traces.npz, manifest.json where there are goals, and surprise.png.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from wmkit.errors import UserError

from .assembly import check_task, load_model
from .surprise_setup import default_out, make_episodes, observed, read_strengths

if TYPE_CHECKING:
    from rich.console import Console

    from wmkit.evaluation.agents import Agent
    from wmkit.evaluation.violation import Trace
    from wmkit.evaluation.violation_effects import Timing
    from wmkit.evaluation.violation_episodes import Starts
    from wmkit.tasks import Task

__all__ = ["Surprise", "run"]

_FIGURE = ("teleport", "colour", "weak-actuator")
_FRAMES = 8


@dataclass(frozen=True)
class Surprise:
    """Options of `wmkit surprise`."""

    model: tyro.conf.Positional[str]
    """Folder of a run or model, pretrained:NAME, or owner/name on the Hugging Face hub; calibrated."""
    env: str
    """Environment, e.g. two-room or pusht."""
    data: Path | None = None
    """Data set whose held-out episodes give the pairs; without goals, the expert acts as it did there."""
    episodes: int = 200
    """Pairs; where there are no goals, episodes."""
    protocol: Literal["short", "long50", "long75", "full", "cross"] = "long50"
    """Goal 25, 50 or 75 steps ahead, the environment's own task, or an episode's start and end in different rooms."""
    manifest: Path | None = None
    """File of pairs drawn before."""
    perturbations: tuple[str, ...] = ()
    """What is changed, one condition each; by default all that the environment supports."""
    strength: tuple[str, ...] = ()
    """Strengths in [0, 1], each NAME=NUMBER; by default 0.5."""
    moment: tuple[float, float] = (0.1, 0.4)
    """Earliest and latest moment of the change, as shares of the budget."""
    policy: Literal["model", "expert"] | None = None
    """Who acts: the model's controller, or the task's expert, which reads the state; by default the controller where
    there are goals."""
    steps: int = 250
    """Without goals: environment steps of an episode."""
    reward: str | None = None
    """Without goals: what the expert is good at; by default the data's, or the environment's first."""
    quality: str | None = None
    """Without goals: how good the expert is, e.g. medium; by default the data's, or the environment's first."""
    noise: float | None = None
    """Noise on the expert's actions, as a share of half the action range; by default the data's, or 0."""
    calibration: Path | None = None
    """Folder of the calibration; by default the model's."""
    per: Literal["step", "episode"] = "step"
    """Which of the calibrated false-alarm rates sets the threshold."""
    seed: int = 0
    """Seed of the pairs, the moments, the planner and the perturbations."""
    batch: int = 100
    """Episodes side by side."""
    figure: bool = True
    """Draw one episode's surprise under what was seen; needs the extra `demo`."""
    out: Path | None = None
    """Folder for the results; by default surprise/ENV-PROTOCOL in the model's folder, or runs/surprise for models that
    ship."""


@dataclass(frozen=True)
class _Study:
    """Everything that the conditions share."""

    config: Surprise
    task: "Task"
    model: Any
    monitor: Any
    agent: "Agent"
    starts: "Starts"
    strengths: Mapping[str, float]
    moments: Any
    about: Mapping[str, Any]
    out: Path


def run(config: Surprise) -> None:
    """Run the study, print the tables and write the results.

    Raises:
        UserError: the model is not calibrated, or not for this environment; an unknown perturbation; no pairs.
    """
    from rich.console import Console

    from wmkit.evaluation import violation_analysis, violation_report

    _check(config)
    console, study = Console(), _prepare(config)
    traces = {name: _watch(study, name) for name in (violation_report.NOMINAL, *study.strengths)}
    timing = _timing(study, traces[violation_report.NOMINAL])
    changed = {name: traces[name] for name in study.strengths}
    result = violation_analysis.analyse(traces[violation_report.NOMINAL], changed, timing, study.strengths)
    violation_report.save_study(study.out, result, traces, study.moments, **study.about, window=timing.window)
    drawn = _draw(study, traces, timing) if config.figure else []
    _show(study, result, console)
    for line in [*drawn, f"written to {study.out}"]:
        console.print(line, highlight=False, markup=False)


def _check(config: Surprise) -> None:
    """Raise UserError for options out of range."""
    for name in ("episodes", "batch", "steps"):
        if getattr(config, name) < 1:
            raise UserError(f"--{name} must be 1 or more, not {getattr(config, name)}")
    first, last = config.moment
    if not 0 <= first <= last < 1:
        raise UserError(f"--moment {first:g} {last:g}: give two shares of the budget, the earlier first, below 1")
    if config.noise is not None and not 0 <= config.noise < float("inf"):
        raise UserError(f"--noise {config.noise:g}: give 0 or more")


def _prepare(config: Surprise) -> _Study:
    """Load and check everything before anything runs."""
    from wmkit import SurpriseMonitor
    from wmkit.data.recording import load_task
    from wmkit.evaluation.violation_episodes import draw_moments

    task, name = load_task(config.env), _part(config.model)
    model, folder = load_model(name)
    check_task(model, name, task)
    config = replace(config, policy=config.policy or ("model" if task.has_goals else "expert"))
    strengths = read_strengths(config, task, observed(model))
    calibrated = config.calibration or name
    monitor = SurpriseMonitor.from_pretrained(calibrated, model, task=task.name, per=config.per)
    starts, agent, about = make_episodes(config, task, model, folder)
    about = {
        "environment": task.name,
        "policy": config.policy,
        "episodes": starts.count,
        "seed": config.seed,
        "seconds_per_step": float(task.seconds_per_step),
        "action_repeat": model.spec.action_repeat,
        "calibration": _calibration(Path(config.calibration or folder), monitor, config.per),
        "model": dict(getattr(model, "metadata", {})),
        "config": {name: _named(value) for name, value in asdict(config).items()},
        **about,
    }
    moments = draw_moments(starts.budgets, *config.moment, seed=config.seed)
    out = config.out or default_out(config, folder, task)
    return _Study(config, task, model, monitor, agent, starts, strengths, moments, about, out)


def _watch(study: _Study, name: str) -> "Trace":
    """Run one condition with a progress bar."""
    from tqdm import tqdm

    from wmkit.evaluation.violation import Change, watch

    from ..envs.perturbations import PerturbedVectorEnv

    changes = name in study.strengths
    change: Change = Change(study.moments, name if changes else None, study.strengths.get(name, 0.0))
    wrap: Callable[[Any, int], Any] = lambda env, row: PerturbedVectorEnv(env, study.task, study.config.seed + row)  # noqa: E731
    pixels = study.model.spec.observations.get("pixels")
    with tqdm(desc=name, unit="step", leave=False, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return watch(
            study.task,
            study.starts,
            study.agent,
            study.model,
            study.monitor,
            change,
            wrap=wrap,
            rule=study.about.get("rule"),
            image_size=64 if pixels is None else pixels.shape[0],
            batch=study.config.batch,
            frames=_FRAMES,
            progress=progress,
        )


def _timing(study: _Study, trace: "Trace") -> "Timing":
    """Return when the monitor looked; kinds and effects are judged over 20 environment steps or a second."""
    from wmkit.evaluation.violation_effects import Timing

    second = round(1 / study.task.seconds_per_step)
    return Timing(trace.steps, study.moments, second, max(20, second))


def _draw(study: _Study, traces: "Mapping[str, Trace]", timing: "Timing") -> list[str]:
    """Draw the figure; return a line where that is not possible."""
    from wmkit.evaluation import violation_figure
    from wmkit.evaluation.violation_report import NOMINAL

    names = [name for name in _FIGURE if name in study.strengths] or list(study.strengths)[:3]
    shown = {NOMINAL: traces[NOMINAL]} | {f"{name} {study.strengths[name]:g}": traces[name] for name in names}
    count = min(_FRAMES, study.starts.count)
    episode = violation_figure.choose_episode(shown, timing, count)
    title = violation_figure.figure_title(study.task.name, count, list(shown))
    try:
        violation_figure.save_figure(
            study.out / "surprise.png",
            shown,
            timing,
            episode=episode,
            seconds_per_step=study.task.seconds_per_step,
            title=title,
        )
    except ModuleNotFoundError:
        return ["no figure: matplotlib is missing; `pip install 'wmkit[demo]'` brings it"]
    return []


def _show(study: _Study, result: Mapping[str, Any], console: "Console") -> None:
    """Print the tables."""
    from wmkit.evaluation import violation_report

    protocol = study.about.get("protocol", f"{study.config.steps} steps")
    title = f"{study.task.name}, {protocol}, {study.starts.count} episodes, policy {study.config.policy}: detected by"
    console.print(violation_report.detection_table(title, result))
    console.print(violation_report.kinds_table(result))
    console.print(violation_report.separation_table(result))
    for line in violation_report.notes(result):
        console.print(line, highlight=False, markup=False)


def _part(name: str) -> str:
    """Return the dynamics of a run with several parts, else the name as it is."""
    part = Path(name) / "dynamics"
    return str(part) if (part / "config.json").is_file() else name


def _calibration(folder: Path, monitor: Any, per: str) -> dict[str, Any]:
    """Return what to save of the calibration: its files' hash, what it promises, and what it is of."""
    import hashlib

    content = b"".join((folder / name).read_bytes() for name in ("surprise.json", "surprise.safetensors"))
    found = monitor.calibration
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "per": per,
        "promised_per_step": found.per_step,
        "promised_per_episode": found.per_episode,
        "threshold": float(monitor.threshold),
        "facts": dict(found.facts),
    }


def _named(value: Any) -> Any:
    """Return an option as it is saved: of folders and files the name alone."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return list(value) if isinstance(value, tuple) else value
