"""Next-token prediction against closed forms and plain numpy; the B x T x V logits are never all in memory."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from tiny_models import CONFIGS, abstract, build, small, tokens_of

from data_pipeline.errors import UserError
from lm.objectives.log_probs import token_log_probs, token_log_probs_and_entropy
from lm.objectives.next_token import NextTokenConfig, check_next_token, next_token

CONFIG = small(kv_heads=2, logit_soft_cap=5.0)


@functools.cache
def loss_and_gradient(z_loss: float = 0.0, chunk: int = 8):
    objective = functools.partial(next_token, config=NextTokenConfig(z_loss, chunk))
    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def batch_of(rows: int, length: int, mask: np.ndarray | None = None, vocab_size: int = 29) -> dict[str, np.ndarray]:
    """Random tokens, two documents in each row."""
    tokens = tokens_of(small(vocab_size=vocab_size), rows, length + 1)
    place = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    return {
        "tokens": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "positions": place % 10,
        "segment_ids": place // 10,
        "loss_mask": np.ones(place.shape, bool) if mask is None else mask,
    }


def random_mask(rows: int, length: int, kept: float = 0.6) -> np.ndarray:
    return np.random.default_rng(1).random((rows, length)) < kept


@functools.cache
def slow_log_probs(name: str | None, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The log p(label) and the log normaliser of `batch_of`, in numpy."""
    batch = batch_of(rows, length)
    model = build(CONFIG if name is None else CONFIGS[name])
    logits = reference.forward(model, batch["tokens"], batch["positions"], batch["segment_ids"])
    normaliser = np.log(np.sum(np.exp(logits), axis=-1))
    return np.take_along_axis(logits, batch["labels"][..., None], axis=-1)[..., 0] - normaliser, normaliser


@pytest.mark.parametrize("vocab_size", [2, 29])
def test_a_model_that_knows_nothing_pays_ln_v(vocab_size):
    model = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract(small(vocab_size=vocab_size)))
    (loss, metrics), _ = loss_and_gradient()(model, batch_of(2, 16, vocab_size=vocab_size))
    assert float(loss) == pytest.approx(math.log(vocab_size), rel=1e-6)
    assert float(metrics["weight"]) == 32


@pytest.mark.parametrize("name", [None, "gpt2"])
def test_loss_is_the_mean_over_kept_positions(name):
    mask = random_mask(2, 16)
    (loss, metrics), _ = loss_and_gradient()(build(CONFIG if name is None else CONFIGS[name]), batch_of(2, 16, mask))
    expected = -np.mean(slow_log_probs(name, 2, 16)[0][mask])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["cross_entropy"]) == float(loss)
    assert float(metrics["weight"]) == mask.sum()
    assert set(metrics) == {"cross_entropy", "weight"}


def test_z_loss():
    mask = random_mask(2, 16)
    (loss, metrics), _ = loss_and_gradient(z_loss=0.03)(build(CONFIG), batch_of(2, 16, mask))
    log_p, normaliser = slow_log_probs(None, 2, 16)
    z_loss = 0.03 * np.mean(normaliser[mask] ** 2)
    assert z_loss > 0.01
    assert float(metrics["z_loss"]) == pytest.approx(z_loss, rel=1e-5)
    assert float(metrics["cross_entropy"]) == pytest.approx(-np.mean(log_p[mask]), rel=1e-5)
    assert float(loss) == pytest.approx(z_loss - np.mean(log_p[mask]), rel=1e-5)


def test_labels_that_are_masked_do_not_matter():
    mask = random_mask(2, 16)
    batch = batch_of(2, 16, mask)
    other = {**batch, "labels": np.where(mask, batch["labels"], (batch["labels"] + 5) % 29)}
    results = [loss_and_gradient(z_loss=0.03)(build(CONFIG), b) for b in (batch, other)]
    for one, another in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(one, another)


def test_nothing_to_train_on_is_zero_and_not_nan():
    batch = batch_of(2, 16, np.zeros((2, 16), bool))
    (loss, metrics), gradients = loss_and_gradient(z_loss=0.03)(build(CONFIG), batch)
    assert float(loss) == float(metrics["weight"]) == 0
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradients))


def test_parts_weighed_by_their_weight_are_the_whole():
    mask = np.array([[True] * 16, [True] * 3 + [False] * 13])
    batch = batch_of(2, 16, mask)
    whole = loss_and_gradient(z_loss=0.03)(build(CONFIG), batch)
    parts = [
        loss_and_gradient(z_loss=0.03)(build(CONFIG), {name: x[row : row + 1] for name, x in batch.items()})
        for row in (0, 1)
    ]
    weights = [float(metrics["weight"]) for (_, metrics), _ in parts]
    assert weights == [16, 3]
    for got, *pieces in zip(*(jax.tree.leaves((loss, grads)) for (loss, _), grads in (whole, *parts)), strict=True):
        np.testing.assert_allclose(got, np.average(pieces, axis=0, weights=weights), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 4, 8, 7, 16, 1000])
def test_chunks_change_nothing(chunk):
    model, batch = build(CONFIG), batch_of(2, 16)
    rng = np.random.default_rng(2)
    hidden = jnp.asarray(rng.standard_normal((2, 16, 32)), jnp.float32)
    weights = rng.standard_normal((2, 2, 16))  # of each log-probability and each normaliser in a made-up loss

    def loss(model, hidden, chunk):
        results = token_log_probs(model, hidden, batch["labels"], chunk)
        return sum(jnp.sum(w * x) for w, x in zip(weights, results, strict=True)), results

    value = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
    got = value(model, hidden, chunk)

    # In one piece, without our function.
    def plain(model, hidden):
        logits = 5.0 * jnp.tanh(hidden @ model.token_embedding.T / 5.0)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["labels"][..., None], axis=-1)[..., 0]
        results = log_p, jax.nn.logsumexp(logits, axis=-1)
        return sum(jnp.sum(w * x) for w, x in zip(weights, results, strict=True)), results

    expected = jax.jit(jax.value_and_grad(plain, argnums=(0, 1), has_aux=True))(model, hidden)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [4, 16])
def test_entropy_comes_with_its_gradient(chunk):
    model, batch = build(CONFIG), batch_of(2, 16)
    rng = np.random.default_rng(2)
    hidden = jnp.asarray(rng.standard_normal((2, 16, 32)), jnp.float32)
    weights = rng.standard_normal((2, 2, 16))

    def loss(model, hidden, chunk):
        results = token_log_probs_and_entropy(model, hidden, batch["labels"], chunk)
        return sum(jnp.sum(w * x) for w, x in zip(weights, results, strict=True)), results

    got = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)(model, hidden, chunk)

    # In one piece, without our function.
    def plain(model, hidden):
        p = jax.nn.softmax(5.0 * jnp.tanh(hidden @ model.token_embedding.T / 5.0))
        log_p = jnp.log(jnp.take_along_axis(p, batch["labels"][..., None], axis=-1)[..., 0])
        results = log_p, jnp.sum(jax.scipy.special.entr(p), axis=-1)
        return sum(jnp.sum(w * x) for w, x in zip(weights, results, strict=True)), results

    expected = jax.jit(jax.value_and_grad(plain, argnums=(0, 1), has_aux=True))(model, hidden)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("chunk", "entropy"), [(4, False), (4, True), (5, True)])
def test_what_is_needed_alone_has_the_same_scores_and_gradients(kept, chunk, entropy):
    model, batch, needed = build(CONFIG), batch_of(2, 16), random_mask(2, 16, kept)
    rng = np.random.default_rng(2)
    hidden = jnp.asarray(rng.standard_normal((2, 16, 32)), jnp.float32)
    weights = rng.standard_normal((3, 2, 16)) * needed
    scores = token_log_probs_and_entropy if entropy else token_log_probs

    def loss(model, hidden, chunk, needed):
        results = scores(model, hidden, batch["labels"], chunk, needed)
        return sum(jnp.sum(w * x) for w, x in zip(weights, results, strict=False)), results

    value = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
    (got, got_scores), got_gradients = value(model, hidden, chunk, needed)
    (expected, expected_scores), expected_gradients = value(model, hidden, 16, None)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    for one, other in zip(got_scores, expected_scores, strict=True):
        np.testing.assert_allclose(np.where(needed, one, 0), np.where(needed, other, 0), atol=1e-5)
    for one, other in zip(jax.tree.leaves(got_gradients), jax.tree.leaves(expected_gradients), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("count", "skipped"), [(4, True), (5, False)])
def test_chunks_that_nobody_needs_are_not_computed(count, skipped):
    # What is not needed is NaN, and stays out of the gradient of the head only if it is never multiplied.
    model, batch, needed = build(CONFIG), batch_of(2, 16), np.zeros((2, 16), bool)
    for row, places in enumerate(np.random.default_rng(0).permuted(np.tile(np.arange(16), (2, 1)), axis=1)):
        needed[row, places[: (count, 4)[row]]] = True
    hidden = jnp.where(needed[..., None], np.ones(CONFIG.width), jnp.nan)

    @jax.jit
    def loss(model):
        return jnp.sum(jnp.where(needed, token_log_probs(model, hidden, batch["labels"], 4, needed)[0], 0.0))

    assert np.isfinite(jax.grad(loss)(model).token_embedding).all() == skipped


def entropy_and_gradient(chunk: int):
    def total(model, batch):
        hidden, _ = model.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])
        return jnp.sum(sum(token_log_probs_and_entropy(model, hidden, batch["labels"], chunk)))

    return jax.jit(jax.value_and_grad(total))


def largest_array(chunk: int, rows: int, length: int, vocab_size: int, entropy: bool = False) -> int:
    """Elements of the largest array in the compiled loss and gradient, but for parameters (V x D)."""
    config = small(vocab_size=vocab_size, width=8, heads=1, kv_heads=1, layers=1, context_length=length)
    batch = batch_of(rows, length, vocab_size=vocab_size)
    function = entropy_and_gradient(chunk) if entropy else loss_and_gradient(z_loss=0.1, chunk=chunk)
    text = function.lower(abstract(config), batch).compile().as_text()
    shapes = re.findall(r"\b(?:f32|bf16|s32|u32|pred)\[([\d,]+)\]", text)
    sizes = [math.prod(map(int, shape.split(","))) for shape in set(shapes)]
    return max(size for size in sizes if size != vocab_size * config.width)


def test_the_logits_are_never_all_in_memory():
    rows, length, vocab_size = 2, 64, 10_007
    everything = rows * length * vocab_size
    assert largest_array(length, rows, length, vocab_size) >= everything  # in one chunk they are: this test can fail
    for entropy in (False, True):
        assert largest_array(8, rows, length, vocab_size, entropy) <= everything // 8


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NextTokenConfig(z_loss=-0.1), "objective.z_loss=-0.1: must not be negative"),
        (NextTokenConfig(chunk=0), "objective.chunk=0: must be at least 1 position"),
    ],
)
def test_values_that_make_no_sense_are_one_clear_line(config, message):
    check_next_token(NextTokenConfig())
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_next_token(config)
