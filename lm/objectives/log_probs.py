"""Log-probabilities of given tokens without ever holding the B x T x V logits: what every objective starts from."""

import jax
import jax.numpy as jnp

from lm.model.transformer import Transformer


def token_log_probs(
    model: Transformer, hidden: jax.Array, labels: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array]:
    """Log p(label) at each position, and the log of the softmax's normaliser there: two float32 (B, T).

    hidden (B, T, D) from `Transformer.hidden`, labels int (B, T). The logits of `chunk` positions of each row are made
    at a time (or of the largest divisor of T below it) and made again in the backward pass: memory is B x chunk x V.
    """
    b, t, _ = hidden.shape
    chunk = max(size for size in range(1, min(chunk, t) + 1) if t % size == 0)

    @jax.checkpoint
    def piece(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        h, wanted = inputs
        logits = model.logits(h)
        normaliser = jax.nn.logsumexp(logits, axis=-1)
        return jnp.take_along_axis(logits, wanted[..., None], axis=-1)[..., 0] - normaliser, normaliser

    if chunk == t:
        return piece((hidden, labels))
    pieces = tuple(jnp.moveaxis(x.reshape(b, t // chunk, chunk, *x.shape[2:]), 1, 0) for x in (hidden, labels))
    log_p, normaliser = jax.lax.map(piece, pieces)
    return tuple(jnp.moveaxis(x, 0, 1).reshape(b, t) for x in (log_p, normaliser))  # type: ignore[return-value]
