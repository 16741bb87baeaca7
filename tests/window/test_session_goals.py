"""`Goals` and `GoalScene`: which pairs are dealt, and how their goals look."""

import numpy as np
import pytest

from wmkit.errors import UserError
from wmkit.evaluation.manifest import Manifest, save_manifest
from wmkit.window.goals import CYCLE, Goals, GoalScene


def test_all_pairs_of_the_manifest_are_dealt_before_one_comes_again(task, folder):
    goals = Goals(task, folder)
    dealt = [goals.draw("short").episode for _ in range(8)]
    assert sorted(dealt[:4]) == sorted(dealt[4:]) == [0, 1, 2, 3]
    assert dealt[:4] != [0, 1, 2, 3] or dealt[4:] != [0, 1, 2, 3], "in random order"


def test_the_seed_decides(task, folder):
    def order(seed):
        goals = Goals(task, folder, seed)
        return [goals.draw("short").episode for _ in range(12)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_the_manifest_of_an_evaluation_serves_too(task, folder, tmp_path):
    from wmkit.evaluation.manifest import load_manifest

    pairs = load_manifest(folder / "manifest-two-room-short.json").pairs[:1]
    manifest = Manifest("two-room", "long50", "distance", 0, "heldout", "f", "s", pairs)
    save_manifest(manifest, tmp_path / "eval" / "two-room-long50" / "manifest.json")
    assert Goals(task, tmp_path).draw("long50") == pairs[0]


def test_a_damaged_manifest_is_an_error(task, tmp_path):
    (tmp_path / "manifest-two-room-short.json").write_text("{}")
    with pytest.raises(UserError, match="is no manifest"):
        Goals(task, tmp_path).draw("short")


def test_without_a_manifest_later_protocols_are_farther(task):
    goals = Goals(task)

    def farthest(protocol):
        pairs = [goals.draw(protocol) for _ in range(13)]
        assert all(pair.episode == -1 for pair in pairs)
        return max(np.linalg.norm(np.subtract(pair.start, pair.goal)) for pair in pairs)

    def nearest(protocol):
        pairs = [goals.draw(protocol) for _ in range(13)]
        return min(np.linalg.norm(np.subtract(pair.start, pair.goal)) for pair in pairs)

    assert farthest("short") <= nearest("long50")
    assert farthest("long50") <= nearest("long75")
    assert farthest("full") == pytest.approx(farthest("long75"), rel=0.5)
    assert all(goals.rule(protocol) == "distance" for protocol in CYCLE)


def test_a_goal_is_drawn_as_the_scene_would_look_there(task, folder):
    def env():
        return task.make_vector(num_envs=1, obs_type="pixels", image_size=32, render_mode="rgb_array")

    pair, scene = Goals(task, folder).draw("short"), GoalScene(env())
    observation, picture = scene.draw(pair, np.array(pair.goal), np.array(pair.start))
    other = env()
    expected, _ = other.reset(options={"state": np.array(pair.goal), "variation": dict(pair.variation)})
    assert np.array_equal(observation["pixels"], expected["pixels"])
    assert np.array_equal(picture, other.render()[0])
    half, _ = scene.draw(pair, np.array([np.nan, pair.goal[1]]), np.array(pair.start))
    expected, _ = other.reset(options={"state": np.array([pair.start[0], pair.goal[1]]), "variation": pair.variation})
    assert np.array_equal(half["pixels"], expected["pixels"])
    scene.close()
    other.close()
