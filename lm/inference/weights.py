"""A model's parameters as decoding wants them: in the compute dtype, its layers apart, what is multiplied together side by side.

Decoding reads every weight for every token, so none may be cast, cut out of a stack or copied on the way.
"""

import copy

import jax
import jax.numpy as jnp
from flax import nnx

from lm.model.layers import beside
from lm.model.quantized import Matrix, Quantized
from lm.model.transformer import Block, Transformer, layers_of


@jax.jit
def for_decoding(model: Transformer) -> Transformer:
    """The same function with weights of its own; `blocks` is a list. Gradients go through the original, not through this."""
    dtype = jnp.dtype(model.config.compute_dtype)
    model = copy.copy(model)
    model.blocks = nnx.data([_fused(block) for block in layers_of(model.blocks, model.config.layers)])

    def ready(x: Matrix) -> Matrix:
        # Matrices only: norms compute in float32 and want their scales as they are. What is quantized is ready.
        return x.astype(dtype) if x.ndim > 1 and not isinstance(x, Quantized) else x

    return jax.tree.map(ready, model, is_leaf=lambda x: isinstance(x, Quantized))


def _fused(block: Block) -> Block:
    """The block with one matrix for queries, keys and values, unless they are split over devices."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.shape["tensor"] > 1:
        return block
    block = copy.copy(block)
    block.attention = copy.copy(block.attention)
    block.attention.fused = nnx.data(beside([block.attention.query, block.attention.key, block.attention.value]))
    for name in ("query", "key", "value"):
        setattr(block.attention, name, None)
    return block
