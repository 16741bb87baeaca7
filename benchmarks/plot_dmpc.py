"""Draw what the studies of diffusion MPC found.

    python benchmarks/plot_dmpc.py data benchmarks/results/dmpc_data.json --out docs/dmpc_data.png
    python benchmarks/plot_dmpc.py open-loop benchmarks/results/dmpc_open_loop.json --out docs/dmpc_open_loop.png
    python benchmarks/plot_dmpc.py returns benchmarks/results/dmpc_returns.json --out docs/dmpc_returns.png
    python benchmarks/plot_dmpc.py adapt benchmarks/results/dmpc_adapt.json --out docs/dmpc_adapt.png

Lines are solid where measured. Dotted lines are extrapolated: a + b x^-c with c in [0.05, 2] and a at least 0, fitted
by least squares to the means over seeds, of the checkpoints where the last is the best, or of the best checkpoint for
each number of episodes. No line is drawn from fewer than four points.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import tyro
from scipy.optimize import curve_fit

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

_COLOURS = {"diffusion": "C0", "autoregressive": "C1", "diffusion, frozen noise": "C2", "dynamics": "C0"}
_LABELS = {"dynamics": "diffusion"}
_FARTHER = 8
"""Extrapolations reach so many times as far."""


@dataclass(frozen=True)
class Args:
    """What to draw."""

    figure: tyro.conf.Positional[Literal["data", "open-loop", "returns", "adapt"]]
    """Which study."""
    result: tyro.conf.Positional[Path]
    """The study's JSON file."""
    out: Path
    """PNG file."""
    yardstick: Literal["energy", "planning", "mean", "return"] = "energy"
    """Of the data study: energy score, open-loop error, or closed-loop return."""


def power_law(x: Sequence[float], y: Sequence[float]) -> Any:
    """Return a function a + b x^-c fitted to points; None where there are fewer than four, or no fit is found."""
    if len(x) < 4:
        return None

    def law(x: Any, a: float, b: float, c: float) -> Any:
        return a + b * np.power(x, -c)

    start = (0.8 * min(y), max(1e-6, (y[0] - 0.8 * min(y)) * x[0] ** 0.5), 0.5)
    try:
        found, _ = curve_fit(law, x, y, p0=start, bounds=([0, 0, 0.05], [np.inf, np.inf, 2.0]), maxfev=20_000)
    except (RuntimeError, ValueError):
        return None
    return lambda at: law(at, *found)


def value(cell: dict[str, Any], yardstick: str) -> float:
    """Return one number of a checkpoint: the mean over the steps ahead, or over the episodes."""
    if yardstick == "return":
        return float(np.mean(cell["returns"])) if "returns" in cell else float("nan")
    return float(np.mean(cell["energy"] if yardstick == "energy" else cell[yardstick]["all"]))


def curves(cells: dict[str, Any], yardstick: str) -> dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
    """Return (arm, episodes) -> epochs (C,) and values (seeds, C) at the checkpoints that all seeds have."""
    found: dict[tuple[str, int], dict[str, dict[int, tuple[float, float]]]] = {}
    for name, cell in cells.items():
        arm, episodes, seed, step = name.rsplit("/", 3)
        number = value(cell, yardstick)
        if np.isfinite(number):
            place = found.setdefault((arm, int(episodes)), {}).setdefault(seed, {})
            place[int(step)] = (cell["epochs"], number)
    result = {}
    for key, seeds in sorted(found.items()):
        steps = sorted(set.intersection(*(set(points) for points in seeds.values())))
        if steps:
            epochs = np.array([next(iter(seeds.values()))[step][0] for step in steps])
            result[key] = epochs, np.array([[points[step][1] for step in steps] for points in seeds.values()])
    return result


def draw_band(axis: Any, x: Any, values: np.ndarray, colour: str, label: str | None) -> None:
    """Draw the mean over seeds, solid, and the seeds' range."""
    axis.plot(x, values.mean(0), "o-", color=colour, label=label, lw=1.3, ms=3)
    axis.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)


def draw_beyond(axis: Any, x: Sequence[float], y: Sequence[float], start: float, colour: str) -> None:
    """Draw the power law of points dotted, from where the measurements end."""
    law = power_law(x, y)
    if law is not None:
        beyond = np.geomspace(start, _FARTHER * start, 40)
        axis.plot(beyond, law(beyond), ":", color=colour, lw=1.5)


def data_figure(found: dict[str, Any], yardstick: str) -> Any:
    """Draw a panel of epochs for each number of episodes, and one of the best against that number."""
    lines = curves(found["cells"], yardstick)
    counts = sorted({episodes for _, episodes in lines})
    figure, axes = plt.subplots(1, len(counts) + 1, figsize=(3.2 * (len(counts) + 1), 3.6), sharey=True, squeeze=False)
    sign = -1.0 if yardstick == "return" else 1.0
    for arm in dict.fromkeys(arm for arm, _ in lines):
        best: dict[int, np.ndarray] = {}
        for axis, episodes in zip(axes[0], counts, strict=False):
            if (arm, episodes) not in lines:
                continue
            epochs, values = lines[arm, episodes]
            mean = values.mean(0)
            turn = int((sign * mean).argmin()) + 1
            best[episodes] = (sign * values).min(1) * sign
            draw_band(axis, epochs, values, _COLOURS[arm], arm)
            if turn == len(epochs) and yardstick != "return":
                draw_beyond(axis, epochs.tolist(), mean.tolist(), epochs[-1], _COLOURS[arm])
        x, means = list(best), [float(values.mean()) for values in best.values()]
        last = axes[0, -1]
        last.plot(x, means, "o-", color=_COLOURS[arm], label=arm, lw=1.3, ms=3)
        ranges = [values.min() for values in best.values()], [values.max() for values in best.values()]
        last.fill_between(x, *ranges, color=_COLOURS[arm], alpha=0.15, lw=0)
        if yardstick != "return":
            draw_beyond(last, x, means, x[-1], _COLOURS[arm])
    for axis, title in zip(axes[0], (*(f"{n} episodes" for n in counts), "best checkpoint"), strict=True):
        axis.set_title(title, fontsize="medium", loc="left")
        axis.set_xscale("log")
        axis.set_xlabel("episodes" if title == "best checkpoint" else "epochs")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    names = {"energy": "energy score", "planning": "open-loop error, std", "mean": "error of the mean, std"}
    axes[0, 0].set_ylabel(f"{names.get(yardstick, yardstick)}, held out")
    if yardstick != "return":
        axes[0, 0].set_yscale("log")
        axes[0, 0].yaxis.set_major_formatter("{x:g}")
        axes[0, 0].yaxis.set_minor_formatter("{x:g}")
    axes[0, 0].legend(fontsize="x-small")
    return figure


def open_loop_figure(found: dict[str, Any]) -> Any:
    """Draw a row for each data folder: errors of positions and velocities, and the energy score."""
    cells, steps = found["cells"], found["settings"]["steps"]
    data = list(dict.fromkeys(name.split("/")[0] for name in cells))
    figure, axes = plt.subplots(len(data), 3, figsize=(10, 3.2 * len(data)), squeeze=False)
    for row, folder in zip(axes, data, strict=True):
        for model in dict.fromkeys(name.split("/")[1] for name in cells):
            mine = [cell for name, cell in cells.items() if name.startswith(f"{folder}/{model}/")]
            if not mine:
                continue
            label, colour = _LABELS.get(model, model), _COLOURS[model]
            for axis, group in zip(row, ("positions", "velocities"), strict=False):
                draw_band(axis, steps, np.array([cell["planning"][group] for cell in mine]), colour, label)
                mean = np.array([cell["mean"][group] for cell in mine]).mean(0)
                axis.plot(steps, mean, "--", color=colour, lw=1, label=f"{label}, mean of draws")
            draw_band(row[2], steps, np.array([cell["energy"] for cell in mine]), colour, label)
        for axis, title in zip(row, ("positions, RMSE in std", "velocities, RMSE in std", "energy score"), strict=True):
            axis.set_title(f"{folder}: {title}", fontsize="medium", loc="left")
            axis.set_xlabel("steps ahead")
            axis.set_xscale("log", base=2)
            axis.set_xticks(steps, steps)
            axis.grid(alpha=0.3)
        row[0].legend(fontsize="x-small")
    return figure


def bars_figure(table: dict[str, Any], level: str) -> Any:
    """Draw rows of a table as points with their intervals, one colour for each data folder, below the row `level`."""
    rows = {name: row for name, row in table.items() if "by_seed" in row}
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.28 * len(rows)))
    folders = list(dict.fromkeys(name.split("/")[0] for name in rows)) if level else [""]
    for place, (name, row) in enumerate(rows.items()):
        colour = f"C{folders.index(name.split('/')[0])}" if level else "C0"
        error = [[row["mean"] - row["interval"][0]], [row["interval"][1] - row["mean"]]]
        axis.errorbar(row["mean"], place, xerr=error, fmt="o", color=colour, capsize=2, ms=4)
        if level and name.endswith(level):
            axis.axvline(row["mean"], color=colour, lw=0.8, ls="--")
    axis.set_yticks(range(len(rows)), [name.replace("/", ": ", 1) for name in rows], fontsize="small")
    axis.invert_yaxis()
    axis.set_xlabel("return, mean and 95 % interval")
    axis.grid(alpha=0.3, axis="x")
    return figure


def main(args: Args) -> None:
    """Draw one figure."""
    found = json.loads(args.result.read_text())
    if args.figure == "data":
        figure = data_figure(found, args.yardstick)
    elif args.figure == "open-loop":
        figure = open_loop_figure(found)
    else:
        figure = bars_figure(found["table"], "data policy" if args.figure == "returns" else "")
    figure.tight_layout()
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
