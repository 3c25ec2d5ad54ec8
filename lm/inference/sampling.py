"""From scores to a token: the biased coin that is thrown once a token."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from data_pipeline.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How the distribution is bent before a token is drawn. The defaults draw from it as it is."""

    temperature: float = 1.0  # 0: always the most likely token
    top_k: int = 0  # keep the k most likely tokens; 0: all
    top_p: float = 1.0  # keep the fewest tokens that hold this much probability (arXiv 1904.09751)


def check_sampling(sampling: Sampling) -> None:
    """Raise `UserError` for values that make no sense."""
    if not sampling.temperature >= 0:
        raise UserError(f"temperature={sampling.temperature}: must be 0 (greedy) or more")
    if sampling.top_k < 0:
        raise UserError(f"top_k={sampling.top_k}: must be 0 (all tokens) or more")
    if not 0 < sampling.top_p <= 1:
        raise UserError(f"top_p={sampling.top_p}: must be above 0 and at most 1")


def bend(logits: jax.Array, sampling: Sampling) -> jax.Array:
    """Logits float32 (B, V) of the distribution that is sampled from: -inf for what is cut off. Temperature above 0."""
    logits = logits / sampling.temperature
    if sampling.top_k and sampling.top_k < logits.shape[-1]:
        kth = jax.lax.top_k(logits, sampling.top_k)[0][:, -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if sampling.top_p < 1:
        descending = jnp.sort(logits, axis=-1)[:, ::-1]
        probabilities = jax.nn.softmax(descending, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities  # mass of all likelier tokens
        last = jnp.sum(before < sampling.top_p, axis=-1, keepdims=True) - 1
        logits = jnp.where(logits < jnp.take_along_axis(descending, last, axis=-1), -jnp.inf, logits)
    return logits


def draw(logits: jax.Array, keys: jax.Array, sampling: Sampling) -> jax.Array:
    """One token for each row: logits float32 (B, V), a random key a row (B,), tokens int32 (B,)."""
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    return jax.vmap(jax.random.categorical)(keys, bend(logits, sampling)).astype(jnp.int32)
