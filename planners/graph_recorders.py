"""How a computation is recorded: what all recorders do, and the one that keeps nothing but the function itself."""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from .graph_values import rebuilt, tensors_in

__all__ = ["PlainRecorder", "Recorder", "Recording", "Report", "copy_into", "own"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Recording(Protocol[T_co]):
    """A computation that can be done again."""

    @property
    def result(self) -> T_co:
        """What it returned; its tensors hold the numbers of the last replay."""
        ...

    def replay(self) -> None:
        """Do it again with what stands in its inputs now."""
        ...


class Report(Protocol):
    """Numbers on their way from the device to the host."""

    def post(self) -> None:
        """Send what the tensor holds once the device comes here; does not wait."""
        ...

    def read(self) -> list[int]:
        """Wait for the numbers last sent, though not for what the device was given after them."""
        ...


class Recorder(Protocol):
    """Records computations that share inputs, to be replayed in the order in which they were recorded.

    Attributes:
        generator: source of all their randomness; set its state before a replay, and read it after.
    """

    generator: torch.Generator

    def warm_up(self, function: Callable[[], object]) -> None:
        """Run everything once that is to be recorded."""
        ...

    def record(self, function: Callable[[], T]) -> Recording[T]:
        """Record a computation; what its result holds is undefined before the first replay."""
        ...

    def report(self, tensor: Tensor) -> Report:
        """Return a way of a result's whole numbers (n,) to the host."""
        ...


def own(value: Any) -> Any:
    """Return a copy of a value with clones of its tensors."""
    clones = [x.clone(memory_format=torch.contiguous_format) for x in tensors_in(value)]
    return rebuilt(value, iter(clones))


def copy_into(target: Any, source: Any) -> None:
    """Copy the numbers of one value's tensors into another's of the same signature."""
    for old, new in zip(tensors_in(target), tensors_in(source), strict=True):
        if old is not new and old.numel():
            old.copy_(new, non_blocking=True)


class PlainRecorder:
    """Records nothing: a replay calls the function again on the same inputs and overwrites the same result.

    What is wrong with static inputs, stale results or randomness shows here without a GPU. As after a capture, a result
    is worth nothing before the first replay.
    """

    def __init__(self, device: torch.device) -> None:
        """Prepare for any device."""
        self.generator = torch.Generator(device)

    def warm_up(self, function: Callable[[], object]) -> None:
        """Run a computation."""
        function()

    def record(self, function: Callable[[], T]) -> Recording[T]:
        """Keep a function and a copy of its result."""
        return _Function(function)

    def report(self, tensor: Tensor) -> Report:
        """Return a way that is no way."""
        return _PlainReport(tensor)


class _Function(Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self.result: T = own(function())
        for tensor in tensors_in(self.result):
            tensor.fill_(torch.nan if tensor.is_floating_point() else 1)

    def replay(self) -> None:
        copy_into(self.result, self._function())


class _PlainReport:
    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._sent: list[int] = []

    def post(self) -> None:
        self._sent = self._tensor.tolist()

    def read(self) -> list[int]:
        return self._sent
