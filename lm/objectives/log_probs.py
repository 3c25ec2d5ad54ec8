"""Log-probabilities of given tokens without ever holding the B x T x V logits: what every objective starts from."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lm.model.transformer import Transformer, project

Scores = tuple[jax.Array, ...]  # log p(label), log normaliser and, where it is asked for, entropy


def token_log_probs(
    model: Transformer, hidden: jax.Array, labels: jax.Array, chunk: int, needed: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Log p(label) at each position, and the log of the softmax's normaliser there: two float32 (B, T).

    hidden (B, T, D) from `Transformer.hidden`, labels int (B, T). The logits of at most `chunk` positions of each row are
    made at a time and made again in the backward pass: memory is B x chunk x V. With `needed`, bool (B, T), they are made for
    no more chunks than the row with the most positions needed has; what is not needed may be 0.
    """
    log_p, normaliser = _chunked(model, hidden, labels, chunk, needed, False)
    return log_p, normaliser


def token_log_probs_and_entropy(
    model: Transformer, hidden: jax.Array, labels: jax.Array, chunk: int, needed: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Log p(label), and the entropy in nats of what else could have stood there: two float32 (B, T), in one such pass."""
    log_p, _, entropy = _chunked(model, hidden, labels, chunk, needed, True)
    return log_p, entropy


def _chunked(
    model: Transformer, hidden: jax.Array, labels: jax.Array, chunk: int, needed: jax.Array | None, entropy: bool
) -> Scores:
    b, t, _ = hidden.shape
    head, cap = model.head_matrix, model.config.logit_soft_cap
    if chunk >= t:
        return _scores(hidden, head, labels, cap, entropy)
    count = -(-t // chunk)
    if needed is None:
        chunk = -(-t // count)  # alike, so that the last is as full as the others

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (0, count * chunk - t)) + ((0, 0),) * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(b, count, chunk, *x.shape[2:]), 1, 0)

    def join(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x, 0, 1).reshape(b, count * chunk)[:, :t]

    if needed is None:
        scores = jax.lax.map(lambda piece: _scores(piece[0], head, piece[1], cap, entropy), (cut(hidden), cut(labels)))
        return tuple(map(join, scores))
    order = jnp.argsort(~needed, axis=1)  # what is needed of each row comes first, in its order
    hidden = jnp.take_along_axis(hidden, order[..., None], axis=1)
    labels, needed = (jnp.take_along_axis(x, order, axis=1) for x in (labels, needed))
    wanted = jnp.any(cut(needed), axis=(1, 2))
    scores = _scores_of_wanted(cut(hidden), head, cut(labels), wanted, cap, entropy)
    back = jnp.argsort(order, axis=1)
    return tuple(jnp.take_along_axis(join(x), back, axis=1) for x in scores)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _scores_of_wanted(
    hidden: jax.Array, head: jax.Array, labels: jax.Array, wanted: jax.Array, cap: float, entropy: bool
) -> Scores:
    """As `_scores`, of N chunks, hidden (N, B, C, D), labels (N, B, C), those that `wanted`, bool (N,), has; else 0."""
    return _forward_of_wanted(hidden, head, labels, wanted, cap, entropy)[0]


def _forward_of_wanted(
    hidden: jax.Array, head: jax.Array, labels: jax.Array, wanted: jax.Array, cap: float, entropy: bool
) -> tuple[Scores, tuple[jax.Array, ...]]:
    nothing = (jnp.zeros(labels.shape[1:]),) * (3 if entropy else 2)

    def one(piece: tuple[jax.Array, ...]) -> Scores:
        h, its_labels, is_wanted = piece
        return jax.lax.cond(is_wanted, lambda: _forward(h, head, its_labels, cap, entropy)[0], lambda: nothing)

    scores = jax.lax.map(one, (hidden, labels, wanted))
    return scores, (hidden, head, labels, wanted, *scores[1:])


def _backward_of_wanted(
    cap: float, entropy: bool, kept: tuple[jax.Array, ...], given: Scores
) -> tuple[jax.Array, jax.Array, None, None]:
    hidden, head, labels, wanted, *sums = kept

    def one(d_head: jax.Array, piece: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        h, its_labels, is_wanted, its_sums, its_given = piece

        def back() -> tuple[jax.Array, jax.Array]:
            d_hidden, more, _ = _backward(cap, entropy, (h, head, its_labels, *its_sums), its_given)
            return d_head + more, d_hidden

        return jax.lax.cond(is_wanted, back, lambda: (d_head, jnp.zeros_like(h)))

    pieces = (hidden, labels, wanted, tuple(sums), given)
    d_head, d_hidden = jax.lax.scan(one, jnp.zeros_like(head), pieces)
    return d_hidden, d_head, None, None


_scores_of_wanted.defvjp(_forward_of_wanted, _backward_of_wanted)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _scores(hidden: jax.Array, head: jax.Array, labels: jax.Array, cap: float, entropy: bool) -> Scores:
    """As `token_log_probs`, of one chunk: hidden (B, T, D), head (D, V), labels (B, T)."""
    return _forward(hidden, head, labels, cap, entropy)[0]


def _forward(
    hidden: jax.Array, head: jax.Array, labels: jax.Array, cap: float, entropy: bool
) -> tuple[Scores, tuple[jax.Array, ...]]:
    logits = project(hidden, head, cap)
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    log_p = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0] - normaliser
    scores: Scores = (log_p, normaliser)
    if entropy:
        log_softmax = logits - normaliser[..., None]
        scores = (*scores, -jnp.sum(jnp.exp(log_softmax) * log_softmax, axis=-1))
    return scores, (hidden, head, labels, *scores[1:])


def _backward(
    cap: float, entropy: bool, kept: tuple[jax.Array, ...], given: Scores
) -> tuple[jax.Array, jax.Array, None]:
    """With p the softmax: d normaliser = p, d log_p = onehot(label) - p and d entropy = -p (log p + entropy).

    The normaliser and the entropy are kept, not summed up again.
    """
    hidden, head, labels, normaliser, *entropies = kept
    log_p, of_normaliser, *of_entropy = given
    logits = project(hidden, head, cap)
    p = jnp.exp(logits - normaliser[..., None])
    is_label = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1) == labels[..., None]
    by_p = (of_normaliser - log_p)[..., None]
    if entropy:
        by_p = by_p - of_entropy[0][..., None] * (logits - (normaliser - entropies[0])[..., None])
    d = p * by_p + jnp.where(is_label, log_p[..., None], 0.0)
    if cap:
        d = d * (1.0 - jnp.square(logits / cap))
    d = d.astype(hidden.dtype)
    # Written out, since the products that `jax.vjp` makes are laid out in a way that XLA's CPU backend is slow at.
    d_hidden = jnp.einsum("btv,dv->btd", d, head.astype(d.dtype))
    d_head = jnp.einsum("btd,btv->dv", hidden, d)
    return d_hidden, d_head.astype(head.dtype), None


_scores.defvjp(_forward, _backward)
