"""Attention behind one function: cuDNN on GPU, Splash on TPU, plain XLA elsewhere; and its cached form for decoding.

All of them are causal, never look across segments, and may be limited to a window of the last W tokens.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from data_pipeline.errors import UserError
from lm.model.cache import write
from lm.model.config import ModelConfig
from lm.model.layers import Linear, Norm, residual_scale, side_by_side
from lm.model.positions import rotate
from lm.model.quantized import Matrix, look_up, matmul
from lm.sharding import spec

MASKED = -1e30  # added to a masked logit: exp gives exactly 0, and no row is ever -inf throughout (padding rows are)
SPLASH_BLOCK = 128  # rows that Splash takes must be a multiple of this

Pair = tuple[jax.Array, jax.Array]  # keys and values; cosines and sines
Places = tuple[Matrix, Matrix]  # keys and values in a cache


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segment_ids: jax.Array | None,
    *,
    window: int = 0,
    implementation: str = "auto",
) -> jax.Array:
    """Causal self-attention of whole rows.

    q (B, T, H, head_dim), k and v (B, T, K, head_dim) of one dtype; segment_ids int (B, T) or None for one segment;
    window in tokens, 0 for all. Returns (B, T, H, head_dim) in the dtype of q.
    """
    if implementation == "auto":
        implementation = automatic(q)
    if implementation == "splash":
        return splash_attention(q, k, v, segment_ids, window=window)
    if implementation == "cudnn":
        mask = None if segment_ids is None else (segment_ids[:, None, :, None] == segment_ids[:, None, None, :])
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            mask=mask,
            is_causal=True,
            local_window_size=(window - 1, 0) if window else None,
            implementation="cudnn",
        )
    return block_attention(q, k, v, segment_ids, window)


def check_attention(config: ModelConfig, platform: str) -> None:
    """Raise `UserError` where `model.attention` cannot run on devices of this platform (cpu, gpu, tpu)."""
    if config.attention == "splash" and (platform != "tpu" or config.context_length % SPLASH_BLOCK):
        raise UserError(
            f"model.attention=splash needs a TPU and model.context_length a multiple of {SPLASH_BLOCK}: choose auto"
        )
    if config.attention == "cudnn" and (platform != "gpu" or config.compute_dtype != "bfloat16"):
        raise UserError("model.attention=cudnn needs a GPU and model.compute_dtype=bfloat16: choose auto")


def row_multiple() -> int:
    """What the length of rows should be a multiple of on the default backend, for the fastest implementation to take them."""
    return SPLASH_BLOCK if jax.default_backend() == "tpu" else 1


def automatic(q: jax.Array) -> str:
    """The fastest implementation that can take q on the default backend."""
    backend, half = jax.default_backend(), q.dtype in (jnp.bfloat16, jnp.float16)
    if backend == "gpu" and half and q.shape[-1] % 8 == 0:
        return "cudnn"
    if backend == "tpu" and q.shape[1] % row_multiple() == 0:
        return "splash"
    return "xla"


def row_mask(q_index: jax.Array, k_index: jax.Array, window: int) -> jax.Array:
    """Who may look at whom: bool (B or 1, T, S) from the places of queries (B or 1, T) and of keys (B or 1, S)."""
    distance = q_index[:, :, None] - k_index[:, None, :]
    return (distance >= 0) & (distance < window) if window else distance >= 0


def block_attention(q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array | None, window: int) -> jax.Array:
    """Attention in plain XLA, a block of queries at a time: keys that the whole block cannot see are never touched.

    Arguments and result as in `attention`. Fewer products and less memory than
    one masked product over all keys.
    """
    t = q.shape[1]
    size = max(64, -(-t // 8))  # at most eight blocks, so that compile time does not grow with T
    q, k, v = heads_first(q, k, v)
    outputs = []
    for start in range(0, t, size):
        stop = min(start + size, t)
        first = max(0, start - window + 1) if window else 0
        q_index, k_index = jnp.arange(start, stop)[None], jnp.arange(first, stop)[None]
        mask = row_mask(q_index, k_index, window)
        if segment_ids is not None:
            mask &= segment_ids[:, start:stop, None] == segment_ids[:, None, first:stop]
        outputs.append(weigh(q[:, :, :, start:stop], k[:, :, first:stop], v[:, :, first:stop], mask))
    return heads_last(jnp.concatenate(outputs, axis=3))


def heads_first(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Arrays as matrix products want them: q (B, K, H / K, T, head_dim), k and v (B, K, S, head_dim).

    q is divided by sqrt(head_dim) here, T x head_dim products in place of T x S.
    """
    b, t, h, d = q.shape
    q = jnp.moveaxis(q.reshape(b, t, k.shape[2], h // k.shape[2], d), 1, 3) * d**-0.5
    return q, jnp.moveaxis(k, 1, 2), jnp.moveaxis(v, 1, 2)


def heads_last(y: jax.Array) -> jax.Array:
    """Undo `heads_first` for what comes of q: (B, K, H / K, T, head_dim) to (B, T, H, head_dim)."""
    b, kv_heads, group, t, d = y.shape
    return jnp.moveaxis(y, 3, 1).reshape(b, t, kv_heads * group, d)


def weigh(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """softmax(q k^T) v under a mask; the softmax in float32 (arXiv 1706.03762).

    q, k and v as `heads_first` gives them, mask bool (B or 1, T, S); the result is laid out as q.
    The softmax is divided by its sum after the product with v: T x head_dim divisions in place of T x S.
    """
    logits = jnp.einsum("bkgtd,bksd->bkgts", q, k, preferred_element_type=jnp.float32)
    logits = logits + jnp.where(mask, 0.0, MASKED)[:, None, None]
    weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
    y = jnp.einsum("bkgts,bksd->bkgtd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return (y / jnp.sum(weights, axis=-1, keepdims=True)).astype(v.dtype)


def splash_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array | None, *, window: int, interpret: bool = False
) -> jax.Array:
    """Splash attention, the TPU's Pallas kernel; `interpret` runs it on any backend, slowly, for tests.

    Arguments and result as in `attention`; T must be a multiple of 128.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    t, d = q.shape[1], q.shape[3]
    segments = jnp.zeros(q.shape[:2], jnp.int32) if segment_ids is None else segment_ids

    def kernel(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
        heads = q.shape[2]
        head_mask: splash_attention_mask.Mask
        if window:
            head_mask = splash_attention_mask.LocalMask((t, t), (window - 1, 0), 0)
        else:
            head_mask = splash_attention_mask.CausalMask((t, t))
        masks = splash_attention_mask.MultiHeadMask([head_mask] * heads)
        splash = splash_attention_kernel.make_splash_mha(masks, head_shards=1, q_seq_shards=1, interpret=interpret)

        def row(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
            return splash(q, k, v, splash_attention_kernel.SegmentIds(segments, segments))

        swap = functools.partial(jnp.swapaxes, axis1=1, axis2=2)
        return swap(jax.vmap(row)(swap(q * d**-0.5), swap(k), swap(v), segments)).astype(q.dtype)

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return kernel(q, k, v, segments)
    # A Pallas call is opaque to the partitioner: run it on each device's own rows and heads.
    rows, q_spec, k_spec = spec("batch"), spec("batch", None, "heads"), spec("batch", None, "kv_heads")
    if k.shape[2] % mesh.shape["tensor"]:  # too few KV heads to split: give each shard of query heads its own copy
        k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    specs: tuple[PartitionSpec, ...] = (q_spec, k_spec, k_spec, rows)
    return jax.shard_map(kernel, in_specs=specs, out_specs=q_spec, check_vma=False)(q, k, v, segments)


class Attention(nnx.Module):
    """Grouped-query self-attention (arXiv 2305.13245) with optional rotary positions and QK norm."""

    def __init__(self, key: jax.Array, config: ModelConfig) -> None:
        keys = jax.random.split(key, 4)
        width, d = config.width, config.dim_per_head
        self.config = config
        self.query = Linear(keys[0], width, config.heads * d, config, bias=config.qkv_biases)
        self.key = Linear(keys[1], width, config.kv_heads * d, config, bias=config.qkv_biases)
        self.value = Linear(keys[2], width, config.kv_heads * d, config, bias=config.qkv_biases)
        self.fused: Linear | None = None  # the three in one, in place of them, where the engine has put them so
        self.output = Linear(keys[3], config.heads * d, width, config, residual_scale(config))
        self.query_norm = Norm(d, config) if config.qk_norm else None
        self.key_norm = Norm(d, config) if config.qk_norm else None
        # Starts at 0: the model begins as one without it.
        table = jnp.zeros((config.vocab_size, config.kv_heads * d), jnp.dtype(config.param_dtype))
        self.value_embedding = nnx.data(table) if config.value_embeddings else None

    def __call__(
        self, x: jax.Array, tokens: jax.Array, rope: Pair | None, segment_ids: jax.Array | None, window: int
    ) -> tuple[jax.Array, Pair]:
        """x (B, T, D) to (B, T, D), and the keys and values (B, T, K, head_dim) that a cache would hold."""
        q, k, v = self.project(x, tokens, rope)
        y = attention(q, k, v, segment_ids, window=window, implementation=self.config.attention)
        return self.output(y.reshape(*x.shape[:2], -1)), (k, v)

    def decode(
        self, x: jax.Array, tokens: jax.Array, rope: Pair | None, places: Places, at: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, Places]:
        """x (B, 1, D), one token of each row, to (B, 1, D), and this layer's `places` with it added at `at`.

        Places are keys and values as `cache.write` takes them; mask bool (B, S) says which of them to look at.
        """
        q, k, v = self.project(x, tokens, rope)
        keys, values = write(places, k, v, at)
        lead = keys.shape[:-2]
        q = q.reshape(*lead, -1, self.config.dim_per_head) * self.config.dim_per_head**-0.5
        logits = matmul(q, keys)
        masked = jnp.where(mask, 0.0, MASKED)[:, None, None]
        logits = logits + jnp.broadcast_to(masked, (len(x), k.shape[2], *masked.shape[2:])).reshape(*lead, 1, -1)
        weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
        y = matmul(weights.astype(v.dtype), values)
        y = (y / jnp.sum(weights, axis=-1, keepdims=True)).astype(x.dtype)
        return self.output(y.reshape(len(x), 1, -1)), (keys, values)

    def project(self, x: jax.Array, tokens: jax.Array, rope: Pair | None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries (B, T, H, head_dim), keys and values (B, T, K, head_dim) of x (B, T, D), turned by their positions."""
        if self.fused is None:
            q, k, v = side_by_side((self.query, self.key, self.value), x)
        else:
            h, kv, d = self.config.heads, self.config.kv_heads, self.config.dim_per_head
            q, k, v = jnp.split(self.fused(x), (h * d, (h + kv) * d), axis=-1)
        if self.value_embedding is not None:
            v = v + look_up(self.value_embedding, tokens, v.dtype)
        q, k, v = (y.reshape(*x.shape[:2], -1, self.config.dim_per_head) for y in (q, k, v))
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return q, k, v
