"""The loss terms: symmetries, rollouts, inverse dynamics and contrast against what they must equal."""

import pytest
import torch

from wmkit.models.lewm.losses import (
    contrast_loss,
    inverse_loss,
    rollout_loss,
    transform_actions,
    transform_pixels,
    views_of,
)


def place(position, size=16):
    """Draw one lit pixel at (x, y)."""
    image = torch.zeros(size, size, 3)
    image[position[1], position[0]] = 1
    return image


def where(image):
    y, x = torch.nonzero(image[..., 0])[0].tolist()
    return torch.tensor([x, y])


@pytest.mark.parametrize("view", range(8))
def test_moving_then_transforming_equals_transforming_then_moving(view):
    start, move = torch.tensor([4, 6]), torch.tensor([3, -2])
    before, after = (transform_pixels(place(p), view) for p in (start, start + move))
    action = transform_actions(move.float()[None], torch.tensor([view]))[0]
    assert torch.equal(where(after) - where(before), action.long())


def test_action_blocks_transform_step_by_step():
    actions = torch.randn(8, 4, 10)
    blocks = transform_actions(actions, torch.arange(8))
    steps = transform_actions(actions.unflatten(-1, (5, 2)), torch.arange(8))
    assert torch.equal(blocks, steps.flatten(-2))


def test_the_eight_views_are_different():
    image = place((3, 5))
    assert len({tuple(where(transform_pixels(image, view)).tolist()) for view in views_of("dihedral")}) == 8


def test_unknown_views_are_named():
    with pytest.raises(ValueError, match="dihedral"):
        views_of("mirror")


def test_a_rollout_feeds_on_its_own_predictions():
    """With a step that adds the action, errors of the targets do not enter the rollout."""
    actions = torch.randn(5, 4, 3)
    truth = torch.cat([torch.zeros(5, 1, 3), actions.cumsum(1)], dim=1)
    broken = truth.clone()
    broken[:, 2] += 1
    loss, rollout = rollout_loss(lambda z, a: z[:, -1] + a[:, -1], broken, actions, 1, 1)
    torch.testing.assert_close(rollout, truth[:, 1:])
    torch.testing.assert_close(loss, torch.tensor(0.25))


@pytest.mark.parametrize("history", [1, 2, 3])
def test_a_rollout_shows_no_more_than_the_history(history):
    seen = []

    def step(latents, actions):
        assert latents.shape[1] == actions.shape[1]
        seen.append(latents.shape[1])
        return latents[:, -1]

    rollout_loss(step, torch.zeros(2, 6, 3), torch.zeros(2, 5, 1), 1, history)
    assert seen == [min(history, n) for n in range(1, 6)]


def test_inverse_pairs_lie_in_the_window_and_want_the_first_action():
    """Latents that count steps let an exact head be written down; any wrong pairing makes its loss positive."""
    latents = torch.arange(7.0).expand(64, 7)[..., None]
    actions = torch.arange(6.0).expand(64, 6)[..., None] * 10

    def head(z, goal, steps):
        assert torch.equal(goal - z, steps[:, None].float())
        assert steps.max() <= 4
        return 10 * z

    assert inverse_loss(head, latents, actions, 4, torch.Generator().manual_seed(0)) == 0


def test_contrast_is_low_where_time_is_distance_and_log_of_the_group_where_all_is_one():
    generator = torch.Generator().manual_seed(0)
    still = contrast_loss(torch.zeros(32, 4, 8), 16, 0.1, generator)
    torch.testing.assert_close(still, torch.tensor(16.0).log())
    apart = torch.randn(32, 1, 8, generator=generator).expand(32, 4, 8)
    assert contrast_loss(apart, 16, 0.1, generator) < 0.1


def test_contrast_compares_within_the_group_alone():
    latents = torch.zeros(4, 2, 1)
    latents[2:] = 100
    torch.testing.assert_close(
        contrast_loss(latents, 2, 0.1, torch.Generator().manual_seed(0)), torch.tensor(2.0).log()
    )
