"""How many threads a program should compute with; imports nothing heavy, so that it can come before torch."""

import math
import os
from pathlib import Path

__all__ = ["limit_threads", "usable_cpus"]

_ROOT = Path("/sys/fs/cgroup")


def usable_cpus(root: Path = _ROOT) -> int:
    """Return how many processors this process may keep busy: those it may run on, and its control group's quota.

    Args:
        root: where the control group's files are, of version 2 or 1.
    """
    allowed, quota = _allowed(), _quota(root)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def limit_threads() -> None:
    """Keep numerical libraries that are not imported yet to the threads that a quota has room for, if there is one.

    Left alone they take one for each core of the machine. Threads beyond the quota are put to sleep while the others
    wait for them, which makes small products many times slower. A user's own OMP_NUM_THREADS stands.
    """
    if usable_cpus() < _allowed():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cpus()))


def _allowed() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(root: Path) -> float | None:
    """Return the control group's processors, None without a limit."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        processors = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return processors if processors > 0 else None
