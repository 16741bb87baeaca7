"""The expert, and `wmkit collect walker` with it."""

import subprocess
import sys

import numpy as np
import pytest

from wmkit import registry
from wmkit.data.collect import collect
from wmkit.data.recording import Recorder, Settings
from wmkit.data.validate import validate
from wmkit.envs.walker import REWARDS, WalkerEnv, WalkerSimulator, expert
from wmkit.envs.walker.expert import QUALITIES, WalkerExpert
from wmkit.errors import UserError
from wmkit.evaluation import suite
from wmkit.scripts.main import main

NO_GOAL = np.zeros(0)


def _episode(policy, steps, reward="stand", variation=None):
    """Return states (steps + 1, 18), actions (steps, 6) and the mean reward from standing."""
    env = WalkerEnv(task=reward, variation=variation)
    _, info = env.reset(options={"state": np.zeros(18)})
    policy.reset(info["state"], NO_GOAL, info["variation"])
    states, actions, rewards = [info["state"]], [], []
    for _ in range(steps):
        actions.append(policy.act(states[-1]))
        _, reward_now, _, _, info = env.step(actions[-1])
        states.append(info["state"])
        rewards.append(reward_now)
    return np.stack(states), np.stack(actions), float(np.mean(rewards[steps // 2 :]))


@pytest.fixture(autouse=True, scope="module")
def _few_samples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(expert._EASY, "samples", 12)
        patch.setitem(expert._HARD, "samples", 4)
        yield


def test_quality_orders_what_comes_of_it():
    best, worst = (_episode(WalkerExpert(0, "stand", quality), 60)[2] for quality in (1.0, 0.0))
    assert best > 0.95
    assert worst < 0.8


def test_the_same_seed_acts_the_same_and_another_differently():
    first, again, other = (_episode(WalkerExpert(seed, "run", 0.5), 4)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_reset_forgets():
    policy = WalkerExpert(3, "run", 0.5)
    np.testing.assert_array_equal(_episode(policy, 3)[1], _episode(policy, 3)[1])


class _Planned:
    """Stands in for the controller; what it returns is no random action."""

    def act(self, observation):
        return np.full(6, 2.0, np.float32)


@pytest.mark.parametrize(("reward", "share"), [("stand", 0.5), ("walk", 0.5), ("run", 0.76), (REWARDS["stand"], 0.76)])
def test_medium_plans_some_of_the_time_in_stretches_of_a_quarter_second(reward, share, monkeypatch):
    monkeypatch.setattr(WalkerExpert, "_make_controller", lambda self, variation: _Planned())
    policy = WalkerExpert(0, reward, *QUALITIES["medium"][:1])
    policy.reset(np.zeros(18), NO_GOAL, {})
    actions = np.stack([policy.act(np.zeros(18)) for _ in range(20_000)])
    planned = actions[:, 0] == 2
    assert planned.mean() == pytest.approx(share, abs=0.04)
    switches = np.count_nonzero(planned[1:] != planned[:-1])
    assert switches / len(planned) == pytest.approx(0.1 * 2 * share * (1 - share), rel=0.25)
    assert np.abs(actions[~planned]).max() == 1.0
    assert (actions[planned] == 2).all()


def test_the_expert_knows_of_the_variation():
    acted = []
    for variation in ({}, {"heavy_torso": 1.0}):
        policy = WalkerExpert(0, "run")
        policy.reset(np.zeros(18), NO_GOAL, variation)
        acted.append([policy.act(np.zeros(18)) for _ in range(10)])
    assert not np.array_equal(*acted)


def test_random_quality_needs_no_planner():
    code = (
        "import sys, numpy as np; from wmkit.envs.walker.expert import WalkerExpert; e = WalkerExpert(0, 'run', 0.0); "
        "e.reset(np.zeros(18), np.zeros(0), {}); e.act(np.zeros(18)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(("arguments", "message"), [((0, "fly"), "unknown walker reward"), ((0, "run", 2), "quality")])
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WalkerExpert(*arguments)


def test_the_task_carries_the_simulator():
    rollout = registry.load("environments", "walker").simulator({"weak_ankle": 0.5})
    states, actions = np.zeros((1, 18)), np.ones((1, 2, 3, 6))
    np.testing.assert_array_equal(rollout(states, actions), WalkerSimulator("weak_ankle").rollout(states, actions))


@pytest.fixture(scope="module")
def settings():
    return Settings("walker", max_steps=6, env={"variation": {"weak_ankle": 0.25}}, reward="run", quality="mixed")


@pytest.fixture(scope="module")
def store(settings, tmp_path_factory):
    return collect(settings, tmp_path_factory.mktemp("walker"), 4, episodes_per_shard=2).store


def test_episodes_are_what_happened(store):
    env = WalkerEnv(variation={"weak_ankle": 0.25})
    for position in range(len(store)):
        columns = store.episode(position).columns
        env.reset(options={"state": columns["state"][0]})
        replayed = [env.step(action)[-1]["state"] for action in columns["action"]]
        np.testing.assert_array_equal(columns["state"][1:], replayed)
        np.testing.assert_array_equal(columns["reward"], REWARDS["run"](columns["state"][1:]))
    assert validate(store.folder) == []


def test_what_is_known_of_an_episode_is_recorded(store):
    metadata = store.metadata
    assert (metadata.reward, metadata.quality, metadata.seconds_per_step) == ("run", "mixed", 0.025)
    assert store.values("weak_ankle").tolist() == [0.25] * 4
    qualities = store.values("quality")
    assert len(set(qualities.tolist())) == 4
    assert ((qualities >= 0) & (qualities <= 1)).all()
    assert not {"pixels", "success", "goal_state"} & {column.name for column in metadata.columns}
    assert (store.folder / "splits.json").exists()


def test_an_interrupted_collection_ends_the_same_for_any_number_of_processes(store, settings, tmp_path):
    collect(settings, tmp_path, 2, episodes_per_shard=2)
    report = collect(settings, tmp_path, 4, episodes_per_shard=2, workers=2)
    assert report.resumed == 2
    assert report.store.fingerprint == store.fingerprint


def test_every_quality_is_a_range_within_zero_and_one():
    assert next(iter(QUALITIES)) == "expert"
    assert QUALITIES["expert"] == (1.0, 1.0)
    assert all(0 <= low <= high <= 1 for low, high in QUALITIES.values())
    assert QUALITIES["mixed"] == (0.0, 1.0)


def test_the_random_policy_has_quality_zero():
    columns = Recorder(Settings("walker", policy="random", max_steps=3)).episode(0).columns
    assert float(columns["quality"]) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "walker", "reward": "fly"}, "unknown reward 'fly' of walker; known: walk, stand, run"),
        ({"task": "walker", "quality": "good"}, "unknown quality 'good' of walker; known: expert, medium, mixed"),
        ({"task": "walker", "policy": "random", "quality": "medium"}, "goes with policy 'expert'"),
        ({"task": "two-room", "reward": "run"}, "unknown reward 'run' of two-room; known: none"),
        ({"task": "two-room", "quality": "medium"}, "unknown quality 'medium' of two-room; known: none"),
    ],
)
def test_bad_requests(settings, message):
    with pytest.raises(UserError, match=message):
        Recorder(Settings(**settings))


def test_the_command_line(tmp_path, capsys):
    words = ["--task", "stand", "--quality", "medium", "--episodes", "1", "--max-steps", "2", "--out", str(tmp_path)]
    assert main(["collect", "walker", *words]) == 0
    assert "1 episodes (0 were there), 2 steps" in capsys.readouterr().out
    assert main(["data", "info", str(tmp_path)]) == 0 or main(["data", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "reward stand" in shown
    assert "quality medium" in shown


def test_goal_protocols_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"walker has rewards \(walk, stand, run.*\) and no goals"):
        suite.obtain(registry.load("environments", "walker"), "short", 1)
