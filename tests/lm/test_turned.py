"""Matrices kept as their transposes: the same products, and the engine has them where they help."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from tiny_models import build, small

from lm.inference.weights import for_decoding
from lm.model.turned import FEW, Turned, by_rows
from lm.sharding import MeshConfig, make_mesh, tree_shardings


@pytest.mark.parametrize("lead", [(1,), (2, 1), (FEW,), (FEW + 1,), (3, 70)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_and_their_gradients_are_those_of_the_matrix(lead, dtype):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((*lead, 24)), dtype)
    matrix = rng.standard_normal((24, 40)).astype(np.float32)
    weights = rng.standard_normal((*lead, 40)).astype(np.float32)

    def total(x, rows):
        return jnp.sum(weights * by_rows(x, rows, jnp.float32))

    y = jax.jit(by_rows, static_argnums=2)(x, matrix.T, jnp.float32)
    assert y.dtype == jnp.float32
    held = np.asarray(matrix.astype(dtype), np.float32)  # what is multiplied
    np.testing.assert_allclose(y, np.asarray(x, np.float32) @ held, atol=1e-4)
    by_x, by_matrix = jax.jit(jax.grad(total, argnums=(0, 1)))(x, matrix.T)
    tolerance = 1e-4 if dtype == "float32" else 0.2  # gradients are rounded to bfloat16
    np.testing.assert_allclose(np.asarray(by_x, np.float32), weights @ held.T, atol=tolerance)
    flat = np.asarray(x, np.float32).reshape(-1, 24).T @ weights.reshape(-1, 40)
    np.testing.assert_allclose(by_matrix, flat.T, atol=10 * tolerance)


@pytest.mark.parametrize("tied", [True, False])
def test_the_engine_turns_what_stands_on_the_right_and_nothing_that_is_split(tied, eight_devices):
    config = small(vocab_size=30, tied_head=tied, kv_heads=2)
    model = build(config)
    turned = for_decoding(model)
    kernel = model.blocks.mlp.down.kernel[1]
    assert isinstance(turned.blocks[1].mlp.down.kernel, Turned)
    assert turned.blocks[1].mlp.down.kernel.shape == kernel.shape
    np.testing.assert_array_equal(turned.blocks[1].mlp.down.kernel.rows, kernel.T)
    assert isinstance(turned.head, type(None) if tied else Turned)
    tokens = np.arange(6).reshape(2, 3)
    np.testing.assert_allclose(turned(tokens), model(tokens), atol=1e-5)

    one = make_mesh(MeshConfig(1, 1, 1), eight_devices[:1])
    with jax.set_mesh(one):  # a mesh of one splits nothing
        held = for_decoding(jax.device_put(model, NamedSharding(one, PartitionSpec())))
    assert isinstance(held.blocks[1].mlp.down.kernel, Turned)
    eight = make_mesh(MeshConfig(2, 2, 2), eight_devices)
    with jax.set_mesh(eight):
        split = for_decoding(jax.device_put(model, tree_shardings(eight, model)))
    np.testing.assert_array_equal(split.blocks[1].mlp.down.kernel, kernel)
