"""Rotary positions: only distances matter, turning keeps lengths, and Llama 3's scaling is the published one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import scaled_frequency
from tiny_models import small

from lm.model.config import RopeScaling
from lm.model.positions import rope_frequencies, rope_tables, rotate

CONFIG = small(width=64, heads=4)  # heads of 16
tables = jax.jit(lambda positions: rope_tables(positions, CONFIG))
turn = jax.jit(rotate)


def turned(x: np.ndarray, position: int) -> np.ndarray:
    """The vector x (16,) at a position."""
    return np.asarray(turn(jnp.asarray(x, jnp.float32)[None, None, None], tables(jnp.array([[position]]))))[0, 0, 0]


@given(st.integers(0, 2**32 - 1), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_scores_depend_on_the_distance_alone(seed, i, j, shift):
    q, k = np.random.default_rng(seed).standard_normal((2, 16))
    score = turned(q, i) @ turned(k, j)
    assert score == pytest.approx(turned(q, i + shift) @ turned(k, j + shift), abs=2e-3)
    assert np.linalg.norm(turned(q, i)) == pytest.approx(np.linalg.norm(q), rel=1e-5)


def test_position_zero_changes_nothing_and_others_do():
    x = np.random.default_rng(0).standard_normal(16)
    np.testing.assert_allclose(turned(x, 0), x, rtol=1e-6)
    assert np.abs(turned(x, 1) - x).max() > 0.1


def test_tables_hold_every_pair_of_every_position():
    cos, sin = rope_tables(jnp.array([[0, 5], [1, 2]]), CONFIG)
    assert cos.shape == sin.shape == (2, 2, 1, 8)
    for i in range(8):
        assert float(cos[0, 1, 0, i]) == pytest.approx(math.cos(5 * 10_000 ** (-2 * i / 16)), abs=1e-6)
        assert float(sin[1, 1, 0, i]) == pytest.approx(math.sin(2 * 10_000 ** (-2 * i / 16)), abs=1e-6)


def test_bfloat16_is_turned_in_float32():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 1, 1, 16)), jnp.bfloat16)
    got = rotate(x, tables(jnp.array([[400]])))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        got[0, 0, 0].astype(jnp.float32), turned(x[0, 0, 0].astype(jnp.float32), 400), rtol=2**-8
    )


@pytest.mark.parametrize(
    ("head_dim", "theta", "scaling"),
    [
        (128, 500_000.0, RopeScaling(8.0)),  # Llama 3.1
        (64, 500_000.0, RopeScaling(32.0)),  # Llama 3.2 1B
        (64, 10_000.0, RopeScaling(4.0, 2.0, 5.0, 512)),
        (64, 10_000.0, RopeScaling()),
    ],
)
def test_scaling_is_the_published_one(head_dim, theta, scaling):
    config = small(head_dim=head_dim, rope_theta=theta, rope_scaling=scaling)
    plain = [theta ** (-2 * i / head_dim) for i in range(head_dim // 2)]
    expected = np.array([scaled_frequency(frequency, config) for frequency in plain])
    got = rope_frequencies(head_dim, theta, scaling)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    if scaling.factor > 1:  # all three cases occur
        ratio = expected / plain
        assert np.any(ratio == 1)
        assert np.any(np.isclose(ratio, 1 / scaling.factor))
        assert np.any((ratio > 1.01 / scaling.factor) & (ratio < 0.99))
