"""The engine's compiled programs: read prompts (`prefill`), write tokens (`decode`), and rearrange the cache.

What changes from call to call is an argument, so that a request never compiles anything: shapes come from a few buckets, and
`Features` has a handful of values.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lm.inference.sampling import RowSampling, draw
from lm.model import cache as ring
from lm.model.cache import KVCache
from lm.model.transformer import Transformer
from lm.sharding import constrain, is_split

CHUNK = 64  # tokens a dispatch, at most
# Compiled programs of each kind that are kept: sizes and features have many combinations, each some megabytes.
PREFILLS, PROGRAMS = 128, 48


class Features(NamedTuple):
    """What at least one row needs; the rest is left out of the program."""

    samples: bool  # a temperature above 0
    bends: bool  # top_k, top_p, min_p or a repetition penalty; not one by one, or programs would be many
    top: int  # alternatives to report
    symbols: int  # only the first so many of the vocabulary are written: it may be padded beyond the tokenizer's


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rows:
    """What the decoding program is told of its B rows, as the host knows it at the start of a dispatch."""

    token: np.ndarray  # int32 (B,): the last one, not read yet
    position: np.ndarray  # int32 (B,): its place in the text, so how many tokens the cache holds of the row
    left: np.ndarray  # int32 (B,): tokens it may still write; 0: an empty row
    stop: np.ndarray  # int32 (B, M): tokens that end it; -1: none
    seed: np.ndarray  # uint32 (B,)
    sample: np.ndarray  # int32 (B,): which of a seed's samples
    sampling: RowSampling


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chunk:
    """What a dispatch wrote: of row b the first count[b] entries count."""

    count: jax.Array  # int32 (B,)
    tokens: jax.Array  # int32 (B, CHUNK)
    log_probs: jax.Array  # float32 (B, CHUNK), as the model has it
    sampling_log_probs: jax.Array  # float32 (B, CHUNK), as it was drawn
    top_tokens: jax.Array  # int32 (B, CHUNK, top)
    top_log_probs: jax.Array  # float32 (B, CHUNK, top)
    steps: jax.Array  # int32 (): how far the rings have turned


@partial(jax.jit, donate_argnames="cache")
def prefill(
    model: Transformer,
    cache: KVCache,
    tokens: jax.Array,
    lengths: jax.Array,
    source: jax.Array,
    rows: jax.Array,
    at: jax.Array,
) -> KVCache:
    """The cache with P prompts (P, T), padded on the right to `lengths` (P,), in its rows; see `cache.fill`."""
    _, read = model.hidden(tokens, keep=True)
    assert read is not None  # it was asked for
    return ring.fill(cache, read, lengths, source, rows, at)


@partial(jax.jit, static_argnames="places")
def rearrange(cache: KVCache, rows: jax.Array | None, places: int, at: jax.Array) -> KVCache:
    """See `cache.rearrange`."""
    return ring.rearrange(cache, rows, places, at)


# A CPU's compiler sums in two passes for precision's sake: twice the programs a step, which small models feel.
ONE_PASS = {"xla_disable_hlo_passes": "tree_reduction_rewriter"}


@partial(jax.jit, static_argnames="features", donate_argnames="cache", compiler_options=ONE_PASS)
def decode(
    model: Transformer,
    cache: KVCache,
    rows: Rows,
    seen: jax.Array | None,
    at: jax.Array,
    limit: jax.Array,
    patience: jax.Array,
    features: Features,
) -> tuple[KVCache, Chunk]:
    """Write up to `limit` <= CHUNK tokens a row, fewer when all rows have ended, or `patience` rows since the start.

    `seen` bool (B, V) says which tokens each row holds already; None unless `features.bends`.
    """
    b, places = len(rows.token), cache.places
    keys = jax.vmap(lambda seed, sample: jax.random.fold_in(jax.random.key(seed), sample))(rows.seed, rows.sample)
    running = jnp.sum(rows.left > 0)

    def going_on(carry: tuple) -> jax.Array:
        i, _, _, left, _, _, _ = carry
        still = jnp.sum(left > 0)
        return (i < limit) & (still > 0) & (running - still < patience)

    def one(carry: tuple) -> tuple:
        i, token, position, left, seen, cache, chunk = carry
        hidden, cache = model.decode(token, position, cache, (at + i) % places)
        logits = model.logits(hidden)[:, : features.symbols]
        # A place's random number depends on the seed, the sample and the position alone.
        uniform = jax.vmap(lambda key, place: jax.random.uniform(jax.random.fold_in(key, place)))(keys, position + 1)
        drawn = draw(logits, uniform, rows.sampling, seen, samples=features.samples, filters=features.bends)
        writes = left > 0
        new = [drawn.token, drawn.log_prob, drawn.sampling_log_prob]
        kept = [chunk.tokens, chunk.log_probs, chunk.sampling_log_probs]
        if features.top:
            best, best_tokens = jax.lax.top_k(logits, features.top)
            new += [best_tokens, best - jax.nn.logsumexp(logits, axis=-1, keepdims=True)]
            kept += [chunk.top_tokens, chunk.top_log_probs]
        kept = [jax.lax.dynamic_update_index_in_dim(all_, x, i, axis=1) for all_, x in zip(kept, new, strict=True)]
        ended = jnp.any(rows.stop == drawn.token[:, None], axis=1)
        if seen is not None:
            seen = seen.at[jnp.arange(b), drawn.token].set(True)
        tops = kept[3:] or (chunk.top_tokens, chunk.top_log_probs)
        chunk = Chunk(chunk.count + writes, kept[0], kept[1], kept[2], tops[0], tops[1], i + 1)
        left = jnp.where(writes & ~ended, left - 1, 0)
        return i + 1, drawn.token, position + writes, left, seen, cache, chunk

    empty = Chunk(
        jnp.zeros(b, jnp.int32),
        jnp.zeros((b, CHUNK), jnp.int32),
        jnp.zeros((b, CHUNK), jnp.float32),
        jnp.zeros((b, CHUNK), jnp.float32),
        jnp.zeros((b, CHUNK, features.top), jnp.int32),
        jnp.zeros((b, CHUNK, features.top), jnp.float32),
        jnp.int32(0),
    )
    # A CPU's compiler writes in place when there is one axis of rows and heads; with a single row it would copy otherwise.
    before = cache
    if not is_split():
        cache = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), cache)
    start = (jnp.int32(0), rows.token, rows.position, rows.left, seen, cache, empty)
    cache, chunk = jax.lax.while_loop(going_on, one, start)[-2:]
    cache = jax.tree.map(lambda x, like: x.reshape(like.shape), cache, before)
    return cache, jax.tree.map(lambda x: constrain(x, *(None,) * x.ndim), chunk)  # every process reads all of it


def forget_many() -> bool:
    """Drop the compiled programs of each kind that has too many; those that are needed are compiled again. Whether any had."""
    kinds: tuple[tuple[Any, int], ...] = ((prefill, PREFILLS), (rearrange, PROGRAMS), (decode, PROGRAMS))
    full = [program for program, most in kinds if program._cache_size() >= most]
    for program in full:
        program.clear_cache()
    return decode in full
