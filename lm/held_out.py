"""How well a model foresees what was held out: the validation of pretraining and of finetuning."""

import itertools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from tqdm import tqdm

from data_pipeline.errors import UserError
from data_pipeline.loader import one_pass
from data_pipeline.shards import TokenizedRecords
from data_pipeline.tokenizer import Tokenizer
from lm import processes, sharding
from lm.experiment import Experiment
from lm.model.transformer import Transformer
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.stage import HostBatch

HOST_ONLY = frozenset({"document_ids"})


def make_evaluation(
    config: Experiment, held_out: list[TokenizedRecords], tokenizer: Tokenizer, mesh: Mesh, packing: str
) -> Callable[[Transformer], dict[str, float]]:
    """A function model -> loss (nats per trained token) and bits_per_byte on what is held out.

    It raises `UserError` where no token is trained, and leaves bits_per_byte out where those that are have no bytes.
    """
    objective = config.objective
    assert isinstance(objective, NextTokenConfig)  # `check_experiment` has seen to it
    bytes_of = jnp.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)], jnp.int32)

    @jax.jit
    def measure(model: Transformer, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        _, metrics = next_token(model, batch, objective)
        size = jnp.sum(bytes_of[batch["labels"]] * batch["loss_mask"])
        return metrics["cross_entropy"], metrics["weight"], size

    batch_size = config.batch_size // config.accumulate  # what fits in training fits here
    rows = sharding.batch_rows(mesh, batch_size)

    def batches() -> Iterator[HostBatch]:
        whole = one_pass(
            held_out,
            row_length=config.model.context_length,
            batch_size=batch_size,
            packing=packing,
            rows=rows,
        )
        return itertools.islice(whole, config.evaluate.batches * config.accumulate or None)

    def evaluate(model: Transformer) -> dict[str, float]:
        nats = tokens = size = 0.0
        shown = tqdm(batches(), "validation", unit=" batches", delay=5, leave=False, disable=not processes.is_first())
        for batch in shown:
            arrays = {name: value for name, value in batch.items() if name not in HOST_ONLY}
            loss, weight, length = map(float, measure(model, sharding.put_batch(mesh, arrays, batch_size)))
            nats, tokens, size = nats + loss * weight, tokens + weight, size + length
        if not tokens:
            raise UserError(
                "nothing that is measured of the held-out data is trained, so that there is no loss: raise data.held_out "
                "or evaluate.batches"
            )
        # Ends of turns are trained and have no bytes.
        return {"loss": nats / tokens, **({"bits_per_byte": nats / math.log(2) / size} if size else {})}

    return evaluate
