"""Fewer bits against closed forms, and the engine that uses them against the same model with its matrices made floats again."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONFIGS, abstract, build, small

from data_pipeline.errors import UserError
from lm.inference import programs
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.quantization import quantized
from lm.inference.requests import Request
from lm.inference.sampling import Sampling
from lm.inference.score import score_continuations
from lm.model import cache as ring
from lm.model import layers, transformer
from lm.model.cache import empty_cache
from lm.model.quantized import Quantized, look_up, matmul, quantize
from lm.sharding import MeshConfig, make_mesh, tree_shardings

CONFIG = small(kv_heads=2, windows=(0, 7), layer_loop="scan", tied_head=False, context_length=200)
PROMPTS = [(3, 1, 4, 1, 5), (9,), (2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3)]
KINDS = ("int8", "int4")

forward = jax.jit(lambda model, tokens: jax.nn.log_softmax(model(tokens)))
is_quantized = lambda x: isinstance(x, Quantized)  # noqa: E731


def floats(x: Quantized) -> np.ndarray:
    """The matrix, by loops over groups."""
    integers = np.asarray(x.integers, np.float64)
    if x.packed:
        integers = np.concatenate([integers % 16 - 8, integers // 16 - 8], axis=x.packed)
    scales = np.asarray(x.scales, np.float64)
    out = np.empty_like(integers)
    for index in np.ndindex(integers.shape[-2:]):
        group = tuple(i * n // size for i, n, size in zip(index, scales.shape[-2:], integers.shape[-2:], strict=True))
        out[..., index[0], index[1]] = integers[..., index[0], index[1]] * scales[..., group[0], group[1]]
    return out


def as_floats(tree):
    """A model or cache whose quantized parts are floats again."""
    one = lambda x: jnp.asarray(floats(x), jnp.float32) if is_quantized(x) else x  # noqa: E731
    return jax.tree.map(one, tree, is_leaf=is_quantized)


@given(
    st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.floats(0, 1), st.sampled_from([4, 8]), st.sampled_from([-1, -2])
)
@settings(max_examples=40)
def test_an_entry_is_off_by_half_a_step_at_most(seed, size, zeros, bits, axis):
    chance = np.random.default_rng(seed)
    x = (size * chance.standard_cauchy((2, 64, 6)) * (chance.random((2, 64, 6)) > zeros)).astype(np.float32)
    q = jax.jit(quantize, static_argnums=(1, 2))(x, bits, axis)
    largest = 2 ** (bits - 1) - 1
    groups = 2 if (bits, axis) == (4, -2) else 1
    grouped = np.moveaxis(x, axis, -1).reshape(*np.moveaxis(x, axis, -1).shape[:-1], groups, -1)
    step = np.abs(grouped).max(-1) / largest  # the closed form
    step[step == 0] = 1
    scales = np.moveaxis(np.asarray(q.scales, np.float32), axis, -1)
    assert scales.shape == step.shape
    if bits == 8:
        np.testing.assert_allclose(scales, step, rtol=1e-6)
    else:  # rounded up to bfloat16, whose neighbours are up to 1/128 apart
        assert (scales >= step * (1 - 1e-6)).all()
        assert (scales <= step * (1 + 1 / 128)).all()
    assert np.abs(np.asarray(q.unpacked(), int)).max() <= largest
    error = np.moveaxis(np.abs(floats(q) - x), axis, -1).reshape(grouped.shape)
    assert (error <= 0.5 * scales[..., None] * (1 + 1e-5)).all()
    np.testing.assert_allclose(q.dequantize(jnp.float32), floats(q), rtol=1e-6)


def test_groups_divide_what_they_are_groups_of():
    shapes = lambda size: jax.eval_shape(lambda: quantize(jnp.ones((size, 6)), 4, -2)).scales.shape  # noqa: E731
    assert shapes(48) == (2, 6)  # of 24, the largest number up to 32 that divides 48
    assert shapes(30) == (1, 6)
    assert shapes(74) == (37, 6)  # twice a prime: only pairs share
    with pytest.raises(UserError, match="a matrix of 31 inputs cannot be held in int4"):
        shapes(31)


def test_four_bits_are_four_bits_in_memory():
    x = jnp.ones((64, 128))
    assert quantize(x, 4, -2).integers.nbytes == 64 * 128 // 2
    assert quantize(x, 8, -2).integers.nbytes == 64 * 128
    assert quantize(x, 4, -1).T.shape == (128, 64)


@pytest.mark.parametrize(("bits", "axis"), [(8, -1), (8, -2), (4, -1), (4, -2)])
def test_products_and_rows_are_those_of_the_floats(bits, axis):
    chance = np.random.default_rng(0)
    matrix = quantize(jnp.asarray(chance.normal(size=(2, 64, 96)), jnp.float32), bits, axis)
    x = chance.normal(size=(2, 5, 64)).astype(np.float32)
    np.testing.assert_allclose(matmul(x, matrix), x @ floats(matrix), rtol=1e-4, atol=1e-4)
    one = jax.tree.map(lambda y: y[0], matrix)
    np.testing.assert_allclose(
        matmul(x[0] @ floats(one), one.T), x[0] @ floats(one) @ floats(one).T, rtol=1e-4, atol=1e-3
    )
    if axis == -2:
        return
    rows = look_up(one, jnp.array([[3, 3], [63, 0]]), jnp.bfloat16)
    assert rows.dtype == jnp.bfloat16
    np.testing.assert_allclose(rows.astype(jnp.float32), floats(one)[[[3, 3], [63, 0]]], rtol=1e-2)


# Between them: every matrix that there is but an own head, in both kinds.
@pytest.mark.parametrize(("name", "kind"), [("gpt2", "int4"), ("scalars", "int8")])
def test_the_engine_writes_what_the_model_in_floats_finds_likely(name, kind):
    """Log-probabilities of what was sampled equal those of a teacher-forced pass of the dequantized model: within 1e-3."""
    small_model = quantized(build(CONFIGS[name]), kind)
    requests = [Request(prompt, 14, Sampling(temperature=1.5)) for prompt in PROMPTS]
    results = generate(Engine(small_model, slots=2), requests)
    whole = as_floats(small_model)
    matrices = [x for x in jax.tree.leaves(small_model, is_leaf=is_quantized) if is_quantized(x)]
    assert len(matrices) >= 6  # embedding, query, key, value, output, up and down
    for prompt, (completion,) in zip(PROMPTS, results, strict=True):
        text = np.array([[*prompt, *completion.written.tokens]])
        scores = forward(whole, text)[0, len(prompt) - 1 : -1]
        forced = np.take_along_axis(np.asarray(scores), text[0, len(prompt) :, None], axis=1)[:, 0]
        np.testing.assert_allclose(completion.written.log_probs, forced, atol=1e-3)
    pairs = [(prompt, completion.written.tokens) for prompt, (completion,) in zip(PROMPTS, results, strict=True)]
    mine, theirs = score_continuations(small_model, pairs), score_continuations(whole, pairs)
    np.testing.assert_allclose(mine.log_probs, theirs.log_probs, atol=1e-2)
    assert np.abs(mine.log_probs - score_continuations(build(CONFIGS[name]), pairs).log_probs).max() > 1e-3


def test_fewer_bits_stray_further_and_mostly_write_the_same():
    """A random model is the hardest case: its two likeliest tokens are near each other."""
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (4, 60))
    exact = np.asarray(forward(build(CONFIG), tokens))
    strayed = {}
    for kind in KINDS:
        scores = np.asarray(forward(quantized(build(CONFIG), kind), tokens))
        strayed[kind] = np.abs(scores - exact).mean(), np.mean(scores.argmax(-1) == exact.argmax(-1))
    assert 0 < strayed["int8"][0] < 0.05 < strayed["int4"][0] < 1
    assert strayed["int8"][1] > 0.95
    assert strayed["int4"][1] > 0.7


@functools.cache
def engine(slots: int = 4, *, quantize_cache: bool = False) -> Engine:
    return Engine(build(CONFIG), slots=slots, quantize_cache=quantize_cache)


def test_a_cache_in_int8_is_near_and_smaller():
    """Within 0.15 nats, of a random model whose probabilities are far apart; a tenth of that on average."""
    requests = [Request(prompt, 60, Sampling(), seed=i) for i, prompt in enumerate(PROMPTS)]
    results = generate(engine(quantize_cache=True), requests)
    gaps = []
    for prompt, (completion,) in zip(PROMPTS, results, strict=True):
        text = np.array([[*prompt, *completion.written.tokens]])
        scores = np.asarray(forward(build(CONFIG), text))[0, len(prompt) - 1 : -1]
        forced = np.take_along_axis(scores, text[0, len(prompt) :, None], axis=1)[:, 0]
        gaps.append(np.abs(completion.written.log_probs - forced))
    assert 1e-5 < np.max(gaps) < 0.15
    assert np.mean(gaps) < 0.015
    whole, eighth = (empty_cache(CONFIG, 4, 64, quantized=quantize) for quantize in (False, True))
    size = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))  # noqa: E731
    assert size(eighth) == size(whole) * (8 + 32 / CONFIG.dim_per_head) / 32


def test_crowded_rows_in_int8_write_what_they_write_alone():
    """Rows are refilled while others go on, the rings wrap, grow and shrink, integers and scales together."""
    chance = np.random.default_rng(0)
    requests = [
        Request(tuple(chance.integers(0, CONFIG.vocab_size, n).tolist()), count, Sampling(temperature=0.8), seed=n)
        for n, count in ((40, 3), (1, 40), (3, 2), (8, 17))
    ]
    crowded = generate(Engine(build(CONFIG), slots=2, quantize_cache=True), requests)
    for request, (completion,) in zip(requests, crowded, strict=True):
        ((alone,),) = generate(engine(slots=1, quantize_cache=True), [request])
        assert completion.written.tokens == alone.written.tokens
        np.testing.assert_allclose(completion.written.log_probs, alone.written.log_probs, atol=1e-4)


def test_a_cache_in_int8_is_filled_written_and_rearranged_as_one_of_floats():
    """What each operation leaves is within half a step of what it leaves of floats; moving things adds no error."""
    chance = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(chance.normal(size=shape), jnp.float32)  # noqa: E731
    k, d = CONFIG.kv_heads, CONFIG.dim_per_head
    exact, held = (empty_cache(CONFIG, 4, 16, quantized=quantize) for quantize in (False, True))
    read = [(draw(2, 12, k, d), draw(2, 12, k, d)) for _ in range(CONFIG.layers)]
    order = [np.array(x, np.int32) for x in ([12, 5], [0, 1, 1, 0], [2, 0, 3, 4])]  # the last row does not exist
    exact, held = (ring.fill(cache, read, *order, np.int32(7)) for cache in (exact, held))
    new = draw(4, 1, k, d), draw(4, 1, k, d)
    written = [ring.write((c.keys[0], c.values[0]), *new, np.int32(7)) for c in (exact, held)]
    exact, held = (
        replace(c, keys=(w[0], *c.keys[1:]), values=(w[1], *c.values[1:]))
        for c, w in zip((exact, held), written, strict=True)
    )
    biggest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(exact))
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(as_floats(held)), strict=True):
        np.testing.assert_allclose(a, b, atol=0.5 * biggest / 127)
        assert np.abs(a).max() > 1  # something is there
    for rows, places in ((np.array([3, 1]), 24), (None, 8)):
        moved = ring.rearrange(held, rows, places, np.int32(8))
        same = ring.rearrange(as_floats(held), rows, places, np.int32(8))
        for a, b in zip(jax.tree.leaves(as_floats(moved)), jax.tree.leaves(same), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["int4"])
def test_fewer_bits_on_a_mesh(eight_devices, kind):
    """Parameters and cache split over all axes: the tokens of one device."""
    config = small(kv_heads=2, vocab_size=30, tied_head=False)
    mesh = make_mesh(MeshConfig(2, 2, 2), eight_devices)
    requests = [Request(prompt, 10, Sampling(temperature=0.0)) for prompt in PROMPTS]
    alone = generate(Engine(quantized(build(config), kind), slots=4, quantize_cache=True), requests)
    with jax.set_mesh(mesh):
        model = quantized(jax.device_put(build(config), tree_shardings(mesh, build(config))), kind)
        together = generate(Engine(model, slots=4, quantize_cache=True), requests)
    for (one,), (other,) in zip(alone, together, strict=True):
        assert one.written.tokens == other.written.tokens
        np.testing.assert_allclose(one.written.log_probs, other.written.log_probs, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_never_holds_all_weights_as_floats(kind, monkeypatch):
    """Memory of the compiled program besides its arguments, which a compiler would fill with floats if it could."""
    config = small(layers=8, width=128, mlp_width=512, layer_loop="scan")
    weights = 4 * sum(x.size for x in jax.tree.leaves(abstract(config)))
    assert temporary_bytes(config, kind) < weights / 4
    for module in (layers, transformer):
        monkeypatch.setattr(module, "weigh", matmul)
    programs.decode.clear_cache()
    assert temporary_bytes(config, kind) > weights / 2  # what it is there for
    programs.decode.clear_cache()  # or the next test would get the program of this one


def temporary_bytes(config, kind: str) -> int:
    """Of a dispatch of two rows."""
    from lm.inference.weights import for_decoding

    rows = Engine(build(config), slots=2)
    rows._rows = [None, None]
    features = programs.Features(samples=False, bends=False, top=0, symbols=config.vocab_size)
    lowered = programs.decode.lower(
        for_decoding(quantized(build(config), kind)),
        empty_cache(config, 2, 32),
        rows._told(),
        None,
        np.int32(0),
        np.int32(1),
        np.int32(1),
        features,
    )
    return lowered.compile().memory_analysis().temp_size_in_bytes


def test_a_kind_that_is_not_known_is_one_clear_line():
    with pytest.raises(UserError, match=r"^quantize=int3: choose one of int8, int4$"):
        quantized(build(CONFIG), "int3")
