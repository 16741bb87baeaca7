"""Progressive distillation: one step of the student's target is two of the teacher's."""

import math

import cart_task
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.data.episodes import EpisodeStore
from wmkit.data.latents import LatentWindows
from wmkit.diffusion.process import Diffusion, DiffusionConfig
from wmkit.diffusion.progressive import (
    DistilRecipe,
    DistilSettings,
    denoising,
    direct_output,
    few_steps,
    teacher_target,
)
from wmkit.errors import UserError

KINDS = [DiffusionConfig(), DiffusionConfig(prediction="sample"), DiffusionConfig(kind="flow")]


@pytest.mark.parametrize(
    ("steps", "given", "expected"),
    [(2, None, [(8, 4), (4, 2)]), (1, 2, [(2, 1)]), (3, None, [(12, 6), (6, 3)]), (8, None, [(16, 8)])],
)
def test_rounds(steps, given, expected):
    assert DistilSettings(steps=steps, teacher_steps=given).rounds() == expected


@pytest.mark.parametrize(("steps", "given"), [(2, 2), (2, 10), (3, 8), (4, 2)])
def test_teachers_that_cannot_be_halved_are_refused(steps, given):
    with pytest.raises(UserError, match="cannot be halved"):
        DistilSettings(steps=steps, teacher_steps=given).rounds()


@pytest.mark.parametrize("config", KINDS)
@settings(max_examples=25, deadline=None)
@given(start=st.integers(2, 1000), share=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_direct_output_leads_where_it_must(config, start, share, seed):
    diffusion, generator = Diffusion(config), torch.Generator().manual_seed(seed)
    noisy, after = torch.randn(2, 3, 4, 2, generator=generator, dtype=torch.float64)
    begin, end = torch.full((3,), start / 1000), torch.full((3,), math.floor(share * start) / 1000)
    output = direct_output(diffusion, noisy, after, begin, end)
    torch.testing.assert_close(diffusion.step_between(output, noisy, begin, end), after, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("config", KINDS)
def test_a_student_that_meets_its_target_samples_as_its_teacher(config):
    diffusion = Diffusion(config)
    four = diffusion.grid(few_steps(4, config))
    noise = torch.randn(16, 4, 2, generator=torch.Generator().manual_seed(0))

    def teacher(noisy, levels):
        """Denoise normal data of mean 1 and standard deviation 0.5, exactly."""
        alpha, sigma = (share.view(-1, 1, 1) for share in diffusion.coefficients(levels))
        clean = 1 + 0.25 * alpha * (noisy - alpha) / (0.25 * alpha**2 + sigma**2)
        return diffusion.target(clean, (noisy - alpha * clean) / sigma, levels)

    def student(noisy, levels):
        first = four.index(min(four, key=lambda level: abs(level - float(levels[0]))))
        middle, end = (torch.full_like(levels, four[first + offset]) for offset in (1, 2))
        return teacher_target(diffusion, teacher, noisy, levels, middle, end)

    expected = diffusion.sample(teacher, noise, few_steps(4, config))
    torch.testing.assert_close(diffusion.sample(student, noise, few_steps(2, config)), expected, atol=1e-3, rtol=1e-3)
    assert (diffusion.sample(teacher, noise, few_steps(2, config)) - expected).abs().max() > 0.02


def test_what_is_denoised(cart_run):
    store = EpisodeStore.open(cart_run[1])
    dynamics, proposal = cart_task.build("diffusion"), cart_task.build("diffusion-proposal")
    for part in (dynamics, proposal):
        cart_task.trained(part, store, steps=0)
    batch = LatentWindows(store, "train", dynamics.config.features, 1).all(most=8)
    task = denoising(dynamics, batch)
    future = dynamics.features.unscale_changes(task.clean, batch.latents[:, 0])
    torch.testing.assert_close(future, batch.latents[:, 1:])
    torch.testing.assert_close(dynamics.features.unscale_actions(task.condition), batch.actions)
    task = denoising(proposal, batch)
    torch.testing.assert_close(proposal.features.unscale_actions(task.clean), batch.actions)
    assert task.condition is None


def test_a_goal_beyond_which_nothing_counts(cart_run):
    store = EpisodeStore.open(cart_run[1])
    part = cart_task.build("diffusion-proposal", features=cart_task.features(goal=True, reach=6))
    cart_task.trained(part, store, steps=0)
    batch = LatentWindows(store, "train", part.config.features, 1).sample(64, torch.Generator().manual_seed(0))
    weights = denoising(part, batch).weights
    assert weights is not None
    counted = weights[..., 0].sum(1)
    assert batch.steps is not None
    torch.testing.assert_close(counted, batch.steps.clamp(max=4).float())
    assert len(counted.unique()) == 4


@pytest.mark.parametrize(
    ("config", "steps", "text"),
    [
        (DiffusionConfig(prediction="epsilon"), 2, "predicts the noise"),
        (DiffusionConfig(train_steps=10), 16, "the schedule has no more"),
    ],
)
def test_what_cannot_be_distilled_is_refused(config, steps, text):
    part = cart_task.build("diffusion-proposal", diffusion=config)
    with pytest.raises(UserError, match=text):
        DistilRecipe(part, DistilSettings(steps=steps), None, None, {})  # pyright: ignore
