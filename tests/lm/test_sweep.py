"""Sweeps as plain lists, against the slow obvious versions and the closed forms of what is drawn."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from lm.sweep import choice, log_uniform, product, random, uniform, zipped

columns = st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 3), max_size=4), max_size=4)


@given(columns)
def test_a_product_has_every_combination_once_and_the_last_changes_fastest(values):
    expected = [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
    assert product(values) == expected
    assert product(*({path: each} for path, each in values.items())) == expected


def test_products_of_sweeps_join_their_trials():
    sizes = zipped({"width": [64, 128], "heads": [2, 4]})
    assert sizes == [{"width": 64, "heads": 2}, {"width": 128, "heads": 4}]
    assert product([*sizes, {"name": "small"}], {"seed": [0, 1]}) == [
        {"width": 64, "heads": 2, "seed": 0},
        {"width": 64, "heads": 2, "seed": 1},
        {"width": 128, "heads": 4, "seed": 0},
        {"width": 128, "heads": 4, "seed": 1},
        {"name": "small", "seed": 0},
        {"name": "small", "seed": 1},
    ]


def test_values_may_come_from_any_iterable():
    assert product({"a": (10**-k for k in (1, 2)), "b": range(1)}) == [{"a": 0.1, "b": 0}, {"a": 0.01, "b": 0}]


def test_the_trials_of_a_product_are_separate_dicts():
    first, second = product([{"a": 1}], {"b": [1, 2]})
    first["a"] = 5
    assert second == {"a": 1, "b": 2}


DISTRIBUTIONS = {
    # name: (distribution, the share of draws at or below x, in closed form)
    "uniform": (uniform(2, 5), lambda x: (x - 2) / 3),
    "log_uniform": (log_uniform(1e-4, 1e-1), lambda x: (math.log10(x) + 4) / 3),
    "whole": (uniform(3, 7, whole=True), lambda x: (x - 2) / 5),
    "log whole": (log_uniform(1, 100, whole=True), lambda x: math.log((x + 0.5) / 0.5) / math.log(100.5 / 0.5)),
    "choice": (choice(1, 2, 3, 4), lambda x: x / 4),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_have_the_distribution_that_is_asked_for(name):
    distribution, below = DISTRIBUTIONS[name]
    drawn = np.array([trial["x"] for trial in random({"x": distribution}, trials=4000, seed=1)])
    # The largest gap between the two is below 1.95 / sqrt(n) in 999 of 1000 samples (Kolmogorov).
    points = np.unique(drawn)
    gap = max(abs(np.mean(drawn <= x) - below(float(x))) for x in points)
    assert gap < 1.95 / math.sqrt(len(drawn))
    assert len(points) > 3


@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e6), st.floats(0, 1, exclude_max=True), st.booleans())
def test_draws_stay_within_their_bounds(low, factor, share, log):
    distribution = (log_uniform if log else uniform)(low, low * factor)
    assert low <= distribution.at(share) <= low * factor


@given(st.integers(1, 10), st.integers(1, 300), st.floats(0, 1, exclude_max=True), st.booleans())
def test_whole_draws_are_whole_and_reach_both_ends(low, more, share, log):
    distribution = (log_uniform if log else uniform)(low, low + more, whole=True)
    assert isinstance(distribution.at(share), int)
    assert low <= distribution.at(share) <= low + more
    assert (distribution.at(0.0), distribution.at(math.nextafter(1, 0))) == (low, low + more)


def test_more_draws_of_a_seed_begin_with_the_same_ones():
    space = {"a": uniform(0, 1), "b": choice("x", "y", "z")}
    assert random(space, trials=30, seed=7)[:10] == random(space, trials=10, seed=7)
    assert random(space, trials=10, seed=7) != random(space, trials=10, seed=8)


def test_draws_are_written_with_four_digits():
    assert all(value == float(f"{value:.4g}") for t in random({"x": log_uniform(1e-5, 1)}, 50) for value in t.values())


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (lambda: product({"a": [1]}, {"a": [2]}), "a is in two factors"),
        (lambda: product([{"a": 1}, {"b": 1}], {"b": [2]}), "b is in two factors"),
        (lambda: zipped({"a": [1, 2], "b": [1]}), "a has 2, b has 1"),
        (lambda: product({"a": 3}), "a: 3 is one value"),
        (lambda: product({"a": "adamw"}), "a: 'adamw' is one value"),
        (lambda: log_uniform(0, 1), "must be above 0"),
        (lambda: uniform(2, 1), "the lower end comes first"),
        (lambda: uniform(0, math.inf), "the lower end comes first"),
        (choice, "nothing to choose from"),
        (lambda: random({"a": uniform(0, 1)}, trials=0), "trials=0"),
    ],
)
def test_mistakes_are_told(mistake, told):
    with pytest.raises(UserError, match=told):
        mistake()
