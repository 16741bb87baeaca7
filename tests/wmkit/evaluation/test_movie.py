"""GIFs decode, and show what happened."""

import io

import numpy as np
import pytest
from PIL import Image

from wmkit.evaluation import agents, movie
from wmkit.evaluation.protocols import PROTOCOLS, draw_manifest
from wmkit.evaluation.runner import evaluate


@pytest.mark.parametrize(
    ("success", "count", "expected"),
    [
        ("1101", 4, [0, 1, 3, 2]),
        ("110011", 4, [0, 1, 2, 3]),
        ("1111", 3, [0, 1, 2]),
        ("0000", 3, [0, 1, 2]),
        ("10000", 4, [0, 1, 2, 3]),
    ],
)
def test_half_successes_half_failures_where_there_are_both(success, count, expected):
    assert movie.choose(np.array([c == "1" for c in success]), count) == expected


@pytest.fixture(scope="module")
def run(task, recordings):
    manifest = draw_manifest(task, PROTOCOLS["short"], 5, recordings=recordings)
    return manifest, evaluate(task, manifest, agents.ReplayAgent(task))


def test_the_gif_decodes_and_moves(task, run, tmp_path):
    manifest, outcomes = run
    rows = movie.save_gif(tmp_path / "deep" / "out.gif", task, manifest, outcomes, count=3, image_size=64)
    assert rows == [0, 1, 2]
    with Image.open(tmp_path / "deep" / "out.gif") as image:
        assert image.n_frames == outcomes.first_success[:3].max() + 1
        assert image.width == 3 * (64 + 6) + 6
        assert image.info["loop"] == 0
        first = np.asarray(image.convert("RGB")).astype(int)
        image.seek(image.n_frames - 1)
        last = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(first - last).max() > 60


def test_pictures_are_the_environments_own(task, run):
    manifest, outcomes = run
    frames, goals = movie.render_pairs(task, manifest, [1, 3], outcomes.states[[1, 3]][:, [0, 25]], 48)
    assert frames.shape == (2, 2, 48, 48, 3)
    np.testing.assert_array_equal(frames[:, 1], goals)  # replay ends exactly at the goal
    assert (frames[:, 0] != goals).any(axis=(1, 2, 3)).all()


def test_long_episodes_are_thinned_out(task, run):
    manifest, outcomes = run
    assert len(movie.movie(task, manifest, outcomes, [1], 32, frames=5)) == 5


def test_a_gif_needs_frames():
    with pytest.raises(ValueError, match="at least one frame"):
        movie.gif_bytes([], 0.1)


def test_frames_are_timed_and_the_last_one_stays():
    frames = [np.full((8, 8, 3), shade, np.uint8) for shade in (0, 120, 250)]
    with Image.open(io.BytesIO(movie.gif_bytes(frames, 0.1))) as image:
        durations = []
        for number in range(image.n_frames):
            image.seek(number)
            durations.append(image.info["duration"])
    assert durations == [100, 100, 1100]
