"""Imagined latents find their frames: with a model that knows the truth, and with one that does not."""

import types

import numpy as np
import pytest
import torch

from wmkit.contracts import Rollout
from wmkit.envs.two_room import render_states
from wmkit.errors import UserError
from wmkit.evaluation.imagination import imagine
from wmkit.evaluation.quickstart import read_curves

SPEED = 6 / 224


class Centre:
    """Encodes the red dot's place, and moves it as the simulator does away from walls, times `gain`."""

    def __init__(self, gain):
        self.gain, self.spec = gain, types.SimpleNamespace(action_repeat=2, observations={"pixels": None})

    def encode(self, observations):
        frames = np.asarray(observations["pixels"])[:, 0].astype(float)
        weight = (frames[..., 0] - frames[..., 1]).clip(60) - 60
        axis, mass = (np.arange(64) + 0.5) / 64, weight.sum(axis=(1, 2))
        x, y = (weight * axis).sum(axis=(1, 2)) / mass, (weight * axis[:, None]).sum(axis=(1, 2)) / mass
        return torch.tensor(np.stack([x, y], axis=1))[:, None]

    def rollout(self, context, actions):
        moves = actions.unflatten(-1, (2, 2)).sum(dim=-2) * SPEED * self.gain
        return Rollout(context.latents[:, -1, None, None] + moves.cumsum(dim=2))


@pytest.fixture(scope="module")
def store():
    """Episodes in one room's middle: 30 for training, 3 held out; the last held-out one is short."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    lengths = np.array([12] * 32 + [3])  # one more than the episodes that are long enough
    actions = [rng.uniform(-0.6, 0.6, (length, 2)) for length in lengths]
    states = [np.array([0.25, 0.5]) + np.concatenate([np.zeros((1, 2)), a.cumsum(axis=0)]) * SPEED for a in actions]
    columns = {"state": states, "action": actions, "pixels": [render_states(s, 64) for s in states]}
    read = lambda name, positions: columns[name][positions[0]]  # noqa: E731
    return types.SimpleNamespace(episodes=np.arange(33), lengths=lengths, read=read, folder="data")


@pytest.fixture(scope="module")
def splits():
    parts = {"train": tuple(range(30)), "heldout": (30, 31, 32)}
    return types.SimpleNamespace(episodes=parts.__getitem__)


def test_a_true_model_finds_the_real_frames(store, splits):
    found = imagine(Centre(1.0), store, splits, [0, 1], horizon=5)
    assert found.episodes == 2
    assert found.frames == 30 * 13
    assert found.real.shape == found.nearest.shape == (6, 64, 64, 3)
    np.testing.assert_array_equal(found.real, store.read("pixels", [30])[:11:2])
    assert found.errors.shape == found.stay.shape == (5,)
    assert found.errors.max() < found.stay.min() / 1.5
    assert found.errors.mean() == pytest.approx(found.floor, abs=0.01)


def test_a_model_that_imagines_no_motion_is_as_bad_as_staying(store, splits):
    found = imagine(Centre(0.0), store, splits, [0, 1], horizon=5)
    np.testing.assert_allclose(found.errors, found.stay, atol=0.02)


def test_too_short_episodes_are_named(store, splits):
    with pytest.raises(UserError, match="14 steps"):
        imagine(Centre(1.0), store, splits, [0, 1], horizon=7)


def test_the_library_comes_from_the_training_split_alone(store, splits):
    alone = types.SimpleNamespace(episodes={"train": (0,), "heldout": (30, 31)}.__getitem__)
    found = imagine(Centre(1.0), store, alone, [0, 1], horizon=5)
    assert found.frames == 13
    library = {frame.tobytes() for frame in store.read("pixels", [0])}
    assert all(frame.tobytes() in library for frame in found.nearest)


def test_curves_are_read_by_stage_with_steps_in_a_row(tmp_path):
    rows = [
        '{"stage": "a", "split": "train", "step": 10, "loss": 2.0, "grad_norm": 1.0}',
        '{"stage": "a", "split": "validation", "step": 10, "score": 1.0, "open_loop/1": 0.1, "open_loop/2": 0.2}',
        '{"stage": "b", "split": "train", "step": 5, "loss": null}',
        '{"stage": "b", "split": "train", "step": 8, "loss": 1.0}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    found = read_curves(tmp_path / "metrics.jsonl")
    assert found["a: loss"] == [(10, 2.0)]
    assert found["b: loss"] == [(18, 1.0)]
    assert found["a: open_loop/2"] == [(10, 0.2)]
    assert "a: open_loop/1" not in found
    assert read_curves(tmp_path / "missing") == {}
