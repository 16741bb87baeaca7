"""Draw what `budgets.py` found: success against mean iterations, and against a budget of rollouts.

python benchmarks/plot_budgets.py benchmarks/results/budgets_*.json --out docs/budgets.png
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import tyro

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_KINDS = {"fixed": "C0", "certain": "C1", "shared": "C2", "fit": "C3", "truncate": "C4"}
_LABELS = {
    "fixed": "fixed iterations",
    "certain": "certainty stop",
    "shared": "certainty stop, shared budget",
    "fit": "schedule laid out",
    "truncate": "schedule cut short",
}


@dataclass(frozen=True)
class Args:
    """What to draw."""

    results: tyro.conf.Positional[tuple[Path, ...]]
    """Files that `budgets.py` wrote, one row of the figure each."""
    out: Path
    """PNG file."""


def main(args: Args) -> None:
    """Draw a row for each file: left by mean iterations, right by rollouts."""
    figure, axes = plt.subplots(len(args.results), 2, figsize=(10, 3.2 * len(args.results)), squeeze=False)
    for (left, right), path in zip(axes, args.results, strict=True):
        found = json.loads(path.read_text())
        settings, planning = found["settings"], found["planning"]
        left.set_title(f"{settings['env']}, {settings['protocol']}, starting from {planning['proposal']}", loc="left")
        left.set_xlabel("mean iterations of a decision")
        right.set_xlabel("rollouts of a decision")
        draw(left, found["rows"], ("fixed", "certain", "shared"), lambda name, row: row["mean_iterations"])
        draw(right, found["rows"], ("fit", "truncate"), lambda name, row: float(name.split()[1]))
        right.set_xscale("log", base=2)
        for axis in (left, right):
            axis.set_ylabel("success")
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(args.out, dpi=110)


def draw(axis: Any, rows: dict[str, Any], kinds: tuple[str, ...], place: Any) -> None:
    """Draw the rows of some kinds with their intervals."""
    for kind in kinds:
        mine = sorted(
            ((place(name, row), row) for name, row in rows.items() if name.split()[0] == kind), key=lambda pair: pair[0]
        )
        if not mine:
            continue
        x, y = [at for at, _ in mine], [row["success"] for _, row in mine]
        below = [row["success"] - row["interval"][0] for _, row in mine]
        error = [below, [row["interval"][1] - row["success"] for _, row in mine]]
        line = "-" if kind in ("fixed", "fit", "truncate") else ""
        axis.errorbar(x, y, yerr=error, fmt="o" + line, color=_KINDS[kind], label=_LABELS[kind], capsize=2, lw=1, ms=4)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
