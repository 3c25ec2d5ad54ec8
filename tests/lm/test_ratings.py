"""Ratings against closed forms, a slow fit of another kind, and votes simulated from strengths that are known."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from data_pipeline.errors import UserError
from lm.ratings import OUTCOMES, POINTS, SCALE, Vote, rate, win_matrix


def between(left: str, right: str, wins: int, losses: int, ties: int = 0) -> list[Vote]:
    """Votes with both models on both sides equally often where the numbers are even, each on a prompt of its own."""
    outcomes = ["left"] * wins + ["right"] * losses + ["tie"] * ties
    turned = {"left": "right", "right": "left", "tie": "tie"}
    return [
        Vote(f"{left}{right}{i}", left, right, outcome)
        if i % 2
        else Vote(f"{left}{right}{i}", right, left, turned[outcome])
        for i, outcome in enumerate(outcomes)
    ]


def values(ratings) -> dict[str, float]:
    return {one.model: one.rating.value for one in ratings.standings}


def played(strengths, prompts, seed, *, advantage=0.0, length=0.0, orders=1) -> list[Vote]:
    """Every pair on every prompt, from the model that is fitted. Lengths are those of the models, and chance."""
    rng = np.random.default_rng(seed)
    votes = []
    for prompt in range(prompts):
        size = {name: 20 + 10 * (name == "b") + 6 * rng.normal() for name in strengths}
        for i, one in enumerate(strengths):
            for other in list(strengths)[i + 1 :]:
                for left, right in (
                    [(one, other), (other, one)][:orders] if prompt % 2 else [(other, one), (one, other)][:orders]
                ):
                    logit = strengths[left] - strengths[right] + advantage + length * (size[left] - size[right])
                    outcome = "left" if rng.random() < expit(logit) else "right"
                    votes.append(Vote(str(prompt), left, right, outcome, size[left], size[right]))
    return votes


def slowly(votes: list[Vote], models: list[str], columns: int) -> np.ndarray:
    """The same likelihood climbed step by step, vote by vote; the ridge is left out. Nats, mean 0, then a and b."""
    typical = math.sqrt(sum((v.left_length - v.right_length) ** 2 for v in votes) / len(votes)) or 1.0
    beta = np.zeros(len(models) + columns)
    for _ in range(2000):
        gradient = np.zeros_like(beta)
        for vote in votes:
            row = np.zeros_like(beta)
            row[models.index(vote.left)], row[models.index(vote.right)] = 1, -1
            row[len(models) :] = [1, (vote.left_length - vote.right_length) / typical][:columns]
            gradient += (POINTS[vote.outcome] - 1 / (1 + math.exp(-row @ beta))) * row
        beta += 4 * gradient / len(votes)
    beta[: len(models)] -= beta[: len(models)].mean()
    return beta


@pytest.mark.parametrize(("wins", "losses", "ties"), [(16, 4, 0), (10, 10, 0), (14, 6, 0), (8, 2, 10)])
def test_two_models_differ_by_the_log_of_the_ratio_of_wins(wins, losses, ties):
    ratings = rate(between("a", "b", wins, losses, ties) + between("a", "b", wins, losses, ties))
    found = values(ratings)
    expected = 400 * math.log10((wins + ties / 2) / (losses + ties / 2))
    assert found["a"] - found["b"] == pytest.approx(expected, abs=0.1)
    assert found["a"] + found["b"] == pytest.approx(2000)
    (a,) = [one for one in ratings.standings if one.model == "a"]
    assert (a.wins, a.losses, a.ties) == (2 * wins, 2 * losses, 2 * ties)


def test_an_advantage_of_ten_to_one_is_400_points():
    found = values(rate(between("a", "b", 20, 2), anchor="b"))
    assert found == {"a": pytest.approx(1400, abs=0.5), "b": 1000}


@pytest.mark.parametrize("columns", [1, 2])
def test_the_fit_is_that_of_a_slow_climb(columns):
    votes = played({"a": 0.7, "b": 0.0, "c": -0.5}, 14, 3, advantage=0.5, length=0.05, orders=2)
    votes += [Vote(str(i), "a", "c", "both_bad", 5, 9) for i in range(4)]
    slow = slowly(votes, ["a", "b", "c"], columns)
    found = rate(votes, length=columns == 2, resamples=10)
    fast = values(found)
    assert [fast[name] for name in "abc"] == pytest.approx(list(1000 + SCALE * slow[:3]), abs=0.3)
    assert found.left_advantage.value == pytest.approx(expit(slow[3]), abs=1e-3)
    if columns == 2:
        assert found.length_effect.value == pytest.approx(SCALE * slow[4], abs=0.3)
    assert sum(one.both_bad for one in found.standings) == 8


def test_known_strengths_lie_in_their_intervals():
    """A true difference lies in its 95% interval in 95% of the worlds, about. Prompts count: each vote is there twice."""
    strengths = {"a": 0.8, "b": 0.0, "c": -0.3}
    true = {name: SCALE * (value - strengths["b"]) + 1000 for name, value in strengths.items()}
    inside, errors = [], []
    for seed in range(60):
        votes = played(strengths, 60, seed)
        found = rate([*votes, *votes], anchor="b", resamples=200, seed=seed)
        for one in found.standings:
            if one.model != "b":
                inside.append(one.rating.low <= true[one.model] <= one.rating.high)
                errors.append(one.rating.value - true[one.model])
            else:
                assert one.rating.low == one.rating.value == one.rating.high == 1000
    assert 0.87 <= np.mean(inside) <= 0.99, np.mean(inside)
    assert abs(np.mean(errors)) < 12  # of a spread of about 50: no bias to speak of


def test_the_order_of_votes_and_the_sides_do_not_matter():
    votes = played({"a": 0.7, "b": 0.0, "c": -0.5}, 20, 1, orders=2)
    one = rate(votes, length=True, resamples=50)
    random.Random(0).shuffle(votes)
    assert rate(votes, length=True, resamples=50) == one
    turned = {"left": "right", "right": "left"}
    other = rate(
        [Vote(v.prompt, v.right, v.left, turned[v.outcome], v.right_length, v.left_length) for v in votes], resamples=50
    )
    same = rate(votes, resamples=50)
    assert values(other) == pytest.approx(values(same), abs=1e-5)
    assert other.left_advantage.value == pytest.approx(1 - same.left_advantage.value, abs=1e-7)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from(OUTCOMES)), max_size=12),
    st.data(),
)
def test_whatever_the_votes_ratings_are_finite_or_refused(triples, data):
    votes = [
        Vote(str(i % 3), left, right, outcome) for i, (left, right, outcome) in enumerate(triples) if left != right
    ]
    met = {name for vote in votes for name in (vote.left, vote.right)}
    together = {votes[0].left} if votes else set()
    for _ in met:
        together |= {name for vote in votes for name in (vote.left, vote.right) if {vote.left, vote.right} & together}
    if not votes or together < met:
        with pytest.raises(UserError, match="no votes"):
            rate(votes, resamples=5)
        return
    found = rate(votes, resamples=5)
    shuffled = data.draw(st.permutations(votes))
    assert rate(shuffled, resamples=5) == found
    assert all(math.isfinite(value) for value in values(found).values())
    assert sum(values(found).values()) == pytest.approx(1000 * len(found.standings))
    assert sorted(name for group in found.groups for name in group) == sorted(values(found))


def test_a_planted_length_bias_is_removed():
    votes = played({"a": 0.4, "b": 0.0, "c": 0.0}, 1500, 5, length=0.12)
    plain, controlled = values(rate(votes, resamples=2)), values(rate(votes, length=True, resamples=2))
    assert plain["b"] > plain["a"] + 60  # b is ten longer
    assert controlled["a"] - controlled["b"] == pytest.approx(0.4 * SCALE, abs=30)
    assert controlled["c"] - controlled["b"] == pytest.approx(0, abs=30)
    effect = rate(votes, length=True, resamples=100).length_effect
    typical = math.sqrt(np.mean([(v.left_length - v.right_length) ** 2 for v in votes]))
    assert effect.low < 0.12 * typical * SCALE < effect.high


def test_a_judge_that_always_says_left_finds_equals_and_an_advantage():
    votes = [Vote(str(i), *pair, "left") for i in range(10) for pair in ("ab", "ba", "ac", "ca", "bc", "cb")]
    found = rate(votes)
    assert values(found) == {name: pytest.approx(1000, abs=1e-6) for name in "abc"}
    assert found.left_advantage.low > 0.99
    honest = rate(played({"a": 0.0, "b": 0.0}, 400, 2, advantage=0.7))
    assert honest.left_advantage.low < expit(0.7) < honest.left_advantage.high


def test_one_order_only_cannot_tell_the_place_from_the_model():
    found = rate([Vote(str(i), "a", "b", "left" if i % 4 else "right") for i in range(20)])
    assert found.left_advantage is None
    assert values(found)["a"] - values(found)["b"] == pytest.approx(400 * math.log10(3), abs=0.1)


def test_what_wins_everything_is_finite_and_said_to_be_apart():
    found = rate(between("a", "b", 10, 0) + between("b", "c", 5, 5) + between("c", "d", 3, 1, 2))
    assert found.standings[0].model == "a"
    assert 1500 < found.standings[0].rating.value < 4000
    assert found.groups == (("a",), ("b", "c", "d"))


def test_a_circle_is_nobodys_win():
    votes = between("a", "b", 6, 0) + between("b", "c", 6, 0) + between("c", "a", 6, 0)
    found = rate(votes)
    assert values(found) == {name: pytest.approx(1000, abs=1e-6) for name in "abc"}
    assert found.groups == (("a", "b", "c"),)
    assert all(one.rating.low < 1000 < one.rating.high for one in found.standings)


def test_all_ties_are_equal_and_sure():
    found = rate([Vote(str(i), *pair, "tie") for i in range(5) for pair in ("ab", "ba")])
    assert values(found) == {"a": 1000, "b": 1000}


def test_one_prompt_has_no_interval():
    found = rate([Vote("p", "a", "b", "left"), Vote("p", "b", "a", "left")])
    assert (found.standings[0].rating.low, found.left_advantage.high, found.prompts) == (None, None, 1)


@pytest.mark.parametrize(
    ("votes", "more", "told"),
    [
        ([], {}, "there are no votes"),
        ([Vote("p", "a", "a", "tie")], {}, "a vote between a and itself"),
        (between("a", "b", 1, 1) + between("c", "d", 1, 1), {}, "no votes connect a, b with c, d"),
        (between("a", "b", 1, 1), {"anchor": "z"}, "no votes on the anchor 'z': choose one of a, b"),
        (between("a", "b", 1, 1), {"length": True}, "length cannot be told from the models"),
        ([Vote(str(i), *"ab", "left", 9, 4) for i in range(5)], {"length": True}, "length cannot be told"),
    ],
)
def test_refused(votes, more, told):
    with pytest.raises(UserError, match=told) as caught:
        rate(votes, **more)
    assert "\n" not in str(caught.value)


def test_the_matrix_counts_wins_and_half_ties():
    votes = [
        Vote("p", "a", "b", "left"),
        Vote("q", "b", "a", "left"),
        Vote("r", "b", "a", "both_bad"),
        Vote("s", "a", "b", "left"),
    ]
    share, count = win_matrix(votes, ["a", "b", "c"])
    assert share[0, 1] == 2.5 / 4
    assert share[1, 0] == 1.5 / 4
    assert count.tolist() == [[0, 4, 0], [4, 0, 0], [0, 0, 0]]
    assert np.isnan(share[[0, 2, 2], [0, 0, 1]]).all()
