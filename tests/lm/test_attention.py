"""Every implementation of attention against a loop over queries; Splash's gradients against those of plain XLA."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import slow_attention

from lm.model.attention import attention, automatic, splash_attention
from lm.sharding import MeshConfig, make_mesh

SEGMENT_LENGTHS = [(100, 27, 1), (5, 64, 59)]  # of two packed documents and padding, in 128ths of a row


def inputs(length: int, kv_heads: int, head_dim: int = 8, heads: int = 4, dtype=jnp.float32, seed: int = 0):
    rng = np.random.default_rng(seed)
    shapes = [(2, length, count, head_dim) for count in (heads, kv_heads, kv_heads)]
    return [jnp.asarray(2 * rng.standard_normal(shape), dtype) for shape in shapes]


def segments(length: int) -> jax.Array:
    place = np.arange(length) * 128 // length
    return jnp.asarray([np.repeat([1, 2, 0], parts)[place] for parts in SEGMENT_LENGTHS], jnp.int32)


run = jax.jit(partial(attention, implementation="xla"), static_argnames="window")
run_splash = jax.jit(partial(splash_attention, interpret=True), static_argnames="window")


def error(got: jax.Array, expected) -> float:
    return float(np.abs(np.asarray(got, np.float64) - expected).max())


@pytest.mark.parametrize(
    ("length", "window", "kv_heads", "packed"),
    [
        (32, 0, 4, False),  # one block of queries
        (32, 5, 2, True),
        (150, 0, 1, False),  # three blocks, the last of them short
        (150, 0, 4, True),
        (150, 1, 2, False),
        (150, 80, 2, True),
        (150, 1000, 4, False),
        (600, 70, 2, True),  # eight blocks of 75
    ],
)
def test_xla(length, window, kv_heads, packed):
    q, k, v = inputs(length, kv_heads)
    ids = segments(length) if packed else None
    got = run(q, k, v, ids, window=window)
    assert got.shape == q.shape
    assert error(got, slow_attention(q, k, v, ids, window)) < 1e-5


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_large_scores_stay_exact(dtype):
    q, k, v = inputs(16, 2, head_dim=16, dtype=dtype)
    q = q * 128  # scores in the thousands: exp would overflow, and bfloat16 scores would be off by tens
    got = run(q, k, v, None)
    assert got.dtype == dtype
    assert error(got, slow_attention(q, k, v)) < (0.05 if dtype == jnp.bfloat16 else 1e-2)


@pytest.mark.parametrize(
    ("length", "window", "kv_heads", "packed"),
    [(128, 0, 4, False), (128, 1, 2, True), (256, 0, 2, True), (256, 100, 1, True), (256, 130, 2, False)],
)
def test_splash_in_the_interpreter(length, window, kv_heads, packed):
    q, k, v = inputs(length, kv_heads)
    ids = segments(length) if packed else None
    got = run_splash(q, k, v, ids, window=window)
    assert got.dtype == q.dtype
    assert error(got, slow_attention(q, k, v, ids, window)) < 1e-5


@pytest.mark.parametrize(("window", "kv_heads"), [(0, 2), (50, 4)])
def test_gradients_of_splash_are_those_of_xla(window, kv_heads):
    q, k, v = inputs(128, kv_heads)
    cotangent = inputs(128, 1, seed=9)[0]
    ids = segments(128)

    def gradients(function):
        def loss(q, k, v):
            return jnp.sum(function(q, k, v, ids, window=window) * cotangent)

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)

    for got, expected in zip(gradients(run_splash), gradients(run), strict=True):
        assert error(got, np.asarray(expected)) < 1e-4


@pytest.mark.parametrize(
    ("mesh_config", "kv_heads"),
    [
        (MeshConfig(data=2, fsdp=1, tensor=4), 2),  # fewer KV heads than shards: they are copied
        (MeshConfig(data=1, fsdp=2, tensor=4), 4),
        (MeshConfig(data=1, fsdp=2, tensor=4), 1),
    ],
)
def test_splash_on_a_mesh(eight_devices, mesh_config, kv_heads):
    q, k, v = inputs(128, kv_heads)
    ids = segments(128)
    with jax.set_mesh(make_mesh(mesh_config, eight_devices)):
        got = run_splash(q, k, v, ids, window=40)
    assert len(got.sharding.device_set) == 8
    assert not got.sharding.is_fully_replicated
    assert error(got, slow_attention(q, k, v, ids, 40)) < 1e-5


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("window", [0, 1024])
def test_splash_lowers_for_tpu(head_dim, window):
    q = jax.ShapeDtypeStruct((1, 2048, 8, head_dim), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((1, 2048, 2, head_dim), jnp.bfloat16)

    def loss(q, k, v):
        return jnp.sum(attention(q, k, v, None, window=window, implementation="splash").astype(jnp.float32))

    traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(q, k, k)
    assert "tpu_custom_call" in traced.lower(lowering_platforms=("tpu",)).as_text()


@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("packed", [False, True])
def test_cudnn(window, kv_heads, packed):
    if jax.default_backend() != "gpu":
        pytest.skip(f"cuDNN attention runs on NVIDIA GPUs only; the backend here is {jax.default_backend()}")
    q, k, v = inputs(128, kv_heads, head_dim=64, dtype=jnp.bfloat16)
    ids = segments(128) if packed else None
    assert automatic(q) == "cudnn"
    got = attention(q, k, v, ids, window=window)
    assert error(got, slow_attention(q, k, v, ids, window)) < 0.05
    cotangent = inputs(128, 1, head_dim=64, dtype=q.dtype, seed=9)[0]

    def gradients(implementation):
        def loss(q, k, v):
            return jnp.sum(attention(q, k, v, ids, window=window, implementation=implementation) * cotangent)

        return jax.grad(loss, argnums=(0, 1, 2))(q, k, v)

    for got, expected in zip(gradients("cudnn"), gradients("xla"), strict=True):
        assert error(got, np.asarray(expected, np.float64)) < 0.1 * float(jnp.abs(expected).max())


def test_automatic_takes_what_the_backend_has():
    if jax.default_backend() != "cpu":
        pytest.skip(f"the backend here is {jax.default_backend()}, this is about CPUs")
    assert automatic(inputs(128, 2, dtype=jnp.bfloat16)[0]) == "xla"
    assert automatic(inputs(128, 2)[0]) == "xla"
