"""A simulation for the window's tests: snapshots of PushT made by hand, and a script that plays a person."""

from dataclasses import replace

import numpy as np

from wmkit.envs.pusht import render_states
from wmkit.envs.pusht.playground import PushTPlayground
from wmkit.window.snapshot import Snapshot

PLAYGROUND = PushTPlayground()
STATE = np.array([100.0, 400.0, 180.0, 200.0, 0.9, 0, 0, 0, 0, 0])
GOAL = np.array([400.0, 150.0, 330.0, 300.0, np.pi / 4, 0, 0, 0, 0, 0])


def sketch(state):
    angle = np.array([np.sin(state[4]), np.cos(state[4])])
    return tuple(PLAYGROUND.sketch({"agent": state[:2], "block": state[2:4], "angle": angle}))


def future(shift, steps=3):
    """Return what a candidate leads to that moves block and agent by (x, y) px a step."""
    moved = [STATE + k * np.array([*shift, *shift, 0, 0, 0, 0, 0, 0]) for k in range(1, steps + 1)]
    return tuple(sketch(state) for state in moved)


def snapshot(**changes):
    """Return a calm snapshot, with changes."""
    calm = Snapshot(
        tick=0,
        picture=render_states(STATE[None], 512)[0],
        goal_picture=render_states(GOAL[None], 64)[0],
        goal_outline=sketch(GOAL)[:1],
        state=STATE,
        costs=(3.0, 2.0, 1.0),
        scores=(float("nan"), 0.3, 0.5, 0.4),
        alarms=(False,) * 4,
        planner="cem",
        protocol="short",
        reaction="replan",
        episodes=1,
    )
    return replace(calm, **changes)


class FakeSimulation:
    """Shows one snapshot, a tick later and with another rate each frame; each frame it also does what a script says.

    Args:
        script: number of the frame -> what the person does then.
        shown: what is shown.
    """

    def __init__(self, script=None, shown=None):
        self.script, self.shown = script or {}, shown or snapshot()
        self.commands, self.frames = [], 0
        self.started = self.stopped = 0
        self.error = None

    def start(self):
        self.started += 1

    def stop(self):
        self.stopped += 1

    def post(self, command):
        self.commands.append(command)

    def snapshot(self):
        self.frames += 1
        self.script.get(self.frames, lambda: None)()
        return replace(self.shown, tick=self.frames, control_hz=float(self.frames))

    def named(self, name):
        """Return the commands of a name, in order."""
        return [command for command in self.commands if command.name == name]
