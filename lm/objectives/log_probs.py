"""Log-probabilities of given tokens without ever holding the B x T x V logits: what every objective starts from."""

from functools import partial

import jax
import jax.numpy as jnp

from lm.model.transformer import Transformer, project

Scores = tuple[jax.Array, jax.Array]


def token_log_probs(model: Transformer, hidden: jax.Array, labels: jax.Array, chunk: int) -> Scores:
    """Log p(label) at each position, and the log of the softmax's normaliser there: two float32 (B, T).

    hidden (B, T, D) from `Transformer.hidden`, labels int (B, T). The logits of `chunk` positions of each row are made
    at a time (or of the largest divisor of T below it) and made again in the backward pass: memory is B x chunk x V.
    """
    b, t, _ = hidden.shape
    chunk = max(size for size in range(1, min(chunk, t) + 1) if t % size == 0)
    head, cap = model.head_matrix, model.config.logit_soft_cap
    if chunk == t:
        return _scores(hidden, head, labels, cap)
    pieces = tuple(jnp.moveaxis(x.reshape(b, t // chunk, chunk, *x.shape[2:]), 1, 0) for x in (hidden, labels))
    log_p, normaliser = jax.lax.map(lambda piece: _scores(piece[0], head, piece[1], cap), pieces)
    return tuple(jnp.moveaxis(x, 0, 1).reshape(b, t) for x in (log_p, normaliser))  # type: ignore[return-value]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _scores(hidden: jax.Array, head: jax.Array, labels: jax.Array, cap: float) -> Scores:
    """As `token_log_probs`, of one chunk: hidden (B, T, D), head (D, V), labels (B, T)."""
    return _forward(hidden, head, labels, cap)[0]


def _forward(hidden: jax.Array, head: jax.Array, labels: jax.Array, cap: float) -> tuple[Scores, tuple[jax.Array, ...]]:
    logits = project(hidden, head, cap)
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    log_p = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0] - normaliser
    return (log_p, normaliser), (hidden, head, labels, normaliser)


def _backward(cap: float, kept: tuple[jax.Array, ...], given: Scores) -> tuple[jax.Array, jax.Array, None]:
    """With p the softmax: d normaliser = p, and d log_p = onehot(label) - p. The normaliser is kept, not summed up again."""
    hidden, head, labels, normaliser = kept
    log_p, of_normaliser = given
    logits = project(hidden, head, cap)
    p = jnp.exp(logits - normaliser[..., None])
    is_label = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1) == labels[..., None]
    d = p * (of_normaliser - log_p)[..., None] + jnp.where(is_label, log_p[..., None], 0.0)
    if cap:
        d = d * (1.0 - jnp.square(logits / cap))
    d = d.astype(hidden.dtype)
    # Written out, since the products that `jax.vjp` makes are laid out in a way that XLA's CPU backend is slow at.
    d_hidden = jnp.einsum("btv,dv->btd", d, head.astype(d.dtype))
    d_head = jnp.einsum("btd,btv->dv", hidden, d)
    return d_hidden, d_head.astype(head.dtype), None


_scores.defvjp(_forward, _backward)
