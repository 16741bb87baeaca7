"""Recording as CUDA graphs."""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .graph_recorders import Recording, Report

__all__ = ["CudaRecorder"]

T = TypeVar("T")

_WARM_UPS = 2
"""Runs before a capture: kernels are compiled and tuned, libraries set up, and what a model keeps is filled."""


class CudaRecorder:
    """Records CUDA graphs, which share one memory pool.

    Their randomness comes from a generator that the graphs alone draw from, so that neither a warm-up nor a capture
    that fails disturbs anybody's.
    """

    def __init__(self, device: torch.device) -> None:
        """Prepare for recording on a CUDA device."""
        self._device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        self._stream = _side_stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()
        self.generator = torch.Generator(self._device)

    def warm_up(self, function: Callable[[], object]) -> None:
        """Run a computation on a side stream; the device's default generators are put back."""
        index = [self._device.index]
        with torch.random.fork_rng(index), torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    function()
            current.wait_stream(self._stream)

    def record(self, function: Callable[[], T]) -> Recording[T]:
        """Capture a computation, which runs in inference mode.

        What torch itself makes for a capture is made outside that mode, as graphs of others share it.

        Raises:
            Exception: whatever the computation or CUDA objects to.
        """
        options: dict[str, Any] = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
        graph = torch.cuda.CUDAGraph()
        device = torch.cuda.device(self._device)
        try:
            with device, _stream_kept(), _no_collection(), torch.inference_mode(False), torch.no_grad():
                _register(graph, self.generator)
                with torch.cuda.graph(graph, **options), torch.inference_mode():
                    result = function()
        except BaseException:
            _heal(graph, self._device)
            raise
        return _Graph(graph, result)

    def report(self, tensor: Tensor) -> Report:
        """Return a way to the host through pinned memory."""
        return _PinnedReport(tensor)


class _Graph(Generic[T]):
    def __init__(self, graph: torch.cuda.CUDAGraph, result: T) -> None:
        self.result = result
        self._graph = graph

    def replay(self) -> None:
        self._graph.replay()


class _PinnedReport:
    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        self._event = torch.cuda.Event()

    def post(self) -> None:
        self._host.copy_(self._tensor, non_blocking=True)
        self._event.record(torch.cuda.current_stream(self._tensor.device))

    def read(self) -> list[int]:
        self._event.synchronize()
        return self._host.tolist()


@lru_cache(maxsize=64)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of a device that captures run on: libraries keep workspace for every stream they meet."""
    return torch.cuda.Stream(device)


def _register(graph: torch.cuda.CUDAGraph, generator: torch.Generator) -> None:
    """Let a graph draw from a generator; later versions of torch need no telling, and say so."""
    register = getattr(graph, "register_generator_state", None)
    if register is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            register(generator)


@contextmanager
def _stream_kept() -> Iterator[None]:
    """Put the current stream back; torch leaves the capture's in place when the capture cannot be ended."""
    with torch.cuda.stream(torch.cuda.current_stream()):
        yield


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage inside: it may hold graphs, which must not be freed during a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _heal(graph: torch.cuda.CUDAGraph, device: torch.device) -> None:
    """Leave capture mode after a capture that failed, and free its memory.

    The device's default generator takes part in every capture, and believes itself in one until the next capture ends
    well; every draw from it would fail until then.
    """
    with suppress(Exception), torch.cuda.device(device), _stream_kept(), torch.inference_mode(False):
        torch.cuda.synchronize()
        with suppress(Exception):
            graph.reset()
        with torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"):
            torch.zeros(1, device=device)
