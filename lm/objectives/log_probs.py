"""Log-probabilities of given tokens without ever holding the B x T x V logits: what every objective starts from."""

from functools import partial

import jax
import jax.numpy as jnp

from lm.model.transformer import Transformer, project

Scores = tuple[jax.Array, ...]  # log p(label), log normaliser and, where it is asked for, entropy


def token_log_probs(
    model: Transformer, hidden: jax.Array, labels: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """Log p(label) at each position, and the log of the softmax's normaliser there: two float32 (B, T).

    hidden (B, T, D) from `Transformer.hidden`, labels int (B, T). The logits of `chunk` positions of each row are made
    at a time (or of the largest divisor of T below it) and made again in the backward pass: memory is B x chunk x V.
    """
    log_p, normaliser = _chunked(model, hidden, labels, chunk, False)
    return log_p, normaliser


def token_log_probs_and_entropy(
    model: Transformer, hidden: jax.Array, labels: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """Log p(label), and the entropy in nats of what else could have stood there: two float32 (B, T), in one such pass."""
    log_p, _, entropy = _chunked(model, hidden, labels, chunk, True)
    return log_p, entropy


def _chunked(model: Transformer, hidden: jax.Array, labels: jax.Array, chunk: int, entropy: bool) -> Scores:
    b, t, _ = hidden.shape
    chunk = max(size for size in range(1, min(chunk, t) + 1) if t % size == 0)
    head, cap = model.head_matrix, model.config.logit_soft_cap
    if chunk == t:
        return _scores(hidden, head, labels, cap, entropy)
    pieces = tuple(jnp.moveaxis(x.reshape(b, t // chunk, chunk, *x.shape[2:]), 1, 0) for x in (hidden, labels))
    scores = jax.lax.map(lambda piece: _scores(piece[0], head, piece[1], cap, entropy), pieces)
    return tuple(jnp.moveaxis(x, 0, 1).reshape(b, t) for x in scores)


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
