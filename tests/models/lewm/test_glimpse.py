"""The glimpse encoder: what its features are before any training, and that the empty scene does not count."""

import numpy as np
import torch

from wmkit.envs.pusht import render_states
from wmkit.models.lewm.config import LeWMConfig
from wmkit.models.lewm.model import LeWM
from wmkit.training.diagnostics import linear_probe

WHITE = (255.0, 255.0, 255.0)


def scenes(count, seed=0):
    rng = np.random.default_rng(seed)
    states = np.zeros((count, 10))
    states[:, :2] = rng.uniform(50, 450, (count, 2))
    states[:, 2:4] = rng.uniform(130, 380, (count, 2))
    states[:, 4] = rng.uniform(-np.pi, np.pi, count)
    return states, torch.from_numpy(render_states(states, 64))


def fitted(pixels):
    torch.manual_seed(0)
    options = {"colors": 3, "depth": 0}
    config = LeWMConfig(
        64,
        57,
        5,
        (-1, -1),
        (1, 1),
        0.5,
        encoder="glimpse",
        encoder_options=options,
        background=WHITE,
        pixel_scale=WHITE,
    )
    model = LeWM(config).eval()
    model.encoder.fit(model.preprocess(pixels), model.preprocess(pixels), torch.Generator().manual_seed(0))
    return model


def features(model, pixels):
    with torch.no_grad():
        return model.encoder._describe(model.encoder.mask(model.preprocess(pixels))).flatten(1)


def test_before_training_a_linear_map_reads_positions_and_angle():
    states, pixels = scenes(1500)
    found = features(fitted(pixels), pixels)
    standard = (found - found.mean(0)) / (found.std(0) + 1e-6)
    targets = {
        "agent": torch.from_numpy(states[:, :2]),
        "block": torch.from_numpy(states[:, 2:4]),
        "angle": torch.from_numpy(np.stack([np.sin(states[:, 4]), np.cos(states[:, 4])], 1)),
    }
    r2 = linear_probe(standard, torch.arange(1500) // 100, targets)
    assert r2["agent"] > 0.98, r2
    assert r2["block"] > 0.98, r2
    assert r2["angle"] > 0.85, r2


def test_the_empty_scene_is_masked_and_cleaning_changes_nothing_for_the_encoder():
    _, pixels = scenes(300)
    model = fitted(pixels)
    empty = model.encoder.scene.expand(2, -1, -1, -1)
    assert model.encoder.mask(empty).abs().max() == 0
    cleaned = model.clean(pixels[:20])
    assert (cleaned != pixels[:20]).any()
    torch.testing.assert_close(features(model, cleaned), features(model, pixels[:20]))
    assert torch.equal(model.clean(cleaned), cleaned)


def test_the_glimpse_does_not_depend_on_the_place():
    _, pixels = scenes(300)
    model = fitted(pixels)
    a = np.array([[100, 330, 290, 330, 0.7, 0, 0, 0, 0, 0]], float)
    b = a + np.array([64, 32, 64, 32, 0, 0, 0, 0, 0, 0])
    first, second = (features(model, torch.from_numpy(render_states(s, 64))).view(3, 19) for s in (a, b))
    torch.testing.assert_close(first[:, 3:], second[:, 3:], atol=0.02, rtol=0.05)
    assert (first[:, 1:3] - second[:, 1:3]).abs().max() > 0.1
