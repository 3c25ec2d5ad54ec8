"""Agreement between raters, against scipy and by hand."""

import itertools
import random
import re

import pytest
from scipy.stats import kendalltau

from data_pipeline.conversation import said
from data_pipeline.ranking import Ranking
from launch.ranking.agreement import agreement, bootstrap, report


def ranking(prompt, rater, ranks):
    responses = tuple(said("assistant", f"{prompt} {i}") for i in range(len(ranks)))
    return Ranking(f"{prompt}/{rater}", (said("user", prompt),), responses, tuple(ranks), rater)


def test_tau_b_is_scipys():
    chance = random.Random(0)
    for _ in range(300):
        one, other = ([chance.randrange(4) for _ in range(5)] for _ in range(2))
        same, differ, tau = agreement(one, other)
        wanted = kendalltau(one, other).statistic
        assert (tau is None and wanted != wanted) or tau == pytest.approx(wanted)
        pairs = list(itertools.combinations(range(5), 2))
        assert same + differ == sum(one[i] != one[j] and other[i] != other[j] for i, j in pairs)


def test_what_was_not_judged_is_left_out():
    assert agreement([0, 1, None, 2], [0, None, 1, 2]) == (1, 0, 1.0)
    assert agreement([0, 1], [1, 0]) == (0, 1, -1.0)
    assert agreement([0, 0], [0, 1]) == (0, 0, None)


def test_the_report_counts_by_hand():
    rankings = [
        ranking("a", "Ada", [0, 1, 2]),
        ranking("a", "Ben", [0, 2, 1]),  # one pair of three the other way
        ranking("b", "Ada", [0, 1, 2]),
        ranking("b", "Ben", [0, 1, 2]),
        ranking("b", "Eve", [2, 1, 0]),
        ranking("c", "Eve", [0, 1, 2]),  # nobody else's
    ]
    told = report(rankings)
    table = {line.split()[0]: line.split()[1:] for line in told.splitlines()[1:4]}
    # Of Ada's pairs with Ben 5 of 6 agree, and none of 3 with Eve.
    assert table == {
        "Ada": ["2", "2", "9", "55.6%"],
        "Ben": ["2", "2", "9", "55.6%"],
        "Eve": ["2", "1", "6", "0.0%"],
    }
    assert "2 prompts were ranked by at least two raters" in told
    assert "ordered the same way: 0.417 [" in told  # 5 of 12
    assert "Kendall's tau-b: -0.167 [" in told  # (1/3 + 1 - 1 - 1) / 4


def test_one_rater_alone():
    assert "nothing to compare" in report([ranking("a", "Ada", [0, 1])])


def test_the_interval_covers_as_often_as_it_says():
    """200 sessions of 60 prompts whose raters agree on 7 pairs of 10."""
    covered = 0
    for seed in range(200):
        chance = random.Random(seed)
        same = [sum(chance.random() < 0.7 for _ in range(10)) for _ in range(60)]
        low, high = bootstrap(same, [10] * 60, seed)
        covered += low <= 0.7 <= high
    assert 0.88 < covered / 200 < 0.99


def test_noise_is_seen():
    chance = random.Random(3)
    rankings = []
    for prompt in range(50):
        rankings.append(ranking(str(prompt), "Ada", [0, 1, 2, 3, 4]))
        rankings.append(ranking(str(prompt), "dice", chance.sample(range(5), 5)))
    low, high = map(float, re.search(r"same way: [\d.]+ \[([\d.]+), ([\d.]+)\]", report(rankings)).groups())
    assert low < 0.5 < high
