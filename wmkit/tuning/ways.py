"""The ways in which a model can compute its rollouts on a machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..threads import usable_cpus
from .trade import Way

__all__ = ["applied", "has_bfloat16", "ways"]

_PATHS = {"cpu": ("reference", "fast"), "cuda": ("reference", "fast", "fused")}


def ways(model: Any, device: torch.device | str, threads: Sequence[int] | None = None) -> list[Way]:
    """Return what a model offers on a device, the exact way first.

    Args:
        model: may have `rollout_path` and `rollout_dtype`; without them it has one way.
        device: where it computes.
        threads: numbers of CPU threads to try; None tries one, half and all of the cores. Not used on a GPU.
    """
    device = torch.device(device)
    paths: tuple[str | None, ...] = (None,)
    if hasattr(model, "rollout_path"):
        paths = _PATHS.get(device.type, _PATHS["cpu"])
    dtypes = ["float32"]
    if hasattr(model, "rollout_dtype") and has_bfloat16(device):
        dtypes.append("bfloat16")
    counts: Sequence[int | None] = [None]
    if device.type == "cpu":
        counts = sorted(set(threads), reverse=True) if threads else _thread_counts()
    return [
        Way(path, dtype, count)
        for dtype in dtypes
        for path in paths
        for count in counts
        if dtype == "float32" or path != "reference"
    ]


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


@contextmanager
def applied(model: Any, way: Way) -> Iterator[None]:
    """Let a model, and PyTorch, compute in a way; afterwards as before."""
    values = {"rollout_path": way.path, "rollout_dtype": torch.bfloat16 if way.dtype == "bfloat16" else None}
    values = {name: value for name, value in values.items() if hasattr(model, name)}
    before, threads = {name: getattr(model, name) for name in values}, torch.get_num_threads()
    try:
        for name, value in values.items():
            setattr(model, name, before[name] if name == "rollout_path" and value is None else value)
        if way.threads is not None:
            torch.set_num_threads(way.threads)
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)
        torch.set_num_threads(threads)


def _thread_counts() -> list[int]:
    """Return all, half and one of the cores that this process may use."""
    cores = usable_cpus()
    return sorted({cores, max(1, cores // 2), 1}, reverse=True)
