"""What `wmkit bench plan RUN --deadline-ms` prints; no command of its own."""

import shlex
from typing import TYPE_CHECKING

from .tune_subject import Subject, flags

if TYPE_CHECKING:
    from wmkit.tuning import CostModel, Measured, Problems, Setting, Trade

    from .bench_plan import PlanBench

__all__ = ["text_of"]


def _command(config: "PlanBench", subject: Subject, setting: "Setting") -> str:
    """Return a command line that evaluates with a setting."""
    threads = "" if setting.way.threads is None else f"OMP_NUM_THREADS={setting.way.threads} "
    given = [] if config.horizon is None else ["--horizon", str(config.horizon)]
    env = ["--env", subject.env] if subject.env else []
    reward = [] if config.tuning.reward is None else ["--reward", config.tuning.reward]
    model = config.model if config.model and subject.folder is not None else "RUN"
    words = ["wmkit", "eval", model, *env, *reward, *given, *flags(subject.planning, setting)]
    return threads + shlex.join(words)


def text_of(config: "PlanBench", subject: Subject, problems: "Problems", trade: "Trade", busy: str | None) -> str:
    """Return the trade as text, the fastest first."""
    from wmkit.timing import MANY

    deadline = f"{1e3 * trade.deadline:g} ms"
    slow = "p99" if all(len(row.seconds) >= MANY for row in trade.rows if row.made) else "slowest"
    at_once = f", {config.batch} robots at once" if config.batch > 1 else ""
    lines = [
        f"{subject.name} on {config.device}, {subject.planning['planner']}, horizon {subject.horizon}{at_once}; "
        f"deadline {deadline} for the {slow} decision",
        f"quality on {problems.label}",
        "",
        f"{'candidates x iterations':<26}{'computed with':<34}{'p50':>10}{slow:>10}{'regret':>18}",
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
        f"chosen: {_command(config, subject, trade.chosen.setting)}",
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
