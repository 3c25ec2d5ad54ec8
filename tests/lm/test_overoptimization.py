"""Curves of over-optimization, and what the best of n is worth, against slow and obvious versions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy

from lm.overoptimization import Curve, fit_curve, kl_of_best, mean_of_best, patient_stop


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.data())
def test_the_best_of_k_is_the_mean_over_all_choices(chosen_by, data):
    """Of equal ones any may be the best, with the same chance."""
    n = len(chosen_by)
    values = data.draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    means = []
    for choice in itertools.combinations(range(n), k):
        best = max(chosen_by[i] for i in choice)
        means.append(np.mean([values[i] for i in choice if chosen_by[i] == best]))
    found = mean_of_best(k, np.array([chosen_by]), np.array([values], float))
    assert found == pytest.approx(np.mean(means))


def test_the_kl_of_the_best_of_n_is_that_of_a_uniform_draw():
    """The best of n by a continuous score has the density n u^(n - 1) of its quantile u: KL is the integral of p log p."""
    u = (np.arange(200_000) + 0.5) / 200_000
    for n in (1, 2, 5, 64):
        p = n * u ** (n - 1)
        assert kl_of_best(n) == pytest.approx(np.mean(xlogy(p, p)), abs=1e-4)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_curve_is_found_again(logarithmic):
    truth = Curve(1.3, 0.4, logarithmic)
    d = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 6.0])
    bend = [math.log(x) if x else 0.0 for x in d] if logarithmic else d
    assert truth(d).tolist() == pytest.approx([x * (1.3 - 0.4 * y) for x, y in zip(d, bend, strict=True)])
    found = fit_curve(d, truth(d), logarithmic=logarithmic)
    assert (found.a, found.b) == pytest.approx((1.3, 0.4))
    assert fit_curve([0.0, 1.0, 1.0], [0.0, 1.0, 2.0], logarithmic=False) is None


@pytest.mark.parametrize(
    ("scores", "patience", "place"),
    [([1, 2, 3], 1, 2), ([1, 3, 2, 4], 1, 2), ([1, 3, 2, 4, 3, 3], 2, 5), ([1, 3, 3, 3], 2, 3), ([5], 1, 0)],
)
def test_patience(scores, patience, place):
    assert patient_stop(scores, patience) == place
