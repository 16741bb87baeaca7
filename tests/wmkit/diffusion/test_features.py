"""What networks see: in standard deviations, unmoved by what does not matter, and back in units without loss."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.diffusion.features import FeatureConfig, Features

D, A, F = 4, 2, 6


def _windows(m=400, history=1, seed=0):
    """Return windows in which column 0 runs far away, 2 is an angle, and 3 never changes; and their actions."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(m, history + F, D, generator=generator) * torch.tensor([3.0, 0.1, 0.5, 0.0])
    latents = steps.cumsum(dim=1) + torch.tensor([50.0, -2.0, 0.0, 7.0])
    return latents, 2 + 0.25 * torch.randn(m, history + F - 1, A, generator=generator)


def _fitted(history=1, **changes):
    features = Features(FeatureConfig(D, A, history=history, horizon=F, **changes))
    features.fit(*_windows(history=history))
    return features


def _context(features, latents, actions, **goal):
    t = features.config.history
    return features.context(latents[:, :t], actions[:, : t - 1], **goal)


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize(("invariant", "angles"), [((), ()), ((0,), ()), ((0,), (2,))])
def test_networks_see_standard_numbers(history, invariant, angles):
    features = _fitted(history, invariant=invariant, angles=angles)
    latents, actions = _windows(history=history)
    context = _context(features, latents, actions)
    assert context.shape == (400, features.context_size)
    frames = context[:, : history * (features.input_size + 1)].view(400, history, -1)
    assert torch.equal(frames[..., -1], torch.ones(400, history))
    for seen in (frames[..., :-1].flatten(0, 1), features.scale_actions(actions).flatten(0, 1)):
        assert seen.mean(0).abs().max() < 1e-3
        assert ((seen.std(0) - 1).abs() < 0.01).logical_or(seen.std(0) < 1e-4).all()
    changes = features.scale_changes(latents[:, history:], latents[:, history - 1])
    assert changes.mean(0).abs().max() < 1e-3
    assert (changes.std(0)[:, :3] - 1).abs().max() < 0.01
    assert changes[..., 3].abs().max() < 1e-4


@given(seed=st.integers(0, 99), shift=st.floats(-100, 100), turns=st.integers(-3, 3))
@settings(max_examples=25, deadline=None)
def test_shifts_and_whole_turns_change_nothing(seed, shift, turns):
    features = _fitted(2, invariant=(0,), angles=(2,), goal=True)
    latents, actions = _windows(5, 2, seed)
    moved = latents + torch.tensor([shift, 0, turns * 2 * math.pi, 0])
    goal = {"goal": latents[:, -1], "steps": torch.arange(1, 6)}
    same = {"goal": moved[:, -1], "steps": torch.arange(1, 6)}
    torch.testing.assert_close(
        _context(features, moved, actions, **same), _context(features, latents, actions, **goal), atol=2e-3, rtol=1e-3
    )
    away = latents + torch.tensor([0, 1.0, 0, 0])
    difference = _context(features, away, actions, **goal) - _context(features, latents, actions, **goal)
    assert difference.abs().max() > 0.5


@given(st.integers(1, F), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_units_come_back(h, seed):
    features = _fitted()
    latents, actions = _windows(5, 1, seed)
    future, anchor = latents[:, 1 : 1 + h], latents[:, 0]
    back = features.unscale_changes(features.scale_changes(future, anchor), anchor)
    torch.testing.assert_close(back, future, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(features.unscale_actions(features.scale_actions(actions)), actions)


def test_changes_take_leading_axes():
    features = _fitted()
    latents = _windows(6)[0]
    plain = features.unscale_changes(torch.ones(6, 3, D), latents[:, 0])
    folded = features.unscale_changes(torch.ones(2, 3, 3, D), latents[:, 0].view(2, 3, D))
    torch.testing.assert_close(folded.flatten(0, 1), plain)


def test_a_short_history_is_flagged_and_a_long_one_cut():
    features = _fitted(3)
    latents, actions = _windows(5, 3)
    width = features.input_size + 1
    whole = features.context(latents[:, :3], actions[:, :2])
    short = features.context(latents[:, 1:3], actions[:, 1:2])
    assert torch.equal(short[:, :width], torch.zeros(5, width))
    assert torch.equal(short[:, width : 3 * width], whole[:, width : 3 * width])
    assert torch.equal(short[:, -A:], whole[:, -A:])
    assert torch.equal(short[:, -2 * A : -A], torch.zeros(5, A))
    assert features.context(latents[:, 2:3], actions[:, 2:2]).shape == whole.shape
    earlier = torch.cat([latents[:, :1] + 9, latents[:, :3]], dim=1)
    long = features.context(earlier, torch.cat([actions[:, :1] + 9, actions[:, :2]], dim=1))
    assert torch.equal(long, whole)


def test_goal_and_steps_are_seen():
    features = _fitted(goal=True, reach=8)
    latents, actions = _windows(5)
    near, far, beyond = (
        _context(features, latents, actions, goal=latents[:, -1], steps=torch.full((5,), steps)) for steps in (1, 8, 20)
    )
    assert torch.equal(far, beyond)
    assert near[0, -2:].tolist() == [0.125, 1.0]
    assert far[0, -2:].tolist() == [1.0, 0.125]
    there = _context(features, latents, actions, goal=latents[:, 0], steps=torch.ones(5))
    size = features.input_size
    assert there[:, -2 - size : -2].abs().max() == 0
    assert near[:, -2 - size : -2].abs().max() > 0.5
    with pytest.raises(ValueError, match="set a goal"):
        _context(features, latents, actions)


def test_inputs_are_left_as_they_were():
    features = _fitted(2, invariant=(0,), angles=(2,))
    latents, actions = _windows(5, 2)
    before = latents.clone(), actions.clone()
    _context(features, latents, actions)
    assert torch.equal(latents, before[0])
    assert torch.equal(actions, before[1])


def test_statistics_are_saved():
    features = _fitted(angles=(2,))
    again = Features(FeatureConfig.from_dict(features.config.to_dict()))
    with pytest.raises(ValueError, match="statistics are missing"):
        _context(again, *_windows(3))
    again.load_state_dict(features.state_dict())
    assert torch.equal(_context(again, *_windows(3)), _context(features, *_windows(3)))


def test_bad_windows_are_refused():
    features = Features(FeatureConfig(D, A, horizon=F))
    latents, actions = _windows(3)
    with pytest.raises(ValueError, match=r"do not fit \(W, 7, 4\) and \(W, 6, 2\)"):
        features.fit(latents, actions[:, 1:])
    with pytest.raises(ValueError, match="do not fit"):
        features.fit(latents[..., :3], actions)
    actions[1, 2, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        features.fit(latents, actions)
    assert not features.fitted


def test_configuration_survives_json():
    import json

    config = FeatureConfig(D, A, invariant=(0,), angles=(2, 3), goal=True)
    assert FeatureConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
