"""The simulator as a world model: contract, exactness, rewards, and simulations that diverge."""

import copy

import numpy as np
import pytest
import torch

import wmkit.models
from wmkit import registry
from wmkit.conformance import check_model
from wmkit.contracts import Context, PlanningBudget
from wmkit.control import Controller
from wmkit.envs.push_cube.control import joints_at
from wmkit.envs.push_cube.task import PUSH_CUBE
from wmkit.envs.tasks import PUSHT, TWO_ROOM
from wmkit.evaluation.upper_bound import ReachObjective
from wmkit.models.simulator import SimulatorModel
from wmkit.planners import CEM, RewardObjective

PUSHED = [*joints_at((0.40, 0.0, 0.05))[0].tolist(), 0.481, 0.004, 0.025, 1, *[0.0] * 15]
"""PushCube with the hand behind the cube, almost touching it."""
STARTS = {
    "two-room": [[0.2, 0.3], [0.6, 0.8]],
    "pusht": [[256.0, 300.0, 256.0, 200.0, 0.5, 0, 0, 0, 0, 0], [100.0, 120.0, 130.0, 150.0, 2.0, 0, 0, 0, 0, 0]],
    "push-cube": [PUSHED, [*PUSHED[:6], 0.54, 0.09, 0.025, 0.9, 0, 0, 0.19**0.5, *[0.1] * 6, 0.2, *[0.0] * 5]],
}
SCENES = {
    "two-room": {"door.position": 0.3, "agent.speed": 0.03},
    "pusht": {"block.shape": "L", "agent.radius": 20.0},
    "push-cube": {"cube.mass": 0.4, "cube.friction": 0.3},
}


def point(states, actions):
    """A point moved by half of each action; breaks (NaN) beyond 1."""
    places = states[:, None, None] + 0.5 * np.cumsum(actions, axis=2)
    broken = np.maximum.accumulate(np.abs(places).max(axis=-1, keepdims=True) > 1, axis=2)
    return np.where(broken, np.nan, places)


def point_model(**options):
    bounds = {"action_low": (-1.0,), "action_high": (1.0,)}
    return SimulatorModel(point, state_size=1, seconds_per_step=0.1, **bounds, **options)


def context_of(model, states):
    latents = model.encode({"state": np.asarray(states, np.float64)[:, None]})
    return Context(latents, latents.new_zeros(len(states), 0, model.spec.block_size))


def drawn(model, b, n, h):
    low, high = model.spec.bounds(dtype=torch.float64)
    unit = torch.rand(b, n, h, model.spec.block_size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return low + (high - low) * unit


@pytest.mark.parametrize("task", [TWO_ROOM, PUSHT, PUSH_CUBE], ids=lambda task: task.name)
@pytest.mark.parametrize("repeat", [1, 3])
def test_rollouts_equal_stepping_the_environment(task, repeat):
    """In a scene of its own, for every candidate, at the ends of model steps and, where asked, at every step."""
    scene, starts = SCENES[task.name], np.array(STARTS[task.name])
    model = SimulatorModel.from_task(task, scene, repeat, keep_steps=True)
    actions = drawn(model, 2, 2, 4)
    rollout = model.rollout(context_of(model, starts), actions)
    assert model.spec.seconds_per_step == pytest.approx(task.seconds_per_step * repeat)
    env = task.make_vector(num_envs=2, obs_type="state")
    for candidate in range(2):
        env.reset(seed=0, options={"state": starts, "variation": scene})
        moves = actions[:, candidate].reshape(2, 4 * repeat, 2).numpy()
        seen = np.stack([env.step(moves[:, t])[-1]["state"] for t in range(4 * repeat)], axis=1)
        steps = rollout.quantities["steps"][:, candidate].reshape(seen.shape).numpy()
        np.testing.assert_array_equal(steps, seen)
        np.testing.assert_array_equal(rollout.latents[:, candidate].numpy(), seen[:, repeat - 1 :: repeat])


@pytest.mark.parametrize("name", ["two-room", "pusht", "push-cube"])
def test_tasks_keep_the_contract(name):
    starts = np.array(STARTS[name])[[0, 1, 0], None]
    check_model(SimulatorModel.from_task(name), {"state": starts})
    check_model(SimulatorModel.from_task(registry.load("environments", name), dtype=torch.float32), {"state": starts})


def test_reward_and_cost_are_means_over_the_environment_steps():
    model = point_model(
        action_repeat=2, reward=lambda s, a: s[..., 0] + 10 * a[..., 0], cost=lambda s, a: s[..., 0].square()
    )
    actions = torch.tensor([0.2, 0.4, -0.2, 0.0], dtype=torch.float64).reshape(1, 1, 2, 2)
    rollout = model.rollout(context_of(model, [[0.1]]), actions)
    places = torch.tensor([0.2, 0.4, 0.3, 0.3], dtype=torch.float64)
    torch.testing.assert_close(rollout.quantities["reward"][0, 0], torch.tensor([3.3, -0.7], dtype=torch.float64))
    torch.testing.assert_close(rollout.quantities["cost"][0, 0], places.square().reshape(2, 2).mean(1))
    torch.testing.assert_close(rollout.quantities["state"][0, 0, :, 0], places[1::2])


def test_a_diverged_candidate_has_no_finite_reward_and_never_wins():
    """The reward says 1 of everything, NaN states too, so that only the model can tell."""
    model = point_model(reward=lambda s, a: torch.ones_like(a[..., 0]))
    actions = torch.ones(1, 2, 4, 1, dtype=torch.float64) * torch.tensor([1.0, 0.1]).reshape(1, 2, 1, 1)
    rollout = model.rollout(context_of(model, [[0.0]]), actions)
    assert torch.isfinite(rollout.quantities["reward"][0]).tolist() == [[True, True, False, False], [True] * 4]
    planner = CEM(model, horizon=3, samples=64, iterations=2, elites=8)
    objective = RewardObjective(lambda reward, actions: reward, "reward")
    plan = planner.plan(context_of(model, [[0.0]]), objective)
    assert plan.non_finite > 0
    assert bool(torch.isfinite(plan.latents).all())


def test_results_stay_when_the_simulator_writes_its_memory_anew():
    memory = np.zeros((1, 1, 2, 1))

    def simulate(states, actions):
        memory[:] = actions
        return {"state": memory, "extra": memory}

    model = SimulatorModel(simulate, state_size=1, action_low=(-1,), action_high=(1,), seconds_per_step=1.0)
    first = model.rollout(context_of(model, [[0.0]]), torch.full((1, 1, 2, 1), 0.5))
    model.rollout(context_of(model, [[0.0]]), torch.full((1, 1, 2, 1), -0.5))
    assert first.latents.unique().tolist() == first.quantities["extra"].unique().tolist() == [0.5]


def test_latents_have_the_dtype_asked_for():
    model = point_model(dtype=torch.float32, reward=lambda s, a: s[..., 0], keep_steps=True)
    context = context_of(model, [[0.1]])
    rollout = model.rollout(context, torch.zeros(1, 1, 2, 1))
    found = [context.latents, rollout.latents, *rollout.quantities.values()]
    assert {value.dtype for value in found} == {torch.float32}


def test_a_copy_is_a_model_of_its_own():
    model = SimulatorModel.from_task("two-room")
    actions = drawn(model, 1, 2, 2)
    other = copy.deepcopy(model).rollout(context_of(model, [[0.2, 0.3]]), actions)
    torch.testing.assert_close(other.latents, model.rollout(context_of(model, [[0.2, 0.3]]), actions).latents)


def test_mistakes_are_named():
    import dataclasses

    with pytest.raises(ValueError, match="two-room has no simulator"):
        SimulatorModel.from_task(dataclasses.replace(TWO_ROOM, simulator=None))
    with pytest.raises(ValueError, match=r"door\.colour"):
        SimulatorModel.from_task("two-room", {"door.colour": 1})
    with pytest.raises(ValueError, match="no weights"):
        SimulatorModel.from_pretrained("folder")
    with pytest.raises(ValueError, match="floating"):
        point_model(dtype=torch.int64)
    with pytest.raises(ValueError, match="above 0"):
        point_model(action_repeat=0)
    model = point_model(reward=lambda s, a: s)
    with pytest.raises(ValueError, match="reward function gave shape"):
        model.rollout(context_of(model, [[0.0]]), torch.zeros(1, 1, 2, 1))
    with pytest.raises(ValueError, match="unknown quantity 'pose'; known: state"):
        model.decode(torch.zeros(1, 1), "pose")


def test_the_registry_and_the_package_know_it():
    assert registry.load("models", "simulator") is wmkit.models.SimulatorModel is SimulatorModel


def push_objective(goals):
    """Bring the cube to the goals' place."""
    return ReachObjective(PUSH_CUBE, "position", goals)


@pytest.mark.parametrize("name", sorted(set(registry.names("planners")) - {"gradient"}))
def test_every_planner_plans_through_push_cube(name):
    """At once and in chunks alike; what a plan says it imagines is what the environment then does."""
    model, start = SimulatorModel.from_task(PUSH_CUBE, SCENES["push-cube"], 2), np.array([PUSHED])
    planner = registry.load("planners", name)(model, horizon=3, samples=32, iterations=2)
    objective = push_objective(model.encode({"state": start[:, None] + 0.05 * (np.arange(25) == 6)})[:, 0])
    plan, chunked = (
        planner.plan(context_of(model, start), objective, budget=budget, generator=torch.Generator().manual_seed(0))
        for budget in (None, PlanningBudget(bytes=5 * 3 * 2 * 25 * 8))
    )
    torch.testing.assert_close(chunked.actions, plan.actions, rtol=0, atol=0)
    assert plan.actions.abs().max() <= 1
    env = PUSH_CUBE.make_vector(num_envs=1, obs_type="state")
    env.reset(options={"state": start, "variation": SCENES["push-cube"]})
    seen = [env.step(move[None])[-1]["state"][0] for move in plan.actions[0].reshape(6, 2).numpy()]
    np.testing.assert_array_equal(plan.latents[0].numpy(), seen[1::2])


def test_a_planner_that_needs_gradients_says_that_a_simulator_has_none():
    model = SimulatorModel.from_task(PUSH_CUBE)
    with pytest.raises(ValueError, match="SimulatorModel gives costs without gradients"):
        registry.load("planners", "gradient")(model, horizon=1, samples=2).plan(
            context_of(model, [PUSHED]), push_objective(torch.tensor([PUSHED], dtype=torch.float64))
        )


def test_cem_pushes_a_cube_through_the_simulator_behind_the_controller():
    model = SimulatorModel.from_task(PUSH_CUBE, action_repeat=5)
    planner = CEM(model, horizon=3, samples=32, iterations=4, elites=6, std=0.5, seed=1)
    controller = Controller(planner, push_objective)
    env = PUSH_CUBE.make(obs_type="state")
    observation, info = env.reset(options={"state": PUSHED, "goal": (0.55, 0.03)})
    controller.set_goal({"state": info["goal_state"]}, steps=20)
    for _ in range(20):
        observation, _, solved, _, info = env.step(controller.act({"state": observation["state"]}))
        if solved:
            return
    pytest.fail(f"the cube is at {observation['state'][6:8]}")
