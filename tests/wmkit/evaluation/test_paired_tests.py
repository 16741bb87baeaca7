"""Paired tests against SciPy and against values worked out by hand."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from wmkit.evaluation.paired_tests import auroc, effect_size, holm, paired_t, signed_rank

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)


def test_auroc_counts_ties_half():
    assert auroc([3, 2], [1, 2]) == pytest.approx(3.5 / 4)
    assert auroc([5, 6], [1, 2]) == 1.0
    assert auroc([1, 2], [5, 6]) == 0.0
    assert math.isnan(auroc([], [1.0]))


@given(NUMBERS, NUMBERS)
def test_auroc_is_the_mann_whitney_statistic(positive, negative):
    wanted = scipy.stats.mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    assert auroc(positive, negative) == pytest.approx(wanted)


def test_effect_size():
    assert effect_size([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert effect_size([0.0, 0.0]) == 0.0
    assert effect_size([-2.0, -2.0]) == -math.inf
    assert math.isnan(effect_size([1.0]))


@pytest.mark.parametrize("count", [2, 3, 8, 25, 50, 51, 200])
def test_tests_agree_with_scipy(count):
    values = np.random.default_rng(count).normal(0.3, 1.0, count)
    assert signed_rank(values) == pytest.approx(scipy.stats.wilcoxon(values, correction=False).pvalue, rel=1e-9)
    assert paired_t(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0.0).pvalue, rel=1e-9)


def test_ties_and_zeros_agree_with_scipy():
    values = np.random.default_rng(0).integers(-2, 5, 80).astype(float)
    wanted = scipy.stats.wilcoxon(values, zero_method="wilcox", correction=False, method="asymptotic").pvalue
    assert signed_rank(values) == pytest.approx(wanted, rel=1e-9)


def test_very_small_p_values_keep_their_digits():
    values = np.random.default_rng(1).normal(5.0, 1.0, 200)
    wanted = scipy.stats.ttest_1samp(values, 0.0).pvalue
    assert wanted < 1e-100
    assert paired_t(values) == pytest.approx(wanted, rel=1e-6)


def test_nothing_that_differs():
    assert signed_rank([0.0, 0.0]) == paired_t([0.0, 0.0]) == 1.0
    assert paired_t([2.0, 2.0]) == 0.0
    assert math.isnan(paired_t([1.0]))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, math.nan, 0.6])[0] == pytest.approx(1.0)
    assert math.isnan(holm([0.5, math.nan])[1])
    assert holm([]) == []


def test_nan_is_refused_by_name():
    with pytest.raises(ValueError, match="positive has 1 NaN of 2"):
        auroc([1.0, math.nan], [1.0])
