"""What a monitor reports of one robot, and what may be done about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["KINDS", "Policy", "Reaction", "Response", "Surprise"]

KINDS = ("looks", "state", "dynamics", "sensor", "unknown")
"""What can have changed: how the scene looks, where things are at a stroke, how they answer to actions, what arrives
of the observation; or nothing of which there is enough evidence."""

Policy = Callable[[Mapping[str, Any]], np.ndarray]
"""One observation by key (...) -> one environment action (action_size,), environment units."""


@dataclass(frozen=True)
class Surprise:
    """One robot at the start of one model step.

    Attributes:
        row: of B.
        step: model steps since the row's reset, 0 for the first observation.
        score: how surprising, on the calibrated scale: the alarm rises above 1. NaN in the first steps after a reset.
        alarm: whether the alarm is on.
        began: whether it rose at this step.
        kind: one of `KINDS` while the alarm is on, else None.
        evidence: what speaks for the kind, name -> number; "gain 0.5" and the like are log-likelihood ratios.
        signals: all signals of this step by name, on the calibrated scale; NaN where one needs more history.
        text: one line for people, empty without an alarm.
        observation: the row's observation by key (...), or None where the monitor was not given any.
    """

    row: int
    step: int
    score: float
    alarm: bool
    began: bool
    kind: str | None = None
    evidence: Mapping[str, float] = field(default_factory=dict)
    signals: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    observation: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Response:
    """What a controller does about a surprise during the model step that begins.

    Attributes:
        replan: plan now from what is seen, without the old plan as a warm start, and with the whole horizon: the steps
            that were left to the goal counted on what is no longer true.
        scale: factor on the planned actions, in [0, 1], about the action 0 clipped into the bounds.
        policy: acts in place of the plan, asked once an environment step; None lets the plan act.
    """

    replan: bool = False
    scale: float = 1.0
    policy: Policy | None = None


Reaction = Callable[[Surprise], Response | None]
"""Called for every row at the start of each of its model steps, alarm or not; None is `Response()`.

A reaction with a method `record(observation, actions)` is also given each environment step's observation by key
(B, ...) and the actions (B, action_size) that go out for it.
"""
