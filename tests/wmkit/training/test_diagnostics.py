"""Diagnostics against closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmkit.training.diagnostics import (
    change_per_step,
    collapse_warnings,
    diagnose,
    effective_rank,
    linear_probe,
    open_loop_error,
    spread,
    straightness,
)


def _orthogonal(rows, columns):
    """Centred orthonormal columns."""
    points = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(points - points.mean(dim=0)).Q


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.floats(-100, 100))
def test_effective_rank_is_the_entropy_of_the_singular_values(values, offset):
    weights = torch.tensor(values, dtype=torch.float64)
    share = weights / weights.sum()
    expected = math.exp(-(share * share.log()).sum())
    latents = _orthogonal(50, len(values)) * weights
    turned = latents @ torch.linalg.qr(torch.vander(torch.arange(1.0, len(values) + 1))).Q.double()
    assert effective_rank(turned + offset) == pytest.approx(expected, rel=1e-6)


def test_effective_rank_of_a_constant_is_zero():
    assert effective_rank(torch.full((20, 3), 7.3)) == 0.0


def test_spread_is_the_standard_deviation_of_each_dimension():
    latents = torch.tensor([[0.0, 5.0, 1.0], [2.0, 5.0, 7.0]])
    assert spread(latents) == {"std_min": 0.0, "std_median": 1.0, "std_max": 3.0}


def _episodes(count=20, length=5):
    return torch.arange(count).repeat_interleave(length)


def test_a_probe_reads_a_linear_target_and_no_other():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2000, 6, generator=generator) + 3
    targets = {
        "linear": latents[:, :2] * 10 + 100,
        "half": latents[:, :1] + torch.randn(2000, 1, generator=generator),
        "noise": torch.randn(2000, 2, generator=generator),
        "constant": torch.full((2000, 1), 0.1),
        "partly_constant": torch.cat([latents[:, :1], torch.ones(2000, 1)], dim=1),
    }
    found = linear_probe(latents, _episodes(100, 20), targets)
    assert found["linear"] == pytest.approx(1.0, abs=1e-4)
    assert found["half"] == pytest.approx(0.5, abs=0.08)
    assert abs(found["noise"]) < 0.05
    assert math.isnan(found["constant"])
    assert found["partly_constant"] == pytest.approx(1.0, abs=1e-4)


def test_a_probe_is_judged_on_episodes_that_it_did_not_see():
    """Each episode has a code and a target of its own: learnt by heart within an episode, unknown in another."""
    generator = torch.Generator().manual_seed(0)
    code, value = torch.randn(20, 30, generator=generator), torch.randn(20, 1, generator=generator)
    episodes = _episodes(20, 50)
    assert linear_probe(code[episodes], episodes, {"x": value[episodes]})["x"] < 0.5


def test_a_probe_survives_dimensions_that_are_equal_or_dead():
    latents = torch.randn(100, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0, 1.0, 0.0]])
    assert linear_probe(latents, _episodes(), {"x": latents[:, :1]})["x"] > 0.999
    dead = linear_probe(torch.zeros(100, 3), _episodes(), {"x": latents[:, :1]})["x"]
    assert dead == pytest.approx(0.0, abs=0.1)


def test_a_probe_needs_two_episodes():
    with pytest.raises(ValueError, match="2 episodes"):
        linear_probe(torch.randn(5, 2), torch.zeros(5), {"x": torch.randn(5, 1)})


def test_open_loop_error_of_a_known_drift():
    """Latents move by the action; a model that sees only half of it is off by half, growing with the horizon."""
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(4000, 4, 2, generator=generator)
    start = torch.randn(4000, 1, 2, generator=generator)
    latents = torch.cat([start, start + actions.cumsum(dim=1)], dim=1)

    def half(past, moves):
        assert past.shape == (4000, 2, 2)
        return past[:, -1:] + 0.5 * moves[:, 1:].cumsum(dim=1)

    errors = open_loop_error(latents, actions, half, history=2)
    variance = (latents - latents.mean(dim=(0, 1))).square().sum(dim=2).mean()
    for h in range(3):
        assert errors["copy_last"][h] == pytest.approx(2 * (h + 1) / float(variance), rel=0.1)
        assert errors["model"][h] == pytest.approx(errors["copy_last"][h] / 4, rel=1e-5)
    scaled = open_loop_error(latents * 7 + 3, actions, lambda past, moves: (half((past - 3) / 7, moves)) * 7 + 3, 2)
    assert scaled["model"] == pytest.approx(errors["model"], rel=1e-4)


def test_open_loop_error_refuses_a_prediction_of_another_shape():
    with pytest.raises(ValueError, match=r"expected \(3, 4, 2\)"):
        open_loop_error(torch.randn(3, 5, 2), torch.randn(3, 4, 1), lambda past, moves: past, history=1)


def test_change_per_step_counts_no_step_across_episodes():
    """Latents 0 and 10 by episode, alternating by one within: size 5.02, change 1."""
    latents = torch.tensor([0.0, 1.0, 0.0, 1.0, 10.0, 11.0, 10.0, 11.0])[:, None] + 500
    episodes = torch.tensor([3, 3, 3, 3, 1, 1, 1, 1])
    assert change_per_step(latents, episodes) == pytest.approx(1 / math.sqrt(25 + 0.25))
    with pytest.raises(ValueError, match="consecutive"):
        change_per_step(latents, torch.arange(8))


def test_a_healthy_latent_gives_no_warning_and_each_fault_one():
    generator = torch.Generator().manual_seed(0)
    position = torch.randn(40, 10, 2, generator=generator).cumsum(dim=1)
    frames, episodes = position.flatten(0, 1), torch.arange(40).repeat_interleave(10)
    room = torch.randn(40, 2, generator=generator)[episodes] * 50
    actions = position.diff(dim=1)

    def numbers(latents, predict):
        windows = latents.view(40, 10, -1), actions
        return diagnose(latents, episodes, {"position": frames}, windows, predict)

    def perfect(past, moves):
        return past + moves.cumsum(dim=1)

    good = numbers(frames, perfect)
    assert collapse_warnings(good) == []
    assert good["open_loop/1"] == pytest.approx(0, abs=1e-9)
    assert set(good) >= {"effective_rank", "std_min", "probe/position", "open_loop/9", "copy_last/9", "change_per_step"}
    still = collapse_warnings(numbers(room, lambda past, moves: past.expand(-1, 9, -1)))
    assert [line.split()[0] for line in still] == ["position", "the", "one-step"]
    assert "hardly moves (0.0000" in still[1]
    collapsed = torch.cat([frames[:, :1], torch.zeros(400, 31)], dim=1)
    assert any("collapsed" in line for line in collapse_warnings(numbers(collapsed, lambda p, m: p.expand(-1, 9, -1))))


def test_what_is_not_measured_is_not_judged():
    assert collapse_warnings({"score": 1.0, "open_loop/1": 5.0}) == []


def test_straightness_of_a_line_a_zigzag_and_a_right_angle():
    line = torch.arange(6.0)[:, None] * torch.tensor([[3.0, 4.0]]) + 7
    zigzag = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    stairs = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [2.0, 2.0]])
    one = lambda points: torch.zeros(len(points), dtype=torch.long)  # noqa: E731
    assert straightness(line, one(line)) == pytest.approx(1)
    assert straightness(zigzag, one(zigzag)) == pytest.approx(-1)
    assert straightness(stairs, one(stairs)) == pytest.approx(0, abs=1e-12)


def test_straightness_counts_no_change_across_episodes_and_no_standstill():
    two_lines = torch.cat([torch.arange(5.0), -torch.arange(5.0)])[:, None]
    assert straightness(two_lines, _episodes(2, 5)) == pytest.approx(1)
    held = torch.tensor([[0.0], [1.0], [2.0], [2.0], [2.0]])
    assert straightness(held, torch.zeros(5)) == pytest.approx(1)
    assert math.isnan(straightness(torch.ones(5, 2), torch.zeros(5)))
    assert math.isnan(straightness(torch.randn(4, 2), _episodes(2, 2)))


def test_straightness_of_noise_is_minus_a_half_and_of_a_random_walk_zero():
    noise = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert straightness(noise, torch.zeros(4000)) == pytest.approx(-0.5, abs=0.02)
    assert straightness(noise.cumsum(dim=0), torch.zeros(4000)) == pytest.approx(0, abs=0.02)
