"""Conformal thresholds keep their promise on any distribution, dependent steps included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmkit.monitor.conformal import episodes_needed, log_betting, p_values, quantile_of_maxima, risk_threshold


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.5, 1), (0.003, 333)])
def test_so_many_episodes_are_needed_and_one_less_will_not_do(rate: float, needed: int) -> None:
    assert episodes_needed(rate) == needed
    maxima = np.arange(float(needed))
    assert quantile_of_maxima(maxima, rate) == needed - 1
    assert quantile_of_maxima(maxima[:-1], rate) is None
    assert risk_threshold(lambda value: np.zeros(needed), [1.0], rate) == 1.0
    assert risk_threshold(lambda value: np.zeros(needed - 1), [1.0], rate) is None


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_out_of_its_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false-alarm rate"):
        episodes_needed(rate)


def test_risk_threshold_is_the_smallest_whose_mean_loss_with_one_more_episode_is_within_the_rate() -> None:
    scores = np.random.default_rng(0).exponential(size=(50, 20))
    losses = lambda value: (scores > value).mean(axis=1)  # noqa: E731
    candidates = np.sort(scores.ravel())
    found = risk_threshold(losses, candidates, 0.1)
    assert found is not None
    good = [value for value in candidates if (losses(value).sum() + 1) / 51 <= 0.1]
    assert found == min(good)


def test_share_of_alarms_in_new_episodes_of_dependent_steps_stays_within_the_rate() -> None:
    """Steps of an episode share one offset: a threshold for exchangeable steps of few episodes would fail."""
    rng, shares = np.random.default_rng(1), []
    for _ in range(300):
        scores = rng.normal(size=(61, 1)) * 3 + rng.normal(size=(61, 30)) * 0.1
        losses = lambda value, known=scores[:60]: (known > value).mean(axis=1)  # noqa: E731
        threshold = risk_threshold(losses, np.append(np.sort(scores[:60].ravel()), np.inf), 0.05)
        assert threshold is not None
        shares.append((scores[60] > threshold).mean())
    assert 0.0 < np.mean(shares) <= 0.05 + 3 * np.std(shares) / np.sqrt(300)


def test_chance_of_any_alarm_in_a_new_episode_stays_within_the_rate() -> None:
    rng, alarms = np.random.default_rng(2), []
    for _ in range(2000):
        walks = rng.normal(size=(40, 25)).cumsum(axis=1).max(axis=1)
        threshold = quantile_of_maxima(walks[:39], 0.1)
        assert threshold is not None
        alarms.append(walks[39] > threshold)
    assert 0.07 <= np.mean(alarms) <= 0.1 + 3 * np.sqrt(0.09 / 2000)


def test_a_bet_on_uniform_p_values_gains_nothing_on_average_and_on_small_ones_much() -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    assert np.exp(log_betting(p)).mean() == pytest.approx(1 - 1 / np.log(200_000), abs=0.03)
    assert log_betting(np.array([1e-4]))[0] > 3
    assert log_betting(np.array([0.9]))[0] < 0


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-6, 6))
def test_p_value_counts_the_scores_at_least_as_large_and_itself(nominal: list[float], score: float) -> None:
    expected = (1 + sum(value >= score for value in nominal)) / (len(nominal) + 1)
    assert p_values(np.array([score]), np.sort(nominal))[0] == pytest.approx(expected)
