"""Runs: batched equals single, success and settling by the rules, floors and bounds."""

import dataclasses
import types

import numpy as np
import pytest

from wmkit.errors import UserError
from wmkit.evaluation import agents
from wmkit.evaluation.manifest import Manifest, Pair
from wmkit.evaluation.protocols import PROTOCOLS, draw_manifest
from wmkit.evaluation.runner import decision_times, evaluate
from wmkit.evaluation.upper_bound import SimulatorAgent


class Pixels:
    """A controller that steers by the pictures alone, towards the red pixels of the goal's picture."""

    def set_goal(self, observation, steps=None):
        self.goal, self.steps, self.plans = _centre(observation["pixels"]), steps, 0

    def act(self, observation):
        self.plans += 1
        return np.clip((self.goal - _centre(observation["pixels"])) * 37, -1, 1)


def _centre(pixels):
    weight = (pixels[..., 0].astype(float) - pixels[..., 1]).clip(60) - 60
    axis = (np.arange(pixels.shape[1]) + 0.5) / pixels.shape[1]
    mass = weight.sum(axis=(1, 2))
    return (
        np.stack([(weight * axis).sum(axis=(1, 2)), (weight * axis[:, None]).sum(axis=(1, 2))], axis=1) / mass[:, None]
    )


@pytest.fixture(scope="module")
def manifest(task, recordings):
    return draw_manifest(task, PROTOCOLS["short"], 9, recordings=recordings)


@pytest.fixture(scope="module")
def makers(task):
    return {
        "random": lambda: agents.RandomAgent(task, seed=5),
        "hold": lambda: agents.HoldAgent(task),
        "replay": lambda: agents.ReplayAgent(task),
        "expert": lambda: agents.ExpertAgent(task, seed=5),
        "model": lambda: agents.ModelAgent(lambda batch: Pixels()),
        "simulator": lambda: SimulatorAgent(task, "distance", samples=12, iterations=2, elites=4),
    }


@pytest.mark.parametrize("name", ["random", "hold", "replay", "expert", "model", "simulator"])
def test_side_by_side_equals_one_by_one(task, manifest, makers, name):
    together = evaluate(task, manifest, makers[name](), batch=100)
    alone = evaluate(task, manifest, makers[name](), batch=1)
    np.testing.assert_allclose(together.states, alone.states, atol=1e-6)
    np.testing.assert_array_equal(together.first_success, alone.first_success)
    np.testing.assert_array_equal(together.strict, alone.strict)


def test_floors_bounds_and_a_model_that_only_sees_pixels(task, manifest, makers):
    solved = {name: int(evaluate(task, manifest, make()).success.sum()) for name, make in makers.items()}
    assert solved["hold"] == 0
    assert solved["random"] <= 4
    assert solved["replay"] == solved["expert"] == solved["simulator"] == 9
    assert solved["model"] >= 6


def test_replay_repeats_the_recording(task, manifest, recordings):
    outcomes = evaluate(task, manifest, agents.ReplayAgent(task))
    for pair, states in zip(manifest.pairs, outcomes.states, strict=True):
        recorded = recordings[pair.episode].states[pair.start_row : pair.goal_row + 1]
        np.testing.assert_allclose(states[:26], recorded, atol=1e-6)


class Scripted:
    """Moves right with the given strength at each step."""

    name, observes = "scripted", "state"

    def __init__(self, moves):
        self.moves = moves

    def reset(self, start):
        self.step = 0

    def act(self, observations, states):
        move = self.moves[self.step] if self.step < len(self.moves) else 0.0
        self.step += 1
        return np.tile([move, 0.0], (len(states), 1))


SPEED = 6 / 224


@pytest.mark.parametrize(
    ("distance", "budget", "moves", "first", "strict"),
    [
        (4.0, 12, [1.0] * 4, 2, True),  # within 16/224 after two steps, and stays at the goal
        (4.0, 12, [1.0] * 2, 2, False),  # stops at the edge: success, but not within half the tolerance
        (4.0, 8, [1.0] * 4, 2, True),  # settled at step 4, the first of the last five
        (4.0, 6, [1.0] * 4, 2, False),  # too late for the last five steps
        (4.0, 1, [1.0] * 4, -1, False),  # success after the budget does not count
        (4.0, 20, [1.0] * 15, 2, False),  # passes through
    ],
)
def test_success_counts_within_the_budget_and_strict_at_its_end(task, distance, budget, moves, first, strict):
    pair = Pair((0.1, 0.8), (0.1 + distance * SPEED, 0.8), budget)
    manifest = Manifest("two-room", "short", "distance", 0, "heldout", "", "", (pair,))
    outcomes = evaluate(task, manifest, Scripted(moves))
    assert outcomes.first_success.tolist() == [first]
    assert outcomes.strict.tolist() == [strict]


def test_each_pair_has_its_own_budget(task):
    pairs = tuple(Pair((0.1, 0.8), (0.1 + 4 * SPEED, 0.8), budget) for budget in (1, 2, 30))
    manifest = Manifest("two-room", "short", "distance", 0, "heldout", "", "", pairs)
    outcomes = evaluate(task, manifest, Scripted([1.0] * 4))
    assert outcomes.first_success.tolist() == [-1, 2, 2]
    assert outcomes.strict.tolist() == [False, False, True]


def test_scenes_reach_the_environment(task):
    pair = Pair((0.3, 0.2), (0.7, 0.2), 40, 0, 0, 20, [[1.0, 0.0]] * 20)
    pairs = tuple(dataclasses.replace(pair, variation={"door.position": y}) for y in (0.2, 0.75))
    manifest = Manifest("two-room", "short", "distance", 0, "heldout", "", "", pairs)
    assert evaluate(task, manifest, agents.ReplayAgent(task)).success.tolist() == [True, False]


def test_decisions_are_timed_without_warm_up_and_without_calls_that_only_execute(task, manifest):
    agent = agents.ModelAgent(lambda batch: Pixels())
    assert len(decision_times(task, manifest, agent, episodes=2)) == 100
    plans = iter([plan for plan in range(1000) for _ in range(5)])
    state = types.SimpleNamespace(plan=None)

    def decided():
        state.plan = next(plans)
        return state.plan

    assert len(decision_times(task, manifest, agent, episodes=2, decided=decided)) == 20


def test_a_manifest_of_another_environment_or_rule_is_refused(task, manifest):
    with pytest.raises(UserError, match="for pusht"):
        evaluate(task, dataclasses.replace(manifest, environment="pusht"), agents.HoldAgent(task))
    with pytest.raises(UserError, match="known: distance"):
        evaluate(task, manifest, agents.HoldAgent(task), rule="pose")
