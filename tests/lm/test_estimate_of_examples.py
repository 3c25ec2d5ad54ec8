"""Intervals: closed forms, and whether they hold what they promise when the truth is known."""

import numpy as np
import pytest
from scipy import stats

from lm.evaluation.estimate import ratio, share


def test_a_share_has_the_binomial_error_and_wilsons_interval():
    one = share("accuracy", [True] * 30 + [False] * 70)
    assert (one.value, one.examples) == (0.3, 100)
    assert one.standard_error == pytest.approx((0.3 * 0.7 / 100) ** 0.5)
    wilson = stats.binomtest(30, 100).proportion_ci(method="wilson")
    assert (one.low, one.high) == pytest.approx((wilson.low, wilson.high))


def test_an_interval_has_width_where_all_are_the_same():
    none, all_right = share("", [0.0] * 60), share("", [1.0] * 60)
    assert (none.low, all_right.high) == (0, 1)
    assert none.high == pytest.approx(1 - all_right.low)
    assert 0.05 < none.high < 0.07


def test_the_ratio_of_equal_denominators_is_a_mean():
    values = np.random.default_rng(0).normal(3, 1, 50)
    one = ratio("", values, [1.0] * 50)
    assert one.value == pytest.approx(values.mean())
    assert one.standard_error == pytest.approx(stats.sem(values))
    two = ratio("", values, [4.0] * 50)
    assert two.standard_error == pytest.approx(stats.sem(values) / 4)


def test_the_ratios_interval_covers_the_truth_as_often_as_it_says():
    chance = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        size = chance.integers(10, 1000, 60).astype(float)
        bits = size * (2 + chance.normal(0, 0.3, 60))  # 2 bits a byte
        one = ratio("", bits, size)
        covered += one.low < 2 < one.high
    assert 0.91 < covered / 400 < 0.98


def test_one_example_has_no_interval():
    one = ratio("", [3.0], [2.0])
    assert (one.value, one.standard_error, one.low, one.high) == (1.5, None, None, None)
