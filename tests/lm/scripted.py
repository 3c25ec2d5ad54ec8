"""A model that writes what it is told to, and a small vocabulary of ours for what it writes."""

import pydoc_data.topics
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from tiny_models import abstract

from data_pipeline.tokenizer import Tokenizer, train_tokenizer
from lm.model.config import ModelConfig
from lm.model.transformer import Transformer

LENGTH = 256  # of all scripts, so that programs are compiled once


def a_tokenizer(folder: Path) -> Tokenizer:
    """600 symbols, with the protocol's."""
    return train_tokenizer(list(pydoc_data.topics.topics.values())[:20], 600, folder / "tokenizer.model")


def scripted(tokens: Sequence[int], vocab_size: int) -> Transformer:
    """At place i of a text comes `tokens[i]`, whatever came before.

    Its blocks add nothing; each position is a unit vector, and the head has the next token at it.
    """
    script = [*tokens, *[0] * (LENGTH - len(tokens))]
    config = ModelConfig(
        vocab_size=vocab_size,
        context_length=LENGTH,
        layers=1,
        width=LENGTH,
        heads=1,
        kv_heads=1,
        mlp_width=2,
        positions="learned",
        tied_head=False,
    )
    model = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract(config))
    model.position_embedding = jnp.eye(LENGTH)
    model.final_norm.scale = jnp.ones(LENGTH)
    model.head = jax.nn.one_hot(jnp.array([*script[1:], 0]), vocab_size) * 10.0
    return model
