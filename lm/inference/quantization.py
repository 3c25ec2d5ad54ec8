"""A model with its matrices as integers: for using it where memory, or reading it, is what limits."""

from functools import partial
from typing import Any

import jax

from data_pipeline.errors import UserError
from lm.model.quantized import Quantized, quantize
from lm.model.transformer import Transformer
from lm.sharding import path_name

BITS = {"int8": 8, "int4": 4}


def quantized(model: Transformer, kind: str) -> Transformer:
    """The model with kernels, token and value embeddings, and head as `Quantized`; the rest stays float. Not for training.

    kind: int8 (a scale for each output) or int4 (a scale for each 32 inputs of an output). An embedding is used a row at a time,
    also where it is the head, so it is rows that have scales of their own.
    """
    if kind not in BITS:
        raise UserError(f"quantize={kind}: choose one of {', '.join(BITS)}")
    return _quantized(model, BITS[kind])


@partial(jax.jit, static_argnames="bits")
def _quantized(model: Transformer, bits: int) -> Transformer:
    def one(path: tuple[Any, ...], x: jax.Array) -> jax.Array | Quantized:
        name = path_name(path)
        if name.endswith(("token_embedding", "value_embedding")):
            return quantize(x, bits, axis=-1)
        return quantize(x, bits, axis=-2) if name.endswith("kernel") or name == "head" else x

    return jax.tree_util.tree_map_with_path(one, model)
