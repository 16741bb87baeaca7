"""The study's runs: what is paired, when things change, and what the monitor is shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wmkit.contracts import ModelSpec, ObservationSpec
from wmkit.data.recording import load_task
from wmkit.envs.perturbations import PerturbedVectorEnv
from wmkit.evaluation.manifest import Manifest, Pair
from wmkit.evaluation.violation import Change, watch
from wmkit.evaluation.violation_episodes import NoisyExpert, PairStarts, ResetStarts, draw_moments
from wmkit.monitor.report import KINDS, Surprise

MOMENTS = np.array([3, 5, 8, 11, 6])


class StateModel:
    """Its latent is the state itself."""

    def __init__(self, task, repeat=5):
        low, high = tuple(map(float, task.action_low)), tuple(map(float, task.action_high))
        size = len(task.state)
        observed = {"state": ObservationSpec((size,), "float64", -np.inf, np.inf)}
        self.spec = ModelSpec(observed, low, high, repeat, 1, size, repeat * task.seconds_per_step)

    def encode(self, observations):
        return torch.as_tensor(np.asarray(observations["state"], np.float64))


class SumMonitor:
    """The score is the latents' sum; keeps what it is shown."""

    def __init__(self):
        self.blocks, self.resets, self.seen = [], 0, []

    def reset(self, mask=None):
        self.resets += 1

    def update(self, latents, blocks, observation=None):
        self.blocks.append(blocks)
        self.seen.append(observation)
        sums = latents.sum(dim=1).tolist()
        return [
            Surprise(row, 0, total, total > 1, False, KINDS[1] if total > 1 else None, signals={"sum": total})
            for row, total in enumerate(sums)
        ]


@pytest.fixture(scope="module")
def task():
    return load_task("two-room")


@pytest.fixture(scope="module")
def starts():
    drawn = np.random.default_rng(0).uniform(0.2, 0.4, (5, 2)).tolist()
    scene = {"door.position": 0.5}
    pairs = tuple(Pair(start, [0.3, 0.8], 20 if row else 12, variation=scene) for row, start in enumerate(drawn))
    return PairStarts(Manifest("two-room", "short", "distance", 0, "reset", "", "", pairs))


def _wrap(task):
    return lambda env, seed: PerturbedVectorEnv(env, task, seed)


def _run(task, starts, change, monitor=None, batch=100, agent=None, **more):
    agent = agent or NoisyExpert(task, "state", seed=3, noise=0.2)
    monitor = monitor or SumMonitor()
    return watch(task, starts, agent, StateModel(task), monitor, change, wrap=_wrap(task), batch=batch, **more)


def test_conditions_are_the_same_until_the_change_and_differ_at_the_next_look(task, starts):
    nominal = _run(task, starts, Change(MOMENTS))
    changed = _run(task, starts, Change(MOMENTS, "teleport", 1.0))
    np.testing.assert_array_equal(nominal.steps, [0, 5, 10, 15, 20])
    for row, moment in enumerate(MOMENTS):
        before = nominal.steps <= moment
        np.testing.assert_array_equal(nominal.score[row, before], changed.score[row, before])
        first = int((~before).argmax())
        if nominal.steps[first] <= min(nominal.ends[row], changed.ends[row]):
            assert nominal.score[row, first] != changed.score[row, first]


def test_batches_change_nothing_nominal(task, starts):
    whole, split = (_run(task, starts, Change(MOMENTS), batch=batch) for batch in (100, 2))
    np.testing.assert_array_equal(whole.score, split.score)
    np.testing.assert_array_equal(whole.success, split.success)


def test_what_lies_beyond_an_episodes_end_is_unknown(task, starts):
    trace = _run(task, starts, Change(MOMENTS))
    assert trace.ends[0] == 12
    assert (trace.ends <= starts.budgets).all()
    reached = trace.ends < starts.budgets
    assert reached.any()
    assert trace.success[reached].all()
    late = trace.steps[None] > trace.ends[:, None]
    assert late[0].tolist() == [False, False, False, True, True]
    for values in (trace.score, trace.signals["sum"]):
        np.testing.assert_array_equal(np.isnan(values), late)
    assert not trace.alarm[late].any()
    assert (trace.kind[late] == -1).all()
    half = trace.select(np.arange(5) < 2)
    np.testing.assert_array_equal(half.score, trace.score[:2])
    np.testing.assert_array_equal(half.ends, trace.ends[:2])


def test_an_episode_that_leaves_the_tasks_domain_is_over_and_no_success(task, starts):
    trace = _run(replace(task, valid=lambda states: states[:, 1] < 0.5), starts, Change(MOMENTS))
    whole = _run(task, starts, Change(MOMENTS))
    assert whole.success[1:].any()
    assert not trace.success.any()
    assert (trace.ends[1:] < whole.ends[1:]).all()
    np.testing.assert_array_equal(np.isnan(trace.score), trace.steps[None] > trace.ends[:, None])


def test_alarms_and_kinds_are_kept(task, starts):
    trace = _run(task, starts, Change(MOMENTS))
    known = ~np.isnan(trace.score)
    np.testing.assert_array_equal(trace.alarm[known], trace.score[known] > 1)
    assert trace.alarm[known].any()
    np.testing.assert_array_equal(trace.kind, np.where(trace.alarm, 1, -1))


def test_the_monitor_is_shown_the_actions_asked_for_and_what_was_seen(task, starts):
    class Constant:
        name, observes = "constant", "state"

        def reset(self, start):
            self.count = 0

        def act(self, observations, states):
            self.count += 1
            return np.full((len(states), 2), self.count / 100, np.float32)

    monitor = SumMonitor()
    _run(task, starts, Change(np.zeros(5, int), "weak-actuator", 1.0), monitor, agent=Constant())
    assert monitor.blocks[0] is None
    assert len(monitor.blocks) == 5
    wanted = np.repeat(np.arange(6, 11) / 100, 2)
    np.testing.assert_allclose(monitor.blocks[2], np.tile(wanted, (5, 1)), rtol=1e-6)
    assert set(monitor.seen[0]) == {"state"}
    np.testing.assert_array_equal(monitor.seen[1]["state"], monitor.seen[4]["state"])


def test_each_batch_begins_afresh(task, starts):
    monitor = SumMonitor()
    _run(task, starts, Change(MOMENTS), monitor, batch=2)
    assert monitor.resets == 3


def test_frames_are_of_the_first_episodes_at_every_step(task, starts):
    agent = NoisyExpert(task, "pixels_state", seed=3)
    trace = _run(task, starts, Change(MOMENTS, "lighting", 1.0), batch=2, agent=agent, frames=3, image_size=32)
    assert trace.frames.shape == (3, 21, 32, 32, 3)
    brightness = trace.frames.astype(float).mean(axis=(2, 3, 4))
    for row in range(3):
        assert brightness[row, MOMENTS[row]] > 3 * brightness[row, MOMENTS[row] + 1]


def test_a_change_needs_what_changes(task, starts):
    with pytest.raises(ValueError, match="needs wrap"):
        watch(task, starts, NoisyExpert(task, "state"), StateModel(task), SumMonitor(), Change(MOMENTS, "teleport"))


def test_tasks_without_goals_start_from_resets():
    task = load_task("walker")
    starts = ResetStarts(3, 6, seed=5)
    agent = NoisyExpert(task, "state", 0, 0.1, (next(iter(task.rewards)), 0.5))
    change = Change(np.array([1, 2, 3]), "weak-actuator", 0.5)
    model = StateModel(task, repeat=2)
    together, alone = (
        watch(task, starts, agent, model, SumMonitor(), change, wrap=_wrap(task), batch=batch) for batch in (3, 1)
    )
    assert together.success is None
    assert together.frames is None
    assert together.score.shape == (3, 4)
    np.testing.assert_allclose(together.score, alone.score, rtol=1e-5)


def test_moments_lie_between_the_shares_and_depend_on_the_place_alone():
    budgets = np.full(400, 50)
    moments = draw_moments(budgets, seed=1)
    assert moments.min() == 5
    assert moments.max() == 20
    assert len(np.unique(moments % 5)) == 5
    np.testing.assert_array_equal(draw_moments(budgets[:7], seed=1), moments[:7])
    assert (draw_moments(budgets, seed=2) != moments).any()


@pytest.mark.parametrize("shares", [(-0.1, 0.4), (0.5, 0.4), (0.1, 1.0)])
def test_moments_out_of_range(shares):
    with pytest.raises(ValueError, match="give 0 <= first <= last < 1"):
        draw_moments(np.array([50]), *shares)
