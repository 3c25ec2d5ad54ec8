"""Next-token prediction: the objective of pretraining, of finetuning (masked) and of expert iteration.

The loss at a position is -log p(label), in nats; its mean is over the positions that `loss_mask` keeps.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from data_pipeline.errors import UserError
from lm.model.transformer import Transformer
from lm.objectives.log_probs import token_log_probs

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclass
class NextTokenConfig:
    """How the loss is computed."""

    z_loss: float = 0.0  # weight of (log normaliser)^2, which keeps logits from drifting (arXiv 2204.02311)
    chunk: int = 128  # positions of each row whose logits are held at a time


def check_next_token(config: NextTokenConfig) -> None:
    """Raise `UserError` for values that make no sense."""
    if not config.z_loss >= 0:
        raise UserError(f"objective.z_loss={config.z_loss}: must not be negative")
    if config.chunk < 1:
        raise UserError(f"objective.chunk={config.chunk}: must be at least 1 position")


def next_token(model: Transformer, batch: Batch, config: NextTokenConfig) -> tuple[jax.Array, Metrics]:
    """The mean loss over trained positions, and metrics.

    batch: tokens, labels, positions, segment_ids int32 (B, T), loss_mask bool (B, T). As every objective does, it
    returns a mean and, in `metrics["weight"]`, what that mean was taken over, so that parts of a batch add up exactly.
    """
    hidden, _ = model.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])
    log_p, normaliser = token_log_probs(model, hidden, batch["labels"], config.chunk)
    mask = batch["loss_mask"].astype(jnp.float32)
    weight = jnp.sum(mask)
    safe = jnp.maximum(weight, 1.0)  # a batch without trained positions has loss 0 and weight 0
    cross_entropy = -jnp.sum(log_p * mask) / safe
    metrics = {"cross_entropy": cross_entropy, "weight": weight}
    if not config.z_loss:
        return cross_entropy, metrics
    z_loss = config.z_loss * jnp.sum(jnp.square(normaliser) * mask) / safe
    return cross_entropy + z_loss, {**metrics, "z_loss": z_loss}
