"""Recording: what is stored is what happened, and it depends on the seed and the index alone."""

import subprocess
import sys

import numpy as np
import point_task
import pytest

from wmkit.data.recording import Recorder, Settings
from wmkit.errors import UserError

TASK = "point_task:POINT"


def _columns(index=0, **settings):
    return Recorder(Settings(TASK, **settings)).episode(index).columns


def test_frames_actions_and_states_belong_together():
    columns = _columns(noise=0.3)
    length = len(columns["action"])
    assert columns["state"].shape == (length + 1, 2)
    assert columns["pixels"].shape == (length + 1, 8, 8, 3)
    moved = columns["state"][:-1] + 0.1 * columns["action"].astype(np.float64)
    np.testing.assert_allclose(columns["state"][1:], moved, atol=1e-12)
    np.testing.assert_array_equal(columns["pixels"][:, 3, 3, :2], np.uint8(255 * np.clip(columns["state"], 0, 1)))


def test_replaying_from_the_seed_repeats_the_episode():
    columns = _columns(3, noise=0.3)
    env = point_task.PointEnv()
    _, info = env.reset(seed=int(columns["seed"]))
    states = [info["state"]] + [env.step(action)[-1]["state"] for action in columns["action"]]
    np.testing.assert_array_equal(states, columns["state"])
    assert info["door.position"] == columns["door.position"]
    np.testing.assert_array_equal(info["goal_state"], columns["goal_state"])


@pytest.mark.parametrize("linger", [0, 1, 4])
def test_lingers_after_success(linger):
    success = _columns(linger=linger)["success"]
    first = int(success.argmax())
    assert success[first]
    assert len(success) - 1 - first == linger


def test_stops_at_max_steps():
    assert len(_columns(policy="random", max_steps=2)["action"]) <= 2
    lengths = [len(_columns(k, policy="random")["action"]) for k in range(4)]
    assert max(lengths) == point_task.POINT.max_steps


def test_episodes_depend_on_seed_and_index_alone():
    recorder = Recorder(Settings(TASK, noise=0.2, env={"wild": 0.3}))
    later_first = [recorder.episode(index).columns for index in (5, 2, 5)]
    for name, rows in later_first[0].items():
        np.testing.assert_array_equal(rows, later_first[2][name])
    assert not np.array_equal(later_first[0]["state"][0], later_first[1]["state"][0])
    other = _columns(5, noise=0.2, seed=1, env={"wild": 0.3})
    assert not np.array_equal(other["state"][0], later_first[0]["state"][0])


def test_noise_is_a_share_of_half_the_range_and_stays_in_bounds():
    rest = np.concatenate([_columns(k, noise=0.1, linger=30, max_steps=40)["action"][-15:] for k in range(10)])
    assert 0.07 < np.std(rest + 0.0) < 0.16
    wild = np.concatenate([_columns(k, noise=3.0)["action"] for k in range(3)])
    assert np.abs(wild).max() == 1.0
    quiet = _columns(noise=0.0)["action"][0].astype(np.float64)
    assert np.abs(quiet).max() == pytest.approx(1.0) or _columns()["success"][1]


def test_random_actions_are_smooth_and_cover_the_range():
    actions = [_columns(k, policy="random")["action"] for k in range(20)]
    long = [rows for rows in actions if len(rows) > 10]
    pairs = np.concatenate([np.stack([rows[:-1], rows[1:]]) for rows in long], axis=1)
    assert np.corrcoef(pairs[0].ravel(), pairs[1].ravel())[0, 1] > 0.7
    everything = np.concatenate(actions)
    assert everything.min() == -1
    assert everything.max() == 1


def test_invalid_episodes_are_drawn_anew_and_counted():
    recorder = Recorder(Settings(TASK, env={"wild": 0.6}))
    episodes = [recorder.episode(index).columns for index in range(12)]
    assert max(int(columns["attempt"]) for columns in episodes) > 0
    assert max(np.abs(columns["state"]).max() for columns in episodes) < 5
    with pytest.raises(UserError, match="episode 0 of point left the physics' domain"):
        _columns(env={"wild": 1.0})


def test_metadata_describe_the_columns():
    recorder = Recorder(Settings(TASK, noise=0.2, env={"image_size": 16}))
    metadata, columns = recorder.metadata(4, 2, "1"), recorder.episode(0).columns
    assert {column.name for column in metadata.columns} == set(columns)
    for column in metadata.columns:
        assert columns[column.name].dtype == np.dtype(column.dtype), column.name
        expected = column.shape if column.per == "episode" else (column.rows(len(columns["action"])), *column.shape)
        assert columns[column.name].shape == expected
    assert metadata.column("state").labels == ("x", "y")
    assert metadata.max_steps == 30
    assert metadata.scene == ("door.position",)


def test_recording_imports_no_torch():
    code = "import sys, wmkit.data.collect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "worst"}, "unknown policy 'worst'; known: expert, random"),
        ({"noise": -1.0}, "at least 0"),
        ({"noise": float("nan")}, "at least 0"),
        ({"policy": "random", "noise": 0.1}, "goes with policy 'expert'"),
        ({"max_steps": 0}, "at least 1"),
        ({"env": {"colour": 3}}, "refuses {'colour': 3}"),
        (
            {"task": "push-cube", "env": {"obs_type": "state", "action_mode": "space"}},
            r"takes actions \(3,\), and policies give \(2,\)",
        ),
        ({"task": "pushtt"}, "did you mean 'pusht'"),
        ({"task": "point_task:LINE"}, "cannot load the task"),
        ({"task": "point_task:PointEnv"}, "expected a wmkit.tasks.Task"),
    ],
)
def test_bad_requests(settings, message):
    with pytest.raises(UserError, match=message):
        Recorder(Settings(**({"task": TASK} | settings)))
