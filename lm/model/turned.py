"""Matrices kept as their transposes: so a CPU multiplies a few vectors by them two to four times as fast.

XLA's CPU backend first rearranges what stands on the right of a product, whatever stands on the left. For a few vectors that is
most of the work if the matrix stands there, and next to nothing if they do.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from lm.sharding import is_split

FEW = 64  # vectors; for one, and for more, the two ways are as fast as each other


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Turned:
    """A matrix (M, N) as N rows of M."""

    rows: jax.Array  # (N, M)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix."""
        return self.rows.shape[::-1]


def by_rows(x: jax.Array, rows: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """x (..., M) times the transpose of `rows` (N, M): (..., N) in `dtype`, multiplied in the dtype of x."""
    flat, rows = x.reshape(-1, x.shape[-1]), rows.astype(x.dtype)
    if turns() and 1 < len(flat) <= FEW:
        # Without a barrier the compiler would swap the two factors back, and spare itself to turn the result.
        y = jax.lax.optimization_barrier(jnp.matmul(rows, flat.T, preferred_element_type=dtype)).T
    else:
        y = jnp.einsum("bm,nm->bn", flat, rows, preferred_element_type=dtype)
    return y.reshape(*x.shape[:-1], len(rows))


def turns() -> bool:
    """Whether it helps: on a CPU, where nothing is split over devices."""
    return jax.default_backend() == "cpu" and not is_split()
