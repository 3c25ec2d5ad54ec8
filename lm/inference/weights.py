"""A model's parameters as decoding wants them: in the compute dtype, its layers apart, what is multiplied together side by side.

Decoding reads every weight for every token, so none may be cast, cut out of a stack or copied on the way. On a CPU they are
turned, too.
"""

import copy
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lm.model.layers import beside
from lm.model.quantized import Matrix, Quantized
from lm.model.transformer import Block, Transformer, layers_of
from lm.model.turned import Turned, turns
from lm.sharding import path_name


@jax.jit
def for_decoding(model: Transformer) -> Transformer:
    """The same function with weights of its own; `blocks` is a list. Gradients go through the original, not through this."""
    dtype = jnp.dtype(model.config.compute_dtype)
    model = copy.copy(model)
    model.blocks = nnx.data([_fused(block) for block in layers_of(model.blocks, model.config.layers)])

    def ready(path: tuple[Any, ...], x: Matrix) -> Matrix | Turned:
        # Matrices only: norms compute in float32 and want their scales as they are. What is quantized is ready.
        if x.ndim == 1 or isinstance(x, Quantized):
            return x
        name = path_name(path)
        is_right = name.endswith("kernel") or name == "head"  # of a product
        return Turned(x.T.astype(dtype)) if is_right and turns() else x.astype(dtype)

    return jax.tree_util.tree_map_with_path(ready, model, is_leaf=lambda x: isinstance(x, Quantized))


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
