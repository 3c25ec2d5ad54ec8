"""Matrices stored as small integers and scales: a half to an eighth of the memory, read as they are and never stored otherwise.

Symmetric, round to nearest: an entry is integer x scale, and the scale maps the largest entry of its group to the largest
integer, so an entry is off by half a scale at most. (The scheme of arXiv 1712.05877, section 2, without a zero point.)
"""

from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp

from data_pipeline.errors import UserError
from lm.sharding import is_split

BLOCK = 2**19  # bytes of weights that a CPU makes floats of at a time: half of what a core's second cache holds
GROUP = 32  # inputs that share a scale in four bits: with a scale of 16 bits that is 4.5 bits a weight


@partial(jax.tree_util.register_dataclass, data_fields=["integers", "scales"], meta_fields=["packed"])
@dataclass(frozen=True)
class Quantized:
    """A matrix (..., M, N), where `...` are axes of any kind, such as layers or rows of a cache.

    Along one of its two axes groups of neighbours share a scale: the scales have as many entries there as there are groups.
    In four bits that axis is halved, and each byte holds an entry of the first half (plus 8) and, 16 times, one of the second:
    not every backend stores JAX's own int4 in four bits.
    """

    integers: jax.Array  # int8 (..., M, N), or uint8 with one of the two halved
    scales: jax.Array  # float (..., M, groups) or (..., groups, N)
    packed: int = 0  # which axis is halved, -1 or -2; 0: none

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix."""
        shape = list(self.integers.shape)
        if self.packed:
            shape[self.packed] *= 2
        return tuple(shape)

    @property
    def ndim(self) -> int:
        """Axes of the matrix."""
        return self.integers.ndim

    @property
    def T(self) -> "Quantized":
        """A matrix (M, N) turned around."""
        return Quantized(self.integers.T, self.scales.T, -3 - self.packed if self.packed else 0)

    def unpacked(self) -> jax.Array:
        """The integers, int8 (..., M, N)."""
        if not self.packed:
            return self.integers
        halves = [x.astype(jnp.int8) - 8 for x in (self.integers & 15, self.integers >> 4)]
        return jnp.concatenate(halves, axis=self.packed)

    def dequantize(self, dtype: jax.typing.DTypeLike) -> jax.Array:
        """The matrix in this float dtype."""
        scales = self.scales
        for axis in (-2, -1):
            scales = jnp.repeat(scales, self.shape[axis] // scales.shape[axis], axis)
        return self.unpacked().astype(dtype) * scales.astype(dtype)


Matrix: TypeAlias = jax.Array | Quantized


def quantize(x: jax.Array, bits: int, axis: int) -> Quantized:
    """A float matrix (..., M, N) in 8 bits with a scale for all that lies along `axis` (-1 or -2), or in 4 with one for `GROUP`.

    Where groups do not divide the axis they are smaller. Scales are float32 for 8 bits, bfloat16 for 4, rounded up so that the
    largest integer is never exceeded. Raises `UserError` for 4 bits along an odd axis.
    """
    size = x.shape[axis]
    if bits == 4 and size % 2:
        raise UserError(f"a matrix of {size} inputs cannot be held in int4, which puts two in a byte: choose int8")
    group = size if bits == 8 else next(n for n in range(min(GROUP, size), 0, -1) if size % n == 0)
    largest = 2 ** (bits - 1) - 1
    grouped = jnp.moveaxis(x.astype(jnp.float32), axis, -1)
    grouped = grouped.reshape(*grouped.shape[:-1], -1, group)
    scales = jnp.max(jnp.abs(grouped), axis=-1, keepdims=True) / largest
    scales = jnp.where(scales == 0, 1.0, scales)
    if bits == 4:
        short = scales.astype(jnp.bfloat16)
        scales = jnp.where(short < scales, jnp.nextafter(short, jnp.bfloat16(jnp.inf)), short)
    integers = jnp.round(grouped / scales.astype(jnp.float32)).astype(jnp.int8)
    integers = integers.reshape(*integers.shape[:-2], size)
    if bits == 4:
        first, second = jnp.split((integers + 8).astype(jnp.uint8), 2, axis=-1)
        integers = first + 16 * second
    back = partial(jnp.moveaxis, source=-1, destination=axis)
    return Quantized(back(integers), back(scales[..., 0]), axis if bits == 4 else 0)


def matmul(x: jax.Array, matrix: Matrix) -> jax.Array:
    """x (..., G, M) times matrix (..., M, N): float32 (..., G, N), multiplied in the dtype of x.

    A scale that is the same for all of a column is applied to the product, that of a whole row to x, so that it is the integers
    that are multiplied. Only groups within a column have to be scaled before.
    """
    if not isinstance(matrix, Quantized):
        return jnp.matmul(x, matrix.astype(x.dtype), preferred_element_type=jnp.float32)
    times = partial(jnp.matmul, preferred_element_type=jnp.float32)
    rows, columns = matrix.scales.shape[-2:]
    if rows == 1:
        return times(x, matrix.unpacked().astype(x.dtype)) * matrix.scales.astype(jnp.float32)
    if columns == 1 and rows == x.shape[-1]:
        return times(x * jnp.swapaxes(matrix.scales, -1, -2).astype(x.dtype), matrix.unpacked().astype(x.dtype))
    return times(x, matrix.dequantize(x.dtype))


def look_up(table: Matrix, indices: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The rows of a table (V, D) at int indices (...): (..., D). Of one that is quantized along D only those are made floats."""
    if isinstance(table, Quantized):
        return jax.tree.map(lambda x: x[indices], table).dequantize(dtype)
    return table.astype(dtype)[indices]


def weigh(x: jax.Array, weights: Quantized) -> jax.Array:
    """As `matmul`, of x (N, M) and weights (M, P), which no compiler makes floats of but for the moment that they are used in.

    Weights are the same in every step of a loop that decodes, and floats of all of them would be made before it, or at once in
    it. A CPU makes them a block of columns at a time, small enough for its caches, in a loop of their own.
    """
    if jax.default_backend() != "cpu" or is_split():
        return matmul(*jax.lax.optimization_barrier((x, weights)))
    inputs, outputs = weights.shape
    columns = max(1, min(BLOCK // (4 * inputs), -(-outputs // 2)))

    def block(i: jax.Array, y: jax.Array) -> jax.Array:
        start = jnp.minimum(i * columns, outputs - columns)  # the last one begins where a whole block is left
        cut = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, columns, axis=1), weights)
        return jax.lax.dynamic_update_slice_in_dim(y, matmul(x, cut), start, axis=1)

    return jax.lax.fori_loop(0, -(-outputs // columns), block, jnp.zeros((len(x), outputs)))
