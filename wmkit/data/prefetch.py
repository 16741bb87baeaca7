"""Drawing the next step's batch while the device works on this one's."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from .transfer import send

__all__ = ["Prefetcher"]

_Batch = dict[str, Tensor]


class Prefetcher:
    """Draws one batch ahead, on a thread, and copies it to the device on a stream of its own.

    A batch depends on its step's generator alone, so drawing it early changes no number. Whoever calls `start` passes
    the same generator on to that step, which then finds it as if it had drawn the batch itself.

    Args:
        draw: returns a batch on the CPU, drawn with a generator.
        device: where the batch goes.
    """

    def __init__(self, draw: Callable[[torch.Generator], _Batch], device: torch.device) -> None:
        self._draw, self._device = draw, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._worker = ThreadPoolExecutor(1, "prefetch")
        self._begun: dict[int, tuple[torch.Generator, Future[_Batch]]] = {}

    def start(self, step: int, generator: torch.Generator) -> None:
        """Begin to draw the batch of a step."""
        self._begun[step] = generator, self._worker.submit(self._make, generator)

    def take(self, step: int, generator: torch.Generator) -> _Batch:
        """Return the batch of a step: the one begun with the same generator, else one begun now."""
        if step not in self._begun or self._begun[step][0] is not generator:
            self.start(step, generator)
        batch = self._begun[step][1].result()
        self._begun = {later: begun for later, begun in self._begun.items() if later > step}
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for value in batch.values():
                value.record_stream(current)
        return batch

    def _make(self, generator: torch.Generator) -> _Batch:
        """Draw a batch and begin to copy it."""
        batch = self._draw(generator)
        with torch.cuda.stream(self._stream):
            return {name: send(value, self._device) for name, value in batch.items()}
