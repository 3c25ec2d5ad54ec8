"""Rows for tokens that a base model has never learnt: those of the protocol, at the beginning of finetuning.

A new token starts as the mean of the others (J. Hewitt, "Initializing New Word Embeddings for Pretrained Language Models",
2021). Its score is then near the mean of all scores, so that it takes little probability from what the model knows, where a
random row may take most of it.
"""

import copy
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lm.model.config import ModelConfig
from lm.model.transformer import Transformer
from lm.sharding import path_name

VOCABULARY_AXIS = {"token_embedding": 0, "head": 1, "value_embedding": 1}  # where a parameter has its axis V


def with_new_tokens(model: Transformer, config: ModelConfig, new: Sequence[int]) -> Transformer:
    """The model as one of `config`, which may have more symbols: those, and `new`, are the mean of all others.

    A scalar head is added, of zeros, or left out, as `config` has it.
    """
    model = copy.copy(model)
    if not config.scalar_head:
        model.scalar_head = None
    elif model.scalar_head is None:
        model.scalar_head = nnx.data(jnp.zeros(config.width, jnp.dtype(config.param_dtype)))
    before = model.config.vocab_size
    known = np.setdiff1d(np.arange(before), new)
    unknown = np.setdiff1d(np.arange(config.vocab_size), known)

    def filled(path: tuple, x: jax.Array) -> jax.Array:
        axis = VOCABULARY_AXIS.get(path_name(path).rpartition(".")[2])
        if axis is None:
            return x
        rows = jnp.moveaxis(x, axis, 0)
        mean = jnp.mean(rows[known].astype(jnp.float32), axis=0).astype(x.dtype)
        rows = jnp.pad(rows, [(0, config.vocab_size - before), *[(0, 0)] * (x.ndim - 1)])
        return jnp.moveaxis(rows.at[unknown].set(mean), 0, axis)

    leaves = jax.tree.leaves(jax.tree_util.tree_map_with_path(filled, model))
    structure = jax.tree.structure(jax.eval_shape(partial(Transformer, config=config), jax.random.key(0)))
    return jax.tree.unflatten(structure, leaves)
