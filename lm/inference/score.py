"""How likely a model finds given continuations: teacher-forced, many at once."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.errors import UserError
from lm.model.transformer import Transformer
from lm.objectives.log_probs import token_log_probs

ROWS = 256  # sequences a dispatch


def continuation_log_probs(
    model: Transformer,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    on_progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Sum of log p over each continuation's tokens, nats, float64 (N,), for pairs (prompt, continuation) of token ids.

    Every prompt has at least one token. `on_progress` is told how many pairs each dispatch scored. Raises `UserError` for a
    pair longer than the context.
    """
    longest = max((len(prompt) + len(continuation) for prompt, continuation in pairs), default=0)
    if longest > model.config.context_length:
        raise UserError(
            f"a text has {longest} tokens and the model's context {model.config.context_length}: shorten it"
        )
    width = -(-longest // 16) * 16  # few shapes, so few compilations
    totals = [np.zeros(0)]
    for first in range(0, len(pairs), ROWS):
        part = pairs[first : first + ROWS]
        tokens = np.zeros((ROWS, width), np.int32)
        mask = np.zeros((ROWS, width), bool)  # over labels: position i predicts token i + 1
        for row, (prompt, continuation) in enumerate(part):
            tokens[row, : len(prompt) + len(continuation)] = [*prompt, *continuation]
            mask[row, len(prompt) - 1 : len(prompt) + len(continuation) - 1] = True
        totals.append(np.asarray(_sums(model, tokens, mask), np.float64)[: len(part)])
        if on_progress:
            on_progress(len(part))
    return np.concatenate(totals)


@jax.jit
def _sums(model: Transformer, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    hidden, _ = model.hidden(tokens)
    log_p, _ = token_log_probs(model, hidden, jnp.roll(tokens, -1, axis=1), chunk=16)
    return jnp.sum(log_p * mask, axis=1)
