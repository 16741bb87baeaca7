"""What to do about a surprise: the reactions that come with the package, and how they combine.

A reaction is any function `Surprise -> Response | None`; see `wmkit.monitor.report`. Those here are made by functions,
each call a reaction of its own, and whatever they remember they remember of each row apart. A row's step 0 forgets it.

A reaction that changed how a robot moves has the controller plan anew when it lets go: the plan that ran on meanwhile
was never executed.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..tasks import Task
from .episode_collector import EpisodeCollector
from .report import KINDS, Policy, Reaction, Response, Surprise

__all__ = ["ask_for_adaptation", "by_kind", "hand_over", "hold", "log", "replan", "slow_down", "together"]

_LOGGER = logging.getLogger(__name__)


def log(logger: logging.Logger | None = None) -> Reaction:
    """Return a reaction that logs one line when an alarm begins (a warning) and one when it is over (info).

    Args:
        logger: where to; None takes this module's.
    """
    to, since = logger or _LOGGER, dict[int, int]()

    def react(surprise: Surprise) -> None:
        row, step = surprise.row, surprise.step
        began = since.get(row)
        if surprise.alarm and began is None:
            since[row] = step
            to.warning("row %d, step %d: %s", row, step, surprise.text or f"surprise {surprise.score:.2f}")
        elif began is not None and not surprise.alarm:
            del since[row]
            passed = f"after {step - began} model steps" if step > began else "with its episode"
            to.info("row %d, step %d: the alarm is over, %s", row, step, passed)

    return react


def replan(*, lasting: bool = False) -> Reaction:
    """Return a reaction that plans anew from what is seen, at once, with the whole horizon.

    Args:
        lasting: at each model step while the alarm is on; otherwise only when it begins.
    """

    def react(surprise: Surprise) -> Response | None:
        return Response(replan=True) if surprise.began or (lasting and surprise.alarm) else None

    return react


def slow_down(factor: float = 0.5) -> Reaction:
    """Return a reaction that scales the actions down while the alarm is on.

    Args:
        factor: in [0, 1], on the difference to the action 0 clipped into the bounds.

    Raises:
        ValueError: the factor is out of its range.
    """
    if not 0 <= factor <= 1:
        raise ValueError(f"factor is {factor!r}; give a number in [0, 1]")
    return _While(Response(scale=factor))


def hold(action: Sequence[float] | np.ndarray | None = None) -> Reaction:
    """Return a reaction that repeats one action while the alarm is on.

    An alarm that is there to stay holds for good; `hand_over` is for what should go on.

    Args:
        action: a safe one, (action_size,), environment units; None takes the action 0 clipped into the bounds.
    """
    if action is None:
        return _While(Response(scale=0.0))
    safe = np.array(action, np.float32)
    return _While(Response(policy=lambda observation: safe.copy()))


def hand_over(policy: Policy, *, calm: int = 5) -> Reaction:
    """Return a reaction that lets a fallback act from the alarm on, until the alarm has been off for a while.

    Args:
        policy: acts; it is asked for every environment step of every row that was handed over.
        calm: model steps without an alarm before the plan acts again.

    Raises:
        ValueError: `calm` is below 1.
    """
    if calm < 1:
        raise ValueError(f"calm is {calm!r}; give 1 model step or more")
    return _While(Response(policy=policy), calm=calm)


def ask_for_adaptation(folder: str | Path, task: Task | str, **options: Any) -> EpisodeCollector:
    """Return a reaction that records what happens from the alarm on as data for `wmkit adapt`, and asks to run it.

    It changes nothing about how the robot acts.

    Args:
        folder: of the data; an earlier collection of the same kind is continued.
        task: the environment, or its name.
        **options: further arguments of `EpisodeCollector`.

    Raises:
        UserError: the folder holds other data or is being written to, or a number is out of its range.
    """
    return EpisodeCollector(folder, task, **options)


def by_kind(reactions: Mapping[str, Reaction], default: Reaction | None = None) -> Reaction:
    """Return a reaction that leaves each kind of surprise to a reaction of its own.

    To each of them the alarm is on only while the kind is its own: where the monitor changes its mind, it begins for
    one and is over for the other.

    Args:
        reactions: kind -> reaction; the same one may stand for several.
        default: for all other kinds; None does nothing about them.

    Raises:
        ValueError: a kind is unknown.
    """
    strange = sorted(set(reactions) - set(KINDS))
    if strange:
        raise ValueError(f"unknown kind {strange[0]!r}; known: {', '.join(KINDS)}")
    found = {kind: reactions.get(kind, default) for kind in KINDS}
    distinct: list[Reaction] = []
    for one in found.values():
        if one is not None and one not in distinct:
            distinct.append(one)
    return together(*(_Only(one, frozenset(kind for kind in KINDS if found[kind] == one)) for one in distinct))


def together(*reactions: Reaction) -> Reaction:
    """Return a reaction that asks several: it plans anew if one does, at the lowest scale; the first policy acts."""
    return _Together(reactions)


class _While:
    """Gives one response while the alarm is on and for `calm - 1` model steps after; then plans anew."""

    def __init__(self, response: Response, calm: int = 1) -> None:
        self._response, self._calm = response, calm
        self._last: dict[int, int] = {}

    def __call__(self, surprise: Surprise) -> Response | None:
        if surprise.step == 0:
            self._last.pop(surprise.row, None)
        if surprise.alarm:
            self._last[surprise.row] = surprise.step
        last = self._last.get(surprise.row)
        if last is None:
            return None
        if surprise.step - last < self._calm:
            return self._response
        del self._last[surprise.row]
        return Response(replan=True)


class _Only:
    """Shows a reaction the alarms of some kinds alone."""

    def __init__(self, reaction: Reaction, kinds: frozenset[str]) -> None:
        self._reaction, self._kinds = reaction, kinds
        self._on: set[int] = set()
        self.record = getattr(reaction, "record", None)

    def __call__(self, surprise: Surprise) -> Response | None:
        row = surprise.row
        alarm = surprise.alarm and surprise.kind in self._kinds
        began = alarm and (surprise.began or row not in self._on)
        (self._on.add if alarm else self._on.discard)(row)
        if not alarm and surprise.alarm:
            return self._reaction(replace(surprise, alarm=False, began=False, kind=None, text=""))
        return self._reaction(replace(surprise, began=True) if began != surprise.began else surprise)


class _Together:
    """Asks several reactions and joins what they say."""

    def __init__(self, reactions: Sequence[Reaction]) -> None:
        self._reactions = tuple(reactions)
        recorders = (getattr(reaction, "record", None) for reaction in reactions)
        self._recorders = tuple(record for record in recorders if record is not None)

    def __call__(self, surprise: Surprise) -> Response | None:
        said = [response for reaction in self._reactions if (response := reaction(surprise)) is not None]
        if len(said) < 2:
            return said[0] if said else None
        policy = next((response.policy for response in said if response.policy is not None), None)
        return Response(any(one.replan for one in said), min(one.scale for one in said), policy)

    def record(self, observation: Mapping[str, np.ndarray], actions: np.ndarray) -> None:
        """Pass each environment step on to those that want it."""
        for record in self._recorders:
            record(observation, actions)
