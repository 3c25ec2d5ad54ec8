"""How likely a model finds given texts: teacher-forced, many at once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.errors import UserError
from lm.model.transformer import Transformer

TOKENS = 8192  # a dispatch, padding included
CHUNK = 16  # positions whose logits exist at a time; every width is a multiple of it

Pair = tuple[Sequence[int], Sequence[int]]  # a prompt and its continuation


class Scores(NamedTuple):
    """What `score_continuations` says of N pairs."""

    log_probs: np.ndarray  # float64 (N,): the sum of log p over the continuation's tokens, nats
    greedy: np.ndarray  # bool (N,): whether the continuation is what greedy decoding would write


def score_continuations(
    model: Transformer,
    pairs: Sequence[Pair],
    on_progress: Callable[[int], object] | None = None,
    *,
    symbols: int | None = None,
) -> Scores:
    """Score pairs (prompt, continuation) of token ids.

    The pairs are taken in order of their length, so that few tokens are padding, in few shapes, so that few programs are
    compiled. Greedy decoding writes the first `symbols` of the vocabulary only (None: all). `on_progress` is told how many
    pairs each dispatch scored. Raises `UserError` for an empty prompt, and for a pair that does not fit the context (the
    last token need not be read, so one more than the context does).
    """
    context = model.config.context_length
    lengths = [len(prompt) + len(continuation) - 1 for prompt, continuation in pairs]  # of what is read
    longest = max(lengths, default=0)
    if longest > context:
        raise UserError(f"a text has {longest + 1} tokens and the model's context is {context}: shorten it")
    if any(not prompt for prompt, _ in pairs):
        raise UserError("an empty prompt: give at least the document start token")
    scores = Scores(np.zeros(len(pairs)), np.ones(len(pairs), bool))
    widths = np.array([_width(length) for length in lengths])
    for width in sorted(set(widths.tolist())):
        indices = np.flatnonzero(widths == width)
        rows = max(TOKENS // width, 1)
        for first in range(0, len(indices), rows):
            part = indices[first : first + rows]
            tokens = np.zeros((rows, width), np.int32)
            labels = np.zeros((rows, width), np.int32)
            mask = np.zeros((rows, width), bool)
            for row, index in enumerate(part):
                prompt, continuation = pairs[index]
                whole = [*prompt, *continuation]
                read = len(whole) - 1
                tokens[row, :read], labels[row, :read] = whole[:-1], whole[1:]
                mask[row, len(prompt) - 1 : read] = True
            log_probs, greedy = _score(model, tokens, labels, mask, symbols)
            scores.log_probs[part] = np.asarray(log_probs)[: len(part)]
            scores.greedy[part] = np.asarray(greedy)[: len(part)]
            if on_progress:
                on_progress(len(part))
    return scores


def rolling_log_probs(
    model: Transformer,
    texts: Sequence[Sequence[int]],
    start: int,
    *,
    overlap: int,
    on_progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """log p of each whole text, nats, float64 (N,), however long: read in windows that each fill the context.

    Every token is predicted once, the first one after `start`. A window begins `overlap` tokens (at least 1, at most the
    context) before the first token that it is asked for, so more overlap means more context and more windows. `on_progress`
    is told how many windows each dispatch scored.
    """
    pairs, owners = [], []
    for number, text in enumerate(texts):
        cut = windows([start, *text], model.config.context_length, overlap)
        pairs += cut
        owners += [number] * len(cut)
    scores = score_continuations(model, pairs, on_progress)
    return np.bincount(owners, scores.log_probs, len(texts)) if pairs else np.zeros(len(texts))


def windows(tokens: Sequence[int], context: int, overlap: int) -> list[Pair]:
    """Cut a text into (prompt, continuation), so that each token but the first is in one continuation.

    A window reads at most `context` tokens: all of a pair but its last. The last window reaches back as far as it can.
    """
    if not 1 <= overlap <= context:
        raise ValueError(f"an overlap of {overlap} in windows of {context}")
    pairs: list[Pair] = []
    predicted = 1
    while predicted < len(tokens):
        end = min(context + 1 if predicted == 1 else predicted + context + 1 - overlap, len(tokens))
        begin = max(end - context - 1, 0)
        pairs.append((tokens[begin:predicted], tokens[predicted:end]))
        predicted = end
    return pairs


@partial(jax.jit, static_argnames=("symbols",))
def _score(
    model: Transformer, tokens: jax.Array, labels: jax.Array, mask: jax.Array, symbols: int | None
) -> tuple[jax.Array, jax.Array]:
    """Sums of log p of labels int (B, T) where mask bool (B, T), and whether all of those are the likeliest symbols."""
    hidden, _ = model.hidden(tokens)

    def chunk(piece: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        hidden, labels, mask = piece
        logits = model.logits(hidden)  # (B, CHUNK, V)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
        likeliest = jnp.argmax(logits[..., :symbols], axis=-1) == labels
        return jnp.sum(log_p, axis=1, where=mask), jnp.all(likeliest | ~mask, axis=1)

    pieces = tuple(jnp.moveaxis(x.reshape(len(tokens), -1, CHUNK, *x.shape[2:]), 1, 0) for x in (hidden, labels, mask))
    log_probs, greedy = jax.lax.map(chunk, pieces)
    return jnp.sum(log_probs, axis=0), jnp.all(greedy, axis=0)


def _width(length: int) -> int:
    """16, 32, 48, 64, 96, 128, 192, ...: two shapes an octave, all multiples of `CHUNK`."""
    power = max(CHUNK, 1 << (length - 1).bit_length())
    between = power * 3 // 4
    return between if length <= between and between % CHUNK == 0 else power
