"""Where a number came from: versions, hardware, commit and date, saved beside every result."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import __version__

__all__ = ["provenance"]

_PACKAGES = ("torch", "numpy", "gymnasium", "pymunk", "h5py", "safetensors")


def provenance() -> dict[str, Any]:
    """Describe this installation and this machine.

    Nothing heavy is imported: versions come from the packages' metadata, the GPU from `nvidia-smi`.

    Returns:
        A mapping that JSON can hold:

        - "date": UTC, ISO 8601, to the second
        - "wmkit", "python", "platform": versions
        - "packages": name -> version of what numbers depend on; absent packages are left out
        - "commit": Git commit of the checkout that runs, with "-dirty" after uncommitted changes; None outside one
        - "cpu": model name; "cores": cores that this process may use; "memory_gib": memory of the machine in GiB, None
          where the system does not say
        - "gpus": one text a GPU, with name, memory and driver
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "wmkit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(_PACKAGES),
        "commit": _commit(Path(__file__).resolve().parents[1]),
        "cpu": _cpu(),
        "cores": _cores(),
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Return name -> version of the installed ones."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _output(*command: str) -> str | None:
    """Return what a program prints; None where it is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _commit(root: Path) -> str | None:
    """Return the commit of a checkout at `root`; a folder merely inside another repository is none."""
    if not (root / ".git").exists():
        return None
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _cpu() -> str:
    """Return the processor's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    """Return the machine's memory in GiB."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> list[str]:
    """Return one text a NVIDIA GPU."""
    lines = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return lines.splitlines() if lines else []
