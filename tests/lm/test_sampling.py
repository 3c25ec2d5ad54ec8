"""The bent distribution against a slow obvious version, and the frequencies of what is drawn."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from lm.inference.sampling import Sampling, bend, check_sampling, draw

LOGITS = st.lists(st.floats(-8, 8, width=16), min_size=7, max_size=7)
SAMPLING = st.builds(
    Sampling,
    st.floats(0.1, 4),
    st.integers(0, 9),
    st.one_of(st.just(1.0), st.floats(0.01, 1, exclude_max=True)),
)


def slow_bend(logits: list[float], sampling: Sampling) -> tuple[list[float], float]:
    """Probabilities, and how near top_p was to cutting elsewhere. Ties with the last token kept are kept."""
    weights = [math.exp(x / sampling.temperature) for x in logits]
    kept, margin = list(range(len(logits))), 1.0
    by_weight = sorted(kept, key=lambda i: -weights[i])
    if 0 < sampling.top_k < len(logits):
        kept = [i for i in kept if logits[i] >= logits[by_weight[sampling.top_k - 1]]]
    if sampling.top_p < 1:
        total, mass = sum(weights[i] for i in kept), 0.0
        for i in [i for i in by_weight if i in kept]:
            mass += weights[i] / total
            margin = min(margin, abs(mass - sampling.top_p))
            last = i
            if mass > sampling.top_p:
                break
        kept = [i for i in kept if logits[i] >= logits[last]]
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(logits))], margin


@given(LOGITS, SAMPLING)
def test_bend_is_the_slow_version(logits, sampling):
    expected, margin = slow_bend(logits, sampling)
    assume(margin > 1e-4)  # else float32 cannot tell
    bent = bend(jnp.asarray([logits], jnp.float32), sampling)
    assert bent.shape == (1, 7)
    assert (np.isfinite(bent[0]) == (np.array(expected) > 0)).all()
    np.testing.assert_allclose(jax.nn.softmax(bent)[0], expected, rtol=1e-3, atol=1e-30)


@given(st.lists(LOGITS, min_size=3, max_size=3))
def test_rows_are_bent_apart(rows):
    sampling = Sampling(0.7, 4, 0.8)
    together = bend(jnp.asarray(rows, jnp.float32), sampling)
    for row, logits in enumerate(rows):
        np.testing.assert_array_equal(together[row], bend(jnp.asarray([logits], jnp.float32), sampling)[0])


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(0.5), Sampling(2.0, top_k=4), Sampling(1.0, top_p=0.7), Sampling(1.5, 5, 0.9)]
)
def test_tokens_are_drawn_as_often_as_they_should_be(sampling):
    logits = [0.3, -1.0, 2.0, 0.0, 1.1, -0.4]
    count = 20_000
    keys = jax.random.split(jax.random.key(3), count)
    tokens = jax.jit(draw, static_argnums=2)(jnp.tile(jnp.asarray(logits), (count, 1)), keys, sampling)
    assert tokens.dtype == jnp.int32
    expected = np.array(slow_bend(logits, sampling)[0]) * count
    seen = np.bincount(tokens, minlength=len(logits))
    assert not np.any(seen[expected == 0])
    possible = expected > 0
    chi_square = np.sum((seen[possible] - expected[possible]) ** 2 / expected[possible])
    assert chi_square < 20.5  # 0.1% for five degrees of freedom


def test_rows_have_their_own_keys():
    logits = jnp.zeros((2, 1000))
    one, other = jax.random.split(jax.random.key(0))
    same = draw(logits, jnp.stack([one, one]), Sampling())
    assert same[0] == same[1]
    different = draw(logits, jnp.stack([one, other]), Sampling())
    assert different[0] != different[1]


def test_greedy_takes_the_first_of_the_likeliest():
    keys = jax.random.split(jax.random.key(0), 2)
    tokens = draw(jnp.array([[0.0, 3.0, 3.0], [5.0, -1.0, 4.9]]), keys, Sampling(0.0, top_k=2, top_p=0.5))
    assert tokens.tolist() == [1, 0]
    assert tokens.dtype == jnp.int32


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(-0.1), "temperature=-0.1: must be 0 (greedy) or more"),
        (Sampling(top_k=-1), "top_k=-1: must be 0 (all tokens) or more"),
        (Sampling(top_p=0.0), "top_p=0.0: must be above 0 and at most 1"),
        (Sampling(top_p=1.1), "top_p=1.1: must be above 0 and at most 1"),
        (Sampling(top_p=math.nan), "top_p=nan: must be above 0 and at most 1"),
    ],
)
def test_values_that_make_no_sense_are_one_clear_line(sampling, message):
    check_sampling(Sampling())
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_sampling(sampling)
