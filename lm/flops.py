"""How much arithmetic a model does, and what the hardware could do: the two halves of MFU (arXiv 2204.02311)."""

import re
import time

import jax
import jax.numpy as jnp

from lm.model.config import ModelConfig

# Dense bf16 FLOP/s of one chip by the start of its `device_kind`, from the makers' data sheets.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA L4": 121e12,
    "NVIDIA A10": 125e12,
}


def forward_flops_per_token(config: ModelConfig, length: int) -> float:
    """FLOPs of one token's forward pass in a row of `length` tokens.

    Two for each weight of each matrix product (the embedding look-up is none, the head is one), and four for each
    attended key and head dimension: q k^T and weights v. As is the custom, a key counts whether or not the causal mask
    hides it; a sliding window W leaves min(W, length) keys.
    """
    d, heads, kv_heads = config.width, config.heads * config.dim_per_head, config.kv_heads * config.dim_per_head
    matrices = 2 if config.activation != "swiglu" else 3
    block = 2 * d * heads + 2 * d * kv_heads + matrices * d * config.mlp_width
    keys = sum(min(config.windows[i % len(config.windows)] or length, length) for i in range(config.layers))
    return 2.0 * (config.layers * block + d * config.vocab_size) + 4.0 * keys * heads


def train_flops_per_token(config: ModelConfig, length: int) -> float:
    """FLOPs to train on one token: the backward pass costs two forward passes. What `remat` repeats does not count."""
    return 3.0 * forward_flops_per_token(config, length)


def peak_flops(devices: list[jax.Device]) -> float:
    """FLOP/s that these devices could reach at best; for a CPU, what a large float32 matrix product reaches now."""
    kind = devices[0].device_kind
    for name, peak in PEAK_FLOPS.items():
        if re.match(rf"{name}\b", kind):
            return peak * len(devices)
    return measured_peak_flops()


def measured_peak_flops(size: int = 1024, trials: int = 5) -> float:
    """Best FLOP/s of a few float32 matrix products on the default device (about 0.2 s on two CPU cores)."""
    x = jnp.ones((size, size), jnp.float32)
    multiply = jax.jit(lambda a, b: a @ b)
    multiply(x, x).block_until_ready()
    best = float("inf")
    for _ in range(trials):
        start = time.perf_counter()
        multiply(x, x).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
