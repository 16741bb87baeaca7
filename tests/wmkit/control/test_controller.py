"""The control loop, with a planner that says what it was asked and answers predictably."""

import numpy as np
import pytest
import torch

import wmkit
from wmkit.contracts import Plan
from wmkit.control import Controller
from wmkit.linear_model import LinearModel
from wmkit.planners import CEM, ActionCost, GoalObjective

REPEAT, HORIZON = 3, 4


class Clerk:
    """Writes down its calls; plans are a count of all planned numbers, scaled down, plus the row's last state."""

    def __init__(self, history=2):
        self.model = LinearModel(torch.eye(1), torch.eye(1), action_repeat=REPEAT, history=history, bound=1e6)
        self.horizon = HORIZON
        self.calls = []

    def plan(self, context, objective, warm_start=None, budget=None, *, horizon=None, generator=None):
        self.calls.append((context, objective, warm_start, horizon))
        steps = torch.arange(horizon * REPEAT).float().view(1, horizon, REPEAT)
        actions = steps + 100 * context.latents[:, -1:]
        latents = torch.zeros(context.batch, horizon, 1)
        return Plan(actions, torch.zeros(context.batch), latents, 1, 0.1, "iterations")


def state(*values):
    return {"state": np.array(values, dtype=np.float32).reshape(-1, 1)}


def run(controller, observations):
    return [controller.act(observation)[:, 0].tolist() for observation in observations]


def started(clerk=None, goals=(5.0,), steps=None, **options):
    controller = Controller(clerk or Clerk(), GoalObjective, **options)
    controller.set_goal(state(*goals), steps=steps)
    return controller


def test_hands_the_first_block_out_in_order_and_plans_at_its_end():
    clerk = Clerk()
    controller = started(clerk)
    assert run(controller, [state(0), state(7), state(7), state(1), state(7), state(7)]) == [
        [0], [1], [2], [100], [101], [102],
    ]  # fmt: skip
    assert len(clerk.calls) == len(controller.decisions) == 2
    assert controller.latency(0.5) == controller.decisions[1]


def test_executes_as_many_blocks_as_told():
    clerk = Clerk()
    controller = started(clerk, execute=2)
    assert [row[0] for row in run(controller, [state(0)] * 9)] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert len(clerk.calls) == 2


def test_history_holds_block_starts_and_the_actions_between():
    clerk = Clerk()
    run(started(clerk), [state(time) for time in range(7)])
    contexts = [call[0] for call in clerk.calls]
    assert [context.latents.flatten().tolist() for context in contexts] == [[0], [0, 3], [3, 6]]
    assert contexts[0].actions.shape == (1, 0, REPEAT)
    assert contexts[1].actions.flatten().tolist() == [0, 1, 2]
    assert contexts[2].actions.flatten().tolist() == [300, 301, 302]


def test_warm_start_is_the_rest_of_the_plan():
    clerk = Clerk()
    run(started(clerk), [state(0)] * 4)
    first, second = (call[2] for call in clerk.calls)
    assert first is None
    assert second[0, :, 0].tolist() == [3, 6, 9, 9]
    clerk = Clerk()
    run(started(clerk, warm_start=False), [state(0)] * 4)
    assert clerk.calls[1][2] is None


def test_horizon_shrinks_to_where_the_steps_end():
    clerk = Clerk()
    controller = started(clerk, steps=11, min_horizon=2)
    run(controller, [state(0)] * 16)
    assert [call[3] for call in clerk.calls] == [4, 3, 2, 2, 2, 2]
    controller.set_goal(state(1), steps=100)
    run(controller, [state(0)] * 3)
    assert clerk.calls[-1][3] == HORIZON


def test_steps_that_run_out_begin_anew():
    clerk = Clerk()
    controller = started(clerk, steps=2 * REPEAT, renew=3)
    run(controller, [state(0)] * (6 * REPEAT))
    assert [call[3] for call in clerk.calls] == [2, 1, 3, 2, 1, 3]


def test_a_goal_without_steps_takes_the_renewed_ones():
    clerk = Clerk()
    run(started(clerk, renew=2), [state(0)] * (4 * REPEAT))
    assert [call[3] for call in clerk.calls] == [2, 1, 2, 1]


def test_goals_reach_context_and_objective_row_by_row():
    clerk = Clerk()
    controller = started(clerk, goals=(5.0, 6.0))
    run(controller, [state(0, 0)])
    context, objective, _, _ = clerk.calls[0]
    assert context.goal.flatten().tolist() == objective.goal.flatten().tolist() == [5, 6]
    controller.set_goal(state(8, 9), mask=np.array([False, True]))
    run(controller, [state(0, 0)] * 3)
    assert [sorted(call[0].goal.flatten().tolist()) for call in clerk.calls[1:]] in ([[5.0], [9.0]], [[9.0], [5.0]])
    assert {call[0].goal.item(): call[2] is None for call in clerk.calls[1:]} == {5.0: False, 9.0: True}


def test_rows_reset_mid_block_act_like_fresh_ones():
    controller, fresh, untouched = (started(goals=goals) for goals in ((5.0, 5.0), (5.0,), (5.0,)))
    expected = run(untouched, [state(time) for time in range(9)])
    for time in range(4):
        controller.act(state(time, time))
    controller.reset(np.array([False, True]))
    rest = run(controller, [state(time, 10 + time) for time in range(4, 9)])
    assert [row[0] for row in rest] == [row[0] for row in expected[4:]]
    assert [row[1:] for row in rest] == run(fresh, [state(10 + time) for time in range(4, 9)])


def test_reset_rows_forget_history_and_warm_start():
    clerk = Clerk()
    controller = started(clerk, goals=(5.0, 5.0))
    run(controller, [state(0, 0)] * 6)
    controller.reset(np.array([False, True]))
    run(controller, [state(1, 2)])
    by_row = {call[0].latents[0, -1].item(): call for call in clerk.calls[2:]}
    assert by_row[1.0][0].latents.shape[1] == 2
    assert by_row[1.0][2] is not None
    assert by_row[2.0][0].latents.shape[1] == 1
    assert by_row[2.0][2] is None


def test_reset_of_all_rows_starts_over():
    clerk = Clerk()
    controller = started(clerk)
    run(controller, [state(0)] * 5)
    controller.reset()
    assert run(controller, [state(2)]) == [[200]]
    assert clerk.calls[-1][0].latents.shape[1] == 1


def test_one_environment_without_a_batch_axis():
    controller = Controller(Clerk(), GoalObjective)
    controller.set_goal({"state": np.array([1.0], dtype=np.float32)})
    action = controller.act({"state": np.array([0.5], dtype=np.float32), "unused": "text"})
    assert action.shape == (1,)
    assert action.dtype == np.float32
    assert action.item() == 50


def test_tensors_are_observations_too():
    controller = Controller(Clerk(), GoalObjective)
    controller.set_goal({"state": torch.ones(2, 1)})
    assert controller.act({"state": torch.full((2, 1), 0.5)})[:, 0].tolist() == [50, 50]


def test_an_objective_without_a_goal_needs_none():
    assert Controller(Clerk(), ActionCost()).act(state(1, 2))[:, 0].tolist() == [100, 200]


def test_actions_handed_out_are_the_callers_own():
    controller = started()
    controller.act(state(0))
    action = controller.act(state(0))
    action[:] = -9
    run(controller, [state(0)] * 2)
    assert controller.planner.calls[1][0].actions.flatten().tolist() == [0, 1, 2]


def test_closed_loop_reaches_the_goal():
    model = LinearModel(torch.eye(2), 0.1 * torch.eye(2), action_repeat=2)
    controller = wmkit.Controller(CEM(model, horizon=4, samples=64, iterations=6, elites=8), GoalObjective)
    goal = np.array([[1.0, -0.5], [0.2, 0.9]], dtype=np.float32)
    position = np.zeros((2, 2), dtype=np.float32)
    controller.set_goal({"state": goal}, steps=16)
    for _ in range(16):
        position = position + 0.1 * controller.act({"state": position})
    np.testing.assert_allclose(position, goal, atol=0.02)


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        ({"image": np.zeros(1)}, r"'state' is missing; found: image; expected float32 \(1,\)"),
        ({"state": np.zeros((2, 3), dtype=np.float32)}, r"'state' has shape \(2, 3\)"),
        ({"state": np.zeros((1, 1, 1), dtype=np.float32)}, r"'state' has shape \(1, 1, 1\)"),
        ({"state": np.zeros((1, 1), dtype=np.int64)}, "'state' has dtype int64; expected float32"),
        ({"state": np.full((1, 1), np.nan, dtype=np.float32)}, "'state' has values that are not finite"),
        (state(1, 2), "has 2 rows and the goals 1"),
    ],
)
def test_wrong_observations_are_named(observation, text):
    with pytest.raises(ValueError, match=text):
        started().act(observation)


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match="no goal is set"):
        Controller(Clerk(), GoalObjective).act(state(0))
    with pytest.raises(ValueError, match="execute is 5"):
        Controller(Clerk(), GoalObjective, execute=5)
    with pytest.raises(ValueError, match="min_horizon is 0"):
        Controller(Clerk(), GoalObjective, min_horizon=0)
    with pytest.raises(ValueError, match="steps is 0"):
        started().set_goal(state(1), steps=0)
    for renew in (0, 1.5):
        with pytest.raises(ValueError, match=f"renew is {renew}"):
            started(renew=renew)
    controller = started()
    controller.act(state(0))
    with pytest.raises(ValueError, match=r"mask has dtype int64 and shape \(1,\)"):
        controller.reset(np.array([1]))
    with pytest.raises(ValueError, match="0 decisions with 1 left out"):
        started().latency(0.5)
