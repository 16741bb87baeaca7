"""`Session`: the thread, its rate, and that the window never waits for it."""

import threading
import time

import pytest

from wmkit.window.session import Session
from wmkit.window.snapshot import Command


def until(condition, seconds=10.0):
    """Wait for something to happen; fail if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def session_of(play_of):
    """Return a function that makes a session; all are stopped in the end."""
    made = []

    def function(*arguments, rate_hz=50.0, **options):
        made.append(Session(play_of(*arguments, **options), rate_hz))
        return made[-1]

    yield function
    for session in made:
        session.stop()


def test_the_rate_is_the_environments_unless_given(session_of):
    assert session_of(rate_hz=None).rate_hz == pytest.approx(20.0)
    assert session_of(rate_hz=10.0).rate_hz == 10.0


def test_ticks_without_a_thread(session_of):
    session = session_of()
    first = session.snapshot()
    session.tick()
    assert (first.tick, session.snapshot().tick) == (0, 1)


def test_time_stands_still_and_goes_on_step_by_step(session_of):
    session = session_of()
    session.post(Command("pause"))
    session.tick()
    assert session.snapshot().paused
    session.tick()
    assert session.snapshot().tick == 0
    session.post(Command("step"))
    session.tick()
    assert (session.snapshot().tick, session.snapshot().paused) == (1, True)
    session.tick()
    assert session.snapshot().tick == 1
    session.post(Command("pause"))
    session.tick()
    assert (session.snapshot().tick, session.snapshot().paused) == (2, False)


def test_it_runs_at_the_rate_and_never_faster(session_of):
    session = session_of()
    begin = time.monotonic()
    session.start()
    until(lambda: session.snapshot().tick >= 20)
    seconds = time.monotonic() - begin
    assert seconds > 18 / session.rate_hz
    assert 0 < session.snapshot().control_hz < 1.2 * session.rate_hz
    assert session.error is None


def test_commands_are_done_at_once_while_time_stands_still(session_of):
    session = session_of(rate_hz=0.2)
    session.start()
    until(lambda: session.snapshot().tick == 1)
    session.post(Command("pause"))
    session.post(Command("drag", "agent", 0.8, 0.4))
    until(lambda: session.snapshot().state[0] == pytest.approx(0.8), 4.0)
    assert session.snapshot().tick == 1


def test_a_flood_of_commands_does_not_stop_time(session_of):
    session = session_of()
    session.start()
    done = threading.Event()

    def flood():
        while not done.is_set():
            session.post(Command("drag", "agent", 0.8, 0.4))
            time.sleep(0.0005)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        until(lambda: session.snapshot().tick >= 5)
    finally:
        done.set()
        thread.join()


class Stuck:
    """Stands for a controller whose decisions take until it is let go, or fail."""

    def __init__(self, controller, error=None):
        self.controller, self.error = controller, error
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self.controller, name)

    def act(self, observation):
        self.begun.set()
        self.let_go.wait(10.0)
        if self.error is not None:
            raise self.error
        return self.controller.act(observation)


def test_the_window_never_waits_for_a_plan(session_of, play_of):
    stuck = Stuck(play_of.controller("one"))
    session = session_of(lambda name: stuck)
    session.start()
    assert stuck.begun.wait(5.0)
    begin = time.monotonic()
    for _ in range(1000):
        assert session.snapshot().tick == 0
        session.post(Command("drag", "agent", 0.8, 0.4))
    assert time.monotonic() - begin < 1.0
    stuck.let_go.set()
    until(lambda: session.snapshot().tick > 0)


def test_an_error_is_kept_and_shown_and_all_can_be_stopped(session_of, play_of):
    stuck = Stuck(play_of.controller("one"), RuntimeError("the model is broken"))
    stuck.let_go.set()
    session = session_of(lambda name: stuck)
    session.start()
    until(lambda: session.error is not None)
    assert str(session.error) == "the model is broken"
    until(lambda: session.snapshot().text == "stopped: the model is broken")
    session.post(Command("reset"))
    begin = time.monotonic()
    session.stop()
    session.stop()
    assert time.monotonic() - begin < 2.0


def test_stopping_does_not_wait_for_the_next_step(session_of):
    session = session_of(rate_hz=0.05)
    session.start()
    until(lambda: session.snapshot().tick == 1)
    begin = time.monotonic()
    session.stop()
    assert time.monotonic() - begin < 5.0
    assert not session._thread.is_alive()
