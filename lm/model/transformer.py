"""The Transformer (arXiv 1706.03762, pre-norm as GPT-2 and Llama): tokens in, a score for every symbol out."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from lm.model.attention import Attention
from lm.model.cache import KVCache
from lm.model.config import ModelConfig
from lm.model.layers import MLP, Norm
from lm.model.positions import rope_tables
from lm.sharding import constrain

Slots = tuple[jax.Array, jax.Array]  # keys and values
Tree = TypeVar("Tree")
Layer = Callable[[jax.Array, "Block", Slots | None, int], tuple[jax.Array, Slots | None]]


class Block(nnx.Module):
    """One layer: attention, then the MLP, each reading a normed copy of the residual stream and adding to it."""

    def __init__(self, key: jax.Array, config: ModelConfig) -> None:
        attention_key, mlp_key = jax.random.split(key)
        self.attention_norm = Norm(config.width, config)
        self.attention = Attention(attention_key, config)
        self.mlp_norm = Norm(config.width, config)
        self.mlp = MLP(mlp_key, config)
        # How much of the residual stream, and of the token's embedding, this block reads: at first the stream alone.
        scalars = jnp.array([1.0, 0.0], jnp.dtype(config.param_dtype))
        self.residual_scalars = nnx.data(scalars) if config.residual_scalars else None

    def __call__(
        self,
        x: jax.Array,
        first: jax.Array,
        tokens: jax.Array,
        positions: jax.Array,
        rope: Slots | None,
        segment_ids: jax.Array | None,
        slots: Slots | None,
        window: int,
    ) -> tuple[jax.Array, Slots | None]:
        """x (B, T, D) to (B, T, D), and this layer's cache slots with x added (see `Attention`).

        `first` (B, T, D) is what the first block read; tokens int (B, T).
        """
        if self.residual_scalars is not None:
            keep, again = self.residual_scalars.astype(x.dtype)
            x = keep * x + again * first
        y, slots = self.attention(self.attention_norm(x), tokens, positions, rope, segment_ids, slots, window)
        x = x + y
        x = x + self.mlp(self.mlp_norm(x))
        return constrain(x, "batch", None, None), slots


class Transformer(nnx.Module):
    """A decoder-only language model. `blocks` holds all layers stacked: each parameter has a leading axis L."""

    def __init__(self, key: jax.Array, config: ModelConfig) -> None:
        embedding_key, position_key, blocks_key, head_key = jax.random.split(key, 4)
        dtype = jnp.dtype(config.param_dtype)
        v, d = config.vocab_size, config.width
        std = config.init_std or d**-0.5
        self.config = config
        self.token_embedding = nnx.data(std * jax.random.normal(embedding_key, (v, d), dtype))
        self.position_embedding = (
            nnx.data(std * jax.random.normal(position_key, (config.context_length, d), dtype))
            if config.positions == "learned"
            else None
        )
        self.blocks = jax.vmap(lambda k: Block(k, config))(jax.random.split(blocks_key, config.layers))
        self.final_norm = Norm(d, config)
        self.head = None if config.tied_head else nnx.data(std * jax.random.normal(head_key, (d, v), dtype))

    def hidden(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        cache: KVCache | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """The final residual stream, normed: (B, T, D) in the compute dtype, and the cache with these tokens added.

        tokens int (B, T); positions int (B, T), from 0 in each row unless given; segment_ids int (B, T) keep packed
        documents apart. With a cache, attention is over its slots (see `KVCache`) and segment_ids are not used.
        """
        config = self.config
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        x = self.token_embedding.astype(jnp.dtype(config.compute_dtype))[tokens]
        if self.position_embedding is not None:
            x = x + self.position_embedding.astype(x.dtype)[positions]
        x = constrain(x, "batch", None, None)
        rope = rope_tables(positions, config) if config.positions == "rotary" else None

        first = x

        def layer(x: jax.Array, block: Block, slots: Slots | None, window: int) -> tuple[jax.Array, Slots | None]:
            return block(x, first, tokens, positions, rope, segment_ids, slots, window)

        slots = None if cache is None else (cache.keys, cache.values)
        x, slots = run_layers(rematerialize(layer, config.remat), x, self.blocks, slots, config)
        return self.final_norm(x), None if slots is None else KVCache(*slots)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Scores for every symbol, float32 (..., V), from `hidden` (..., D)."""
        return project(hidden, self.head_matrix, self.config.logit_soft_cap)

    @property
    def head_matrix(self) -> jax.Array:
        """What logits are made with: (D, V)."""
        return self.token_embedding.T if self.head is None else self.head

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        cache: KVCache | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Logits float32 (B, T, V) and the cache; arguments as in `hidden`."""
        hidden, cache = self.hidden(tokens, positions, segment_ids, cache)
        return self.logits(hidden), cache


def project(hidden: jax.Array, head: jax.Array, cap: float) -> jax.Array:
    """Logits float32 (..., V) of hidden (..., D) with head (D, V), softly capped unless `cap` is 0."""
    logits = jnp.matmul(hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32)
    return cap * jnp.tanh(logits / cap) if cap else logits


def run_layers(
    layer: Layer, x: jax.Array, blocks: Block, slots: Slots | None, config: ModelConfig
) -> tuple[jax.Array, Slots | None]:
    """Pass x through all layers of the stacked `blocks`; slots are the cache's arrays with their leading axis L.

    Unrolled, the compiler sees every layer (faster on CPU). Scanned, it compiles one group of layers, as many as there
    are `windows`, and loops: compile time no longer grows with depth.
    """
    if config.layer_loop == "unrolled":
        written = []
        for i, (block, layer_slots) in enumerate(unstack((blocks, slots), config.layers)):
            x, layer_slots = layer(x, block, layer_slots, config.windows[i % len(config.windows)])
            written.append(layer_slots)
        return x, None if slots is None else jax.tree.map(lambda *leaves: jnp.stack(leaves), *written)

    period = len(config.windows)

    def group(x: jax.Array, stacked: tuple[Block, Slots | None]) -> tuple[jax.Array, Slots | None]:
        written = []
        for (block, layer_slots), window in zip(unstack(stacked, period), config.windows, strict=True):
            x, layer_slots = layer(x, block, layer_slots, window)
            written.append(layer_slots)
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *written)

    grouped = jax.tree.map(lambda leaf: leaf.reshape(-1, period, *leaf.shape[1:]), (blocks, slots))
    x, slots = jax.lax.scan(group, x, grouped)
    return x, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), slots)


def unstack(tree: Tree, count: int) -> list[Tree]:
    """The `count` layers of a tree of stacked arrays. Splitting (not indexing) makes the gradient one concatenation."""
    leaves, structure = jax.tree.flatten(tree)
    layers = [[part[0] for part in jax.lax.split(leaf, (1,) * count)] for leaf in leaves]
    return [jax.tree.unflatten(structure, [parts[i] for parts in layers]) for i in range(count)]


def rematerialize(layer: Layer, remat: str) -> Layer:
    """Trade memory for time in the backward pass: what `model.remat` says is kept, the rest is computed again."""
    if remat == "none":
        return layer
    policy = jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims if remat == "dots" else None
    return jax.checkpoint(layer, policy=policy, static_argnums=(3,), prevent_cse=True)
