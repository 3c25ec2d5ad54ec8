"""The Transformer (arXiv 1706.03762, pre-norm as GPT-2 and Llama): tokens in, a score for every symbol out."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from lm.model.attention import Attention, Pair, Places
from lm.model.cache import KVCache, ages
from lm.model.config import ModelConfig
from lm.model.layers import MLP, Norm
from lm.model.positions import rope_tables
from lm.model.quantized import Matrix, Quantized, look_up, weigh
from lm.model.turned import Turned, by_rows
from lm.sharding import constrain

Tree = TypeVar("Tree")
Layer = Callable[[jax.Array, "Block", int], tuple[jax.Array, Pair | None]]


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
        rope: Pair | None,
        segment_ids: jax.Array | None,
        window: int,
    ) -> tuple[jax.Array, Pair]:
        """x (B, T, D) to (B, T, D), and its keys and values (B, T, K, head_dim).

        `first` (B, T, D) is what the first block read; tokens int (B, T).
        """
        x = self._mix(x, first)
        y, read = self.attention(self.attention_norm(x), tokens, rope, segment_ids, window)
        return self._finish(x + y), read

    def decode(
        self,
        x: jax.Array,
        first: jax.Array,
        tokens: jax.Array,
        rope: Pair | None,
        places: Places,
        at: jax.Array,
        mask: jax.Array,
    ) -> tuple[jax.Array, Places]:
        """One token a row, x (B, 1, D), with this layer's part of the cache; see `Attention.decode`."""
        x = self._mix(x, first)
        y, places = self.attention.decode(self.attention_norm(x), tokens, rope, places, at, mask)
        return self._finish(x + y), places

    def _mix(self, x: jax.Array, first: jax.Array) -> jax.Array:
        if self.residual_scalars is None:
            return x
        keep, again = self.residual_scalars.astype(x.dtype)
        return keep * x + again * first

    def _finish(self, x: jax.Array) -> jax.Array:
        return constrain(x + self.mlp(self.mlp_norm(x)), "batch", None, None)


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
        self.blocks: Block | Sequence[Block] = jax.vmap(lambda k: Block(k, config))(
            jax.random.split(blocks_key, config.layers)
        )
        self.final_norm = Norm(d, config)
        self.head = None if config.tied_head else nnx.data(std * jax.random.normal(head_key, (d, v), dtype))
        self.scalar_head = nnx.data(jnp.zeros(d, dtype)) if config.scalar_head else None

    def hidden(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        *,
        keep: bool = False,
    ) -> tuple[jax.Array, list[Pair] | None]:
        """The final residual stream, normed: (B, T, D) in the compute dtype.

        tokens int (B, T); positions int (B, T), from 0 in each row unless given; segment_ids int (B, T) keep packed
        documents apart. With `keep`, also every layer's keys and values (B, T, K, head_dim), for a cache.
        """
        config = self.config
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        x, rope = self._embed(tokens, positions)
        first = x

        def layer(x: jax.Array, block: Block, window: int) -> tuple[jax.Array, Pair | None]:
            x, read = block(x, first, tokens, rope, segment_ids, window)
            return x, read if keep else None

        x, read = run_layers(rematerialize(layer, config.remat), x, self.blocks, config)
        return self.final_norm(x), read

    def decode(
        self, tokens: jax.Array, positions: jax.Array, cache: KVCache, at: jax.Array
    ) -> tuple[jax.Array, KVCache]:
        """The final residual stream (B, D) of one more token a row, and the cache with it.

        tokens and positions int (B,); `at` is where the cache's rings stand. A row sees the `positions` tokens before it.
        """
        x, rope = self._embed(tokens[:, None], positions[:, None])
        first, written = x, []
        age = ages(at, cache.places)
        masks = {
            window: (age <= (jnp.minimum(positions, window - 1) if window else positions)[:, None])
            for window in set(self.config.windows)
        }
        for i, block in enumerate(layers_of(self.blocks, self.config.layers)):
            mask = masks[self.config.windows[i % len(self.config.windows)]]
            x, places = block.decode(x, first, tokens[:, None], rope, (cache.keys[i], cache.values[i]), at, mask)
            written.append(places)
        keys, values = zip(*written, strict=True)
        return self.final_norm(x)[:, 0], KVCache(keys, values)

    def _embed(self, tokens: jax.Array, positions: jax.Array) -> tuple[jax.Array, Pair | None]:
        """What the first block reads (B, T, D), and the rotary tables of the positions (B, T)."""
        x = look_up(self.token_embedding, tokens, jnp.dtype(self.config.compute_dtype))
        if self.position_embedding is not None:
            x = x + self.position_embedding.astype(x.dtype)[positions]
        rope = rope_tables(positions, self.config) if self.config.positions == "rotary" else None
        return constrain(x, "batch", None, None), rope

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Scores for every symbol, float32 (..., V), from `hidden` (..., D)."""
        rows = self.token_embedding if self.head is None else self.head.rows if isinstance(self.head, Turned) else None
        if rows is None or isinstance(rows, Quantized):
            return project(hidden, self.head_matrix, self.config.logit_soft_cap)
        return soft_cap(by_rows(hidden, rows, jnp.float32), self.config.logit_soft_cap)

    def scalars(self, hidden: jax.Array) -> jax.Array:
        """The scalar head's number at each position, float32 (...), from `hidden` (..., D): 0 before it is trained."""
        assert self.scalar_head is not None  # the config has asked for it
        return jnp.matmul(hidden, self.scalar_head.astype(hidden.dtype), preferred_element_type=jnp.float32)

    @property
    def head_matrix(self) -> Matrix:
        """What logits are made with: (D, V)."""
        return self.token_embedding.T if self.head is None else self.head

    def __call__(
        self, tokens: jax.Array, positions: jax.Array | None = None, segment_ids: jax.Array | None = None
    ) -> jax.Array:
        """Logits float32 (B, T, V); arguments as in `hidden`."""
        return self.logits(self.hidden(tokens, positions, segment_ids)[0])


def project(hidden: jax.Array, head: Matrix, cap: float) -> jax.Array:
    """Logits float32 (..., V) of hidden (..., D) with head (D, V), softly capped unless `cap` is 0."""
    if isinstance(head, Quantized):
        flat = hidden.reshape(-1, hidden.shape[-1])
        return soft_cap(weigh(flat, head).reshape(*hidden.shape[:-1], head.shape[1]), cap)
    return soft_cap(jnp.matmul(hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32), cap)


def soft_cap(logits: jax.Array, cap: float) -> jax.Array:
    """Logits squeezed into (-cap, cap); as they are when `cap` is 0."""
    return cap * jnp.tanh(logits / cap) if cap else logits


def run_layers(
    layer: Layer, x: jax.Array, blocks: "Block | Sequence[Block]", config: ModelConfig
) -> tuple[jax.Array, list[Pair] | None]:
    """Pass x through all layers; also what each of them returned besides, unless that is None.

    Unrolled, the compiler sees every layer (faster on CPU). Scanned, it compiles one group of layers, as many as there
    are `windows`, and loops: compile time no longer grows with depth.
    """
    period = len(config.windows)
    if config.layer_loop == "unrolled" or not isinstance(blocks, Block):
        kept: list[Any] = []
        for i, block in enumerate(layers_of(blocks, config.layers)):
            x, read = layer(x, block, config.windows[i % period])
            kept.append(read)
        return x, None if kept[0] is None else kept

    def group(x: jax.Array, stacked: Block) -> tuple[jax.Array, list[Any]]:
        kept = []
        for block, window in zip(unstack(stacked, period), config.windows, strict=True):
            x, read = layer(x, block, window)
            kept.append(read)
        return x, kept

    x, kept = jax.lax.scan(group, x, jax.tree.map(lambda leaf: leaf.reshape(-1, period, *leaf.shape[1:]), blocks))
    if kept[0] is None:
        return x, None
    by_place = [unstack(one, config.layers // period) for one in kept]  # of the group; then over groups
    return x, [by_place[i % period][i // period] for i in range(config.layers)]


def layers_of(blocks: "Block | Sequence[Block]", count: int) -> Sequence[Block]:
    """The layers, whether stacked or already apart (as the engine keeps them)."""
    return unstack(blocks, count) if isinstance(blocks, Block) else blocks


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
    return jax.checkpoint(layer, policy=policy, static_argnums=(2,), prevent_cse=True)
