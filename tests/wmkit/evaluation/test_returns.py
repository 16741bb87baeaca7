"""Returns of agents on the walker: against a loop, from the same starts, and of recorded data."""

import numpy as np
import pytest
from PIL import Image

from wmkit import registry
from wmkit.data.collect import collect
from wmkit.data.recording import Settings
from wmkit.envs.walker import REWARDS, WalkerEnv
from wmkit.errors import UserError
from wmkit.evaluation import HoldAgent, NamedReward, RandomAgent, data_returns, evaluate_returns, find_reward
from wmkit.evaluation.returns_report import returns_table, save_returns, save_returns_gif, statistics_lines

TASK = registry.load("environments", "walker")
STAND = find_reward(TASK, "stand")


@pytest.fixture(scope="module")
def still():
    """Three episodes of holding still."""
    return evaluate_returns(TASK, HoldAgent(TASK), STAND, episodes=3, steps=20, seed=5, kind="floor")


def test_returns_equal_a_loop_over_single_environments(still):
    env = WalkerEnv(task="stand")
    for row in range(3):
        env.reset(seed=5 + row)
        total = sum(env.step(np.zeros(6))[1] for _ in range(20))
        assert still.returns[row] == pytest.approx(total, abs=1e-9)
    assert still.states.shape == (3, 21, 18)
    assert still.mean == pytest.approx(still.returns.mean())
    low, high = still.interval
    assert still.returns.min() <= low < still.mean < high <= still.returns.max()
    for name, statistic in TASK.statistics.items():
        np.testing.assert_allclose(still.statistics[name], statistic.function(still.states.astype(float)), atol=1e-3)


def test_batches_change_nothing_and_all_agents_meet_the_same_starts(still):
    agent = RandomAgent(TASK, 0)
    whole, halves = (evaluate_returns(TASK, agent, STAND, episodes=3, steps=9, seed=5, batch=n) for n in (3, 2))
    np.testing.assert_array_equal(whole.returns, halves.returns)
    np.testing.assert_array_equal(whole.states[:, 0], still.states[:, 0])
    assert not np.allclose(whole.states[:, -1], still.states[:, 9])


def test_a_variation_changes_the_physics(still):
    heavy = evaluate_returns(TASK, HoldAgent(TASK), STAND, episodes=3, steps=20, seed=5, variation={"heavy_torso": 1})
    np.testing.assert_array_equal(heavy.states[:, 0], still.states[:, 0])
    assert not np.allclose(heavy.states[:, -1], still.states[:, -1])
    with pytest.raises(UserError, match="unknown walker variation 'rusty'; known: weak_ankle"):
        evaluate_returns(TASK, HoldAgent(TASK), STAND, episodes=1, steps=1, variation={"rusty": 1})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda s, a=None: s[..., 0] * np.nan, "gave nan for the state"),
        (lambda s, a=None: s, r"gave shape \(1, 18\)"),
    ],
)
def test_a_bad_reward_is_one_line(function, message):
    with pytest.raises(UserError, match=message):
        evaluate_returns(TASK, HoldAgent(TASK), NamedReward("bad", function), episodes=1, steps=2)


def test_progress_counts_to_the_end():
    seen = []
    evaluate_returns(
        TASK, HoldAgent(TASK), STAND, episodes=3, steps=2, batch=2, progress=lambda done, all: seen.append((done, all))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Five recorded random walks of 12 steps."""
    return collect(Settings("walker", "random", reward="walk", max_steps=12), tmp_path_factory.mktemp("data"), 5).store


def test_the_datas_policy_by_the_recorded_and_by_another_reward(store):
    found = data_returns(TASK, store, find_reward(TASK, "walk"), steps=12)
    np.testing.assert_allclose(found.returns, store.read("reward", range(5)).reshape(5, 12).sum(1), atol=1e-4)
    cut = data_returns(TASK, store, find_reward(TASK, "walk"), steps=4)
    np.testing.assert_allclose(cut.returns, store.read("reward", range(5)).reshape(5, 12)[:, :4].sum(1), atol=1e-4)
    states = store.read("state", range(5)).reshape(5, 13, 18).astype(float)
    other = data_returns(TASK, store, find_reward(TASK, "jump"), steps=24)
    np.testing.assert_allclose(other.returns, 2 * REWARDS["jump"](states[:, 1:]).sum(1), atol=1e-6)
    np.testing.assert_allclose(other.statistics["torso height"], 1.3 + states[..., 0].mean(1))


def test_data_of_another_task_are_refused(store):
    with pytest.raises(UserError, match="holds episodes of walker, not of --env pusht"):
        data_returns(registry.load("environments", "pusht"), store, STAND)


def _fails(states, actions):
    raise KeyError("torque\nof the knee")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda s, a: s, r"reward own gave shape \(12, 18\) for states \(12, 18\)"),
        (lambda s, a: 1.0, r"reward own gave shape \(\) for states"),
        (
            lambda s, a: np.where(np.arange(len(s)) == 3, np.nan, s[..., 0]),
            "reward own gave nan for the recorded state",
        ),
        (lambda s, a: "much", "reward own fails on recorded states with ValueError"),
        (_fails, "reward own fails on recorded states with KeyError"),
    ],
)
def test_a_bad_reward_of_recorded_data_is_one_line(store, function, message):
    with pytest.raises(UserError, match=message) as caught:
        data_returns(TASK, store, NamedReward("own", function), steps=12)
    assert "\n" not in str(caught.value)


def test_rewards_by_name_know_their_statistics():
    assert find_reward(TASK).name == "walk"
    found = find_reward(TASK, "target-speed=0.5")
    assert (found.name, found.statistics) == ("target-speed=0.5", ("speed",))
    with pytest.raises(UserError, match=r"unknown reward 'hop' of walker; known: walk, .* or give FILE\.py:FUNCTION"):
        find_reward(TASK, "hop")
    with pytest.raises(UserError, match="takes no number"):
        find_reward(TASK, "walk=2")
    with pytest.raises(UserError, match="pusht has no rewards"):
        find_reward(registry.load("environments", "pusht"), "walk")


_OWN = """
import torch

def high(states, actions=None):
    return states[..., 0]

def whole(states, actions=None):
    return states

def never(states, actions=None):
    return states[..., 0] / 0 if isinstance(states, torch.Tensor) else states[..., 0]

def tensors_only(states, actions=None):
    return torch.exp(states[..., 0])

NUMBER = 3
"""


def test_a_function_of_the_users_own_file(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(_OWN)
    found = find_reward(TASK, f"{file}:high")
    assert found.function(np.full((2, 18), 3.0)).tolist() == [3.0, 3.0]
    assert found.statistics == ()
    cases = {
        "whole": r"gave shape \(2, 3, 4, 18\)",
        "never": "gave inf for a state of 0.1",
        "tensors_only": "fails on arrays of states and actions with TypeError",
        "NUMBER": "has no function 'NUMBER'; it has high, whole, never, tensors_only",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message):
            find_reward(TASK, f"{file}:{name}")
    file.write_text("import nothing_of_this_name")
    with pytest.raises(UserError, match="fails with ModuleNotFoundError"):
        find_reward(TASK, f"{file}:high")
    with pytest.raises(UserError, match="there is no file"):
        find_reward(TASK, f"{tmp_path / 'none.py'}:high")


def test_the_report(still, tmp_path):
    timed = still.timed([0.01, 0.02, 0.03])
    assert timed.decision == {"p50": pytest.approx(0.02), "p99": pytest.approx(0.03, rel=0.02), "count": 3}
    assert still.timed([]) is still
    assert returns_table("title", [timed]).row_count == 1
    lines = statistics_lines(TASK, STAND, [timed])
    assert lines[0].startswith("torso height *, m: hold still ")
    assert len(lines) == len(TASK.statistics)
    result = save_returns(tmp_path / "deep" / "result.json", [timed], seed=5)
    assert (tmp_path / "deep" / "result.json").stat().st_size > 100
    assert result["rows"][0]["mean"] == still.mean
    assert result["rows"][0]["returns"] == still.returns.tolist()
    assert result["seed"] == 5


def test_the_gif_shows_best_and_worst(still, tmp_path):
    try:
        chosen = save_returns_gif(tmp_path / "a.gif", TASK, still, count=2, image_size=48, frames=6)
    except UserError as error:
        pytest.skip(str(error))
    assert chosen == [int(still.returns.argmax()), int(still.returns.argmin())]
    picture = Image.open(tmp_path / "a.gif")
    assert picture.n_frames == 6
    first = np.asarray(picture.convert("RGB")).copy()
    picture.seek(5)
    assert not np.array_equal(first, np.asarray(picture.convert("RGB")))
