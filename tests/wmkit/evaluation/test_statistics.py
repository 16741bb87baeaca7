"""Statistics against SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wmkit.errors import UserError
from wmkit.evaluation.statistics import bootstrap, compare, mcnemar, percentiles, wilson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_equals_scipy(counts, confidence):
    successes, trials = counts
    theirs = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson(successes, trials, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 5), (6, 5), (1, 2, 1.0)])
def test_wilson_refuses_impossible_counts(arguments):
    with pytest.raises(ValueError, match="wilson"):
        wilson(*arguments)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_binomial_test(b, c):
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("k", range(1, 8))
def test_mcnemar_one_sided_disagreement_has_a_closed_form(k):
    assert mcnemar(k, 0) == pytest.approx(2.0 ** (1 - k))


def test_compare_counts_each_kind_of_pair():
    found = compare([1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0])
    assert (found.both, found.only_first, found.only_second, found.neither) == (1, 2, 1, 2)
    assert found.p_value == mcnemar(2, 1)


def test_compare_refuses_different_numbers_of_pairs():
    with pytest.raises(UserError, match="same --manifest"):
        compare([True], [True, False])


def test_percentiles():
    found = percentiles(np.arange(101) / 100)
    assert math.isclose(found["p50"], 0.5)
    assert math.isclose(found["p99"], 0.99)
    assert found["count"] == 101
    with pytest.raises(ValueError, match="warm-up"):
        percentiles([])


def test_bootstrap_equals_scipy():
    values = np.random.default_rng(3).exponential(size=20)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=0)
    expected = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    assert bootstrap(values, draws=20_000) == pytest.approx(expected, rel=0.02)
    assert bootstrap(values) == bootstrap(values)
    low, high = bootstrap(values, 0.5)
    assert bootstrap(values)[0] < low < values.mean() < high < bootstrap(values)[1]
    assert bootstrap([2.0]) == (2.0, 2.0)


@pytest.mark.parametrize("arguments", [([],), ([[1.0]],), ([1.0], 1.0), ([1.0], 0.9, 0)])
def test_bootstrap_refuses_what_cannot_be_drawn(arguments):
    with pytest.raises(ValueError, match="bootstrap"):
        bootstrap(*arguments)
