"""What a model makes of rollouts that are written: teacher-forced, in the rows that will be trained."""

from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh

from lm import sharding
from lm.model.transformer import Transformer
from lm.objectives.log_probs import token_log_probs
from lm.stage import HostBatch


@partial(jax.jit, static_argnames=("chunk", "values"))
def _score(
    model: Transformer, batch: dict[str, jax.Array], chunk: int, values: bool
) -> tuple[jax.Array, jax.Array | None]:
    hidden, _ = model.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])
    log_p, _ = token_log_probs(model, hidden, batch["labels"], chunk, batch["loss_mask"])
    found = (log_p, model.scalars(hidden) if values else None)
    return jax.tree.map(lambda x: sharding.constrain(x, None, None), found)  # every process reads all of it


def score(
    model: Transformer, batch: HostBatch, mesh: Mesh, batch_size: int, chunk: int, *, values: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Log p of the labels that `loss_mask` keeps, nats, and with `values` the scalar head's numbers: float32 (B, T).

    `batch_size` rows at a time. Where nothing was drawn log p may be 0.
    """
    mine = sharding.batch_rows(mesh, batch_size)
    log_probs, scalars = [], []
    for first in range(0, len(batch["tokens"]), batch_size):
        part = {
            name: batch[name][first : first + batch_size][mine]
            for name in ("tokens", "labels", "positions", "segment_ids", "loss_mask")
        }
        found = jax.device_get(_score(model, sharding.put_batch(mesh, part, batch_size), chunk, values))
        log_probs.append(found[0])
        scalars.append(found[1])
    return np.concatenate(log_probs), np.concatenate(scalars) if values else None
