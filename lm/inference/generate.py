"""Generation with a KV cache: prompts of different length in, tokens out, streamed in chunks.

Two compiled programs: `prefill` reads all prompts at once, `decode` writes `CHUNK` tokens a dispatch. A row's random keys
come from the seed, its index and the position, so its tokens do not depend on its neighbours.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.errors import UserError
from lm.inference.sampling import Sampling, draw
from lm.model.cache import KVCache, empty_cache
from lm.model.transformer import Transformer
from lm.sharding import constrain

CHUNK = 16  # tokens a dispatch: long enough to hide the dispatch, short enough to stream


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: int,
    symbols: int | None = None,
    on_tokens: Callable[[int, list[int]], None] | None = None,
) -> list[list[int]]:
    """Continue each prompt until it writes `stop` (left out of the result), `max_tokens`, or the end of the context.

    Only the first `symbols` of the model's vocabulary are written (None: all): it may be padded beyond the tokenizer's.
    `on_tokens(row, tokens)` is called with each row's new tokens after every chunk. Raises `UserError` for an empty
    prompt and for one that fills the context.
    """
    if not prompts:
        return []
    config = model.config
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    for length in lengths:
        if length == 0:
            raise UserError("an empty prompt: give at least the document start token")
        if length > config.context_length:
            raise UserError(
                f"the prompt has {length} tokens and the model's context {config.context_length}: shorten it"
            )
    slots = min(_bucket(int(lengths.max()) + max_tokens), config.context_length)
    padded = np.zeros((len(prompts), _bucket(int(lengths.max()))), np.int32)
    positions = np.full(padded.shape, slots, np.int32)  # past the last slot: padding is not written to the cache
    for row, prompt in enumerate(prompts):
        padded[row, : len(prompt)] = prompt
        positions[row, : len(prompt)] = np.arange(len(prompt))

    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(len(prompts)))
    tokens, cache = prefill(model, padded, positions, lengths, keys, slots, sampling, symbols)
    results: list[list[int]] = [[] for _ in prompts]
    running = set(range(len(prompts)))
    block = np.asarray(tokens)[:, None]
    # The last token need not be read back, so it may lie one past the context.
    budget = np.minimum(max_tokens, config.context_length - lengths + 1)
    at = jnp.asarray(lengths)
    while running:
        for row in sorted(running):
            new = block[row, : budget[row] - len(results[row])].tolist()
            ended = stop in new
            new = new[: new.index(stop)] if ended else new
            results[row] += new
            if on_tokens and new:
                on_tokens(row, new)
            if ended or len(results[row]) >= budget[row]:
                running.discard(row)
        if running:
            tokens, at, cache, written = decode(model, tokens, at, cache, keys, sampling, symbols)
            block = np.asarray(written)
    return results


@partial(jax.jit, static_argnames=("slots", "sampling", "symbols"))
def prefill(
    model: Transformer,
    tokens: jax.Array,
    positions: jax.Array,
    lengths: jax.Array,
    keys: jax.Array,
    slots: int,
    sampling: Sampling,
    symbols: int | None,
) -> tuple[jax.Array, KVCache]:
    """Read prompts (B, T), padded on the right to `lengths` (B,); draw each row's first token (B,)."""
    cache = empty_cache(model.config, tokens.shape[0], slots)
    hidden, cache = _read(model, tokens, positions, cache)
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]
    return _everywhere(draw(model.logits(last)[:, :symbols], _keys_at(keys, lengths), sampling)), cache


@partial(jax.jit, static_argnames=("sampling", "symbols"), donate_argnames=("cache",))
def decode(
    model: Transformer,
    tokens: jax.Array,
    at: jax.Array,
    cache: KVCache,
    keys: jax.Array,
    sampling: Sampling,
    symbols: int | None,
) -> tuple[jax.Array, jax.Array, KVCache, jax.Array]:
    """Write `CHUNK` tokens a row. tokens (B,) are the last ones drawn, to be read at positions `at` (B,).

    Returns the last token and its position for each row, the cache, and all new tokens (B, CHUNK).
    """

    def one(
        carry: tuple[jax.Array, jax.Array, KVCache], _: None
    ) -> tuple[tuple[jax.Array, jax.Array, KVCache], jax.Array]:
        tokens, at, cache = carry
        hidden, cache = _read(model, tokens[:, None], at[:, None], cache)
        new = draw(model.logits(hidden[:, 0])[:, :symbols], _keys_at(keys, at + 1), sampling)
        return (new, at + 1, cache), new

    (tokens, at, cache), written = jax.lax.scan(one, (tokens, at, cache), None, length=CHUNK)
    return tokens, at, cache, _everywhere(written.T)


def _read(model: Transformer, tokens: jax.Array, positions: jax.Array, cache: KVCache) -> tuple[jax.Array, KVCache]:
    hidden, written = model.hidden(tokens, positions, cache=cache)
    assert written is not None  # a cache went in, so one comes out
    return hidden, written


def _everywhere(x: jax.Array) -> jax.Array:
    """On every device of the mesh, so that every process can read it."""
    return constrain(x, *(None,) * x.ndim)


def _keys_at(keys: jax.Array, positions: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in)(keys, positions)


def _bucket(size: int) -> int:
    """The next power of two, at least 16: few shapes, so few compilations."""
    return max(16, 1 << (size - 1).bit_length())
