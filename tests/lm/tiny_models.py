"""Models small enough for tests, which between them use every switch of `ModelConfig`, made without compiling."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from lm.model.config import ModelConfig, RopeScaling
from lm.model.transformer import Transformer


def small(**changes) -> ModelConfig:
    """Two layers of width 32, four heads, 29 symbols, a context of 32 tokens."""
    values = {
        "vocab_size": 29,
        "context_length": 32,
        "layers": 2,
        "width": 32,
        "heads": 4,
        "kv_heads": 4,
        "mlp_width": 48,
    }
    return ModelConfig(**{**values, **changes})


CONFIGS = {
    "gpt2": small(positions="learned", norm="layernorm", norm_epsilon=1e-5, activation="gelu", biases=True),
    # wavelengths 6, 30, 140 and 665 against an original context of 64: kept, blended and stretched ones
    "llama3": small(kv_heads=2, tied_head=False, rope_theta=500.0, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 64)),
    "qwen2": small(kv_heads=2, qkv_biases=True, rope_scaling=RopeScaling(factor=4.0, kind="linear")),
    "qwen3": small(kv_heads=1, head_dim=12, qk_norm=True, windows=(5, 0)),
    "relu2": small(activation="relu2", logit_soft_cap=3.0, windows=(3,), tied_head=False, norm="layernorm"),
    "scalars": small(residual_scalars=True, value_embeddings=True, kv_heads=2, qk_norm=True, activation="relu2"),
    "biased": small(layers=3, biases=True, kv_heads=2, windows=(0, 4, 1), qk_norm=True, norm_epsilon=0.1),
}


@functools.cache
def build(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model of random numbers, norms and biases too: as initialised (all 1, all 0) they would hide mistakes."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = jax.tree_util.keystr(path)
        x = rng.standard_normal(leaf.shape)
        if "kernel" in name or name == ".head":
            x *= leaf.shape[-2] ** -0.5
        elif "scale" in name:
            x = 1 + 0.3 * x
        elif "bias" in name:
            x *= 0.3
        return jnp.asarray(x, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, abstract(config))


def abstract(config: ModelConfig) -> Transformer:
    """The model as shapes and dtypes."""
    return jax.eval_shape(lambda: Transformer(jax.random.key(0), config))


def with_config(model: Transformer, **changes) -> Transformer:
    """The same parameters in a model that is run in another way."""
    return jax.tree.unflatten(jax.tree.structure(abstract(replace(model.config, **changes))), jax.tree.leaves(model))


def tokens_of(config: ModelConfig, rows: int, length: int, seed: int = 0) -> np.ndarray:
    """Random tokens int32 (rows, length)."""
    return np.random.default_rng(seed).integers(0, config.vocab_size, (rows, length), np.int32)
