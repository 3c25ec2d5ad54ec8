"""The bent distribution against a slow obvious version, the frequencies of what is drawn, and each part by itself."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_pipeline.errors import UserError
from lm.inference.sampling import (
    RowSampling,
    Sampling,
    check_sampling,
    cut,
    draw,
    highest_reaching,
    inverse_cdf,
    penalise,
)

LOGITS = st.lists(st.floats(-8, 8, width=16), min_size=7, max_size=7)
SAMPLING = st.builds(
    Sampling,
    temperature=st.floats(0.1, 4),
    top_k=st.integers(0, 9),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 1, exclude_max=True)),
    min_p=st.one_of(st.just(0.0), st.floats(0.01, 0.9)),
)
jitted_cut = jax.jit(cut)
jitted_draw = jax.jit(draw, static_argnames=("samples", "filters"))


def rows_of(*samplings: Sampling) -> RowSampling:
    columns = {name: [getattr(s, name) for s in samplings] for name in RowSampling._fields}
    return RowSampling(**{n: np.array(c, np.int32 if n == "top_k" else np.float32) for n, c in columns.items()})


def slow_bend(logits: list[float], s: Sampling) -> tuple[list[float], float]:
    """Probabilities, and how near the cuts were to falling elsewhere. Ties with the last token kept are kept."""
    weights = [math.exp(x / s.temperature) for x in logits]
    kept, margin = list(range(len(logits))), 1.0
    by_weight = sorted(kept, key=lambda i: -weights[i])
    if 0 < s.top_k < len(logits):
        kept = [i for i in kept if logits[i] >= logits[by_weight[s.top_k - 1]]]
    if s.top_p < 1:
        total, mass = sum(weights[i] for i in kept), 0.0
        for i in [i for i in by_weight if i in kept]:
            mass += weights[i] / total
            margin = min(margin, abs(mass - s.top_p))
            last = i
            if mass > s.top_p:
                break
        kept = [i for i in kept if logits[i] >= logits[last]]
    if s.min_p:
        share = [weights[i] / max(weights) for i in range(len(logits))]
        margin = min(margin, *(abs(x - s.min_p) for x in share))
        kept = [i for i in kept if share[i] >= s.min_p]
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(logits))], margin


@given(LOGITS, SAMPLING)
def test_what_is_kept_is_what_the_slow_version_keeps(logits, sampling):
    expected, margin = slow_bend(logits, sampling)
    assume(margin > 1e-4)  # else float32 cannot tell
    # Different numbers lie apart by more than rounding, or are the same (float16 has few digits).
    assume(np.min(np.diff(np.unique(logits)), initial=1) / sampling.temperature > 1e-3)
    scaled = jnp.asarray([logits], jnp.float32) / sampling.temperature
    scaled = scaled - jnp.max(scaled)
    assert (scaled[0] >= jitted_cut(scaled, rows_of(sampling))[0]).tolist() == (np.array(expected) > 0).tolist()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=2.0, top_k=4),
        Sampling(top_p=0.7),
        Sampling(temperature=1.5, top_k=5, top_p=0.9),
        Sampling(min_p=0.2),
    ],
)
def test_tokens_are_drawn_as_often_as_they_should_be(sampling):
    logits = [0.3, -1.0, 2.0, 0.0, 1.1, -0.4]
    count = 20_000
    uniform = jax.random.uniform(jax.random.key(3), (count,))
    drawn = jitted_draw(
        jnp.tile(jnp.asarray(logits), (count, 1)),
        uniform,
        rows_of(*[sampling] * count),
        None,
        samples=True,
        filters=True,
    )
    p = np.array(slow_bend(logits, sampling)[0])
    seen = np.bincount(drawn.token, minlength=len(logits))
    assert not np.any(seen[p == 0])
    possible = p > 0
    chi_square = np.sum((seen[possible] - p[possible] * count) ** 2 / (p[possible] * count))
    assert chi_square < 20.5  # 0.1% for five degrees of freedom
    np.testing.assert_allclose(drawn.sampling_log_prob, np.log(p[drawn.token]), atol=1e-5)
    np.testing.assert_allclose(
        drawn.log_prob, np.asarray(jax.nn.log_softmax(jnp.array(logits)))[drawn.token], atol=1e-5
    )


@given(st.lists(st.floats(-9, 0, width=16), min_size=1, max_size=40), st.floats(0.01, 1), st.integers(0, 99))
def test_highest_reaching_is_a_sort(values, share, seed):
    mass = np.random.default_rng(seed).integers(1, 9, len(values)).astype(np.float32)  # sums are exact
    wanted = np.float32(math.ceil(share * mass.sum()))
    reaching = [x for x in values if mass[np.array(values) >= x].sum() >= wanted]
    got = jax.jit(highest_reaching)(jnp.asarray([values], jnp.float32), mass[None], jnp.asarray([wanted]))
    assert got[0] == max(reaching)


def test_nothing_reaches_more_than_there_is():
    assert highest_reaching(jnp.zeros((1, 3)), jnp.ones((1, 3)), jnp.array([3.5]))[0] == -jnp.inf


@pytest.mark.parametrize("size", [1, 2, 7, 29, 1000])
def test_inverse_cdf_is_the_running_sum(size):
    chance = np.random.default_rng(size)
    weights = chance.random((64, size)).astype(np.float32) * (chance.random((64, size)) < 0.5)
    weights[:, -1] += 0.5  # never all zero
    uniform = chance.random(64).astype(np.float32)
    running = np.cumsum(weights.astype(np.float64), axis=1)
    expected = [int(np.searchsorted(row, u * row[-1], side="right")) for row, u in zip(running, uniform, strict=True)]
    got = np.asarray(jax.jit(inverse_cdf)(jnp.asarray(weights), jnp.asarray(uniform)))
    assert got.tolist() == expected


@pytest.mark.parametrize("uniform", [0.0, float(np.nextafter(np.float32(1), np.float32(0)))])
def test_the_ends_of_the_coin_never_fall_on_an_impossible_token(uniform):
    weights = np.zeros((1, 500), np.float32)
    weights[0, 7], weights[0, 400] = 0.1, 0.3
    assert inverse_cdf(jnp.asarray(weights), jnp.array([uniform]))[0] == (7 if uniform == 0 else 400)


def test_a_penalty_moves_down_what_was_there():
    got = penalise(jnp.array([[2.0, -2.0, 1.0, -1.0]]), jnp.array([[True, True, False, False]]), jnp.array([1.6]))
    np.testing.assert_allclose(got[0], [1.25, -3.2, 1.0, -1.0], rtol=1e-6)


def test_rows_keep_their_own_settings():
    """A greedy row, one that is filtered and one that is not, in one batch."""
    logits, uniform = jnp.tile(jnp.array([1.0, 3.0, 2.9, -2.0]), (3, 1)), jnp.full(3, 0.999)
    rows = rows_of(Sampling(temperature=0.0), Sampling(top_k=2), Sampling())
    drawn = jitted_draw(logits, uniform, rows, None, samples=True, filters=True)
    assert drawn.token.tolist() == [1, 2, 3]
    assert drawn.sampling_log_prob[0] == 0


def test_greedy_takes_the_first_of_the_likeliest():
    logits = jnp.array([[0.0, 3.0, 3.0], [5.0, -1.0, 4.9]])
    rows = rows_of(*[Sampling(temperature=0.0)] * 2)
    drawn = jitted_draw(logits, jnp.zeros(2), rows, None, samples=False, filters=False)
    assert drawn.token.tolist() == [1, 0]
    assert drawn.token.dtype == jnp.int32


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(temperature=-0.1), "temperature=-0.1: must be 0 (greedy) or more"),
        (Sampling(top_k=-1), "top_k=-1: must be 0 (all tokens) or more, and below 2^31"),
        (Sampling(top_k=2**31), "top_k=2147483648: must be 0 (all tokens) or more, and below 2^31"),
        (Sampling(top_p=0.0), "top_p=0.0: must be above 0 and at most 1"),
        (Sampling(top_p=1.1), "top_p=1.1: must be above 0 and at most 1"),
        (Sampling(top_p=math.nan), "top_p=nan: must be above 0 and at most 1"),
        (Sampling(min_p=1.5), "min_p=1.5: must be between 0 and 1"),
        (Sampling(repetition_penalty=0.0), "repetition_penalty=0.0: must be positive (1: none)"),
    ],
)
def test_values_that_make_no_sense_are_one_clear_line(sampling, message):
    check_sampling(Sampling())
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_sampling(sampling)
