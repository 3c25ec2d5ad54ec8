"""The Transformer against a slow numpy version; scan, remat, cache and packing against the plain forward pass."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from tiny_models import CONFIGS, abstract, build, small, tokens_of, with_config

from lm.model.cache import KVCache, ages, empty_cache, fill, rearrange, write
from lm.model.transformer import Transformer

forward = jax.jit(lambda model, *args: model(*args))

# Three packed documents, padding at the end of the second row.
POSITIONS = np.array([[*range(4), *range(9), *range(3)], [*range(10), *range(4), 0, 1]], np.int32)
SEGMENTS = np.array([[1] * 4 + [2] * 9 + [3] * 3, [1] * 10 + [2] * 4 + [0] * 2], np.int32)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_slow_version(name):
    model = build(CONFIGS[name])
    tokens = tokens_of(model.config, 2, 16)
    got = forward(model, tokens)
    assert got.shape == (2, 16, model.config.vocab_size)
    assert got.dtype == jnp.float32
    expected = reference.forward(model, tokens)
    assert np.abs(expected).max() > 1  # else any model would pass
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)

    for positions, segments in ((POSITIONS, SEGMENTS), (POSITIONS + 7, SEGMENTS)):
        got = forward(model, tokens, positions, segments)
        np.testing.assert_allclose(got, reference.forward(model, tokens, positions, segments), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_documents_are_each_document_alone(name):
    model = build(CONFIGS[name])
    tokens = tokens_of(model.config, 2, 16)
    packed = forward(model, tokens, POSITIONS, SEGMENTS)
    alone = np.zeros_like(tokens)  # padded on the right, which a causal model cannot see
    alone[0, :9] = tokens[0, 4:13]
    alone[1, :4] = tokens[1, 10:14]
    expected = forward(model, alone)
    np.testing.assert_allclose(packed[0, 4:13], expected[0, :9], atol=2e-5)
    np.testing.assert_allclose(packed[1, 10:14], expected[1, :4], atol=2e-5)


def compiled_loss(model: Transformer, tokens: np.ndarray):
    def loss(model, tokens):
        return jnp.mean(jax.nn.log_softmax(model(tokens))[..., 0])

    return jax.jit(jax.value_and_grad(loss)).lower(model, tokens).compile()


def assert_same(got, expected, atol=1e-5, rtol=1e-4):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=atol, rtol=rtol)


def test_scanned_layers_compute_what_unrolled_ones_do():
    extras = {"residual_scalars": True, "value_embeddings": True}
    model = build(small(layers=4, windows=(0, 4), kv_heads=2, activation="gelu", **extras))
    tokens = tokens_of(model.config, 2, 12)
    expected = compiled_loss(model, tokens)(model, tokens)
    for remat in ("none", "block"):
        scanned = with_config(model, layer_loop="scan", remat=remat)
        assert_same(compiled_loss(scanned, tokens)(scanned, tokens), expected)

    read = jax.jit(lambda m: m.hidden(tokens, keep=True))
    expected, got = read(model), read(with_config(model, layer_loop="scan"))
    assert len(got[1]) == 4
    assert got[1][0][0].shape == (2, 12, 2, 8)
    assert_same(got, expected)


def test_a_scanned_program_does_not_grow_with_depth():
    def operations(**changes) -> int:
        config = small(windows=(0, 4), **changes)
        program = forward.lower(abstract(config), tokens_of(config, 1, 8))
        return program.as_text().count("dot_general")

    assert operations(layer_loop="scan", layers=8) == operations(layer_loop="scan", layers=2)
    assert operations(layer_loop="unrolled", layers=8) > 3 * operations(layer_loop="unrolled", layers=2)


def test_remat_changes_the_work_and_not_the_result():
    model = build(small(windows=(0, 3), activation="gelu"))
    tokens = tokens_of(model.config, 2, 32)
    work, expected = {}, None
    for remat in ("none", "dots", "block"):
        changed = with_config(model, remat=remat)
        compiled = compiled_loss(changed, tokens)
        work[remat] = compiled.cost_analysis()["flops"]
        got = compiled(changed, tokens)
        expected = expected or got
        assert_same(got, expected, atol=1e-6)
    assert work["none"] < work["dots"] < work["block"]
    assert work["block"] > 1.2 * work["none"]  # one more forward pass of the blocks: 4/3 but for the head


@pytest.mark.parametrize("name", CONFIGS)
def test_reading_and_decoding_with_a_cache_are_the_full_forward_pass(name):
    """Rows of other lengths in one ring of 16 places, which wraps."""
    model, lengths, places = build(CONFIGS[name]), np.array([9, 1, 5]), 16
    tokens = tokens_of(model.config, 3, places)
    full = np.asarray(forward(model, tokens))

    @jax.jit
    def read(tokens: jax.Array, at: jax.Array) -> KVCache:
        _, kept = model.hidden(tokens, keep=True)
        return fill(
            empty_cache(model.config, 3, places), kept, lengths, np.array([2, 0, 1, 0]), np.array([2, 0, 1, 3]), at
        )

    at = np.int32(13)
    cache = read(np.where(np.arange(10) < lengths[:, None], tokens[:, :10], 0), at)
    step = jax.jit(model.decode)
    for steps in range(15):
        position = np.minimum(lengths + steps, places - 1)  # a row that is at its end goes on reading its last token
        hidden, cache = step(tokens[np.arange(3), position], position, cache, (at + steps) % places)
        for row in np.flatnonzero(lengths + steps < places):
            np.testing.assert_allclose(model.logits(hidden)[row], full[row, position[row]], atol=1e-4)


def ring(cache: KVCache, at: int) -> np.ndarray:
    """Keys by age, the newest first: (B, S, head_dim) of the first layer and head."""
    keys = np.asarray(cache.keys[0])[:, 0]
    return np.stack([keys[:, :, (at - 1 - age) % keys.shape[2]] for age in range(keys.shape[2])], axis=1)


@pytest.mark.parametrize("at", [0, 3, 7])
@pytest.mark.parametrize("places", [5, 8, 13])
def test_a_cache_is_rearranged_by_age(at, places):
    chance = np.random.default_rng(0)
    numbers = lambda *shape: (jnp.asarray(chance.standard_normal(shape), jnp.float32),)  # noqa: E731
    cache = KVCache(numbers(3, 2, 4, 8), numbers(3, 2, 8, 4))
    got = rearrange(cache, np.array([2, 0]), places, np.int32(at))
    assert (got.rows, got.places) == (2, places)
    kept = min(8, places)
    np.testing.assert_array_equal(ring(got, kept)[:, :kept], ring(cache, at)[[2, 0], :kept])
    same = KVCache(got.keys, tuple(x.swapaxes(2, 3) for x in got.keys))  # values move as keys do
    twin = rearrange(
        KVCache(cache.keys, tuple(x.swapaxes(2, 3) for x in cache.keys)), np.array([2, 0]), places, np.int32(at)
    )
    np.testing.assert_array_equal(twin.values[0], same.values[0])


def test_write_against_a_loop():
    rng = np.random.default_rng(0)
    keys, values = rng.standard_normal((3, 2, 4, 8)), rng.standard_normal((3, 2, 8, 4))
    key, value = rng.standard_normal((2, 3, 1, 2, 4))
    got = write((jnp.asarray(keys), jnp.asarray(values)), jnp.asarray(key), jnp.asarray(value), np.int32(5))
    for b in range(3):
        for head in range(2):
            keys[b, head, :, 5], values[b, head, 5] = key[b, 0, head], value[b, 0, head]
    np.testing.assert_allclose(got[0], keys, rtol=1e-6)
    np.testing.assert_allclose(got[1], values, rtol=1e-6)


def test_ages_count_back_from_the_newest():
    assert ages(np.int32(2), 5).tolist() == [2, 1, 0, 4, 3]


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_bfloat16_runs_and_is_near(name):
    model = build(CONFIGS[name])
    tokens = tokens_of(model.config, 2, 16)
    half = with_config(model, compute_dtype="bfloat16")
    expected, got = forward(model, tokens), forward(half, tokens)
    assert got.dtype == jnp.float32
    error = np.asarray(got - expected)
    assert 1e-4 < np.sqrt(np.mean(error**2)) < 0.02 * np.std(expected)  # rounded to 8 bits at each step, and no worse
    hidden, read = jax.eval_shape(lambda m: m.hidden(tokens, keep=True), half)
    assert hidden.dtype == read[0][0].dtype == empty_cache(half.config, 1, 4).keys[0].dtype == jnp.bfloat16


def test_parameters_start_as_said():
    config = small(
        layers=8, width=64, mlp_width=256, biases=True, norm="layernorm", vocab_size=500, positions="learned"
    )
    for init_std in (0.02, 0.0):
        model = jax.jit(Transformer, static_argnums=1)(jax.random.key(0), replace(config, init_std=init_std))
        for leaf, std in (
            (model.token_embedding, init_std or 64**-0.5),
            (model.position_embedding, init_std or 64**-0.5),
            (model.blocks.attention.query.kernel, init_std or 64**-0.5),
            (model.blocks.mlp.gate.kernel, init_std or 64**-0.5),
            (model.blocks.attention.output.kernel, (init_std or 64**-0.5) / 4),  # 1 / sqrt(2 L), as GPT-2
            (model.blocks.mlp.down.kernel, (init_std or 256**-0.5) / 4),
        ):
            assert np.std(leaf) == pytest.approx(std, rel=0.05)
            assert abs(np.mean(leaf)) < 0.1 * std
        kernels = np.asarray(model.blocks.mlp.up.kernel)
        assert not np.allclose(kernels[0], kernels[1])  # each layer has numbers of its own
        assert not np.any(model.blocks.mlp.up.bias)
        assert np.all(np.asarray(model.final_norm.scale) == 1)


def test_parameters_in_bfloat16():
    config = small(param_dtype="bfloat16", biases=True, norm="layernorm", positions="learned", tied_head=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(abstract(config))} == {jnp.dtype(jnp.bfloat16)}
