"""The controller asks its monitor at each model step and does what the reaction says, row by row."""

import numpy as np
import pytest
import torch

from wmkit.contracts import Plan
from wmkit.control import Controller
from wmkit.linear_model import LinearModel
from wmkit.monitor.report import Response, Surprise
from wmkit.planners import GoalObjective

REPEAT, HORIZON = 2, 3


class Clerk:
    """Plans the numbers 0.00, 0.01, ... and notes the rows, warm starts and horizons it was asked for."""

    def __init__(self):
        self.model = LinearModel(torch.eye(1), torch.eye(1), action_repeat=REPEAT, history=2)
        self.horizon = HORIZON
        self.calls = []

    def plan(self, context, objective, warm_start=None, budget=None, *, horizon=None, generator=None):
        self.calls.append((context.batch, warm_start is not None, horizon))
        actions = torch.arange(horizon * REPEAT).float().view(1, horizon, REPEAT).repeat(context.batch, 1, 1) / 100
        return Plan(actions, torch.zeros(context.batch), torch.zeros(context.batch, horizon, 1), 1, 0.1, "iterations")


class Oracle:
    """Raises the alarm where the state is above 10, and notes what it was shown."""

    def __init__(self):
        self.shown, self.resets = [], []

    def update(self, latents, blocks, observation=None, rows=None, batch=None):
        self.shown.append((latents[:, 0].tolist(), blocks.tolist(), observation, rows.tolist(), batch))
        return [Surprise(row, 0, value, value > 10, value > 10) for row, value in zip(rows, latents[:, 0], strict=True)]

    def reset(self, mask=None):
        self.resets.append(mask)


def state(*values):
    return {"state": np.array(values, np.float32).reshape(-1, 1)}


def started(reaction=None, goals=(5.0, 5.0), steps=None, **options):
    clerk, oracle = Clerk(), Oracle()
    controller = Controller(clerk, GoalObjective, monitor=oracle, reaction=reaction, **options)
    controller.set_goal(state(*goals), steps=steps)
    return controller, clerk, oracle


def test_the_monitor_sees_each_model_steps_latents_and_the_actions_that_led_there():
    controller, _, oracle = started()
    for value in (1, 2, 3, 4):
        controller.act(state(value, -value))
    (first, _, seen, rows, batch), (second, blocks, *_) = oracle.shown
    assert (first, second, rows, batch) == ([1, -1], [3, -3], [0, 1], 2)
    assert blocks == [[0.0, pytest.approx(0.01)]] * 2
    np.testing.assert_array_equal(seen["state"], [[1], [-1]])
    assert [one.row for one in controller.surprises] == [0, 1]
    assert len(controller.watch.seconds) == 2


def test_without_a_reaction_an_alarm_changes_nothing():
    watched, clerk, _ = started(execute=3)
    plain = Controller(Clerk(), GoalObjective, execute=3)
    plain.set_goal(state(5.0, 5.0))
    for value in (1, 1, 99, 99, 1):
        np.testing.assert_array_equal(watched.act(state(value, 1)), plain.act(state(value, 1)))
    assert len(clerk.calls) == 1


def test_replan_drops_the_rows_plan_and_its_warm_start_and_gives_it_the_whole_horizon_again():
    controller, clerk, _ = started(lambda s: Response(replan=s.began), execute=3, steps=4)
    for value in (1, 1, 99, 99):
        controller.act(state(value, 1))
    assert clerk.calls == [(2, False, 2), (1, False, HORIZON)]


def test_replan_gives_the_row_the_steps_that_are_renewed():
    controller, clerk, _ = started(lambda s: Response(replan=s.began), execute=3, renew=2, steps=6)
    for value in (1, 1, 99, 99):
        controller.act(state(value, 1))
    assert clerk.calls == [(2, False, 3), (1, False, 2)]


def test_scale_and_policy_act_on_their_rows_alone_until_the_next_model_step_and_are_what_is_remembered():
    def react(surprise):
        if not surprise.alarm:
            return None
        return Response(scale=0.5) if surprise.row == 0 else Response(policy=lambda seen: -seen["state"] / 100)

    controller, _, oracle = started(react, execute=3)
    found = [controller.act(state(*values)).ravel().tolist() for values in ((99, 99), (98, 98), (1, 1), (1, 1), (1, 1))]
    expected = [[0.0, -0.99], [0.005, -0.98], [0.02, 0.0], [0.03, 0.01], [0.04, 0.02]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(oracle.shown[1][1], [[0.0, 0.005], [-0.99, -0.98]], atol=1e-6)


def test_rows_that_a_policy_acts_for_or_that_hold_are_not_planned_for():
    def react(surprise):
        return Response(policy=lambda seen: np.array([0.5])) if surprise.row == 0 else Response(scale=0.0)

    controller, clerk, _ = started(react)
    for _ in range(3):
        assert controller.act(state(1, 1)).ravel().tolist() == [0.5, 0.0]
    assert clerk.calls == []


def test_a_real_time_controller_refuses_one_with_a_monitor():
    from wmkit.control.realtime_planning import PlanMaker

    controller, *_ = started()
    with pytest.raises(ValueError, match="asks no surprise monitor"):
        PlanMaker(controller)


def test_a_policys_action_is_clipped_and_a_bad_one_refused():
    controller, *_ = started(lambda s: Response(policy=lambda seen: np.array([7.0])))
    assert controller.act(state(1, 1)).tolist() == [[1.0], [1.0]]
    controller, *_ = started(lambda s: Response(policy=lambda seen: np.array([np.nan])))
    with pytest.raises(ValueError, match="1 finite numbers"):
        controller.act(state(1, 1))


def test_a_reaction_that_records_gets_each_step_as_it_goes_out():
    class Recorder:
        def __init__(self):
            self.seen = []

        def __call__(self, surprise):
            return Response(scale=0.0)

        def record(self, observation, actions):
            self.seen.append((observation["state"].ravel().tolist(), actions.ravel().tolist()))

    recorder = Recorder()
    controller, *_ = started(recorder)
    for value in (1, 2, 3):
        controller.act(state(value, value))
    assert recorder.seen == [([float(v)] * 2, [0.0, 0.0]) for v in (1, 2, 3)]


def test_resets_reach_the_monitor():
    controller, _, oracle = started()
    controller.act(state(1, 1))
    controller.reset(np.array([True, False]))
    assert oracle.resets[-1].tolist() == [True, False]
    assert [one is None for one in controller.surprises] == [True, False]
    controller.reset()
    assert oracle.resets[-1] is None
    assert controller.surprises == ()


def test_a_reaction_needs_a_monitor():
    with pytest.raises(ValueError, match="give both"):
        Controller(Clerk(), GoalObjective, reaction=lambda s: None)
