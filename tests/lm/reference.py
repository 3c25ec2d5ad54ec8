"""A Transformer's forward pass, slow and obvious: plain numpy in float64, one row, one head, one query at a time.

It reads the parameters out of our `Transformer` and shares nothing else with it. Every formula is written again, where
possible in another form (rotary positions are complex numbers here).
"""

import math

import jax
import numpy as np

from lm.model.config import ModelConfig
from lm.model.transformer import Transformer


def forward(model: Transformer, tokens, positions=None, segment_ids=None) -> np.ndarray:
    """Logits float64 (B, T, V) for tokens (B, T)."""
    tokens = np.asarray(tokens)
    rows, length = tokens.shape
    positions = np.tile(np.arange(length), (rows, 1)) if positions is None else np.asarray(positions)
    segment_ids = np.zeros((rows, length), int) if segment_ids is None else np.asarray(segment_ids)
    return np.stack([forward_row(model, *row) for row in zip(tokens, positions, segment_ids, strict=True)])


def forward_row(model: Transformer, tokens: np.ndarray, positions: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Logits (T, V) of one row (T,)."""
    config = model.config
    embedding = array(model.token_embedding)
    x = embedding[tokens]
    if config.positions == "learned":
        x = x + array(model.position_embedding)[positions]
    first = x
    for i in range(config.layers):
        block = jax.tree.map(lambda p, i=i: p[i], model.blocks)
        if config.residual_scalars:
            x = array(block.residual_scalars)[0] * x + array(block.residual_scalars)[1] * first
        window = config.windows[i % len(config.windows)]
        x = x + self_attention(
            block.attention, norm(block.attention_norm, x, config), tokens, positions, segments, window, config
        )
        x = x + mlp(block.mlp, norm(block.mlp_norm, x, config), config)
    x = norm(model.final_norm, x, config)
    logits = x @ (embedding.T if config.tied_head else array(model.head))
    if config.logit_soft_cap:
        logits = config.logit_soft_cap * np.tanh(logits / config.logit_soft_cap)
    return logits


def array(parameter: jax.Array) -> np.ndarray:
    return np.asarray(parameter).astype(np.float64)


def linear(layer, x: np.ndarray, config: ModelConfig, biased: bool = False) -> np.ndarray:
    y = x @ array(layer.kernel)
    return y + array(layer.bias) if config.biases or biased else y


def norm(layer, x: np.ndarray, config: ModelConfig) -> np.ndarray:
    if config.norm == "layernorm":
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.norm_epsilon)
    else:
        y = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon)
    y = y * array(layer.scale)
    return y + array(layer.bias) if config.biases and config.norm == "layernorm" else y


def mlp(layer, x: np.ndarray, config: ModelConfig) -> np.ndarray:
    up = linear(layer.up, x, config)
    if config.activation == "swiglu":
        gate = linear(layer.gate, x, config)
        y = gate / (1 + np.exp(-gate)) * up
    elif config.activation == "gelu":
        y = 0.5 * up * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
    else:
        y = np.where(up > 0, up, 0.0) ** 2
    return linear(layer.down, y, config)


def self_attention(layer, x, tokens, positions, segments, window: int, config: ModelConfig) -> np.ndarray:
    length, size = len(x), config.head_dim or config.width // config.heads
    q = linear(layer.query, x, config, config.qkv_biases).reshape(length, config.heads, size)
    k = linear(layer.key, x, config, config.qkv_biases).reshape(length, config.kv_heads, size)
    v = linear(layer.value, x, config, config.qkv_biases)
    if config.value_embeddings:
        v = v + np.stack([array(layer.value_embedding)[token] for token in tokens])
    v = v.reshape(length, config.kv_heads, size)
    if config.qk_norm:
        q, k = norm(layer.query_norm, q, config), norm(layer.key_norm, k, config)
    if config.positions == "rotary":
        q, k = turn(q, positions, config), turn(k, positions, config)
    y = slow_attention(q[None], k[None], v[None], segments[None], window)[0]
    return linear(layer.output, y.reshape(length, -1), config)


def turn(x: np.ndarray, positions: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Rotary positions: the pair (x[i], x[i + d/2]) is a complex number, turned by position times frequency i."""
    size = x.shape[-1]
    y = np.empty_like(x)
    for i in range(size // 2):
        angle = positions * scaled_frequency(config.rope_theta ** (-2 * i / size), config)
        pair = (x[..., i] + 1j * x[..., i + size // 2]) * np.exp(1j * angle)[:, None]
        y[..., i], y[..., i + size // 2] = pair.real, pair.imag
    return y


def scaled_frequency(frequency: float, config: ModelConfig) -> float:
    """Llama 3's rule for one frequency, by wavelength, in the cases in which it was published (arXiv 2407.21783)."""
    scaling = config.rope_scaling
    if scaling.factor == 1:
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    wavelength = 2 * math.pi / frequency
    if wavelength < scaling.original_context / scaling.high_frequency_factor:
        return frequency
    if wavelength > scaling.original_context / scaling.low_frequency_factor:
        return frequency / scaling.factor
    smooth = (scaling.original_context / wavelength - scaling.low_frequency_factor) / (
        scaling.high_frequency_factor - scaling.low_frequency_factor
    )
    return (1 - smooth) * frequency / scaling.factor + smooth * frequency


def slow_attention(q, k, v, segment_ids=None, window: int = 0) -> np.ndarray:
    """Attention one query at a time: q (B, T, H, d), k and v (B, T, K, d) to float64 (B, T, H, d)."""
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    rows, length, heads, size = q.shape
    group = heads // k.shape[2]  # query heads that share a KV head
    segments = np.zeros((rows, length), int) if segment_ids is None else np.asarray(segment_ids)
    y = np.zeros_like(q)
    for row in range(rows):
        for t in range(length):
            first = max(0, t - window + 1) if window else 0
            seen = [s for s in range(first, t + 1) if segments[row, s] == segments[row, t]]
            for head in range(heads):
                scores = k[row, seen, head // group] @ q[row, t, head] / math.sqrt(size)
                weights = np.exp(scores - scores.max())
                y[row, t, head] = weights @ v[row, seen, head // group] / weights.sum()
    return y
