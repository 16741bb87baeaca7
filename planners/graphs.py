"""Decisions without the host in their loop: recorded once for each shape, and replayed with new numbers."""

import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any

import torch

from .graph_cuda import CudaRecorder
from .graph_recorded import Recorded, values_of
from .graph_recorders import Recorder
from .graph_steps import Unrolled
from .graph_values import Weights, signature, switches
from .scoring import Clock
from .search import Found

__all__ = ["Graphs"]

_CAPACITY = 8
"""Recorded decisions that are kept; each holds the memory of its own rollouts."""
_CREDIT = 4
"""Recordings in a row without a replay, after which a shape is recorded only when it comes a second time."""
_PATIENCE = 32
"""Recordings in a row without a replay, after which no more are made."""


class Graphs:
    """The recorded decisions of one planner.

    What a recorded decision depends on beside the numbers in its tensors is its key: shapes, dtypes and device of
    context, guesses and objective, the laid-out iterations, the settings of planner and model, and whether the model's
    weights have changed. One thread records or replays at a time; others plan with the host in the loop meanwhile.

    Attributes:
        recordings: how many were made.
        replays: how many decisions were replayed.
    """

    def __init__(
        self, make: Callable[[torch.device], Recorder] | None = CudaRecorder, device_type: str = "cuda"
    ) -> None:
        """Record nothing yet; `make` returns a recorder for a device of this type."""
        self.recordings = 0
        self.replays = 0
        self._make, self._device_type = make, device_type
        self._known: OrderedDict[Hashable, Recorded] = OrderedDict()
        self._seen: deque[Hashable] = deque(maxlen=8 * _CAPACITY)
        self._weights: tuple[Any, Weights] | None = None
        self._unused = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as one that has recorded nothing."""
        return type(self), (self._make, self._device_type)

    def active(self, device: torch.device) -> bool:
        """Return whether decisions on a device are recorded, as far as that is known."""
        return self._make is not None and device.type == self._device_type

    def search(self, decision: Unrolled, clock: Clock, host: Callable[[], Found]) -> Found:
        """Do what `search.search` does, without the host in the loop where that is possible.

        Args:
            decision: what to record, and the numbers to replay it with.
            clock: ends the search early.
            host: searches with the host in the loop. Called where nothing is recorded on such a device, where another
                thread is at it, where a recording fails, which is said once, and where something is wrong with the
                result, so that the error is the same; the generator is then as it was.

        Raises:
            ValueError: what `host` raises.
        """
        problem = decision.scorer.problem
        on_device = problem.generator.device == problem.context.latents.device
        if self._make is None or not on_device or not self._lock.acquire(blocking=False):
            return host()
        found, reason = None, None
        try:
            recorded = self._recorded(decision, self._make)
            found = recorded and recorded.run(decision.scorer, clock)
        except Exception as error:  # what a model or CUDA objects to is not known beforehand
            self._known.clear()
            reason = f"the search cannot be captured ({type(error).__name__}: {_line(error)})"
        finally:
            self._lock.release()
        found = found or host()
        if reason is not None:
            self._stop(reason)
        return found

    def _recorded(self, decision: Unrolled, make: Callable[[torch.device], Recorder]) -> Recorded | None:
        """Return the recorded decision, or record it; None where that does not seem worth while."""
        key = self._key(decision)
        if key in self._known:
            self._unused = 0
            self.replays += 1
            self._known.move_to_end(key)
            return self._known[key]
        if self._unused >= _PATIENCE:
            self._stop(f"{_PATIENCE} searches were captured, but no shape came again")
            return None
        if self._unused >= _CREDIT and key not in self._seen:
            self._seen.append(key)
            return None
        return self._record(decision, make)

    def _record(self, decision: Unrolled, make: Callable[[torch.device], Recorder]) -> Recorded:
        """Record a decision in the place of the one that was not used for longest."""
        while len(self._known) >= _CAPACITY:
            self._known.popitem(last=False)
        recorded = Recorded(make(decision.scorer.problem.initial.device), decision)
        self.recordings, self._unused = self.recordings + 1, self._unused + 1
        self._known[self._key(decision)] = recorded  # the first rollout may have changed the model's switches
        return recorded

    def _key(self, decision: Unrolled) -> Hashable:
        """Return all that must be equal for a recorded decision to stand for another."""
        scorer, device = decision.scorer, decision.scorer.problem.initial.device
        if self._weights is None or self._weights[0] is not scorer.model:
            self._weights = scorer.model, Weights(scorer.model)
        settings = {name: value for name, value in vars(decision.method).items() if not name.startswith("_")}
        return (
            signature((values_of(scorer), settings)),
            (scorer.problem.horizon, decision.schedule, decision.certainty, decision.answers),
            (decision.stops_early, scorer.keep, scorer.rescore, scorer.budget.bytes),
            (id(scorer.model), switches(scorer.model), self._weights[1].version()),
            (torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()),
            (torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)),
        )

    def _stop(self, reason: str) -> None:
        """Record no more, and say so in one line."""
        self._make = None
        self._known.clear()
        warnings.warn(f"{reason}; planning without CUDA graphs from now on", stacklevel=5)


def _line(error: BaseException) -> str:
    """Return what an error says in one line; of one that followed from another, the other's."""
    cause = error.__cause__ or error.__context__ or error
    return " ".join(str(cause).split())[:200]
