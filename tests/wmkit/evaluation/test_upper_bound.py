"""The upper bound: the expert's proposal, the objective, and planning through the simulator of each scene."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import wmkit.models
from wmkit.conformance import check_planner
from wmkit.contracts import Context, Rollout
from wmkit.envs.push_cube.task import PUSH_CUBE
from wmkit.envs.tasks import PUSHT, TWO_ROOM
from wmkit.evaluation.manifest import Manifest, Pair, load_manifest
from wmkit.evaluation.protocols import PROTOCOLS, draw_manifest, needs_motion
from wmkit.evaluation.runner import evaluate
from wmkit.evaluation.upper_bound import ExpertProposal, FrugalPlanner, ReachObjective, SimulatorAgent
from wmkit.linear_model import LinearModel
from wmkit.models.simulator import SimulatorModel
from wmkit.planners import CEM

DOORS = ({"door.position": 0.25}, {"door.position": 0.75})


class Drifting:
    """Goes right at full speed, whatever the goal is."""

    def reset(self, state, goal, variation):
        self.variation = variation

    def act(self, state):
        return np.array([5.0, 0.0])


def context_of(model, states, goals):
    latents = model.encode({"state": np.asarray(states, np.float64)[:, None]})
    return Context(latents, latents.new_zeros(len(states), 0, 2), goal=model.encode({"state": np.asarray(goals)}))


def test_the_proposal_follows_the_expert_until_it_is_nearest_and_then_rests():
    """Rows apart: one goal is passed after three steps, one is behind, one is reached from the start."""
    task = dataclasses.replace(TWO_ROOM, expert=lambda seed: Drifting())
    model = SimulatorModel.from_task(task, action_repeat=1)
    speed = 5 / 224
    starts = [[0.1, 0.5], [0.3, 0.5], [0.2, 0.8]]
    goals = [[0.1 + 3.2 * speed, 0.6], [0.1, 0.5], [0.2, 0.8]]
    found = ExpertProposal(model, task, "distance", {}).propose(
        context_of(model, starts, goals), 2, 6, torch.Generator()
    )
    right = np.array([1.0, 0.0])
    expected = np.zeros((3, 2, 6, 2))
    expected[0, :, :3] = right
    np.testing.assert_array_equal(found.numpy(), expected)


def test_the_proposal_needs_a_goal():
    model = SimulatorModel.from_task(TWO_ROOM, action_repeat=1)
    context = dataclasses.replace(context_of(model, [[0.2, 0.2]], [[0.2, 0.2]]), goal=None)
    with pytest.raises(ValueError, match="no goal"):
        ExpertProposal(model, TWO_ROOM, "distance", {}).propose(context, 1, 3, torch.Generator())


def test_the_objective_wants_the_goal_at_any_step_and_a_little_at_the_end():
    task = dataclasses.replace(TWO_ROOM, distance=lambda states, goals, rule: np.abs(states - goals).sum(axis=-1))
    places = torch.tensor([[4.0] * 9, [4.0, 0.0] + [4.0] * 7, [4.0] * 8 + [0.0]])
    states = torch.stack([places, torch.zeros_like(places)], dim=-1)[None]
    objective = ReachObjective(task, "distance", torch.tensor([[9.0, 9.0], [0.0, 0.0]]), settle=0.5)
    cost = objective.select(torch.tensor([1])).cost(Rollout(states, None, {"state": states}), torch.zeros(1, 3, 9, 2))
    torch.testing.assert_close(cost, torch.tensor([[4 + 0.5 * 4, 0 + 0.5 * 4, 0.5 * 4 * 4 / 5]]))


def test_each_pair_is_planned_in_its_own_scene_and_budget():
    """Through doors at different heights; alone and side by side alike."""
    pairs = tuple(
        Pair((0.4, y), (0.6, y), budget, 0, 0, 10, variation=scene)
        for y, budget, scene in ((0.25, 30, DOORS[0]), (0.75, 30, DOORS[1]), (0.3, 20, DOORS[0]))
    )
    manifest = Manifest("two-room", "short", "distance", 0, "heldout", "", "", pairs)
    agent = SimulatorAgent(TWO_ROOM, "distance", samples=24, iterations=3, expert=False)
    together = evaluate(TWO_ROOM, manifest, agent)
    assert together.success.all()
    assert together.strict.all()
    for row, pair in enumerate(pairs):
        alone = evaluate(TWO_ROOM, dataclasses.replace(manifest, pairs=(pair,)), agent)
        steps = pair.budget + 1
        np.testing.assert_allclose(together.states[row, :steps], alone.states[0, :steps], atol=1e-6)


def test_pusht_pairs_that_need_turns_round_the_block_are_solved():
    """Pairs that the same search without the expert leaves unsolved."""
    folder = Path(wmkit.models.__file__).parent / "pretrained" / "pusht-tiny"
    manifest = load_manifest(folder / "manifest-pusht-short.json")
    hard = dataclasses.replace(manifest, pairs=tuple(manifest.pairs[i] for i in (6, 8)))
    assert evaluate(PUSHT, hard, SimulatorAgent(PUSHT, "pose")).success.all()


@given(st.lists(st.floats(-1.2, 1.2), min_size=5, max_size=5), st.integers(-2, 2))
def test_pushts_distance_is_zero_only_well_within_success(shift, turns):
    goal = np.array([250.0, 200.0, 300.0, 280.0, 1.0, 0, 0, 0, 0, 0])
    state = goal.copy()
    state[:4] += 20 * np.array(shift[:4])
    state[4] += np.pi / 9 * shift[4] + 2 * np.pi * turns
    distance = float(PUSHT.distance(state, goal, "pose"))
    if distance == 0:
        assert bool(PUSHT.success(state, goal, "pose", True))
    if not bool(PUSHT.success(state, goal, "pose", False)):
        assert distance >= 0.69
    moved = state.copy()
    moved[:2] += 500.0
    assert float(PUSHT.distance(moved, goal, "coverage")) == float(PUSHT.distance(state, goal, "coverage"))


def test_a_task_without_a_simulator_or_a_distance_is_refused():
    for missing in ("simulator", "distance"):
        with pytest.raises(ValueError, match="two-room has no simulator or no distance"):
            SimulatorAgent(dataclasses.replace(TWO_ROOM, **{missing: None}), "distance")


def test_push_cubes_own_task_is_solved_and_settled():
    """By the protocol `full`, whose rule it does not know: its first rule, its own budget, pairs that need a push."""
    manifest = draw_manifest(PUSH_CUBE, PROTOCOLS["full"], 3, seed=4)
    assert manifest.rule == "position"
    assert set(manifest.budgets) == {PUSH_CUBE.max_steps}
    assert needs_motion(PUSH_CUBE, manifest.starts, manifest.goals).all()
    short = dataclasses.replace(manifest, pairs=tuple(dataclasses.replace(pair, budget=60) for pair in manifest.pairs))
    found = evaluate(PUSH_CUBE, short, SimulatorAgent(PUSH_CUBE, "position"))
    assert found.success.all()
    assert found.strict.all()


@given(st.tuples(*[st.floats(-1.2, 1.2)] * 3))
def test_push_cubes_distance_is_zero_only_well_within_success(shift):
    goal = np.zeros(25)
    goal[6:10] = 0.5, 0.0, 0.025, 1.0
    state = np.full(25, 0.7)
    state[6:9] = goal[6:9] + 0.025 * np.array(shift)
    distance = float(PUSH_CUBE.distance(state, goal, "position"))
    if distance == 0:
        assert bool(PUSH_CUBE.success(state[None], goal[None], "position", True)[0])
    if not bool(PUSH_CUBE.success(state[None], goal[None], "position", False)[0]):
        assert distance >= 0.64


class Counting(CEM):
    """Remembers how many rows it was asked to search for."""

    asked: tuple[int, ...] = ()

    def plan(self, context, *arguments, **options):
        self.asked = (*self.asked, context.batch)
        return super().plan(context, *arguments, **options)


class Rightwards:
    """Proposes going right for four steps, then resting."""

    def propose(self, context, n, horizon, generator):
        actions = torch.zeros(context.batch, n, horizon, 2, dtype=torch.float64)
        actions[:, :, :4, 0] = 1
        return actions


def test_only_rows_without_a_plan_that_costs_nothing_are_searched_for():
    """Row 0 has such a warm start, row 1 such a proposal, row 2 neither."""
    model = SimulatorModel.from_task(TWO_ROOM, action_repeat=1)
    step = 5 / 224
    starts = np.array([[0.1, 0.2], [0.1, 0.5], [0.1, 0.8]])
    goals = starts + step * np.array([[0, 4], [4, 0], [0, -4]])
    search = Counting(model, horizon=8, samples=40, iterations=3, elites=8, seed=0)
    planner = FrugalPlanner(search, Rightwards())
    warm = torch.zeros(3, 6, 2, dtype=torch.float64)
    warm[:, :4, 1] = 1
    objective = ReachObjective(TWO_ROOM, "distance", torch.from_numpy(goals))
    plan = planner.plan(context_of(model, starts, goals), objective, warm)
    assert search.asked == (1,)
    assert plan.cost[:2].tolist() == [0, 0]
    torch.testing.assert_close(plan.actions[0, :6], warm[0])
    assert plan.actions[0, 6:].abs().max() == 0
    assert plan.actions[1, :4].tolist() == [[1, 0]] * 4
    assert plan.actions[2, :, 1].sum() < 0
    follows = model.rollout(context_of(model, starts, goals), plan.actions[:, None])
    torch.testing.assert_close(plan.latents, follows.latents[:, 0])
    torch.testing.assert_close(plan.cost, objective.cost(follows, plan.actions[:, None])[:, 0])


def test_the_frugal_planner_is_a_planner():
    check_planner(FrugalPlanner(CEM(LinearModel(torch.eye(2), torch.eye(2)), horizon=3, samples=30, iterations=3)))
