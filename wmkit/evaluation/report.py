"""What an evaluation leaves behind: a table, a JSON file and a comparison of two."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ..errors import UserError
from ..provenance import provenance
from .manifest import Manifest
from .runner import Outcomes
from .statistics import compare, percentiles, wilson

__all__ = ["Row", "compare_files", "group_lines", "make_row", "save_result", "table"]


@dataclass(frozen=True)
class Row:
    """One agent's line of the table.

    Attributes:
        name: the agent.
        kind: "model", "floor" or "bound".
        pairs: P.
        successes: pairs solved within the budget.
        interval: Wilson's 95 % interval of the share.
        strict: pairs settled: half the tolerance over the last 5 steps.
        strict_interval: Wilson's 95 % interval of that share.
        groups: group of pairs -> (successes, pairs).
        seconds: wall time of the run.
        decision: {"p50", "p99", "count"} of one decision in seconds; None where it was not measured.
        outcomes: (P,), environment step of the first success, -1 without.
        settled: (P,), whether the pair settled.
    """

    name: str
    kind: str
    pairs: int
    successes: int
    interval: tuple[float, float]
    strict: int
    strict_interval: tuple[float, float]
    groups: Mapping[str, tuple[int, int]]
    seconds: float
    decision: Mapping[str, float] | None
    outcomes: Sequence[int] = field(repr=False)
    settled: Sequence[bool] = field(repr=False)


def make_row(
    name: str,
    kind: str,
    outcomes: Outcomes,
    *,
    moved: np.ndarray | None = None,
    times: Sequence[float] = (),
) -> Row:
    """Sum up an agent's outcomes.

    Args:
        name: the agent.
        kind: "model", "floor" or "bound".
        outcomes: of P pairs.
        moved: (P,) bool, pairs that need something other than the agent to move; None where there is nothing.
        times: seconds of single decisions.
    """
    success, count = outcomes.success, len(outcomes.success)
    masks = {} if moved is None else {"object must move": moved, "object stays": ~moved}
    groups = {label: (int(success[mask].sum()), int(mask.sum())) for label, mask in masks.items()}
    return Row(
        name=name,
        kind=kind,
        pairs=count,
        successes=int(success.sum()),
        interval=wilson(int(success.sum()), count),
        strict=int(outcomes.strict.sum()),
        strict_interval=wilson(int(outcomes.strict.sum()), count),
        groups=groups,
        seconds=outcomes.seconds,
        decision=percentiles(times) if len(times) else None,
        outcomes=outcomes.first_success.tolist(),
        settled=outcomes.strict.tolist(),
    )


def table(title: str, rows: Sequence[Row]) -> Table:
    """Lay the rows out for a terminal of 80 columns; `group_lines` says the rest."""
    made = Table(title=title, title_justify="left", title_style="bold")
    made.add_column("agent", overflow="fold")
    for label in ("success", "95 %", "settled", "plan p50", "p99"):
        made.add_column(label, justify="right", no_wrap=True)
    for row in rows:
        low, high = row.interval
        made.add_row(
            row.name,
            _share(row.successes, row.pairs),
            f"{100 * low:.0f} to {100 * high:.0f} %",
            f"{100 * row.strict / row.pairs:.0f} %",
            *(_milliseconds(row.decision, key) for key in ("p50", "p99")),
            style="bold" if row.kind == "model" else "",
        )
    return made


def group_lines(rows: Sequence[Row]) -> list[str]:
    """Return one line for each group of pairs: the success of each row in it."""
    labels = dict.fromkeys(label for row in rows for label in row.groups)
    return [
        f"{label}: " + ", ".join(f"{row.name} {_share(*row.groups[label])}" for row in rows if label in row.groups)
        for label in labels
    ]


def _share(successes: int, count: int) -> str:
    return f"{successes}/{count} ({100 * successes / count:.0f} %)" if count else "0/0"


def _milliseconds(decision: Mapping[str, float] | None, key: str) -> str:
    return "-" if decision is None else f"{1000 * decision[key]:.1f} ms"


def save_result(
    path: Path, manifest: Manifest, rows: Sequence[Row], *, rule: str, config: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """Write a result as JSON and return it.

    Args:
        path: the file.
        manifest: the pairs.
        rows: one for each agent.
        rule: success rule.
        config: the resolved configuration.
        more: further entries, e.g. probes.
    """
    result = {
        "environment": manifest.environment,
        "protocol": manifest.protocol,
        "rule": rule,
        "seed": manifest.seed,
        "fingerprint": manifest.fingerprint,
        "split_hash": manifest.split_hash,
        "manifest": manifest.sha256,
        "pairs": len(manifest.pairs),
        "excluded": dict(manifest.excluded),
        "rows": [asdict(row) for row in rows],
        "config": dict(config),
        **more,
        **provenance(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, default=str))
    return result


def compare_files(first: Path, second: Path) -> dict[str, Any]:
    """Compare the models of two result files that were made on the same manifest, pair by pair.

    Returns:
        {"first", "second": (successes, pairs), "both", "only_first", "only_second", "neither", "p_value"}.

    Raises:
        UserError: a file is no result, or the manifests or rules differ.
    """
    results = [_read_result(path) for path in (first, second)]
    for key in ("manifest", "rule"):
        if results[0][key] != results[1][key]:
            raise UserError(
                f"{first} and {second} differ in their {key}; evaluate both with the same --manifest and --rule"
            )
    rows = [next((row for row in result["rows"] if row["kind"] == "model"), None) for result in results]
    if rows[0] is None or rows[1] is None:
        raise UserError(f"{first if rows[0] is None else second} holds no model to compare")
    a, b = ([step > 0 for step in row["outcomes"]] for row in rows if row)
    return {"first": (sum(a), len(a)), "second": (sum(b), len(b))} | asdict(compare(a, b))


def _read_result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
        if {"manifest", "rule", "rows"} <= result.keys():
            return result
    except (OSError, ValueError, AttributeError):
        pass
    raise UserError(f"{path} is no result of `wmkit eval`")
