"""The small parts: linear maps, norms, MLPs.

Flax NNX modules in tree mode (FLIP 5310): a module is a pytree whose leaves are plain parameter arrays, so `jax.jit`,
`jax.grad`, `jax.lax.scan` and optax take it as it is. Nothing here mutates anything.
"""

import copy
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from lm.model.config import ModelConfig
from lm.model.quantized import Matrix, Quantized, weigh
from lm.model.turned import Turned, by_rows


class Linear(nnx.Module):
    """y = x W + b, computed in the dtype of x. Parameters: `kernel` (inputs, outputs), `bias` (outputs) or None."""

    def __init__(
        self, key: jax.Array, inputs: int, outputs: int, config: ModelConfig, scale: float = 1.0, bias: bool = False
    ) -> None:
        std = scale * (config.init_std or inputs**-0.5)
        dtype = jnp.dtype(config.param_dtype)
        self.kernel = nnx.data(std * jax.random.normal(key, (inputs, outputs), dtype))
        self.bias = nnx.data(jnp.zeros((outputs,), dtype)) if config.biases or bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """x (..., inputs) to (..., outputs)."""
        y = product(x, self.kernel)
        return y if self.bias is None else y + self.bias.astype(x.dtype)


def product(x: jax.Array, kernel: Matrix | Turned) -> jax.Array:
    """x (..., inputs) times kernel (inputs, outputs), in the dtype of x: (..., outputs).

    As one product of two matrices: the gradient of `kernel` is then one too, which XLA's CPU backend is much faster at than
    at a contraction over B and T.
    """
    if isinstance(kernel, Turned):
        return by_rows(x, kernel.rows, x.dtype)
    flat = x.reshape(-1, x.shape[-1])
    y = weigh(flat, kernel).astype(x.dtype) if isinstance(kernel, Quantized) else flat @ kernel.astype(x.dtype)
    return y.reshape(*x.shape[:-1], kernel.shape[1])


def side_by_side(layers: Sequence[Linear], x: jax.Array) -> list[jax.Array]:
    """What each of several maps makes of x (..., inputs), by one matrix product: x is read once."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.shape["tensor"] > 1:  # kernels that are split over devices would have to move first
        return [layer(x) for layer in layers]
    ends = list(itertools.accumulate(layer.kernel.shape[1] for layer in layers))
    return jnp.split(beside(layers)(x), ends[:-1], axis=-1)


def beside(layers: Sequence[Linear]) -> Linear:
    """One map whose outputs are those of several, one after the other."""
    whole = copy.copy(layers[0])
    kernels = [layer.kernel for layer in layers]
    whole.kernel = nnx.data(jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *kernels))
    biases = [layer.bias for layer in layers if layer.bias is not None]
    whole.bias = nnx.data(jnp.concatenate(biases)) if biases else None
    return whole


class Norm(nnx.Module):
    """RMSNorm (arXiv 1910.07467) or LayerNorm (arXiv 1607.06450) over the last axis, computed in float32."""

    def __init__(self, size: int, config: ModelConfig) -> None:
        dtype = jnp.dtype(config.param_dtype)
        self.epsilon = config.norm_epsilon
        self.centred = config.norm == "layernorm"
        self.scale = nnx.data(jnp.ones((size,), dtype))
        self.bias = nnx.data(jnp.zeros((size,), dtype)) if self.centred and config.biases else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """x (..., size) to the same shape and dtype."""
        y = x.astype(jnp.float32)
        if self.centred:
            y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.epsilon) * self.scale
        return (y if self.bias is None else y + self.bias).astype(x.dtype)


class MLP(nnx.Module):
    """The feed-forward part: SwiGLU (arXiv 2002.05202), GELU (tanh form, as GPT-2) or squared ReLU (arXiv 2109.08668)."""

    def __init__(self, key: jax.Array, config: ModelConfig) -> None:
        gate, up, down = jax.random.split(key, 3)
        self.activation = config.activation
        self.gate = Linear(gate, config.width, config.mlp_width, config) if config.activation == "swiglu" else None
        self.up = Linear(up, config.width, config.mlp_width, config)
        self.down = Linear(down, config.mlp_width, config.width, config, residual_scale(config))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x (B, T, D) to (B, T, D)."""
        y = self.up(x)
        if self.gate is not None:
            y = jax.nn.silu(self.gate(x)) * y
        elif self.activation == "gelu":
            y = jax.nn.gelu(y, approximate=True)
        else:
            y = jnp.square(jax.nn.relu(y))
        return self.down(y)


def residual_scale(config: ModelConfig) -> float:
    """What the two projections of each block that write to the residual stream start at (GPT-2): 1 / sqrt(2 L)."""
    return (2 * config.layers) ** -0.5
