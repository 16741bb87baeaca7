"""Checks that an objective leaves for after the search, where looking at a tensor would stall the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

__all__ = ["postpone", "postponed"]

_DOUBTS: ContextVar[list[Tensor] | None] = ContextVar("doubts", default=None)


def postpone(doubt: Callable[[], Tensor]) -> bool:
    """Leave a check for after the search, if that is asked for.

    Args:
        doubt: returns a bool () tensor: True where the check might fail. The search is then repeated without
            postponing, so it may err on the side of True.

    Returns:
        Whether it was left; if not, check now.
    """
    doubts = _DOUBTS.get()
    if doubts is None:
        return False
    doubts.append(doubt())
    return True


@contextmanager
def postponed() -> Iterator[list[Tensor]]:
    """Leave all checks inside for later; the list fills with their doubts."""
    doubts: list[Tensor] = []
    token = _DOUBTS.set(doubts)
    try:
        yield doubts
    finally:
        _DOUBTS.reset(token)
