"""Whether fused kernels can run on a device, and if not, why."""

import importlib.util
import os
import sys
from typing import Any

import torch

__all__ = ["Unsupported", "guard", "interpreted", "why_not"]

_OLDEST = (8, 0)
"""Compute capability of the first GPUs with bfloat16 matrix units (Ampere)."""


class Unsupported(ValueError):
    """A kernel does not handle this network, these shapes or this device; the text says why."""


def guard(device: torch.device) -> torch.cuda.device:
    """Return the context in which Triton launches on a device; without effect on the CPU."""
    return torch.cuda.device(device if device.type == "cuda" else -1)


def interpreted() -> bool:
    """Return whether Triton runs kernels in Python, on the CPU: slow, for tests alone.

    Triton decides when it is first imported, by the environment variable TRITON_INTERPRET.
    """
    triton: Any = sys.modules.get("triton")
    if triton is not None:
        return bool(triton.knobs.runtime.interpret)
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_not(device: torch.device | str) -> str | None:
    """Return why fused kernels cannot run on a device, in one line; None where they can."""
    device = torch.device(device)
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install 'wmkit[gpu]'"
    if device.type == "cpu":
        return None if interpreted() else "fused kernels need a CUDA GPU"
    if device.type != "cuda":
        return f"fused kernels need a CUDA GPU, not {device.type!r}"
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST:
        name, found = torch.cuda.get_device_name(device), ".".join(map(str, capability))
        return f"{name} has compute capability {found}; fused kernels need {_OLDEST[0]}.{_OLDEST[1]} or later"
    return None
