"""Advantages and weights against loops over groups, hand-computed numbers, and what must hold of any rewards."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.objectives.advantages import (
    ADVANTAGES,
    NORMALISERS,
    gae,
    group_advantages,
    has_signal,
    token_rewards,
    token_weights,
    whiten,
)

KINDS = [kind for kind in ADVANTAGES if kind not in ("gae", "teacher")]
REWARDS = np.array([1.0, 0.2, 0.0, 0.5, 0.5, 0.9, 0.1, 0.3, 0.3])
GROUPS = np.array([7, 2, 7, 2, 5, 2, 7, 5, 4])  # mixed; the group 4 has one member


def by_hand(rewards, groups, kind, ddof, epsilon) -> list[float]:
    """One sequence at a time, with the statistics module."""
    std = {0: statistics.pstdev, 1: statistics.stdev}[ddof]
    found = []
    for i, (r, group) in enumerate(zip(rewards, groups, strict=True)):
        members = [rewards[j] for j in range(len(rewards)) if groups[j] == group]
        others = [rewards[j] for j in range(len(rewards)) if groups[j] == group and j != i]
        centred = r - statistics.fmean(members)
        if kind == "reward":
            found.append(r)
        elif not others:
            found.append(0.0)
        elif kind == "centred":
            found.append(centred)
        elif kind == "leave_one_out":
            found.append(r - statistics.fmean(others))
        elif kind == "standardised":
            found.append(centred / (std(members) + epsilon))
        else:
            found.append(centred / (std(by_hand(rewards, groups, "centred", ddof, epsilon)) + epsilon))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ddof", "epsilon"), [(1, 1e-6), (0, 1e-8), (1, 0.1)])
def test_advantages_are_those_of_a_loop(kind, ddof, epsilon):
    found = group_advantages(REWARDS, GROUPS, kind, ddof, epsilon)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, by_hand(REWARDS, GROUPS, kind, ddof, epsilon), rtol=1e-9, atol=1e-12)


def test_advantages_in_numbers():
    rewards, groups = np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(4, int)
    expected = {
        "reward": [1, 0, 0, 0],
        "centred": [0.75, -0.25, -0.25, -0.25],
        "leave_one_out": [1, -1 / 3, -1 / 3, -1 / 3],
        "standardised": [1.5, -0.5, -0.5, -0.5],  # the standard deviation is 1/2 with G - 1
        "whitened": [1.5, -0.5, -0.5, -0.5],
    }
    for kind in KINDS:
        np.testing.assert_allclose(group_advantages(rewards, groups, kind, epsilon=0.0), expected[kind], atol=1e-12)
    population = group_advantages(rewards, groups, "standardised", ddof=0, epsilon=0.0)
    np.testing.assert_allclose(population, np.array([3, -1, -1, -1]) / 3**0.5)


def test_a_standard_deviation_makes_crumbs_weigh_as_much_as_success():
    crumbs, success, groups = np.array([0.01] * 7 + [0.05]), np.array([0.0] * 7 + [1.0]), np.zeros(8, int)
    for rewards in (crumbs, success):
        assert group_advantages(rewards, groups, "standardised")[-1] == pytest.approx(2.4748, abs=1e-3)
    assert group_advantages(crumbs, groups, "centred")[-1] < 0.04 < group_advantages(success, groups, "centred")[-1]


some_rewards = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=12)


@given(some_rewards, st.randoms())
def test_what_holds_of_any_rewards(pairs, random):
    rewards, groups = np.array([r for r, _ in pairs]), np.array([g for _, g in pairs])
    order = list(range(len(pairs)))
    random.shuffle(order)
    signal = has_signal(rewards, groups)
    for kind in KINDS[1:]:
        found = group_advantages(rewards, groups, kind)
        assert np.all(np.isfinite(found))
        assert not np.any(found[~signal])
        for group in set(groups):
            assert abs(found[groups == group].sum()) < 1e-6
        np.testing.assert_allclose(group_advantages(rewards[order], groups[order], kind), found[order], atol=1e-6)
        if kind in ("centred", "leave_one_out"):  # the others divide by what may be next to nothing
            np.testing.assert_allclose(group_advantages(rewards + 3, groups, kind), found, atol=1e-6)


@given(st.floats(-10, 10), st.integers(1, 9))
def test_equal_rewards_have_advantages_of_exactly_zero(reward, size):
    for kind in KINDS[1:]:
        assert not np.any(group_advantages(np.full(size, reward), np.zeros(size, int), kind))


def test_no_sequences_at_all():
    nothing = np.zeros(0)
    for kind in KINDS:
        assert group_advantages(nothing, nothing.astype(int), kind).shape == (0,)
    for normaliser in NORMALISERS:
        assert token_weights(nothing, nothing.astype(int), normaliser, 8).shape == (0,)
    assert has_signal(nothing, nothing.astype(int)).shape == (0,)
    assert whiten([], []) == []


def test_groups_with_signal():
    found = has_signal(np.array([1.0, 0.0, 1.0, 1.0, 0.3]), np.array([1, 2, 1, 2, 3]))
    assert found.tolist() == [False, True, False, True, False]


def test_weights_in_numbers():
    lengths, groups = np.array([1, 3, 4, 0]), np.array([0, 0, 1, 1])
    expected = {
        "tokens": [1 / 8, 1 / 8, 1 / 8, 0],
        "sequences": [1 / 4, 1 / 12, 1 / 16, 0],
        "prompts": [1 / 8, 1 / 8, 1 / 8, 0],
        "constant": [1 / 40, 1 / 40, 1 / 40, 0],
    }
    for normaliser in NORMALISERS:
        np.testing.assert_allclose(token_weights(lengths, groups, normaliser, 10), expected[normaliser])
    found = token_weights(np.array([1, 3, 2]), np.array([0, 0, 1]), "prompts", 10)
    np.testing.assert_allclose(found, [1 / 8, 1 / 8, 1 / 4])


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), min_size=1, max_size=10))
def test_weights_add_up_to_one_however_long_the_sequences(pairs):
    lengths, groups = np.array([n for n, _ in pairs]), np.array([g for _, g in pairs])
    for normaliser in ("tokens", "sequences", "prompts"):
        assert np.sum(lengths * token_weights(lengths, groups, normaliser, 50)) == pytest.approx(1)
    assert np.sum(lengths * token_weights(lengths, groups, "constant", 50)) <= 1 + 1e-9


def test_token_rewards_are_kl_at_each_drawn_token_and_the_reward_at_the_last():
    drawn = np.array([True, False, True, True, False])
    found = token_rewards(0.7, drawn, np.array([0.1, 9.0, -0.2, 0.3, 9.0]), 0.5)
    np.testing.assert_allclose(found, [-0.05, 0, 0.1, 0.7 - 0.15, 0])
    assert not np.any(token_rewards(0.7, np.zeros(3, bool), np.ones(3), 0.5))  # nothing drawn: nobody to reward


def slow_gae(rewards, values, gamma, lam) -> list[float]:
    """Its definition as a sum: A[t] = sum over k of (gamma lam)^k delta[t + k]."""
    following = [*values[1:], 0.0]
    delta = [r + gamma * later - v for r, v, later in zip(rewards, values, following, strict=True)]
    return [sum((gamma * lam) ** k * delta[t + k] for k in range(len(delta) - t)) for t in range(len(delta))]


@given(st.integers(1, 8), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_gae_is_its_definition_and_does_not_see_what_tools_wrote(count, gamma, lam, seed):
    rng = np.random.default_rng(seed)
    rewards, values = rng.standard_normal((2, count))
    advantages, returns = gae(rewards, values, np.ones(count, bool), gamma, lam)
    np.testing.assert_allclose(advantages, slow_gae(rewards, values, gamma, lam), atol=1e-9)
    np.testing.assert_allclose(returns, advantages + values, atol=1e-12)
    drawn = np.zeros(count + 7, bool)
    at = np.sort(rng.choice(count + 7, count, replace=False))
    drawn[at] = True
    spread = rng.standard_normal((2, count + 7))  # at the tools' tokens there is something, which must not matter
    spread[:, at] = rewards, values
    with_gaps = gae(*spread, drawn, gamma, lam)
    for one, other in zip(with_gaps, (advantages, returns), strict=True):
        np.testing.assert_allclose(one[at], other)
        assert not np.any(one[~drawn])


def test_gae_between_its_extremes():
    rewards, values, drawn = np.array([0.0, 0.0, 1.0]), np.array([0.2, 0.5, 0.6]), np.ones(3, bool)
    np.testing.assert_allclose(gae(rewards, values, drawn, 1.0, 1.0)[0], 1 - values)  # the whole return less V
    np.testing.assert_allclose(gae(rewards, values, drawn, 1.0, 0.0)[0], [0.3, 0.1, 0.4])  # a step's surprise


def test_whitened_advantages_have_mean_0_and_deviation_1_over_drawn_tokens():
    rng = np.random.default_rng(0)
    advantages = [3 + 2 * rng.standard_normal(n) for n in (4, 7)]
    drawn = [np.array([True, False, True, True]), rng.random(7) < 0.6]
    found = whiten(advantages, drawn, epsilon=0.0)
    kept = [x for each, mask in zip(found, drawn, strict=True) for x in each[mask]]
    assert statistics.fmean(kept) == pytest.approx(0, abs=1e-12)
    assert statistics.stdev(kept) == pytest.approx(1)
    kept = [x for each, mask in zip(whiten(advantages, drawn, 0, 0.0), drawn, strict=True) for x in each[mask]]
    assert statistics.pstdev(kept) == pytest.approx(1)
    assert not any(np.any(each[~mask]) for each, mask in zip(found, drawn, strict=True))


def test_names_that_are_none_are_refused():
    with pytest.raises(ValueError, match="'gae' is no advantage of groups"):
        group_advantages(REWARDS, GROUPS, "gae")
    with pytest.raises(ValueError, match="'mean' is no normaliser"):
        token_weights(np.ones(3), np.zeros(3), "mean", 8)
