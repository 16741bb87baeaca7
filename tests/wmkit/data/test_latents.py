"""Windows of latents: numbers say where it stands, goals lie ahead in the same episode; other data are refused."""

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from counting_store import write_counting_store
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.contracts import ObservationSpec
from wmkit.data.episodes import EpisodeStore
from wmkit.data.latents import LatentWindows, check_actions, check_statistics
from wmkit.diffusion.features import FeatureConfig, Features
from wmkit.errors import UserError


def _features(repeat=1, **changes):
    return FeatureConfig(**({"latent_size": 2, "block_size": 2 * repeat, "history": 2, "horizon": 3} | changes))


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _check_window(batch, i, lengths, repeat, inside):
    """Check one window of a counting store against its first frame."""
    episode, start = int(batch.latents[i, 0, 0]), int(batch.latents[i, 0, 1])
    times = start + repeat * torch.arange(batch.latents.shape[1])
    assert inside <= (times <= lengths[episode]).sum()
    assert (batch.latents[i, :, 0] == episode).all()
    assert (batch.latents[i, :, 1] == times.clamp(max=lengths[episode])).all()
    steps = times[:-1].clamp(max=lengths[episode] - repeat)[:, None] + torch.arange(repeat)
    expected = torch.stack([torch.full_like(steps, episode), steps], dim=-1).flatten(1) / 1000
    torch.testing.assert_close(batch.actions[i], expected.float())
    assert batch.rows[i] == sum(length + 1 for length in lengths[:episode]) + start


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=5),
    history=st.integers(1, 3),
    repeat=st.integers(1, 3),
    goal=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_windows_and_goals_stay_in_their_episode(lengths, history, repeat, goal, seed):
    features = _features(repeat, history=history, goal=goal, reach=2)
    lengths = [*lengths, (history + 2) * repeat]
    with tempfile.TemporaryDirectory() as folder:
        store = write_counting_store(Path(folder), lengths)
        windows = LatentWindows(store, tuple(range(len(lengths))), features, repeat)
        for batch, inside in ((windows.sample(40, _generator(seed)), history + 1), (windows.all(), history + 3)):
            for i in range(len(batch.rows)):
                _check_window(batch, i, lengths, repeat, inside if goal else history + 3)
            if goal:
                newest = batch.latents[:, history - 1]
                assert ((batch.steps >= 1) & (batch.steps <= 2)).all()
                assert (batch.goal[:, 0] == newest[:, 0]).all()
                assert (batch.goal[:, 1] == newest[:, 1] + repeat * batch.steps).all()
            else:
                assert batch.goal is None
                assert batch.steps is None
        assert len(windows.all().rows) == len(windows)


def test_goals_and_windows_reach_the_end_of_an_episode(tmp_path):
    store = write_counting_store(tmp_path, [9, 9, 9])
    batch = LatentWindows(store, (0, 1, 2), _features(goal=True, reach=4), 1).sample(500, _generator())
    assert batch.goal[:, 1].max() == 9
    assert batch.latents[:, 1, 1].max() == 8
    assert set(batch.steps.tolist()) == {1, 2, 3, 4}


def test_the_same_draw_gives_the_same_windows(tmp_path):
    store = write_counting_store(tmp_path, [9, 9, 9])
    windows = LatentWindows(store, (0, 1, 2), _features(goal=True), 1)
    one, same, other = (windows.sample(50, _generator(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(getattr(one, name), getattr(same, name)) for name in vars(one))
    assert not torch.equal(one.rows, other.rows)


def test_the_first_episodes_alone(tmp_path):
    store = write_counting_store(tmp_path, [9] * 60)
    whole = LatentWindows(store, "train", _features(), 1)
    few = LatentWindows(store, "train", _features(), 1, episodes=7)
    assert few.episodes == 7
    assert len(few) == 7 * 6
    assert torch.equal(few.all().latents, whole.all().latents[: len(few)])
    assert torch.equal(few.all().rows, whole.all().rows[: len(few)])
    with pytest.raises(UserError, match="has 53 to take from; give 1 to that many"):
        LatentWindows(store, "train", _features(), 1, episodes=61)


def test_a_batch_is_split_in_order(tmp_path):
    store = write_counting_store(tmp_path, [9, 9, 9])
    batch = LatentWindows(store, (0, 1, 2), _features(goal=True), 1).all(most=10)
    parts = batch.split(4)
    assert [len(part.rows) for part in parts] == [4, 4, 2]
    assert all(
        torch.equal(torch.cat([getattr(part, name) for part in parts]), vars(batch)[name]) for name in vars(batch)
    )


class _Encoder:
    """The mean brightness and its square, counting its calls."""

    def __init__(self, shape=(4, 4, 3)):
        self.frames = 0
        self.spec = SimpleNamespace(observations={"pixels": ObservationSpec(shape, "uint8", 0, 255)})

    def encode(self, observations):
        pixels = observations["pixels"]
        assert pixels.shape[1:] == (1, 4, 4, 3)
        self.frames += len(pixels)
        mean = pixels.float().mean(dim=(2, 3, 4))
        return torch.stack([mean, mean.square()], dim=-1)


def test_pixels_are_encoded_once(tmp_path):
    store, encoder, cache = write_counting_store(tmp_path, [9, 6, 9]), _Encoder(), {}
    windows = LatentWindows(store, (0, 1, 2), _features(), 1, encoder, cache=cache)
    assert encoder.frames == 27
    again = LatentWindows(store, (0, 1, 2), _features(history=1), 1, encoder, cache=cache)
    assert encoder.frames == 27
    LatentWindows(store, (0, 1), _features(), 1, encoder, cache=cache)
    assert encoder.frames == 27 + 17
    time = LatentWindows(store, (0, 1, 2), _features(), 1).latents[:, 1]
    torch.testing.assert_close(windows.latents, torch.stack([time, time.square()], dim=1))
    assert torch.equal(again.latents, windows.latents)


@pytest.mark.parametrize(
    ("features", "options", "text"),
    [
        (_features(block_size=4), {}, "action blocks of 2 numbers .action repeat 1., the model takes 4"),
        (_features(latent_size=3), {}, "latents of 2 numbers, the model takes 3"),
        (_features(horizon=30), {}, "no window fits"),
        (_features(), {"encoder": _Encoder((8, 8, 3))}, "holds pixels .4, 4, 3., the encoder takes .8, 8, 3."),
        (_features(), {"episodes": 0}, "episodes=0"),
    ],
)
def test_data_that_do_not_fit_are_one_line(tmp_path, features, options, text):
    store = write_counting_store(tmp_path, [9, 9, 9])
    with pytest.raises(UserError, match=text) as caught:
        LatentWindows(store, (0, 1, 2), features, 1, **options)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused(tmp_path, monkeypatch):
    store = write_counting_store(tmp_path, [9, 9, 9])
    read = store.read

    def broken(name, positions):
        values = read(name, positions)
        if name == "action":
            values[3] = np.nan
        return values

    monkeypatch.setattr(store, "read", broken)
    with pytest.raises(UserError, match="not finite"):
        LatentWindows(store, (0, 1, 2), _features(), 1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"action_low": (-1.0,) * 3, "action_high": (1.0,) * 3}, "has actions of 2 numbers, the model takes 3"),
        ({"action_high": (1.0, 2.0)}, "has action bounds"),
        ({"seconds_per_step": 0.2}, "0.1 s a step, 1 of them make 0.1 s; the model's step lasts 0.2 s"),
    ],
)
def test_other_actions_or_rates_are_one_line(tmp_path, changes, text):
    store = write_counting_store(tmp_path, [9, 9, 9])
    right = {"action_low": (-1.0, -1.0), "action_high": (1.0, 1.0), "action_repeat": 1, "seconds_per_step": 0.1}
    check_actions(store, SimpleNamespace(**right))
    with pytest.raises(UserError, match=text):
        check_actions(store, SimpleNamespace(**(right | changes)))


def test_other_units_are_refused(tmp_path):
    store = write_counting_store(tmp_path, [30, 30, 30])
    windows = LatentWindows(store, (0, 1, 2), _features(goal=True), 1)
    features, batch = Features(windows.features), windows.all()
    features.fit(batch.latents, batch.actions)
    check_statistics(features, windows)
    features.input_std /= 100
    with pytest.raises(UserError, match="standard deviations from what the model was normalised for"):
        check_statistics(features, windows)


def test_states_must_be_flat(tmp_path):
    store = write_counting_store(tmp_path, [9, 9, 9])
    columns = [replace(c, shape=(1, 2)) if c.name == "state" else c for c in store.metadata.columns]
    store = EpisodeStore(tmp_path, replace(store.metadata, columns=tuple(columns)), store._shards)
    with pytest.raises(UserError, match="not flat"):
        LatentWindows(store, (0, 1, 2), _features(), 1)
