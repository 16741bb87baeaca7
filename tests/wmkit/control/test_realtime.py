"""The real-time controller in lock step: a manual clock, plans that take exactly as long as told."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import wmkit
from wmkit.contracts import Plan
from wmkit.control import Controller, LockstepWorker, ManualClock, RealTimeController, advance
from wmkit.linear_model import LinearModel
from wmkit.planners import GoalObjective

RATE, REPEAT, HORIZON = 10.0, 3, 4


class Deadbeat:
    """Drives an integrator to its goal as fast as the bound allows, from where the model says it is; keeps calls."""

    def __init__(self, repeat=REPEAT, bound=0.5):
        self.model = LinearModel(torch.eye(1), torch.eye(1), action_repeat=repeat, history=3, bound=bound)
        self.horizon = HORIZON
        self.calls = []
        self.bound = bound

    def plan(self, context, objective, warm_start=None, budget=None, *, horizon=None, generator=None):
        self.calls.append((context, warm_start, horizon))
        position, actions = advance(self.model, context).latents[:, -1], []
        for _ in range(horizon * self.model.spec.action_repeat):
            actions.append((context.goal - position).clamp(-self.bound, self.bound))
            position = position + actions[-1]
        blocks = torch.cat(actions, dim=1).reshape(1, horizon, -1)
        return Plan(blocks, torch.zeros(1), torch.zeros(1, horizon, 1), 1, 0.0, "iterations")


def state(value):
    return {"state": np.float32([value])}


class Loop:
    """An integrator, a controller and a clock in lock step."""

    def __init__(self, planner=None, seconds=0.04, *, goal=2.3, steps=None, options=None, **settings):
        self.clock, self.planner = ManualClock(), planner or Deadbeat()
        self.position, self.goal, self.sent, self.positions = 0.0, goal, [], []
        self.control = RealTimeController(
            Controller(self.planner, GoalObjective, **(options or {})),
            rate_hz=RATE,
            worker=lambda desk: LockstepWorker(self.noting(desk), self.clock, seconds),
            clock=self.clock,
            **{"safe_action": "zero", "warm_up": 2, "max_age": 2.0, "replan_every": 1} | settings,
        )
        self.control.set_goal(state(goal), steps)
        self.control.start()
        self.planner.calls.clear()
        self.requests.clear()

    def noting(self, desk):
        def answer(request):
            self.requests.append(request)
            return desk(request)

        self.requests = []
        return answer

    def run(self, ticks, delay=0):
        for _ in range(ticks):
            seen = max(len(self.positions) - delay, 0)
            self.positions.append(self.position)
            fresh = len(self.positions) > delay
            action = self.control.step(*((state(self.positions[seen]), seen) if fresh else (None,)))
            self.sent.append(action.item())
            self.position += action.item()
            self.clock.sleep(1 / RATE)
        return self


def test_without_delay_it_does_what_the_controller_does():
    loop = Loop(seconds=0.0, replan_every=None).run(12)
    planner = Deadbeat()
    controller, position, sent = Controller(planner, GoalObjective), 0.0, []
    controller.set_goal(state(2.3))
    for _ in range(12):
        sent.append(controller.act(state(position)).item())
        position += sent[-1]
    assert loop.sent == pytest.approx(sent)
    assert len(loop.planner.calls) == len(planner.calls)
    for mine, theirs in zip(loop.planner.calls, planner.calls, strict=True):
        torch.testing.assert_close(mine[0].latents, theirs[0].latents)
        torch.testing.assert_close(mine[0].actions, theirs[0].actions)
        assert (mine[1] is None) == (theirs[1] is None)
        assert (mine[0].last_action is None) == (theirs[0].last_action is None)
    counters = loop.control.counters()
    assert (counters.late, counters.empty, counters.waiting, counters.plans) == (0, 0, 0, 4)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.001, 0.55), st.integers(0, 6), st.integers(1, 4), st.floats(-3, 3))
def test_with_an_exact_model_delay_costs_no_error(seconds, delay, repeat, goal):
    """Whatever the delays, the integrator goes straight to the goal: no overshoot, and no error once it is there."""
    loop = Loop(Deadbeat(repeat), seconds, goal=goal).run(40, delay)
    errors = np.array(loop.positions) - goal
    assert np.abs(errors[-15:]).max() < 1e-5
    assert (np.sign(np.round(errors, 4)) * np.sign(-goal) >= 0).all()
    counters = loop.control.counters()
    assert (counters.late, counters.lost, counters.repaired, counters.failures) == (0, 0, 0, 0)


def test_the_naive_controller_overshoots_where_the_aware_one_does_not():
    aware, naive = (Loop(delay_aware=aware).run(40, delay=3) for aware in (True, False))
    assert max(aware.positions) <= 2.3 + 1e-5
    assert max(naive.positions) > 2.3 + 0.4


def test_actions_in_flight_are_what_then_happens():
    """What the planner was told is pending equals what was sent in between, safe actions and older plans included."""
    loop = Loop(seconds=0.25).run(40, delay=2)
    told = [request for request in loop.requests if request.start <= len(loop.sent)]
    assert len(told) > 8
    for request, (context, _, _) in zip(told, loop.planner.calls, strict=False):
        first, seen = request.observations[0][0], request.observations[-1][0]
        assert request.actions[:, 0].tolist() == pytest.approx(loop.sent[first : request.start], abs=1e-6)
        assert context.pending.flatten().tolist() == pytest.approx(loop.sent[seen : request.start], abs=1e-6)
        assert context.latents.flatten().tolist() == pytest.approx(loop.positions[first : seen + 1 : REPEAT], abs=1e-6)
        assert (None if context.last_action is None else context.last_action.item()) == (
            pytest.approx(loop.sent[seen - 1]) if seen else None
        )


def test_history_is_one_model_step_apart():
    loop = Loop(seconds=0.0, goal=9.0).run(10)
    context = loop.planner.calls[-1][0]
    assert context.latents.flatten().tolist() == pytest.approx([loop.positions[k] for k in (3, 6, 9)])
    assert context.actions.flatten().tolist() == pytest.approx(loop.sent[3:9])


def test_a_plan_replaces_the_buffer_from_its_start_and_the_warm_start_is_the_rest_of_the_last():
    loop = Loop(seconds=0.0, goal=1.0, replan_every=2).run(4)
    (_, none, _), (_, warm, _) = loop.planner.calls
    assert none is None
    assert warm.flatten().tolist()[:3] == [0, 0, 0]
    assert warm.shape == (1, HORIZON, REPEAT)
    assert loop.sent == [0.5, 0.5, 0, 0]


def test_the_horizon_shrinks_towards_the_steps():
    loop = Loop(seconds=0.0, steps=8, replan_every=REPEAT, options={"min_horizon": 2}).run(13)
    assert [horizon for _, _, horizon in loop.planner.calls] == [3, 2, 2, 2, 2]
    loop.control.set_goal(state(0.0), steps=100)
    loop.run(3)
    assert loop.planner.calls[-1][2] == HORIZON


def test_the_steps_count_from_the_first_planned_action():
    loop = Loop(seconds=0.04, steps=9, replan_every=REPEAT).run(10)
    assert loop.control.counters().waiting == REPEAT
    asked = [(request.start, request.steps, request.elapsed) for request in loop.requests[:3]]
    assert asked == [(3, 9, 0), (6, 9, 3), (9, 9, 6)]


@pytest.mark.parametrize(("steps", "horizons"), [(None, [2, 1, 2, 1, 2]), (9, [3, 2, 1, 2, 1])])
def test_steps_begin_anew_as_with_a_controller(steps, horizons):
    loop = Loop(seconds=0.0, steps=steps, replan_every=REPEAT, options={"renew": 2}).run(13)
    assert [horizon for _, _, horizon in loop.planner.calls] == horizons


def test_a_slow_plan_is_late_and_only_its_remainder_is_used():
    pace = iter([0.04] * 3 + [0.95] + [0.04] * 99)
    loop = Loop(seconds=lambda: next(pace), goal=20.0, warm_up=2, replan_every=REPEAT).run(30)
    counters = loop.control.counters()
    assert counters.late == 1
    assert counters.lost > 0
    assert counters.empty == sum(action == 0 for action in loop.sent) - counters.waiting
    assert counters.miss_rate == (counters.empty + 1) / (30 - counters.waiting)
    assert set(loop.sent) == {0.0, 0.5}


def test_a_hang_that_is_over_does_not_delay_later_plans():
    pace = iter([0.04] * 4 + [3.0] + [0.04] * 99)
    loop = Loop(seconds=lambda: next(pace), goal=99.0).run(60)
    assert loop.control.counters().useless == 1
    request = loop.requests[-1]
    assert request.start - request.observations[-1][0] == REPEAT
    assert loop.sent[-1] == 0.5


def test_a_plan_that_never_comes_ends_in_the_safe_action():
    pace = iter([0.04] * 3 + [1e9] * 9)
    loop = Loop(seconds=lambda: next(pace), goal=50.0, safe_action=np.array([-0.25])).run(30)
    first = next(number for number, action in enumerate(loop.sent) if action > 0)
    planned = HORIZON * REPEAT
    assert loop.sent == [-0.25] * first + [0.5] * planned + [-0.25] * (30 - first - planned)
    assert loop.control.counters().empty == 30 - first - planned
    assert loop.control.status().state == "hanging"
    assert "no plan for" in loop.control.status().error


def test_reset_forgets_the_episode_and_drops_the_plan_on_its_way():
    loop = Loop(seconds=0.15).run(10)
    loop.control.reset()
    count = loop.control.count
    action = loop.control.step(state(0.0), count)
    assert action.item() == 0
    loop.clock.sleep(1.0)
    loop.control.step(None)
    counters = loop.control.counters()
    assert counters.superseded == 1
    assert loop.control.observe(state(0.0), count - 1) == "out of order"
    loop.clock.sleep(1.0)
    loop.control.act()
    context = loop.planner.calls[-1][0]
    assert context.latents.shape[1] == 1
    assert context.last_action is None


def test_a_new_goal_replaces_the_plan_on_its_way_but_not_the_one_that_runs():
    loop = Loop(seconds=0.25, goal=50.0).run(10)
    loop.control.set_goal(state(-50.0))
    loop.run(1)
    assert loop.sent[-1] == 0.5
    loop.run(15)
    assert loop.sent[-1] == -0.5
    assert loop.control.counters().superseded == 1


def test_refusals_are_counted_and_the_loop_goes_on():
    loop = Loop().run(8)
    control = loop.control
    assert control.observe(state(0.0), 7) == "repeated"
    assert control.observe(state(0.0), 2) == "out of order"
    assert control.observe({"state": np.zeros(5, np.float32)}, 8) == "invalid"
    assert "shape (5,)" in control.status().refusal
    assert control.error is None
    assert control.observe(state(float("nan")), 8) == "invalid"
    assert control.counters().refused == {"repeated": 1, "out of order": 1, "invalid": 2}
    loop.run(20)
    assert loop.position == pytest.approx(2.3, abs=1e-5)


def test_observations_that_grow_old_in_the_queue_are_refused():
    pace = iter([0.04] * 3 + [1.5] + [0.04] * 99)
    loop = Loop(seconds=lambda: next(pace), goal=30.0, max_age=0.4).run(5)
    for _ in range(16):
        loop.control.act()
        loop.clock.sleep(1 / RATE)
    assert loop.control.counters().refused == {"stale": 1}


class Broken(Deadbeat):
    """Out of bounds and not finite, in turns; a planner must not, and the last check must not let it."""

    def plan(self, *args, **kwargs):
        plan = super().plan(*args, **kwargs)
        plan.actions[0, :, 0] = 7.0
        plan.actions[0, :, 1] = float("nan")
        return plan


def test_no_unsafe_action_is_handed_out():
    loop = Loop(Broken(), goal=9.0).run(20)
    assert np.isfinite(loop.sent).all()
    assert np.abs(loop.sent).max() <= 0.5
    assert loop.control.counters().repaired > 5


class Failing(Deadbeat):
    """Fails when the robot is between 1 and 2."""

    def plan(self, context, *args, **kwargs):
        if 1 < context.latents[0, -1].item() < 2:
            raise ValueError("no candidate with a finite cost")
        return super().plan(context, *args, **kwargs)


def test_errors_of_the_planner_are_told_and_survived():
    loop = Loop(Failing(bound=0.2), goal=3.0)
    states = [loop.run(1).control.status().state for _ in range(40)]
    counters = loop.control.counters()
    assert counters.failures > 0
    assert "failing" in states
    assert states[0] == "running"
    assert "no candidate" in loop.control.error
    assert np.isfinite(loop.sent).all()


def test_run_paces_reads_and_sends():
    loop = Loop()
    sent, times = [], []

    def read():
        times.append(loop.clock.now())
        return state(loop.position), loop.control.count

    def send(action):
        sent.append(action.item())
        loop.position += action.item()
        loop.clock.sleep(0.03)

    loop.control.run(read, send, seconds=2.0)
    assert len(sent) == 20
    assert np.diff(times) == pytest.approx(np.full(19, 0.1))
    assert loop.position == pytest.approx(2.3, abs=1e-5)
    loop.control.run(lambda: None, sent.append, seconds=0.5)
    assert len(sent) == 25


def test_stop_leaves_the_safe_action():
    loop = Loop(goal=50.0, safe_action="hold").run(9)
    assert loop.control.stop()
    assert loop.control.status().state == "stopped"
    assert loop.control.step(state(0.0)).item() == 0.5
    assert loop.control.counters().empty == 1
    loop.control.start()
    assert loop.control.counters().ticks == 0
    assert loop.control.status().state == "running"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate_hz": 0}, "rate_hz"),
        ({"max_age": -1.0}, "max_age"),
        ({"patience": float("nan")}, "patience"),
        ({"replan_every": 0}, "replan_every"),
        ({"warm_up": -1}, "warm_up"),
        ({"worker": "gpu"}, "worker"),
        ({"worker": "process"}, "picklable"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        RealTimeController(Controller(Deadbeat(), GoalObjective), **{"rate_hz": 10} | change)


def test_order_of_calls_is_named():
    control = RealTimeController(Controller(Deadbeat(), GoalObjective), rate_hz=10)
    assert wmkit.RealTimeController is RealTimeController
    for call in (control.act, lambda: control.observe(state(0.0))):
        with pytest.raises(RuntimeError, match="start"):
            call()
    with pytest.raises(ValueError, match="steps"):
        control.set_goal(state(0.0), steps=0)


def test_a_controller_that_cannot_plan_does_not_start():
    loop = Loop(Failing())
    loop.control.stop()
    loop.control.set_goal(state(1.5))
    with pytest.raises(RuntimeError, match="first plan failed: ValueError: no candidate"):
        loop.control.start()
    assert loop.control.status().state == "stopped"
    assert loop.control.act().item() == 0
