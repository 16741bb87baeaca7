"""The report of `wmkit quickstart`: what was done, how well it works, and what the model imagines."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..provenance import provenance
from ..tasks import Task
from . import charts, movie
from .imagination import Imagined
from .manifest import Manifest
from .page import facts, figure, grid_table, image_gif, page, section, strip
from .report import Row
from .runner import Outcomes

__all__ = ["Quickstart", "Stage", "read_curves", "write_report"]

_CURVES = (
    ("Training loss", ("loss",), True),
    ("Error of imagined latents, in variances", ("open_loop", "copy_last"), False),
    ("Position read from the latent, R2", ("probe",), False),
    ("Change of the latent a step, relative to its size", ("change_per_step",), False),
)
_MOVIE_PAIRS = 6


@dataclass(frozen=True)
class Stage:
    """One stage of the run.

    Attributes:
        name: a word.
        seconds: wall time.
        text: what came out, one sentence.
    """

    name: str
    seconds: float
    text: str


@dataclass(frozen=True)
class Quickstart:
    """What the report is made of.

    Attributes:
        task: the environment.
        stages: in order.
        manifest: the pairs.
        rows: of the table, the model's first.
        outcomes: of the model.
        imagined: what the model imagines.
        probes: R2 by name.
        metrics: metrics.jsonl of the training.
        planning: settings of the planner.
        command: what was typed.
    """

    task: Task
    stages: Sequence[Stage]
    manifest: Manifest
    rows: Sequence[Row]
    outcomes: Outcomes
    imagined: Imagined
    probes: Mapping[str, float]
    metrics: Path
    planning: Mapping[str, Any]
    command: str


def write_report(path: Path, run: Quickstart) -> None:
    """Write the page, one file that fetches nothing."""
    seconds = sum(stage.seconds for stage in run.stages)
    lead = (
        "A model learned from camera pictures alone how actions move an agent through two rooms, and plans through "
        f"what it imagines. Everything on this page was made on this machine in {seconds:.0f} seconds."
    )
    sections = [_rollouts(run), _results(run), _imagination(run.imagined), _learning(run), _stages(run), _origin(run)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page("Two rooms, from pixels to a solved task", lead, _tiles(run), sections), encoding="utf-8")


def _tiles(run: Quickstart) -> list[tuple[str, str, str]]:
    row = run.rows[0]
    low, high = (100 * end for end in row.interval)
    strict = f"{100 * row.strict_interval[0]:.0f} to {100 * row.strict_interval[1]:.0f} %"
    training = next((stage for stage in run.stages if stage.name == "train"), None)
    tiles = [
        ("Reached the goal", f"{row.successes} / {row.pairs}", f"95 % interval {low:.0f} to {high:.0f} %"),
        ("Settled there", f"{row.strict} / {row.pairs}", f"held within half the tolerance, {strict}"),
    ]
    if row.decision is not None:
        note = f"99 % within {1000 * row.decision['p99']:.0f} ms"
        tiles.append(("One plan, median", f"{1000 * row.decision['p50']:.0f} ms", note))
    if training is not None:
        tiles.append(("Training", f"{training.seconds:.0f} s", training.text))
    return tiles


def _rollouts(run: Quickstart) -> str:
    chosen = movie.choose(run.outcomes.success, min(_MOVIE_PAIRS, len(run.manifest.pairs)))
    frames = movie.movie(run.task, run.manifest, run.outcomes, chosen)
    gif = image_gif(movie.gif_bytes(frames, run.task.seconds_per_step), "Rollouts above their goals")
    return section(
        "What it does",
        "The agent is the red dot. It sees the upper picture and is given the lower one as its goal; it was never told "
        "where it is, where the door is, or that there are rooms.",
        figure(gif, _chosen_text(run.outcomes, chosen)),
    )


def _chosen_text(outcomes: Outcomes, chosen: Sequence[int]) -> str:
    failed = int((~outcomes.success[list(chosen)]).sum())
    if failed:
        return f"{len(chosen) - failed} successes and {failed} failures, the first of each in the manifest's order."
    return f"The first {len(chosen)} pairs of the manifest; there is no failure to show beside them."


def _results(run: Quickstart) -> str:
    kinds = {"model": "this model", "floor": "", "bound": ""}
    rows = [
        (kinds[row.kind] or row.name, row.successes / row.pairs, row.interval, row.kind == "model") for row in run.rows
    ]
    excluded = ", ".join(f"{count} {reason}" for reason, count in run.manifest.excluded.items())
    caption = (
        f"Success at any step within the budget, over {len(run.manifest.pairs)} pairs of start and goal in different "
        "rooms, from episodes that no training step saw. Lines are Wilson 95 % intervals. "
        f"Candidates left out: {excluded}."
    )
    return section("How well", "", figure(charts.bars(rows), caption))


def _imagination(found: Imagined) -> str:
    steps = [f"step {step}" if step else "start" for step in range(len(found.real))]
    pictures = strip(
        {"what happened": list(found.real), "imagined (nearest recorded frame)": list(found.nearest)}, steps
    )
    caption = (
        "The model has no decoder, so it cannot draw. The second row shows, for each latent that it imagined from the "
        "first frame and the recorded actions alone, the training frame whose latent is nearest "
        f"(of {found.frames:,} frames)."
    )
    errors = {
        "imagined": list(enumerate(found.errors.tolist(), start=1)),
        "if nothing moved": list(enumerate(found.stay.tolist(), start=1)),
        "nearest frame to the real latent": [(step, found.floor) for step in range(1, len(found.errors) + 1)],
    }
    svg = charts.lines(errors, "model steps ahead")
    chart = f'<div class="charts one"><div><h3>Position error in image widths</h3>{svg}</div></div>'
    note = (
        f"Mean over {found.episodes} held-out episodes. The last line is what the search for a frame costs by itself."
    )
    return section("What it imagines", "", figure(pictures, caption), figure(chart, note))


def _learning(run: Quickstart) -> str:
    curves = read_curves(run.metrics)
    drawn = []
    for title, families, logarithmic in _CURVES:
        series = {_legend(name): points for name, points in curves.items() if _family(name) in families}
        svg = charts.lines(series, "optimiser steps", logarithmic=logarithmic)
        drawn += [f"<div><h3>{title}</h3>{svg}</div>"] if svg else []
    probes = ", ".join(f"{name} {r2:.3f}" for name, r2 in run.probes.items())
    text = f"R2 of linear probes on held-out frames after training: {probes}." if probes else ""
    return section("How it learned", text, f'<div class="charts">{"".join(drawn)}</div>')


def _family(name: str) -> str:
    return name.split(": ")[-1].split("/")[0]


def _legend(name: str) -> str:
    """Return what a reader calls a curve."""
    stage, _, metric = name.rpartition(": ")
    family, _, rest = metric.partition("/")
    steps = f"{rest} steps ahead" if rest != "1" else "1 step ahead"
    known = {"open_loop": f"the model, {steps}", "copy_last": f"copying the last latent, {steps}", "probe": rest}
    text = known.get(family, metric.replace("_", " "))
    return f"{stage}: {text}" if stage else text


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the curves of a metrics.jsonl by name: (step over all stages, value).

    Training rows give "loss"; validation rows give their numbers, of a family such as open_loop/1, 2, 3 the last one.
    Names carry their stage, "stage: name", where there are several.
    """
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    offsets, total = {}, 0
    for stage in stages:
        offsets[stage] = total
        total += max(row["step"] for row in rows if row["stage"] == stage)
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        prefix = f"{row['stage']}: " if len(stages) > 1 else ""
        for name, value in _last_steps(row).items():
            wanted = name == "loss" if row["split"] == "train" else name != "loss"
            if wanted and isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(prefix + name, []).append((offsets[row["stage"]] + row["step"], float(value)))
    return curves


def _last_steps(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's numbers; of a family like open_loop/1, open_loop/2 only the largest step."""
    numbers = {name: value for name, value in row.items() if name not in ("stage", "step", "split")}
    steps: dict[str, int] = {}
    for name in numbers:
        family, _, step = name.rpartition("/")
        if step.isdigit():
            steps[family] = max(steps.get(family, 0), int(step))
    return {
        name: value
        for name, value in numbers.items()
        if not name.rpartition("/")[2].isdigit() or int(name.rpartition("/")[2]) == steps[name.rpartition("/")[0]]
    }


def _stages(run: Quickstart) -> str:
    rows = [(stage.name, f"{stage.seconds:.1f} s", stage.text) for stage in run.stages]
    return section("What was done", "", grid_table(("stage", "time", "outcome"), rows))


def _origin(run: Quickstart) -> str:
    origin = provenance()
    packages = ", ".join(f"{name} {version}" for name, version in origin["packages"].items())
    gpus = ", ".join(origin["gpus"])
    values = {
        "command": run.command,
        "date": origin["date"],
        "machine": f"{origin['cpu']}, {origin['cores']} cores" + (f", {gpus}" if gpus else ""),
        "versions": f"wmkit {origin['wmkit']}, Python {origin['python']}, {packages}",
        "commit": origin["commit"] or "not a checkout",
        "data fingerprint": run.manifest.fingerprint,
        "manifest": run.manifest.sha256,
        "planner": ", ".join(f"{name} {value}" for name, value in run.planning.items()),
    }
    return section("Where it is from", "", facts(values))
