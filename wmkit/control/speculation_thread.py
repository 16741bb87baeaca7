"""A daemon thread that works errands off."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Worker"]

Result = TypeVar("Result")


class Worker(Generic[Result]):
    """Calls what it is given, one after the other, in a daemon thread; nobody waits for it."""

    def __init__(self, name: str) -> None:
        """Start the thread under a name."""
        self._calls: queue.SimpleQueue[Callable[[], Result] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._calls, self._results), name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, call: Callable[[], Result]) -> None:
        """Have something called."""
        self._calls.put(call)

    def finished(self) -> list[Result | Exception]:
        """Return the results, or what was raised, of the calls that ended since the last time."""
        found: list[Result | Exception] = []
        while True:
            try:
                found.append(self._results.get_nowait())
            except queue.Empty:
                return found

    def close(self, timeout: float = 5.0) -> None:
        """Drop what was not begun, and wait up to `timeout` seconds for the thread to end."""
        while True:
            try:
                self._calls.get_nowait()
            except queue.Empty:
                break
        self._calls.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)


def _work(calls: queue.SimpleQueue, results: queue.SimpleQueue) -> None:
    """Call until there is None; between calls the thread keeps nothing of them alive."""
    while (call := calls.get()) is not None:
        try:
            results.put(call())
        except Exception as error:
            results.put(error)
        del call
