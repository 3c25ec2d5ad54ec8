"""How likely a model finds each token of a prompt, and what it would have expected there: one prompt at a time."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lm.inference.requests import Alternative, Written
from lm.model.transformer import Transformer

CHUNK = 16  # positions whose logits are held at a time


def prompt_scores(model: Transformer, tokens: Sequence[int], top: int, *, symbols: int | None = None) -> Written:
    """The prompt as if it had been written, with log p of each token given those before it, nats.

    Of the first token, which has none before it, log p is NaN and the alternatives are empty. Only the first `symbols` of the
    vocabulary count, as in the engine. Any length up to the context, padded to a power of two.
    """
    length = len(tokens)
    # In two sizes, so that programs stay few.
    most = min(0 if top == 0 else max(20, top), symbols or model.config.vocab_size)
    padded = np.zeros(max(CHUNK, 1 << (length - 1).bit_length()), np.int32)
    padded[:length] = tokens
    log_p, best, which = jax.device_get(_scores(model, padded, most, symbols))
    log_probs = [float("nan"), *log_p[: length - 1].tolist()]
    alternatives: list[list[Alternative]] = []
    if top:
        pairs = zip(which[: length - 1].tolist(), best[: length - 1].tolist(), strict=True)
        alternatives = [[], *([Alternative(*pair) for pair in zip(*both, strict=True)][:top] for both in pairs)]
    return Written(list(tokens), log_probs, log_probs, alternatives)


@partial(jax.jit, static_argnames=("top", "symbols"))
def _scores(
    model: Transformer, tokens: jax.Array, top: int, symbols: int | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """tokens (T,): log p of the token after each, (T,); the `top` largest log p, (T, top), and their tokens."""

    def chunk(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        hidden, labels = part
        log_p = jax.nn.log_softmax(model.logits(hidden)[:, :symbols])
        return jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0], *jax.lax.top_k(log_p, top)

    hidden, _ = model.hidden(tokens[None])
    parts = (hidden[0].reshape(-1, CHUNK, hidden.shape[-1]), jnp.roll(tokens, -1).reshape(-1, CHUNK))
    log_p, best, which = jax.lax.map(chunk, parts)
    return log_p.reshape(-1), best.reshape(len(tokens), top), which.reshape(len(tokens), top)
