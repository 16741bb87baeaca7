"""Driving an environment: what is counted, when observations arrive, and what the controller is told."""

from dataclasses import replace

import numpy as np
import pytest

from wmkit.control import Counters, ManualClock
from wmkit.data.recording import load_task
from wmkit.evaluation import draw_manifest
from wmkit.evaluation.protocols import PROTOCOLS
from wmkit.evaluation.real_time import drive

TASK = load_task("two-room")


class Recorder:
    """Stands in for a controller: does what it is told and writes down what it gets."""

    rate_hz = 10.0

    def __init__(self, act):
        self.act, self.count, self.events = act, 0, []

    def reset(self):
        self.events.append(("reset", self.count))

    def set_goal(self, observation, steps=None):
        self.goal = observation["state"]
        self.events.append(("goal", steps))

    def step(self, observation, stamp):
        self.events.append(("step", stamp))
        self.count += 1
        return self.act(self, None if observation is None else observation["state"])


def manifest(count=3, budget=20):
    drawn = draw_manifest(TASK, PROTOCOLS["full"], count, 0)
    return replace(drawn, pairs=tuple(replace(pair, budget=budget) for pair in drawn.pairs))


def still(recorder, observation):
    return np.zeros(2, np.float32)


def run(act, pairs=None, clock=None, **options):
    recorder = Recorder(act)
    clock = clock or ManualClock()
    return recorder, drive(TASK, pairs or manifest(), recorder, clock, observes="state", **options)


def test_each_pair_once_and_every_step_counts():
    recorder, found = run(still)
    assert found.first_success.tolist() == [-1, -1, -1]
    assert found.pairs.tolist() == [0, 1, 2]
    assert (found.unsafe, found.skipped) == (0, 0)
    assert [event for event in recorder.events if event[0] != "step"] == [
        ("reset", 0), ("goal", None), ("reset", 20), ("goal", None), ("reset", 40), ("goal", None),
    ]  # fmt: skip
    assert [stamp for name, stamp in recorder.events if name == "step"] == list(range(60))


def test_delayed_observations_come_late_with_their_stamp():
    recorder, _ = run(still, manifest(1, budget=8), delay=3)
    assert [stamp for name, stamp in recorder.events if name == "step"] == [0, None, None, None, 1, 2, 3, 4]


def test_success_ends_the_episode():
    pair = manifest(1).pairs[0]
    near = np.array(pair.start) + 0.2 * (np.array(pair.goal) - np.array(pair.start)) / np.linalg.norm(
        np.array(pair.goal) - np.array(pair.start)
    )
    pairs = replace(manifest(1), pairs=(replace(pair, goal=near.tolist()),))

    def towards(recorder, observation):
        return np.clip(10 * (recorder.goal - observation)[:2], -1, 1).astype(np.float32)

    recorder, found = run(towards, pairs)
    assert 1 <= found.first_success[0] < 20
    assert recorder.count == found.first_success[0]


@pytest.mark.parametrize(("action", "unsafe"), [([1, 1], 0), ([1.001, 0], 20), ([0, -3], 20)])
def test_unsafe_actions_are_counted(action, unsafe):
    _, found = run(lambda *_: np.float32(action), manifest(1))
    assert found.unsafe == unsafe


def test_time_is_up_in_the_middle_of_an_episode():
    _, found = run(still, clock=ManualClock(), seconds=5.0)
    assert found.pairs.tolist() == [0, 1]


def test_counters_know_no_division_by_nothing():
    names = Counters.__dataclass_fields__
    counters = Counters(**{name: {} if name == "refused" else 0 for name in names})
    assert counters.miss_rate == 0
