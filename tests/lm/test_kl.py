"""KL and importance weights by exact enumeration: all symbols that can be drawn, each as often as it is."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_tables import Table, V, run, softmax

from lm.objectives import kl
from lm.objectives.advantages import group_advantages, token_rewards
from lm.objectives.policy_gradient import PRESETS, SURROGATES, PolicyGradientConfig, preset

LOGITS = np.array([0.3, -1.0, 0.8, 0.0, -0.4])
P, REFERENCE = softmax(LOGITS), softmax(np.array([-0.6, 0.2, 0.1, 0.9, -1.2]))
TO_REFERENCE = P * (np.log(P / REFERENCE) - np.sum(P * np.log(P / REFERENCE)))  # the gradient of KL(pi || reference)
FROM_REFERENCE = P - REFERENCE  # and of KL(reference || pi)


def expected_gradient(
    config: PolicyGradientConfig, drawn_from: np.ndarray, advantages: np.ndarray, **more
) -> np.ndarray:
    """With respect to LOGITS. Row i of the batch is the case that symbol i is drawn."""
    batch = {name: np.zeros((V, 1), np.int32) for name in ("tokens", "positions")}
    batch |= {"labels": np.arange(V, dtype=np.int32)[:, None], "segment_ids": np.ones((V, 1), np.int32)}
    numbers = {"weights": V * drawn_from, "shares": V * drawn_from, "advantages": advantages, **more}
    batch |= {name: np.asarray(x, np.float32)[:, None] for name, x in numbers.items()}
    model = Table(jnp.tile(jnp.asarray(LOGITS, jnp.float32), (V, 1, 1)), jnp.zeros((V, 1)))
    gradients = run(model, {**batch, "loss_mask": np.ones((V, 1), bool)}, config)[1]
    return np.sum(gradients.logits, axis=(0, 1))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("loss_k2", TO_REFERENCE),
        ("loss_k3", FROM_REFERENCE),
        ("weighted_k1", TO_REFERENCE),
        ("weighted_k3", TO_REFERENCE),
        ("reward_k1", 0 * P),
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_kl_in_the_loss_has_the_gradient_that_its_form_says(form, expected, old):
    config = PolicyGradientConfig(kl=1.0, kl_form=form)
    more = {"old_log_probs": np.log(P)} if old else {}
    found = expected_gradient(config, P, 0 * P, reference_log_probs=np.log(REFERENCE), **more)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(TO_REFERENCE, FROM_REFERENCE, atol=0.02)  # or this test could not tell


@pytest.mark.parametrize("form", ["weighted_k1", "weighted_k3"])
def test_weighted_kl_is_right_too_where_an_older_policy_drew(form):
    older = softmax(LOGITS + np.array([0.1, 0.4, -0.3, 0.0, -0.2]))
    config = PolicyGradientConfig(kl=1.0, kl_form=form)
    more = {"reference_log_probs": np.log(REFERENCE), "old_log_probs": np.log(older)}
    np.testing.assert_allclose(expected_gradient(config, older, 0 * P, **more), TO_REFERENCE, atol=1e-6)
    # Unweighted it would be another gradient.
    config.kl_form = "loss_k2"
    assert not np.allclose(expected_gradient(config, older, 0 * P, **more), TO_REFERENCE, atol=0.01)


def test_k1_as_a_reward_has_the_gradient_of_kl_and_in_the_loss_none():
    def k1(logits):
        log_p = jax.nn.log_softmax(logits)
        return jnp.sum(P * kl.estimates(log_p, jnp.log(REFERENCE))[0])

    np.testing.assert_allclose(jax.grad(k1)(jnp.asarray(LOGITS)), 0 * P, atol=1e-6)
    for surrogate in SURROGATES:
        config = PolicyGradientConfig(surrogate=surrogate)
        np.testing.assert_allclose(expected_gradient(config, P, -np.log(P / REFERENCE)), TO_REFERENCE, atol=1e-6)


def test_k1_summed_over_a_sequence_is_the_kl_of_sequences():
    """All sequences of two of three symbols; the second one's law hangs on the first: what a choice leads to counts."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal(3), rng.standard_normal((3, 3))
    log_reference = [np.log(softmax(rng.standard_normal(shape))) for shape in (3, (3, 3))]

    def divergence(first, second):
        a, b = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
        of_rest = jnp.sum(jnp.exp(b) * (b - log_reference[1]), axis=1)
        return jnp.sum(jnp.exp(a) * (a - log_reference[0] + of_rest))

    expected = jax.grad(divergence, argnums=(0, 1))(jnp.asarray(first), jnp.asarray(second))
    log_p = [np.log(softmax(first)), np.log(softmax(second))]
    by_first, by_second = np.zeros(3), np.zeros((3, 3))
    for i, j in itertools.product(range(3), repeat=2):
        k1 = np.array([log_p[0][i] - log_reference[0][i], log_p[1][i, j] - log_reference[1][i, j]])
        advantage = token_rewards(0.0, np.ones(2, bool), k1, 1.0).sum()
        drawn = math.exp(log_p[0][i] + log_p[1][i, j])
        batch = {name: np.zeros((1, 2), np.int32) for name in ("tokens", "positions")}
        batch |= {"labels": np.array([[i, j]], np.int32), "segment_ids": np.ones((1, 2), np.int32)}
        batch |= {"loss_mask": np.ones((1, 2), bool), "shares": np.ones((1, 2), np.float32)}
        batch |= {name: np.full((1, 2), x, np.float32) for name, x in (("weights", drawn), ("advantages", advantage))}
        model = Table(jnp.asarray([[first, second[i]]], jnp.float32), jnp.zeros((1, 2)))
        gradient = run(model, batch, PolicyGradientConfig())[1].logits[0]
        by_first += gradient[0]
        by_second[i] += gradient[1]
    np.testing.assert_allclose(by_first, expected[0], atol=1e-6)
    np.testing.assert_allclose(by_second, expected[1], atol=1e-6)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_a_sampler_of_other_probabilities_is_corrected_for(surrogate):
    advantages = np.array([1.0, -0.5, 0.2, -2.0, 0.7])
    sampler = softmax(LOGITS * 1.5)
    wanted = expected_gradient(PolicyGradientConfig(), P, advantages)
    config = PolicyGradientConfig(surrogate=surrogate, importance_cap=10.0)
    found = expected_gradient(config, sampler, advantages, sampler_log_probs=np.log(sampler))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    config.importance_cap = 0.0
    biased = expected_gradient(config, sampler, advantages, sampler_log_probs=np.log(sampler))
    assert np.max(np.abs(biased - wanted)) > 0.04


def test_equal_rewards_pull_nothing_and_a_ratio_beyond_all_bounds_stays_finite():
    advantages = group_advantages(np.full(V, 0.1), np.zeros(V, int), "standardised")
    config = preset("grpo")
    assert not np.any(expected_gradient(config, P, advantages))
    for name in PRESETS.keys() - {"ppo"}:
        for a in (-1.0, 1.0):
            more = {"old_log_probs": np.full(V, -500.0), "sampler_log_probs": np.full(V, -1000.0)}
            assert np.all(np.isfinite(expected_gradient(preset(name), P, np.full(V, a), **more)))
