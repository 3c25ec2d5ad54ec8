"""The KV cache: an explicit argument and result of decoding, never hidden state.

Its rows are rings that turn together: all write their next token at the same place `at`, whatever their lengths, so that a
step writes one slice and no scatter. What is `age` steps old lies `age` places before the newest, and a row of n tokens looks
at the ages below n. Keys are stored with their rotary angle, so the place itself means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from lm.model.config import ModelConfig
from lm.sharding import constrain_kv


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KVCache:
    """Keys and values of what each of B rows has read last, S places a row; an array of each for every layer.

    Laid out as the two products of attention read them, or a CPU would turn all of it around for every token.
    """

    keys: tuple[jax.Array, ...]  # (B, K, head_dim, S)
    values: tuple[jax.Array, ...]  # (B, K, S, head_dim)

    @property
    def rows(self) -> int:
        """B."""
        return self.keys[0].shape[0]

    @property
    def places(self) -> int:
        """S."""
        return self.values[0].shape[-2]


def empty_cache(config: ModelConfig, rows: int, places: int) -> KVCache:
    """A cache of zeros."""
    b, k, d, dtype = rows, config.kv_heads, config.dim_per_head, jnp.dtype(config.compute_dtype)

    def zeros(*shape: int) -> tuple[jax.Array, ...]:
        return tuple(constrain_kv(jnp.zeros((b, k, *shape), dtype)) for _ in range(config.layers))

    return KVCache(zeros(d, places), zeros(places, d))


def write(
    places: tuple[jax.Array, jax.Array], key: jax.Array, value: jax.Array, at: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One layer's places with key and value (B, 1, K, head_dim) at place `at` of every row.

    Places are keys (..., head_dim, S) and values (..., S, head_dim), where ... is B, K, or the two in one axis.
    """
    keys, values = places
    key = key.reshape(*keys.shape[:-1], 1)
    value = value.reshape(*values.shape[:-2], 1, values.shape[-1])
    put = jax.lax.dynamic_update_slice_in_dim
    return put(keys, key, at, axis=keys.ndim - 1), put(values, value, at, axis=values.ndim - 2)


def ages(at: jax.Array, places: int) -> jax.Array:
    """How many tokens ago each place was written, int32 (S,), seen from the token at place `at`, whose age is 0."""
    return (at - jnp.arange(places)) % places


def fill(
    cache: KVCache,
    read: Sequence[tuple[jax.Array, jax.Array]],
    lengths: jax.Array,
    source: jax.Array,
    rows: jax.Array,
    at: jax.Array,
) -> KVCache:
    """The cache with prompts in some of its rows, each ending just before place `at`.

    read: keys and values (P, T, K, head_dim) of each layer, of P prompts of `lengths` (P,). Row rows[i] gets prompt source[i]
    (both int (N,)); rows past the last one are dropped, which is where padding goes.
    """
    token = lengths[source][:, None] - 1 - ages(at - 1, cache.places)  # (N, S): which token lies at each place
    token = jnp.clip(token, 0, read[0][0].shape[1] - 1)  # what is outside the prompt is never looked at

    def put(places: jax.Array, new: jax.Array, order: tuple[int, ...]) -> jax.Array:
        ring = jnp.transpose(new[source[:, None], token], order).astype(places.dtype)
        return constrain_kv(places.at[rows].set(ring, mode="drop"))

    return KVCache(
        tuple(put(old, keys, (0, 2, 3, 1)) for old, (keys, _) in zip(cache.keys, read, strict=True)),
        tuple(put(old, values, (0, 2, 1, 3)) for old, (_, values) in zip(cache.values, read, strict=True)),
    )


def rearrange(cache: KVCache, rows: jax.Array | None, places: int, at: jax.Array) -> KVCache:
    """A cache of the given rows int (B',) (None: as they are) with another number of places; the oldest that do not fit are lost.

    Its next token goes to place `min(S, places)`, modulo `places`.
    """
    if rows is not None:
        cache = jax.tree.map(lambda x: constrain_kv(x[rows]), cache)
    more = places - cache.places

    def sized(x: jax.Array, axis: int) -> jax.Array:
        x = jax.lax.cond(at == 0, lambda: x, lambda: jnp.roll(x, -at, axis))  # the oldest first
        if more < 0:
            return jax.lax.slice_in_dim(x, -more, x.shape[axis], axis=axis)
        return jnp.pad(x, [(0, more if i == axis else 0) for i in range(x.ndim)])

    return KVCache(
        tuple(constrain_kv(sized(keys, 3)) for keys in cache.keys),
        tuple(constrain_kv(sized(values, 2)) for values in cache.values),
    )
