"""Where plans are made: in a thread, in a process of its own, or in lock step with a test's clock."""

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from ..contracts import ModelSpec
from .controller import Controller
from .realtime_clock import Clock
from .realtime_planning import Goal, PlanMaker, Reply, Request

__all__ = ["Desk", "LockstepWorker", "ProcessDesk", "ThreadWorker", "Worker", "make_desk", "warmed"]


class Desk(Protocol):
    """Answers requests one at a time; a `PlanMaker`, or one that lives in another process."""

    @property
    def spec(self) -> ModelSpec:
        """The model's."""
        ...

    @property
    def reach(self) -> int:
        """Environment actions of a plan of full length."""
        ...

    def __call__(self, request: Request) -> Reply:
        """Plan; whatever goes wrong is in the reply."""
        ...


class Worker(Protocol):
    """Runs a desk beside the loop. Nothing but `stop` may wait; one request at a time."""

    @property
    def alive(self) -> bool:
        """Whether an answer can still come."""
        ...

    def submit(self, request: Request) -> None:
        """Start on a request."""
        ...

    def poll(self) -> tuple[Reply, float] | None:
        """Return the answer, and when it was there on the worker's clock, or None."""
        ...

    def stop(self, seconds: float) -> bool:
        """End; return whether it ended within that time."""
        ...


class ThreadWorker:
    """A daemon thread.

    What its desk raises is in the reply. What ends a thread in spite of that, such as SystemExit, ends this worker.
    """

    def __init__(self, desk: Desk, clock: Clock, threads: int | None = 1) -> None:
        """Start the thread; `threads` is how many torch may use in it, None leaves that alone."""
        self._desk, self._clock, self._threads = desk, clock, threads
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[Reply, float]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="wmkit-planner", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, request: Request) -> None:
        """Hand a request over."""
        self._inbox.put(request)

    def poll(self) -> tuple[Reply, float] | None:
        """Return the answer and when it was there, or None."""
        try:
            return self._outbox.get_nowait()
        except queue.Empty:
            return None

    def stop(self, seconds: float) -> bool:
        """Ask the thread to end and wait for it; one that hangs is left behind, and ends with the program."""
        self._inbox.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)
        while (request := self._inbox.get()) is not None:
            reply = self._desk(request)
            self._outbox.put((reply, self._clock.now()))


class LockstepWorker:
    """Plans at once and withholds the answer for a while, so that loops with a `ManualClock` are always alike."""

    def __init__(self, desk: Desk, clock: Clock, seconds: float | Callable[[], float]) -> None:
        """Create a worker whose plans take `seconds` on the clock."""
        self._desk, self._clock, self._seconds = desk, clock, seconds
        self._reply: tuple[Reply, float] | None = None
        self.alive = True

    def submit(self, request: Request) -> None:
        """Plan."""
        seconds = self._seconds() if callable(self._seconds) else self._seconds
        self._reply = (self._desk(request), self._clock.now() + seconds)

    def poll(self) -> tuple[Reply, float] | None:
        """Return the answer once its time has come."""
        if self._reply is None or self._clock.now() < self._reply[1] - 1e-9:
            return None
        reply, self._reply = self._reply, None
        return reply

    def stop(self, seconds: float) -> bool:
        """End."""
        self.alive = False
        return True


@dataclass(frozen=True)
class _Facts:
    """What a child process says of itself when it is ready."""

    spec: ModelSpec
    reach: int


class ProcessDesk:
    """A desk in a child process, made there by a factory; started on first use, and again after it died.

    A child that does not answer for `patience` seconds is killed; the next request starts another.
    """

    def __init__(self, factory: Callable[[], Controller], threads: int | None = 1, patience: float = 10.0) -> None:
        """Create the desk.

        Args:
            factory: makes the controller in the child; picklable, e.g. a function of a module or a partial of one.
            threads: how many torch may use in the child; None leaves that alone.
            patience: seconds to wait for an answer.
        """
        self._factory, self._threads, self._patience = factory, threads, patience
        self._process: Any = None
        self._pipe: Connection | None = None
        self._facts: _Facts | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def spec(self) -> ModelSpec:
        """The model's; starts the child."""
        return self._known().spec

    @property
    def reach(self) -> int:
        """Environment actions of a plan of full length; starts the child."""
        return self._known().reach

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while there is none."""
        return None if self._process is None else self._process.pid

    def __call__(self, request: Request) -> Reply:
        """Plan in the child; its death or silence is an error in the reply."""
        try:
            with self._lock:
                pipe = self._started()
                pipe.send(request)
                return self._answer(pipe)
        except (OSError, EOFError, RuntimeError) as error:
            with self._lock:
                self._kill()
            return Reply(None, 0.0, f"planner process: {str(error) or 'it died'}; the next request starts another")

    def close(self, seconds: float = 1.0) -> None:
        """End the child: ask, terminate, kill. A request that waits for it gets an error."""
        self._closed = True
        process, pipe = self._process, self._pipe
        if process is None or pipe is None:
            return
        if self._lock.acquire(blocking=False):
            try:
                pipe.send(None)
            except OSError:
                pass
            finally:
                self._lock.release()
        else:
            process.terminate()
        for end in (process.terminate, process.kill):
            process.join(seconds / 2)
            if not process.is_alive():
                return
            end()
        process.join(seconds / 2)

    def _known(self) -> _Facts:
        with self._lock:
            self._started()
        if self._facts is None:
            raise RuntimeError("the planner process did not start")
        return self._facts

    def _started(self) -> Connection:
        """Return the pipe to a child that is ready."""
        if self._closed:
            raise RuntimeError("stopped")
        if self._pipe is None or not self._process.is_alive():
            self._kill()
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._factory, self._threads), name="wmkit-planner", daemon=True
            )
            self._process.start()
            theirs.close()
            found = self._answer(self._pipe, 60.0)
            if isinstance(found, str):
                raise RuntimeError(f"the factory failed: {found}")
            self._facts = found
        return self._pipe

    def _answer(self, pipe: Connection, seconds: float | None = None) -> Any:
        patience = self._patience if seconds is None else seconds
        if not pipe.poll(patience):
            raise RuntimeError(f"no answer for {patience:g} s, killed")
        return pipe.recv()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(1.0)
        if self._pipe is not None:
            self._pipe.close()
        self._process, self._pipe = None, None


def make_desk(
    controller: Controller | Callable[[], Controller], process: bool, threads: int | None, patience: float
) -> PlanMaker | ProcessDesk:
    """Return a desk in this process or in a child of it."""
    if isinstance(controller, Controller):
        return PlanMaker(controller)
    return ProcessDesk(controller, threads, patience) if process else PlanMaker(controller())


def warmed(
    worker: Worker, goal: Goal | None, spec: ModelSpec, plans: int, clock: Clock, timeout: float
) -> tuple[list[float], str | None]:
    """Have plans made from rest at the goal, or from a blank observation without one, and wait for them.

    Returns:
        The seconds that each took, and the first error, if any.
    """
    observation: Any = None if goal is None else goal.observation
    if observation is None:
        observation = {
            key: np.full(each.shape, np.clip(0, each.low, each.high), each.dtype)
            for key, each in spec.observations.items()
        }
    none = np.zeros((0, spec.action_size), np.float32)
    end, seconds = clock.now() + timeout, []
    for number in range(plans):
        began = clock.now()
        worker.submit(Request(-1 - number, goal, ((0, observation),), none, None, 0, -1, 0))
        while (answer := worker.poll()) is None:
            if clock.now() > end or not worker.alive:
                return seconds, "the worker died" if not worker.alive else f"no plan within {timeout:g} s"
            clock.sleep(0.001)
        if answer[0].error is not None:
            return seconds, answer[0].error
        seconds.append(answer[1] - began)
    return seconds, None


def _serve(pipe: Connection, factory: Callable[[], Controller], threads: int | None) -> None:
    """Run in the child: answer until the parent closes the pipe or asks to end; an interrupt is the parent's affair."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        desk = PlanMaker(factory())
        pipe.send(_Facts(desk.spec, desk.reach))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    try:
        while (message := pipe.recv()) is not None:
            pipe.send(desk(message))
    except (EOFError, OSError):
        return
