"""From scores to a token: the biased coin that is thrown once a token, each row with a coin of its own."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How the distribution is bent before a token is drawn, in this order. The defaults draw from it as it is."""

    repetition_penalty: float = 1.0  # above 1: what was there already becomes less likely (arXiv 1909.05858)
    temperature: float = 1.0  # 0: always the most likely token
    top_k: int = 0  # keep the k most likely tokens; 0: all
    top_p: float = 1.0  # keep the fewest tokens that hold this much probability (arXiv 1904.09751)
    min_p: float = 0.0  # keep tokens at least this likely relative to the likeliest (arXiv 2407.01082)


def check_sampling(sampling: Sampling) -> None:
    """Raise `UserError` for values that make no sense."""
    if not sampling.temperature >= 0:
        raise UserError(f"temperature={sampling.temperature}: must be 0 (greedy) or more")
    if not 0 <= sampling.top_k < 2**31:
        raise UserError(f"top_k={sampling.top_k}: must be 0 (all tokens) or more, and below 2^31")
    if not 0 < sampling.top_p <= 1:
        raise UserError(f"top_p={sampling.top_p}: must be above 0 and at most 1")
    if not 0 <= sampling.min_p <= 1:
        raise UserError(f"min_p={sampling.min_p}: must be between 0 and 1")
    if not sampling.repetition_penalty > 0:
        raise UserError(f"repetition_penalty={sampling.repetition_penalty}: must be positive (1: none)")


Numbers = jax.Array | np.ndarray


class RowSampling(NamedTuple):
    """`Sampling` of each of B rows, as arrays (B,)."""

    repetition_penalty: Numbers
    temperature: Numbers
    top_k: Numbers  # int32
    top_p: Numbers
    min_p: Numbers


class Drawn(NamedTuple):
    """What was drawn for each row: (B,)."""

    token: jax.Array  # int32
    log_prob: jax.Array  # nats, as the model has it
    sampling_log_prob: jax.Array  # nats, under the distribution it was drawn from


def penalise(logits: jax.Array, seen: jax.Array, penalty: Numbers) -> jax.Array:
    """Logits (B, V) with those of `seen` (B, V) bool tokens moved down by a factor (B,) (arXiv 1909.05858)."""
    factor = penalty[:, None]
    return jnp.where(seen, jnp.where(logits > 0, logits / factor, logits * factor), logits)


def draw(
    logits: jax.Array,
    uniform: jax.Array,
    rows: RowSampling,
    seen: jax.Array | None,
    *,
    samples: bool,
    filters: bool,
) -> Drawn:
    """One token for each row from logits float32 (B, V) and a number in [0, 1) a row (B,).

    Says at compile time what no row needs: `samples` is False when all are greedy, `filters` False when none has a top_k,
    top_p or min_p, `seen` None when none has a penalty.
    """
    highest = jnp.max(logits, axis=-1, keepdims=True)
    normaliser = highest[:, 0] + jnp.log(jnp.sum(jnp.exp(logits - highest), axis=-1))
    bent = logits if seen is None else penalise(logits, seen, rows.repetition_penalty)
    token = _first(bent >= (highest if seen is None else jnp.max(bent, axis=-1, keepdims=True)))
    sampling_log_prob = jnp.zeros_like(normaliser)
    if samples:
        greedy = rows.temperature == 0
        scaled = bent / jnp.where(greedy, 1.0, rows.temperature)[:, None]
        scaled = scaled - jnp.max(scaled, axis=-1, keepdims=True)
        if filters:
            scaled = jnp.where(scaled >= cut(scaled, rows)[:, None], scaled, -jnp.inf)
        weights = jnp.exp(scaled)
        drawn = inverse_cdf(weights, uniform)
        log_p = _at(scaled, drawn) - jnp.log(jnp.sum(weights, axis=-1))
        token = jnp.where(greedy, token, drawn)
        sampling_log_prob = jnp.where(greedy, 0.0, log_p)
    return Drawn(token, _at(logits, token) - normaliser, sampling_log_prob)


def _first(condition: jax.Array) -> jax.Array:
    """The first index int32 (B,) at which condition (B, V) holds, V - 1 if it never does.

    As the least of numbers: a CPU compares many at once there, and one after the other in `argmax`.
    """
    v = condition.shape[-1]
    return jnp.min(jnp.where(condition, jnp.arange(v, dtype=jnp.int32), v - 1), axis=-1)


def _at(x: jax.Array, token: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, token[:, None], axis=-1)[:, 0]


def cut(scaled: jax.Array, rows: RowSampling) -> jax.Array:
    """The lowest log-weight (B,) that top_k, then top_p, then min_p keep, of `scaled` float32 (B, V) whose maximum is 0.

    Weights that are equal but for rounding are kept or dropped together: a compiled program may compute `scaled` twice, and
    differently in the last bit, so that a cut at exactly one of its values would drop that one at random. A sort of V numbers
    would give the same; this is quicker on every backend: the answer's 32 bits are found one by one, each by a sum over V.
    """
    v = scaled.shape[-1]
    wanted = jnp.where(rows.top_k > 0, jnp.minimum(rows.top_k, v), v).astype(jnp.float32)
    kth = highest_reaching(scaled, jnp.ones_like(scaled), wanted)
    weights = jnp.where(scaled >= (kth - 1e-6 * (1 + jnp.abs(kth)))[:, None], jnp.exp(scaled), 0.0)
    nucleus = highest_reaching(scaled, weights, rows.top_p * jnp.sum(weights, axis=-1))
    nucleus = jnp.where(rows.top_p < 1, nucleus, -jnp.inf)
    lowest = jnp.maximum(jnp.maximum(kth, nucleus), jnp.log(rows.min_p))
    return lowest - 1e-6 * (1 + jnp.abs(lowest))


def highest_reaching(values: jax.Array, mass: jax.Array, wanted: Numbers) -> jax.Array:
    """The highest x (B,) such that the mass (B, V) of values (B, V) >= x is at least `wanted` (B,); -inf if none is.

    Floats in the order of their bits: a bisection over integers that ends at one of the values, exactly.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    order = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)

    def narrow(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds  # reached at low, not at high
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        reached = jnp.sum(jnp.where(order >= middle[:, None], mass, 0.0), axis=-1) >= wanted
        return jnp.where(reached, middle, low), jnp.where(reached, high, middle)

    least, most = jnp.iinfo(jnp.int32).min, jnp.iinfo(jnp.int32).max
    low, _ = jax.lax.fori_loop(
        0, 32, narrow, (jnp.full(wanted.shape, least, jnp.int32), jnp.full(wanted.shape, most, jnp.int32))
    )
    found = jnp.where(low < 0, low ^ 0x7FFFFFFF, low)
    return jnp.where(low == least, -jnp.inf, jax.lax.bitcast_convert_type(found, jnp.float32))


def inverse_cdf(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """The index int32 (B,) at which the running sum of weights (B, V) first passes `uniform` (B,) of the whole.

    One random number a row, where Gumbel noise would take V. In two levels, so that V numbers are never summed up one after
    the other: first the block, then the place in it.
    """
    b, v = weights.shape
    size = max(1, round(v**0.5))
    blocks = jnp.pad(weights, ((0, 0), (0, -v % size))).reshape(b, -1, size)
    sums = jnp.sum(blocks, axis=-1)
    block, rest = _pass(sums, uniform * jnp.sum(sums, axis=-1))
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    place, _ = _pass(inside, rest)
    return (block * size + place).astype(jnp.int32)


def _pass(x: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the running sum of x (B, N) first exceeds target (B,), and by how much the target exceeds what is before."""
    n = x.shape[1]
    # As a matrix product: a running sum is a chain of small programs on a CPU.
    running = jnp.matmul(x, jnp.triu(jnp.ones((n, n), x.dtype)), precision="highest")
    # Never a weight of 0, whatever the rounding: at most the last one above it.
    last = n - 1 - jnp.argmax(x[:, ::-1] > 0, axis=1)
    index = jnp.minimum(jnp.sum(running <= target[:, None], axis=1), last)
    before = jnp.where(index > 0, _at(running, jnp.maximum(index - 1, 0)), 0.0)
    return index, target - before
