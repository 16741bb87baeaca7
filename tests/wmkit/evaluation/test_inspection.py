"""Looking inside models of known insides: one that knows the truth, and ones that are wrong in one way each."""

import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from wmkit.contracts import ModelSpec, ObservationSpec, Rollout
from wmkit.envs.tasks import TWO_ROOM
from wmkit.envs.two_room import render_states
from wmkit.errors import UserError
from wmkit.evaluation import frames as frames_module
from wmkit.evaluation.inspection import Settings, inspect
from wmkit.evaluation.inspection_page import write_page
from wmkit.evaluation.open_loop import imagine_windows, strips, windows
from wmkit.evaluation.picture_decoder import PictureDecoder

SPEED, REPEAT, SIZE = 6 / 224, 2, 32


class Centre:
    """Encodes the red dot's place, and moves it as the simulator does away from walls, times `gain`."""

    def __init__(self, gain=1.0, key="pixels"):
        shape = (SIZE, SIZE, 3) if key == "pixels" else (2,)
        spec = ObservationSpec(shape, "uint8" if key == "pixels" else "float64", 0, 255)
        self.gain, self.spec = gain, ModelSpec({key: spec}, (-1, -1), (1, 1), REPEAT, 1, 2, 0.1)

    def encode(self, observations):
        if "state" in observations:
            return torch.as_tensor(np.asarray(observations["state"]), dtype=torch.float32)
        frames = np.asarray(observations["pixels"])[:, 0].astype(float)
        weight = (frames[..., 0] - frames[..., 1]).clip(60) - 60
        axis, mass = (np.arange(SIZE) + 0.5) / SIZE, weight.sum(axis=(1, 2))
        x, y = (weight * axis).sum(axis=(1, 2)) / mass, (weight * axis[:, None]).sum(axis=(1, 2)) / mass
        return torch.tensor(np.stack([x, y], axis=1), dtype=torch.float32)[:, None]

    def rollout(self, context, actions, generator=None):
        moves = actions.unflatten(-1, (REPEAT, 2)).sum(dim=-2) * SPEED * self.gain
        return Rollout(context.latents[:, -1, None, None] + moves.cumsum(dim=2))


class Store(types.SimpleNamespace):
    """Episodes in one room's middle: 20 for training, 6 held out."""

    def read(self, name, positions):
        return self.columns[name][positions[0]]

    def __len__(self):
        return len(self.episodes)


def _store(count=26, length=14):
    rng = np.random.default_rng(0)
    actions = [rng.uniform(-0.6, 0.6, (length, 2)).astype(np.float32) for _ in range(count)]
    starts = rng.uniform((0.2, 0.4), (0.3, 0.6), (count, 2))
    states = [
        s + np.concatenate([np.zeros((1, 2)), a.cumsum(axis=0)]) * SPEED for s, a in zip(starts, actions, strict=True)
    ]
    columns = {"state": states, "action": actions, "pixels": [render_states(s, SIZE) for s in states]}
    shapes = {"state": (2,), "action": (2,), "pixels": (SIZE, SIZE, 3)}
    specs = [types.SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]
    metadata = types.SimpleNamespace(
        task="two-room",
        columns=specs,
        column=lambda name: next(spec for spec in specs if spec.name == name),
        action_low=(-1, -1),
        action_high=(1, 1),
        seconds_per_step=0.05,
    )
    lengths = np.full(count, length)
    return Store(
        episodes=np.arange(count),
        lengths=lengths,
        columns=columns,
        metadata=metadata,
        folder="data",
        fingerprint="f" * 64,
    )


@pytest.fixture(scope="module")
def store():
    torch.set_num_threads(1)
    return _store()


@pytest.fixture(autouse=True)
def splits(monkeypatch):
    parts = {"train": tuple(range(20)), "heldout": tuple(range(20, 26))}
    found = types.SimpleNamespace(episodes=parts.__getitem__, hashes={"heldout": "h"})
    monkeypatch.setattr("wmkit.evaluation.inspection.load_splits", lambda store: found)
    monkeypatch.setattr("wmkit.readout._STEPS", 200)
    return found


QUICK = Settings(horizon=4, decoder_steps=3)


def test_a_true_model_is_found_true(store, splits, tmp_path):
    told = []
    found = inspect(Centre(), TWO_ROOM, store, QUICK, progress=told.append)
    assert found.frames == {"train": (20, 160), "heldout": (6, 48)}
    assert found.probes["linear"].scores["agent"]["r"] > 0.99
    assert found.diagnostics["open_loop/4"] < 0.01 < found.diagnostics["copy_last/4"]
    errors = found.quantities["agent"]
    assert len(errors["imagined"]) == 4
    np.testing.assert_allclose(errors["imagined"], errors["real"], atol=0.004)
    assert errors["copy_last"][3] > 3 * errors["imagined"][3]
    assert set(found.decoder) == {"decoder", "mean"}
    assert list(found.seconds) == told == ["encode frames", "fit probes", "imagine", "train the picture decoder"]
    write_page(tmp_path / "page.html", "test", "two-room", found, {"data": "<here>"})
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img ") == 3 * 5 * len(found.strips) == 3 * 5 * 4
    assert "&lt;here&gt;" in page
    assert "LeWM" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_model_that_imagines_no_motion_is_as_bad_as_copying(store):
    found = inspect(Centre(0.0), TWO_ROOM, store, replace(QUICK, decoder_steps=0))
    errors = found.quantities["agent"]
    np.testing.assert_allclose(errors["imagined"], errors["copy_last"])
    assert found.diagnostics["open_loop/1"] == pytest.approx(found.diagnostics["copy_last/1"])


def test_straightness_of_independent_actions_is_that_of_a_random_walk(store):
    found = inspect(Centre(key="state"), TWO_ROOM, store, replace(QUICK, decoder_steps=0)).straightness
    assert found["latents"] == pytest.approx(0, abs=0.25)
    assert found["latents shuffled"] < -0.2
    assert "pixels" not in found


def test_a_model_of_states_has_no_pictures_and_the_page_says_so(store, tmp_path):
    found = inspect(Centre(key="state"), TWO_ROOM, store, QUICK)
    assert found.strips == []
    assert found.decoder == {}
    write_page(tmp_path / "page.html", "test", "two-room", found, {})
    page = (tmp_path / "page.html").read_text()
    assert "reads states and not pixels" in page
    assert "<img " not in page


def test_published_numbers_stand_beside_ours_for_their_task_alone(store, tmp_path):
    found = inspect(Centre(key="state"), TWO_ROOM, store, QUICK)
    write_page(tmp_path / "page.html", "test", "pusht", found, {})
    page = (tmp_path / "page.html").read_text()
    assert "0.974" in page  # the agent's; this model has no block
    assert "0.986" not in page
    assert "other data" in page


def test_windows_stay_within_an_episode_and_the_actions_are_those_between(store, splits):
    model = Centre()
    held = frames_module.read_frames(model, TWO_ROOM, store, splits, "heldout", 9, REPEAT)
    rows = windows(held, 5, 1000)
    assert len(rows) == 6 * (8 - 4)
    assert (held.episodes[rows] == held.episodes[rows[:, :1]]).all()
    imagined = imagine_windows(model, held.latents[rows[:, :1]], held.actions[rows[:, :-1]])
    torch.testing.assert_close(imagined, held.latents[rows[:, 1:]], atol=0.01, rtol=0)
    with pytest.raises(UserError, match="9 model steps"):
        windows(held, 9, 10)


def test_strips_show_the_recorded_frames_of_the_stretch_with_most_change(store, splits):
    held = frames_module.read_frames(Centre(), TWO_ROOM, store, splits, "heldout", 9, REPEAT)
    found = strips(Centre(), PictureDecoder(2), held, 3, 2)
    assert [strip.episode for strip in found] == [20, 25]
    for strip in found:
        recorded = store.read("pixels", [strip.episode])[::REPEAT]
        np.testing.assert_array_equal(strip.real, recorded[strip.start : strip.start + 4])
        states = store.read("state", [strip.episode])[::REPEAT]
        assert strip.start == np.linalg.norm(states[3:] - states[:-3], axis=1).argmax()
        np.testing.assert_array_equal(strip.decoded[0], strip.imagined[0])


def test_the_decoder_draws_where_things_are(monkeypatch):
    """A square whose place is the latent: decoded far better than the mean picture, brightest where it should be."""
    monkeypatch.setattr("wmkit.evaluation.picture_decoder._BATCH", 16)
    places = torch.randint(4, 52, (300,), generator=torch.Generator().manual_seed(0))
    pixels = torch.zeros(300, 64, 64, 3, dtype=torch.uint8)
    for picture, place in zip(pixels, places.tolist(), strict=True):
        picture[28:36, place : place + 8] = 255
    latents = torch.stack([places / 10, torch.ones(300)], dim=1).float()
    decoder = PictureDecoder.fit(latents[:250], pixels[:250], steps=120)
    error = decoder.error(latents[250:], pixels[250:])
    assert error["decoder"] < 0.6 * error["mean"]
    drawn = decoder.pictures(latents[250:, None])[:, 0, 28:36].float().mean(dim=(1, 3))
    off = (drawn.unfold(1, 8, 1).sum(dim=2).argmax(dim=1) - places[250:]).abs().float()
    assert off.mean() < 4


def test_large_frames_are_brought_down_to_64_pixels(store, splits, monkeypatch):
    monkeypatch.setattr(frames_module, "_LARGEST", 16)
    held = frames_module.read_frames(Centre(), TWO_ROOM, store, splits, "heldout", 9, REPEAT)
    assert held.pixels.shape[1:] == (16, 16, 3)
    expected = store.read("pixels", [20])[0].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(held.pixels[0], expected, atol=0.51)


def test_mistakes_are_named_in_one_line(store, splits):
    model = Centre()

    def refused(match, model=model, task=TWO_ROOM, settings=QUICK, store=store, **options):
        with pytest.raises(UserError, match=match) as caught:
            inspect(model, task, store, settings, **options)
        assert "\n" not in str(caught.value)

    refused("no 'depth'", model=types.SimpleNamespace(spec=replace(model.spec, observations={"depth": None})))
    refused(
        "pixels, state", model=types.SimpleNamespace(spec=replace(model.spec, observations={"pixels": 0, "state": 0}))
    )
    large = replace(model.spec, observations={"pixels": ObservationSpec((64, 64, 3), "uint8", 0, 255)})
    refused(r"\(32, 32, 3\).*\(64, 64, 3\)", model=types.SimpleNamespace(spec=large))
    refused("action", model=types.SimpleNamespace(spec=replace(model.spec, action_low=(0,), action_high=(1,))))
    refused("0.1 s.*0.05 s|0.05 s", model=types.SimpleNamespace(spec=replace(model.spec, seconds_per_step=0.05)))
    refused("no probes", task=replace(TWO_ROOM, probes={}))
    refused("two-room, not of other", task=replace(TWO_ROOM, name="other"))
    refused("--horizon", settings=Settings(horizon=20))
    refused("another split", training={"fingerprint": "f" * 64, "splits": {"heldout": "x"}})
    splits.episodes = {"train": tuple(range(20)), "heldout": (20,)}.__getitem__
    refused("1 heldout episodes")


def test_a_model_that_encodes_into_nan_is_named(store):
    broken = Centre(key="state")
    broken.encode = lambda observations: torch.full((len(observations["state"]), 1, 2), torch.nan)
    with pytest.raises(UserError, match="not finite"):
        inspect(broken, TWO_ROOM, store, QUICK)
