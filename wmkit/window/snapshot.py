"""What the simulation tells the window, and what the window asks of the simulation."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Command", "Future", "Snapshot"]

Future = tuple[tuple[np.ndarray, ...], ...]
"""What one candidate leads to: for each model step, outlines (M, 2) in coordinates of the picture, [0, 1]."""


@dataclass(frozen=True)
class Command:
    """One thing that a person did.

    Attributes:
        name: "drag", "release", "spin", "teleport", "goal", "recolour", "weaken", "planner", "protocol", "reaction",
            "pause", "step" or "reset".
        handle: what is dragged, one of the playground's handles.
        x: right, in widths of the picture.
        y: down, in heights of the picture.
        angle: radians, clockwise in the picture, of a spin.
    """

    name: str
    handle: str = ""
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """One control step as the window shows it; everything in it is its own and is never changed.

    Attributes:
        tick: control steps since the start.
        picture: (S, S, 3) uint8, the scene as it is.
        goal_picture: (S', S', 3) uint8, what is to be reached.
        goal_outline: outlines (M, 2) of the goal in the scene, in [0, 1].
        state: (state size,) float64, for what the mouse grabs.
        futures: of the best candidates, best first; empty where the model cannot be read out.
        costs: of the last plans, oldest first.
        scores: calibrated surprise of the last model steps, oldest first, NaN where there was none; empty without a
            monitor. The threshold is 1.
        alarms: for each of `scores` whether the alarm was on.
        kind: what kind of surprise, None without an alarm.
        text: one line on the surprise or on the last thing that happened.
        decision_ms: the last decision's time in milliseconds.
        decision_p99_ms: 99th percentile of the decisions so far.
        control_hz: control steps a second over the last two seconds.
        planner: name of the planner.
        protocol: name of the protocol.
        reaction: name of the reaction to surprise.
        changes: names of the perturbations that are on.
        success: whether the goal is reached now.
        reached: goals reached so far.
        episodes: goals set so far.
        paused: whether time stands still.
        hint: what is missing and how to get it, e.g. a calibration; empty where nothing is.
    """

    tick: int
    picture: np.ndarray
    goal_picture: np.ndarray
    goal_outline: tuple[np.ndarray, ...]
    state: np.ndarray
    futures: tuple[Future, ...] = ()
    costs: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    alarms: tuple[bool, ...] = ()
    kind: str | None = None
    text: str = ""
    decision_ms: float = 0.0
    decision_p99_ms: float = 0.0
    control_hz: float = 0.0
    planner: str = ""
    protocol: str = ""
    reaction: str = ""
    changes: tuple[str, ...] = ()
    success: bool = False
    reached: int = 0
    episodes: int = 0
    paused: bool = False
    hint: str = ""
