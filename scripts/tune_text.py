"""What `wmkit bench plan RUN --deadline-ms` prints; no command of its own."""

import shlex
from typing import TYPE_CHECKING

from .tune_subject import Subject, flags

if TYPE_CHECKING:
    from wmkit.tuning import CostModel, Measured, Problems, Setting, Trade

    from .bench_tune import Request

__all__ = ["text_of"]


def _command(request: "Request", subject: Subject, setting: "Setting") -> str:
    """Return a command line that evaluates with a setting."""
    threads = "" if setting.way.threads is None else f"OMP_NUM_THREADS={setting.way.threads} "
    given = [] if request.horizon is None else ["--horizon", str(request.horizon)]
    env = ["--env", subject.env] if subject.env else []
    reward = [] if request.tuning.reward is None else ["--reward", request.tuning.reward]
    words = ["wmkit", "eval", request.model or "RUN", *env, *reward, *given, *flags(subject.planning, setting)]
    return threads + shlex.join(words)


def text_of(request: "Request", subject: Subject, problems: "Problems", trade: "Trade", busy: str | None) -> str:
    """Return the trade as text, the fastest first."""
    deadline = f"{request.deadline_ms:g} ms"
    at_once = f", {request.batch} robots at once" if request.batch > 1 else ""
    lines = [
        f"{subject.name} on {request.device}, {subject.planning['planner']}, horizon {subject.horizon}{at_once}; "
        f"deadline {deadline} at p99",
        f"quality on {problems.label}",
        "",
        f"{'candidates x iterations':<26}{'computed with':<34}{'p50':>10}{'p99':>10}{'regret':>18}",
    ]
    late = False
    for row in sorted(trade.rows, key=lambda row: row.p99):
        if not row.made and not late:
            late = True
            lines.append(f"{'- ' * 10}{deadline} {'- ' * 35}")
        lines.append(_line(row, row.setting == trade.chosen.setting))
    long = trade.long
    lines += [
        "",
        f"regret: what plans cost more than the best known, by the exact rollout, from 0 (of {long.samples} x "
        f"{long.iterations} candidates, or better) to 100 % (drawn at random)",
        *(f"a slow decision, {way}: {_formula(model)}" for way, model in trade.models.items()),
        *(f"not offered: {way}: {reason}" for way, reason in trade.refused.items()),
        f"chosen: {_command(request, subject, trade.chosen.setting)}",
    ]
    if busy is not None:
        lines.append(f"{busy}: measure again when they are not")
    return "\n".join(lines)


def _line(row: "Measured", chosen: bool) -> str:
    """Return one row of the table."""
    size = f"{row.setting.samples} x {row.setting.iterations}{'  <- chosen' if chosen else ''}"
    times = "".join(f"{seconds * 1e3:>7.2f} ms" for seconds in (row.p50, row.p99))
    return f"{size:<26}{row.setting.way!s:<34}{times}{row.regret:>11.2%} +-{row.error:.2%}"


def _formula(model: "CostModel") -> str:
    """Return what a slow decision costs, in milliseconds."""
    overhead, iteration, candidate = (
        1e3 * model.tail * part for part in (model.overhead, model.iteration, model.candidate)
    )
    return f"{overhead:.2g} ms + iterations x ({iteration:.2g} ms + candidates x {candidate:.2g} ms)"
