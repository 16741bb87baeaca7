"""Faults while a real-time controller runs, in a thread and in a process: the safe action, an error, and no hang."""

import os
import threading
import time

import numpy as np
import pytest
import torch

from wmkit.control import Controller, RealTimeController
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, GoalObjective

RATE = 100.0
GOOD, RAISES, NOT_FINITE, HANGS, DIES = 0.0, 10.0, 20.0, 30.0, 40.0
HANG_SECONDS, SAFE = 2.0, 0.125


class Treacherous(LinearModel):
    """Does what the observation says."""

    def __init__(self, home):
        super().__init__(torch.eye(1), torch.eye(1), action_repeat=2, bound=1.0)
        self._home = home

    def encode(self, observations):
        value = float(np.asarray(observations["state"]).ravel()[0])
        if value == RAISES:
            raise RuntimeError("the model cannot")
        if value == HANGS:
            time.sleep(HANG_SECONDS)
        if value == DIES:
            if os.getpid() == self._home:
                raise SystemExit
            os._exit(3)
        latents = super().encode(observations)
        return latents * float("nan") if value == NOT_FINITE else latents


def make_controller(home):
    planner = CEM(Treacherous(home), horizon=3, samples=8, iterations=1, elites=2)
    return Controller(planner, GoalObjective)


class Factory:
    """Picklable; knows in which process it was made."""

    def __init__(self):
        self._home = os.getpid()

    def __call__(self):
        return make_controller(self._home)


def state(value):
    return {"state": np.float32([value])}


@pytest.fixture(scope="module", params=["thread", "process"])
def control(request):
    control = RealTimeController(
        Factory(), rate_hz=RATE, worker=request.param, safe_action=np.array([SAFE]), max_age=0.2, patience=0.25
    )
    if request.param == "process":
        control._patience = 1.0
    control.set_goal(state(1.0))
    control.start()
    yield control
    began = time.monotonic()
    control.stop(2.0)
    assert time.monotonic() - began < 3.0


def drive(control, seconds, value):
    """Run the loop at its rate; return the actions and the longest call."""
    actions, longest = [], 0.0
    for _ in range(round(seconds * RATE)):
        began = time.monotonic()
        actions.append(control.step(state(value)).item())
        longest = max(longest, time.monotonic() - began)
        time.sleep(1 / RATE)
    return actions, longest


def until(control, happened, value=GOOD, seconds=40.0):
    """Run the loop until something happened, with the same observation; fail if it never does."""
    end, actions = time.monotonic() + seconds, []
    while time.monotonic() < end:
        actions.append(control.step(state(value)).item())
        if happened():
            return actions
        time.sleep(1 / RATE)
    raise AssertionError(f"it did not happen; {control.status()} {control.counters()}")


def recovers(control):
    """Assert that plans arrive again and end the safe actions."""
    plans = control.counters().plans
    until(control, lambda: control.counters().plans > plans + 3 and control.status().state == "running")
    until(control, lambda: control.status().left > 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("value", "message"),
    [(RAISES, "the model cannot"), (NOT_FINITE, "finite"), (DIES, "died")],
)
def test_planner_faults_end_in_the_safe_action_and_an_error(control, value, message):
    recovers(control)
    failures = control.counters().failures
    actions = until(control, lambda: control.counters().failures > failures, value)
    assert message in control.error
    assert np.isfinite(actions).all()
    assert np.abs(actions).max() <= 1.0
    if value != DIES:
        until(control, lambda: control.status().left == 0, value)
        rest, longest = drive(control, 0.1, value)
        assert set(rest) == {SAFE}
        assert longest < 0.5
        assert control.status().state == "failing"
    recovers(control)


def test_a_hanging_model_does_not_hang_the_loop(control):
    recovers(control)
    actions = until(control, lambda: (control.status().planning or 0.0) > 0.2, HANGS)
    began, states = time.monotonic(), set()
    while time.monotonic() - began < HANG_SECONDS - 0.5:
        actions, longest = drive(control, 0.1, GOOD)
        states.add(control.status().state)
        assert longest < 0.5
    assert "hanging" in states
    assert actions[-1] == SAFE
    assert "no plan for" in control.status().error
    recovers(control)


def test_an_observation_of_the_wrong_shape_is_refused(control):
    recovers(control)
    refused = control.counters().refused.get("invalid", 0)
    for _ in range(40):
        action = control.step({"state": np.zeros((3, 2), np.float32)})
        time.sleep(1 / RATE)
    assert action.item() == SAFE
    assert "shape (3, 2)" in control.status().refusal
    assert control.counters().refused["invalid"] == refused + 40
    recovers(control)


def test_stop_does_not_wait_for_a_model_that_hangs():
    control = RealTimeController(Factory(), rate_hz=RATE, safe_action="zero", warm_up=1)
    control.set_goal(state(1.0))
    control.start()
    control.observe(state(HANGS))
    time.sleep(0.3)
    began = time.monotonic()
    assert not control.stop(0.2)
    assert time.monotonic() - began < 1.0
    assert control.act().item() == 0
    with pytest.raises(RuntimeError, match="still hangs"):
        control.start()
    time.sleep(HANG_SECONDS)
    assert control.stop(0.5)
    control.start()
    control.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_keeps_dying_is_declared_dead():
    control = RealTimeController(Factory(), rate_hz=RATE, safe_action="zero", warm_up=1, max_restarts=2)
    others = set(threading.enumerate())
    control.set_goal(state(1.0))
    with control:
        for _ in range(200):
            action = control.step(state(DIES))
            time.sleep(0.002)
        assert control.counters().restarts == 2
        assert control.status().state == "dead"
        assert "2 restarts" in control.error
        assert action.item() == 0
    assert set(threading.enumerate()) <= others


def test_a_factory_that_fails_is_told():
    control = RealTimeController(missing, rate_hz=RATE, worker="process")
    with pytest.raises(RuntimeError, match="factory failed: FileNotFoundError: no such model"):
        control.start()
    assert control.stop()


def missing():
    raise FileNotFoundError("no such model")
