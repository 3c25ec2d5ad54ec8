"""The KV cache: an explicit argument and result of the forward pass, never hidden state."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from lm.model.config import ModelConfig


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KVCache:
    """Keys and values of what each row has read, S slots a row. A token at position p lies in slot p."""

    keys: jax.Array  # (L, B, S, K, head_dim), compute dtype
    values: jax.Array  # (L, B, S, K, head_dim)


def empty_cache(config: ModelConfig, batch: int, slots: int) -> KVCache:
    """A cache of zeros for `batch` rows of at most `slots` tokens."""
    shape = (config.layers, batch, slots, config.kv_heads, config.dim_per_head)
    dtype = jnp.dtype(config.compute_dtype)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def write(slots: jax.Array, new: jax.Array, positions: jax.Array) -> jax.Array:
    """Put new (B, T, K, head_dim) into slots (B, S, K, head_dim), row by row at positions (B, T).

    Positions at or past S are dropped: that is where padding goes.
    """
    rows = jnp.arange(slots.shape[0])[:, None]
    return slots.at[rows, positions].set(new, mode="drop")
