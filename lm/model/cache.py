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
from lm.model.quantized import Matrix, Quantized, quantize
from lm.sharding import constrain_kv


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KVCache:
    """Keys and values of what each of B rows has read last, S places a row; an array of each for every layer.

    Laid out as the two products of attention read them, or a CPU would turn all of it around for every token. In int8 each place
    has a scale for each of its heads, float32 (B, K, 1, S) and (B, K, S, 1).
    """

    keys: tuple[Matrix, ...]  # (B, K, head_dim, S)
    values: tuple[Matrix, ...]  # (B, K, S, head_dim)

    @property
    def rows(self) -> int:
        """B."""
        return self.keys[0].shape[0]

    @property
    def places(self) -> int:
        """S."""
        return self.values[0].shape[-2]


def empty_cache(config: ModelConfig, rows: int, places: int, *, quantized: bool = False) -> KVCache:
    """A cache of zeros; `quantized`: in int8."""
    b, k, d, dtype = rows, config.kv_heads, config.dim_per_head, jnp.dtype(config.compute_dtype)

    def zeros(*shape: int, groups: tuple[int, int]) -> tuple[Matrix, ...]:
        def one() -> Matrix:
            entries = constrain_kv(jnp.zeros((b, k, *shape), jnp.int8 if quantized else dtype))
            return Quantized(entries, constrain_kv(jnp.zeros((b, k, *groups)))) if quantized else entries

        return tuple(one() for _ in range(config.layers))

    return KVCache(zeros(d, places, groups=(1, places)), zeros(places, d, groups=(places, 1)))


def write(places: tuple[Matrix, Matrix], key: jax.Array, value: jax.Array, at: jax.Array) -> tuple[Matrix, Matrix]:
    """One layer's places with key and value (B, 1, K, head_dim) at place `at` of every row.

    Places are keys (..., head_dim, S) and values (..., S, head_dim), where ... is B, K, or the two in one axis.
    """
    keys, values = places
    key = key.reshape(*keys.shape[:-1], 1)
    value = value.reshape(*values.shape[:-2], 1, values.shape[-1])

    def put(old: Matrix, new: Matrix, axis: int) -> Matrix:
        return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, at, axis), old, new)

    return (
        put(keys, _stored(key, keys, axis=-2), keys.ndim - 1),
        put(values, _stored(value, values, axis=-1), values.ndim - 2),
    )


def _stored(x: jax.Array, places: Matrix, axis: int) -> Matrix:
    """New keys or values as these places hold them; head_dim is along `axis`."""
    return quantize(x, 8, axis) if isinstance(places, Quantized) else x.astype(places.dtype)


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

    def put(places: Matrix, new: jax.Array, order: tuple[int, ...]) -> Matrix:
        ring = _stored(jnp.transpose(new[source[:, None], token], order), places, order.index(3) - 4)
        return jax.tree.map(lambda x, y: constrain_kv(x.at[rows].set(y, mode="drop")), places, ring)

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
        jax.tree.map(lambda keys: constrain_kv(sized(keys, 3)), cache.keys),
        jax.tree.map(lambda values: constrain_kv(sized(values, 2)), cache.values),
    )
