"""Low-rank adapters (LoRA, arXiv 2106.09685): finetuning that leaves a model's matrices as they are and learns what to add.

A frozen matrix W (inputs, outputs) is used as W + (alpha / rank) A B, with A (inputs, rank) and B (rank, outputs). A begins at
random and B at 0, so that the model begins as it was. Only A and B are trained, kept in checkpoints and have an optimizer's
state. W + A B is made anew in each step, so that everything else sees an ordinary model; gradients pass through matrices of its
size, and what is saved is the optimizer's memory and the disk.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from data_pipeline.errors import UserError
from lm.model.transformer import Transformer
from lm.sharding import path_name

TARGETS = ("query", "key", "value", "output", "gate", "up", "down", "token_embedding", "head")
SCALAR_HEAD = "scalar_head"


@dataclass
class LoraConfig:
    """Which matrices of the model that a run starts from are adapted, and how."""

    rank: int = 0  # 0: no adapters, the whole model is trained
    alpha: float = 16.0  # what is added is alpha / rank times A B
    targets: tuple[str, ...] = TARGETS
    """Matrices, by the last part of their names. The embedding and the head learn the tokens that are new to the model. A scalar
    head, which begins at 0, is always adapted: without it nothing could be learnt."""


def check_lora(config: LoraConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    if config.rank < 0:
        raise UserError(f"lora.rank={config.rank}: must not be negative (0: no adapters)")
    if not config.alpha > 0:
        raise UserError(f"lora.alpha={config.alpha}: must be positive")
    if not config.targets or (unknown := [name for name in config.targets if name not in TARGETS]):
        wrong = repr(unknown[0]) if config.targets else "no matrix at all"
        raise UserError(f"lora.targets names {wrong}: choose from {', '.join(TARGETS)}")


class Pair(NamedTuple):
    """The adapter of one matrix, float32: stacked matrices (L, inputs, outputs) have (L, inputs, rank), (L, rank, outputs).

    A vector (D,), the scalar head, has (D, rank) and (rank,).
    """

    lora_a: jax.Array
    lora_b: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Adapters:
    """What is trained in place of the model: pairs by the name of their matrix (`blocks.attention.query`)."""

    pairs: dict[str, Pair]
    scale: float = field(metadata={"static": True})


def init_adapters(key: jax.Array, model: Transformer, config: LoraConfig) -> Adapters:
    """Adapters that add nothing yet."""
    pairs = {}
    for path, matrix in jax.tree_util.tree_leaves_with_path(model):
        name = _name(path)
        last = name.rpartition(".")[2]
        if last in (*config.targets, SCALAR_HEAD) and not path_name(path).endswith("bias"):
            key, part = jax.random.split(key)
            cut = max(matrix.ndim - 1, 1)  # a vector has inputs alone
            *stacked, inputs = matrix.shape[:cut]
            a = inputs**-0.5 * jax.random.normal(part, (*stacked, inputs, config.rank))
            pairs[name] = Pair(a, jnp.zeros((*stacked, config.rank, *matrix.shape[cut:])))
    return Adapters(pairs, config.alpha / config.rank)


def merged(base: Transformer | None, trained: Any) -> Transformer:
    """The model to compute with: `base` with its adapters, or, where there is no base, what is trained itself."""
    if base is None:
        return trained

    def adapted(path: tuple[Any, ...], matrix: jax.Array) -> jax.Array:
        pair = None if path_name(path).endswith("bias") else trained.pairs.get(_name(path))
        if pair is None:
            return matrix
        return (matrix + trained.scale * (pair.lora_a @ pair.lora_b)).astype(matrix.dtype)

    return jax.tree_util.tree_map_with_path(adapted, base)


def _name(path: tuple[Any, ...]) -> str:
    return path_name(path).removesuffix(".kernel")
