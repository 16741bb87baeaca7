"""The page of `wmkit inspect`: one file that fetches nothing."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..provenance import provenance
from ..training.diagnostics import collapse_warnings
from . import charts
from .inspection import Inspection
from .page import Tile, facts, figure, grid_table, page, section, strip

__all__ = ["write_page"]

_PUBLISHED = {"pusht": {"agent": 0.974, "block": 0.986, "angle": 0.902}}
"""Task -> probe -> Pearson's r of linear probes that the LeWM paper reports, of its own model and data."""

_SOURCES = {"imagined": "imagined", "real": "read from the frame that came", "copy_last": "copying the last frame"}


def write_page(path: Path, name: str, task: str, found: Inspection, origin: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        path: the file.
        name: of the model.
        task: the registry's name of the environment.
        found: what was found.
        origin: facts for the end of the page, e.g. the data's folder.
    """
    episodes, count = found.frames["heldout"]
    lead = (
        f"What the latents of this {task} model hold, how they move, and what it imagines, on {count:,} frames of "
        f"{episodes} episodes that nothing here was fitted to."
    )
    sections = [
        _probes(task, found),
        _pictures(found),
        _open_loop(found),
        _straight(found),
        _health(found),
        _origin(found, origin),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(f"Inside {name}", lead, _tiles(found), sections), encoding="utf-8")


def _tiles(found: Inspection) -> list[Tile]:
    numbers, kind = found.diagnostics, found.best
    tiles = [
        (f"{name}, read out", _shown(scores["r"]), f"r of the {_KINDS[kind]} probe, {_error(scores)}")
        for name, scores in list(found.readout.scores.items())[:3]
    ]
    tiles.append(("Effective rank", f"{numbers['effective_rank']:.1f}", f"{100 * numbers['rank_share']:.0f} % of D"))
    return tiles


_KINDS = {"linear": "linear", "mlp": "MLP"}


def _probes(task: str, found: Inspection) -> str:
    """Return the table of probes, and the one beside published numbers where there are some."""
    rows = [
        (name, _KINDS[kind], _shown(scores["r2"]), _shown(scores["r"]), _error(scores))
        for name in found.readout.sizes
        for kind, scores in ((kind, readout.scores[name]) for kind, readout in found.probes.items())
    ]
    content = [grid_table(("quantity", "probe", "R2", "r", "mean error"), rows)]
    published = _PUBLISHED.get(task, {})
    if published:
        beside = [
            (name, *(_shown(readout.scores[name]["r"]) for readout in found.probes.values()), f"{r:.3f}")
            for name, r in published.items()
            if name in found.readout.sizes
        ]
        header = ("Pearson's r", *(f"this model, {_KINDS[kind]}" for kind in found.probes), "LeWM paper, linear")
        caption = (
            "The published numbers are of another model on other data, and how its angle was probed may differ: here "
            "it is the mean r of sine and cosine. They say what is usual, not who wins."
        )
        content.append(figure(grid_table(header, beside), caption))
    text = (
        "Probes are fitted to latents of training episodes and scored on held-out ones. A linear probe says what a "
        "distance between latents can see; what only the MLP reads is there, but folded. R2 and r are means over the "
        "numbers of a quantity; angles are read as sine and cosine."
    )
    return section("What the latent holds", text, *content)


def _pictures(found: Inspection) -> str:
    """Return the strips, or a line on why there are none."""
    if not found.strips:
        text = (
            "No pictures: the model reads states and not pixels, or --decoder-steps is 0. The errors below are of the "
            "quantities read out of what it imagines."
        )
        return section("What it imagines", text)
    text = (
        "Above, what was recorded; below, what the model imagines from the first frame on under the recorded actions "
        "alone. The decoder was trained afterwards for these pictures only; no plan and no score uses it. The middle "
        "row decodes the latents of the frames that really came: blur that is there too is the decoder's, and only "
        "what differs from that row is the model's. Each strip is its episode's most eventful stretch."
    )
    content = []
    for each in found.strips:
        columns = [f"+{step}" if step else "start" for step in range(len(each.real))]
        rows = {"real": each.real, "real, decoded": each.decoded, "imagined, decoded": each.imagined}
        caption = f"Held-out episode {each.episode}, from model step {each.start}."
        content.append(figure(strip({name: list(frames) for name, frames in rows.items()}, columns), caption))
    decoder, mean = found.decoder["decoder"], found.decoder["mean"]
    off = f"{decoder:.1f} of 255 grey levels off (root mean square), {mean:.1f} for the mean picture"
    content.append(figure("", f"The decoder on held-out frames: {off}."))
    return section("What it imagines", text, *content)


def _open_loop(found: Inspection) -> str:
    """Return the charts of errors by how far the model looks ahead."""
    numbers = found.diagnostics
    latent = {
        label: [(h, numbers[f"{key}/{h}"]) for h in range(1, len(numbers) + 1) if f"{key}/{h}" in numbers]
        for label, key in (("imagined", "open_loop"), ("copying the last frame", "copy_last"))
    }
    drawn = [_chart("Latent, squared error in variances", latent)]
    for name, sources in found.quantities.items():
        series = {_SOURCES[key]: list(enumerate(errors, start=1)) for key, errors in sources.items()}
        unit = ", degrees" if "degrees" in found.readout.scores[name] else ""
        drawn.append(_chart(f"{name}, mean error{unit}", series))
    steps = sorted({1, len(latent["imagined"]) // 2 or 1, len(latent["imagined"])})
    rows = [(label, *(f"{dict(points)[h]:.4f}" for h in steps)) for label, points in latent.items()]
    table = grid_table(("latent error after model steps", *map(str, steps)), rows)
    text = (
        "The model looks ahead without seeing anything more, under recorded actions of held-out episodes. An error of "
        "1 is that of the mean latent; a model that does not beat copying has learned nothing of the actions. The "
        "other charts read quantities out of what it imagines."
    )
    return section("How far it sees ahead", text, f'<div class="charts">{"".join(drawn)}</div>', table)


def _chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    return f"<div><h3>{title}</h3>{charts.lines(series, 'model steps ahead')}</div>"


def _straight(found: Inspection) -> str:
    """Return the table of straightness."""
    values = found.straightness
    rows = [
        (name, _shown(values[name]), _shown(values[f"{name} shuffled"]))
        for name in ("latents", "pixels")
        if name in values
    ]
    text = (
        "Mean cosine between one change and the next, a model step apart: 1 is a straight line, 0 a random walk, -0.5 "
        "frames in no order. Straight trajectories are easy to predict and make distances in the latent mean something "
        "along the way (Henaff et al. 2019)."
    )
    return section("Temporal straightness", text, grid_table(("", "as recorded", "frames shuffled"), rows))


def _health(found: Inspection) -> str:
    """Return the diagnostics, and warnings first."""
    numbers = found.diagnostics
    names = ("effective_rank", "rank_share", "std_min", "std_median", "std_max", "change_per_step")
    warnings = collapse_warnings(numbers)
    text = "; ".join(warnings) if warnings else "Nothing speaks for a collapse."
    return section("Health of the latent", text, facts({name: f"{numbers[name]:.4f}" for name in names}))


def _origin(found: Inspection, origin: Mapping[str, Any]) -> str:
    """Return what all of it stands on."""
    machine = provenance()
    shown = {
        **origin,
        "held-out": found.origin,
        **{f"{name} episodes, frames": f"{e}, {f:,}" for name, (e, f) in found.frames.items()},
        **{name: f"{seconds:.0f} s" for name, seconds in found.seconds.items()},
        **{name: machine[name] for name in ("date", "wmkit", "commit", "cpu", "cores")},
    }
    return section("Where this is from", "", facts(shown))


def _shown(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _error(scores: Mapping[str, float]) -> str:
    """Return the mean error with its unit, where that is known."""
    return f"{scores['degrees']:.1f} degrees" if "degrees" in scores else f"{scores['error']:.3g}"
