"""Rotary position embedding (arXiv 2104.09864), with linear or Llama 3's frequency scaling."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from lm.model.config import ModelConfig, RopeScaling


def rope_frequencies(head_dim: int, theta: float, scaling: RopeScaling) -> np.ndarray:
    """Angle per position of each pair of dimensions, radians, float32 (head_dim / 2,).

    With a factor other than 1, linear scaling divides all by it. Llama 3's rule: wavelengths short against the original
    context stay, long ones are stretched by the factor, those between are blended.
    """
    frequencies = theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if scaling.factor == 1.0:
        return frequencies.astype(np.float32)
    if scaling.kind == "linear":
        return (frequencies / scaling.factor).astype(np.float32)
    turns = scaling.original_context * frequencies / (2 * math.pi)  # full turns within the original context
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (keep * frequencies + (1 - keep) * frequencies / scaling.factor).astype(np.float32)


def rope_tables(positions: jax.Array, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines for positions (B, T): each float32 (B, T, 1, head_dim / 2)."""
    frequencies = rope_frequencies(config.dim_per_head, config.rope_theta, config.rope_scaling)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, tables: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turn each pair (i, i + head_dim / 2) of x (B, T, H, head_dim) by its angle (the half-split order of Llama)."""
    cos, sin = tables
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
