"""Perturbations: each changes what it must and nothing else, in its own row, from its own random numbers."""

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from wmkit import registry
from wmkit.envs.perturbations import PERTURBATIONS, PerturbedEnv, PerturbedVectorEnv
from wmkit.errors import UserError

TASKS = {name: registry.load("environments", name) for name in registry.names("environments")}
PICTURED = dict.fromkeys(TASKS, "state") | dict.fromkeys(("pusht", "two-room"), "pixels_state")
"""What is observed here: everything that needs no OpenGL."""
SUPPORTED = {
    "ogbench-cube": {"action-delay", "action-gain", "weak-actuator", "dropped-frame", "frozen-frame", "sensor-noise"},
    "push-cube": set(PERTURBATIONS) - {"colour", "occlusion", "lighting"},
    "pusht": set(PERTURBATIONS) - {"mass"},
    "two-room": set(PERTURBATIONS) - {"mass"},
    "walker": set(PERTURBATIONS) - {"colour", "occlusion", "lighting"}
    | {"weak-ankle", "heavy-torso", "slippery", "broken-sensor"},
}
SENSORS = ("occlusion", "lighting", "sensor-noise", "frozen-frame", "dropped-frame")
LOOKS = ("colour", "occlusion", "lighting")
CASES = [(task, name) for task in sorted(SUPPORTED) for name in sorted(SUPPORTED[task])]
every_task = pytest.mark.parametrize("task", sorted(TASKS))
every_case = pytest.mark.parametrize(("task", "name"), CASES)


def _make(task: str, count: int = 3, seed: int = 7) -> PerturbedVectorEnv:
    return PerturbedVectorEnv(_bare(task, count), TASKS[task], seed)


def _bare(task: str, count: int) -> Any:
    return TASKS[task].make_vector(num_envs=count, obs_type=PICTURED[task])


def _states(task: str, count: int) -> np.ndarray:
    """Starts (count, S), in PushT with the agent about to push the block."""
    if task == "pusht":
        return np.array([[150.0 + row, 165.0, 250.0, 150.0, 0.0] for row in range(count)])
    if task == "two-room":
        return np.array([[0.3, 0.2 + 0.05 * row] for row in range(count)])
    return TASKS[task].make_vector(num_envs=count, obs_type="state").reset(seed=0)[0]["state"]


def _run(env: Any, task: str, switches: Any = None, rows: Any = None, steps: int = 14) -> dict[str, np.ndarray]:
    """Observed keys, and the true state as "true", each (steps + 1, B, ...), with something switched at step 2."""
    rows = np.arange(env.num_envs) if rows is None else rows
    observation, info = env.reset(options={"state": _states(task, 5)[rows]})
    history = [observation | {"true": info["state"]}]
    size = env.single_action_space.shape[0]
    actions = np.random.default_rng(3).uniform(-0.2, 0.5, (steps, 5, size))[:, rows]
    for step, action in enumerate(actions):
        if step == 2 and switches is not None:
            switches(env)
        observation, *_, info = env.step(action)
        history.append(observation | {"true": info["state"]})
    return {key: np.stack([one[key] for one in history]) for key in history[0]}


def _differs(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """For each key, bool (steps + 1, B)."""
    return {key: (left[key] != right[key]).reshape(*left[key].shape[:2], -1).any(axis=2) for key in left}


@every_task
def test_what_is_supported(task):
    assert set(_make(task).names) == SUPPORTED[task]
    blind = PerturbedVectorEnv(TASKS[task].make_vector(num_envs=1, obs_type="state"), TASKS[task])
    assert set(blind.names) == SUPPORTED[task] - set(LOOKS)


@every_task
def test_switched_off_it_is_the_bare_environment(task):
    wrapped = _make(task)
    plain, off = _run(_bare(task, 3), task), _run(wrapped, task)
    zero = _run(wrapped, task, lambda env: [env.switch(name, 0.0) for name in env.names])
    for key in plain:
        np.testing.assert_array_equal(off[key], plain[key])
        np.testing.assert_array_equal(zero[key], plain[key])


@every_case
def test_a_perturbation_changes_what_it_must_and_nothing_else(task, name):
    plain = _run(_bare(task, 3), task)
    seen = _run(_make(task), task, lambda env: env.switch(name, 1.0, np.array([False, True, False])))
    differs = _differs(seen, plain)
    for key, where in differs.items():
        assert not where[:3].any(), f"{key} before the switch"
        assert not where[:, [0, 2]].any(), f"{key} of another row"
    untouched = name in SENSORS or name in ("colour", "broken-sensor")
    assert differs["true"][3:, 1].any() != untouched
    if name in LOOKS:
        assert differs["pixels"][3:, 1].all()
        assert not differs["state"].any()
    else:
        assert differs["state"][3:, 1].any()
        assert all(where[3:, 1].any() for where in differs.values()) or untouched


@every_case
def test_a_row_does_the_same_alone_and_among_others(task, name):
    def switch(env: Any) -> None:
        env.switch(name, 0.6)

    among = _run(_make(task, 4), task, switch)
    alone = _run(_make(task, 1, seed=7 + 2), task, switch, rows=[2])
    for key in among:
        np.testing.assert_array_equal(among[key][:, 2:3], alone[key], err_msg=key)


@every_case
def test_a_seed_fixes_the_random_numbers_and_another_draws_others(task, name):
    def run(seed: int) -> dict[str, np.ndarray]:
        return _run(_make(task, 1, seed), task, lambda env: env.switch(name, 0.5))

    first, again, other = run(1), run(1), run(2)
    assert not any(where.any() for where in _differs(first, again).values())
    if name in ("teleport", "colour", "occlusion", "sensor-noise", "dropped-frame", "broken-sensor"):
        assert any(where.any() for where in _differs(first, other).values())


@every_case
def test_a_single_environment_does_what_a_batch_of_one_does(task, name):
    batch = _make(task, 1)
    single = PerturbedEnv(TASKS[task].make(obs_type=PICTURED[task]), TASKS[task], seed=7)
    assert single.names == batch.names
    state = _states(task, 1)
    batch.reset(options={"state": state})
    single.reset(options={"state": state[0]})
    for step in range(8):
        if step in (2, 5):
            batch.switch(name, 1.0 if step == 2 else 0.0)
            single.switch(name, 1.0 if step == 2 else 0.0)
            assert single.active == batch.active[0]
        action = np.full(single.action_space.shape or (), 0.3)
        left, right = batch.step(action[None])[0], single.step(action)[0]
        for key in left:
            np.testing.assert_array_equal(left[key][0], right[key], err_msg=key)


@every_case
def test_a_reset_turns_everything_off_in_its_rows(task, name):
    env = _make(task)
    env.reset(seed=0)
    env.switch(name, 1.0)
    mask = np.array([True, False, True])
    env.reset(options={"reset_mask": mask})
    assert [set(one) for one in env.active] == [set(), {name} - {"teleport"}, set()]
    seen = _run(env, task)
    for key, values in _run(_bare(task, 3), task).items():
        np.testing.assert_array_equal(seen[key], values)


@every_case
def test_turned_off_again_all_is_as_before(task, name):
    env, plain = _make(task, 1), _bare(task, 1)
    env.reset(options={"state": _states(task, 1)})
    first = env.variations()
    plain.reset(options={"state": _states(task, 1)})
    action = np.full((1, env.single_action_space.shape[0]), 0.3)
    env.switch(name, 0.7)
    env.step(action)
    env.switch(name, 0.0)
    assert env.active == ({},)
    assert env.variations() == first
    for each in (env, plain):
        each.set_state(env.info()["state"])
    for _ in range(4):
        seen, expected = env.step(action)[0], plain.step(action)[0]
        for key in expected:
            np.testing.assert_array_equal(seen[key], expected[key], err_msg=key)


def test_perturbations_add_up_and_go_one_by_one():
    env = _make("walker", 1)
    env.reset(options={"variation": {"weak_ankle": 0.25}})
    env.switch("slippery", 0.5)
    env.switch("heavy-torso", 0.75)
    assert env.active == ({"slippery": 0.5, "heavy-torso": 0.75},)
    assert [env.variations()[0][name] for name in ("weak_ankle", "slippery", "heavy_torso")] == [0.25, 0.5, 0.75]
    env.switch("slippery", 0.0)
    assert [env.variations()[0][name] for name in ("weak_ankle", "slippery", "heavy_torso")] == [0.25, 0.0, 0.75]


def test_a_new_episode_begins_from_its_own_variation():
    env = _make("two-room", 1)
    env.reset(seed=0)
    env.switch("friction", 1.0)
    env.reset(seed=0, options={"variation": {"agent.speed": 0.03, "agent.radius": 0.03}})
    env.switch("colour", 1.0)
    assert env.variations()[0]["agent.speed"] == 0.03
    assert env.variations()[0]["agent.radius"] == 0.03


def test_one_weak_actuator_can_be_repaired_alone():
    env = _make("walker", 1)
    env.reset(seed=0)
    env.switch("weak-actuator", 0.5)
    env.switch("weak-actuator", 0.0, actuator=2)
    assert env.active == ({"weak-actuator": 0.5},)
    env.switch("weak-actuator", 0.0)
    assert env.active == ({},)


def test_a_seed_at_reset_begins_the_random_numbers_anew():
    env = _make("pusht", 2)

    def colours(seed: int | None) -> list[Any]:
        env.reset(seed=seed)
        env.switch("colour", 1.0)
        return [one["block.color"] for one in env.variations()]

    first, second = colours(5), colours(None)
    assert colours(5) == first
    assert colours(6)[0] == first[1]
    assert second[0] != first[0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "earthquake"}, UserError, f"unknown perturbation 'earthquake'; known: {', '.join(PERTURBATIONS)}"),
        ({"name": "mass"}, UserError, "'mass' is not supported here; supported: teleport, colour"),
        ({"name": "lighting", "strength": 1.5}, ValueError, "strength is 1.5"),
        ({"name": "lighting", "strength": np.nan}, ValueError, "strength is nan"),
        ({"name": "lighting", "mask": [True]}, ValueError, "mask: expected shape (2,)"),
        ({"name": "lighting", "actuator": 0}, ValueError, "'weak-actuator' alone"),
        ({"name": "weak-actuator", "actuator": 2}, ValueError, "from 0 to 1"),
    ],
)
def test_bad_switches_are_refused(arguments, error, message):
    env = _make("pusht", 2)
    env.reset(seed=0)
    with pytest.raises(error, match=re.escape(message)):
        env.switch(**arguments)
    assert env.active == ({}, {})


def test_a_switch_before_the_reset_is_refused():
    with pytest.raises(ValueError, match="call reset"):
        _make("pusht", 1).switch("lighting")


def test_environments_that_restart_by_themselves_are_refused():
    env = gymnasium.make_vec("wmkit/TwoRoom-v0", 2, vectorization_mode="vector_entry_point", obs_type="state")
    assert env.metadata["autoreset_mode"] is not AutoresetMode.DISABLED
    with pytest.raises(UserError, match="autoreset disabled"):
        PerturbedVectorEnv(env, TASKS["two-room"])
