"""`torch.compile` where it works, the plain function where it does not."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled at its first call, for the shapes it is called with.

    Where that call fails (no C++ compiler, code that cannot be compiled), one warning says so and the plain function
    is used from then on.
    """
    chosen: list[Callable[..., Any]] = []

    def call(*args: Any) -> Any:
        if chosen:
            return chosen[0](*args)
        fast = torch.compile(function, dynamic=False)
        try:
            result = fast(*args)
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            warnings.warn(f"training goes on without torch.compile: {text}", RuntimeWarning, stacklevel=2)
            chosen.append(function)
            return function(*args)
        chosen.append(fast)
        return result

    return call
