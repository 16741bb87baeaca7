"""What a violation-of-expectation study leaves behind: tables, result.json and traces.npz."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ..provenance import provenance
from .violation import Trace

__all__ = ["detection_table", "kinds_table", "load_traces", "notes", "save_study", "separation_table"]

NOMINAL = "nominal"
_ARRAYS = ("score", "alarm", "kind", "success", "ends")


def detection_table(title: str, result: Mapping[str, Any]) -> Table:
    """Lay out how often and how fast each change was detected; the last row changes nothing.

    Args:
        title: of the table.
        result: of `wmkit.evaluation.violation_analysis.analyse`.
    """
    made = Table(title=title, title_justify="left", title_style="bold")
    made.add_column("change")
    for label in ("next look", "20 steps", "1 s", "ever", "delay", "90 %"):
        made.add_column(label, justify="right", no_wrap=True)
    rows = {f"{name} {one['strength']:g}": one["detection"] for name, one in result["conditions"].items()}
    for name, row in [*rows.items(), ("nothing", result["placebo"])]:
        rates = [_share(row[key]) for key in ("next", "steps_20", "second", "ever")]
        times = ["-" if row[key] is None else f"{row[key]:.0f}" for key in ("delay_median", "delay_90")]
        made.add_row(name, *rates, *times, style="dim" if name == "nothing" else "")
    return made


def kinds_table(result: Mapping[str, Any]) -> Table:
    """Lay out which kind of surprise each change was reported as, in episodes; its own kind in bold."""
    conditions = result["conditions"]
    known = dict.fromkeys(kind for one in conditions.values() for kind in one["kinds_last"])
    kinds = sorted(known, key=lambda kind: (kind == "none", kind == "unknown", kind))
    made = Table(title="reported as", title_justify="left", title_style="bold")
    made.add_column("change")
    for kind in kinds:
        made.add_column("no alarm" if kind == "none" else kind, justify="right", no_wrap=True)
    for name, one in conditions.items():
        counts = {kind: str(one["kinds_last"].get(kind, 0)) for kind in kinds}
        cells = [f"[bold]{text}[/]" if kind == one["expected"] else text for kind, text in counts.items()]
        made.add_row(name, *cells)
    return made


def separation_table(result: Mapping[str, Any]) -> Table:
    """Lay out how far each change moves the score, and the signal that separates it best from nominal windows.

    The AUROC is of the score's maximum over the window; the p-values are corrected for the number of changes.
    """
    made = Table(title="separation from nominal windows", title_justify="left", title_style="bold")
    made.add_column("change")
    for label in ("AUROC", "d_z", "Wilcoxon p", "paired t p"):
        made.add_column(label, justify="right", no_wrap=True)
    made.add_column("best signal", no_wrap=True)
    for name, one in result["conditions"].items():
        effect = one["effects"]["score"]
        made.add_row(
            name,
            _number(one["auroc"]["score"]["maximum"], ".3f"),
            _number(effect["d_z"], ".2f"),
            _number(effect["wilcoxon_holm"], ".1e"),
            _number(effect["t_holm"], ".1e"),
            _best(one["auroc"]),
        )
    return made


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return one line each on false alarms, on episodes in alarm before the change, and on looks against state."""
    found = result["false_alarms"]
    above, on = found["exceeding"], found["on"]
    key = "bootstrap" if above["count"] else "wilson"
    lines = [
        f"false alarms: {_interval(above, key)} of {found['steps']} nominal observations score above 1; the alarm is "
        f"on in {on['share'] or 0:.2%} of them, at some time in {_interval(found['per_episode'], 'wilson')} of "
        f"{found['episodes']} episodes",
    ]
    if result["over_before"]:
        lines.append(f"{result['over_before']} episodes were over before their change and count in no other number")
    detections = [result["placebo"], *(one["detection"] for one in result["conditions"].values())]
    already = max(row["already"] for row in detections)
    if already:
        lines.append(f"up to {already} episodes were in alarm before the change; the rates are of the others")
    unseen = sum(row["unseen"] for row in detections)
    if unseen:
        lines.append(
            f"{unseen} changed episodes ended before they were looked at again, and count in no rate of theirs"
        )
    apart = result.get("told_apart")
    if apart and apart["alarmed"]:
        lines.append(f"colour told apart from teleport: {_share(apart['alarmed'])} of those with an alarm")
    return lines


def save_study(
    folder: Path,
    result: Mapping[str, Any],
    traces: Mapping[str, Trace],
    moments: np.ndarray,
    **more: Any,
) -> dict[str, Any]:
    """Write result.json and traces.npz, and return the result with where it came from.

    Args:
        folder: made where missing.
        result: of `wmkit.evaluation.violation_analysis.analyse`.
        traces: condition -> its trace, "nominal" the one without a change.
        moments: (P,), environment steps of the changes.
        more: further entries, e.g. the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"steps": traces[NOMINAL].steps, "moments": moments}
    for name, trace in traces.items():
        for key in _ARRAYS:
            if getattr(trace, key) is not None:
                arrays[f"{name}/{key}"] = getattr(trace, key)
        arrays |= {f"{name}/signals/{signal}": values for signal, values in trace.signals.items()}
    np.savez_compressed(folder / "traces.npz", **arrays)
    saved = {**more, **result, **provenance()}
    (folder / "result.json").write_text(json.dumps(saved, indent=1, allow_nan=False))
    return saved


def load_traces(path: Path) -> tuple[dict[str, Trace], np.ndarray]:
    """Read traces.npz back: condition -> trace without frames, and the changes' moments (P,)."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    traces = {}
    for name in dict.fromkeys(key.partition("/")[0] for key in arrays if "/" in key):
        marker = f"{name}/signals/"
        signals = {key.removeprefix(marker): values for key, values in arrays.items() if key.startswith(marker)}
        own = {key: arrays.get(f"{name}/{key}") for key in _ARRAYS}
        traces[name] = Trace(steps=arrays["steps"], signals=signals, **own)  # pyright: ignore[reportArgumentType]
    return traces, arrays["moments"]


def _best(areas: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return the signal and the aggregator, the score aside, with the largest area; the first of equals."""
    known = {
        f"{signal}, {aggregator}": area
        for signal, row in areas.items()
        for aggregator, area in row.items()
        if signal != "score" and area is not None
    }
    return max(known, key=known.__getitem__) if known else "-"


def _share(rate: Mapping[str, Any] | None) -> str:
    return "-" if rate is None else f"{100 * rate['share']:.1f} %"


def _interval(rate: Mapping[str, Any], key: str) -> str:
    """Return a share with its interval in percent."""
    if rate["share"] is None:
        return "none"
    low, high = rate[key]
    return f"{100 * rate['share']:.2f} % (95 %: {100 * low:.2f} to {100 * high:.2f})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
