"""Pretraining as a `Stage`: packed documents in, the next token as objective, bits per byte as the measure."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from tqdm import tqdm

from data_pipeline.loader import PackedSource, one_pass
from data_pipeline.prepare import PreparedDocuments
from data_pipeline.repeats import repeated
from data_pipeline.shards import TokenizedRecords
from data_pipeline.tokenizer import Tokenizer
from lm import processes, sharding
from lm.experiment import Experiment
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import Request
from lm.inference.sampling import Sampling
from lm.model.attention import check_attention
from lm.model.transformer import Transformer
from lm.objectives.next_token import next_token
from lm.stage import HostBatch, Stage

HOST_ONLY = frozenset({"document_ids"})


def pretraining(config: Experiment, prepared: PreparedDocuments, mesh: Mesh) -> Stage:
    """The stage for prepared documents. Raises `UserError` when the batch or the attention does not suit the mesh."""
    check_attention(config.model, mesh.devices.flat[0].platform)
    rows = sharding.batch_rows(mesh, config.batch_size)
    components = [
        repeated(documents, config.data.repeats, name)
        for documents, name in zip(prepared.train, prepared.names, strict=True)
    ]
    source = PackedSource(
        components,
        prepared.names,
        config.data.weights or None,
        row_length=config.model.context_length,
        batch_size=config.batch_size,
        seed=config.seed,
        packing=config.data.packing,
        rows=rows,
    )
    held_out = [documents for documents in prepared.validation if len(documents)]
    return Stage(
        source=source,
        objective=partial(next_token, config=config.objective),
        host_only=HOST_ONLY,
        evaluate=make_evaluation(config, held_out, prepared.tokenizer, mesh) if held_out else None,
        sample=partial(write_samples, config=config, tokenizer=prepared.tokenizer) if config.sample.prompts else None,
    )


def make_evaluation(
    config: Experiment, held_out: list[TokenizedRecords], tokenizer: Tokenizer, mesh: Mesh
) -> Callable[[Transformer], dict[str, float]]:
    """A function model -> loss (nats per token) and bits_per_byte on the held-out documents."""
    bytes_of = jnp.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)], jnp.int32)

    @jax.jit
    def measure(model: Transformer, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        _, metrics = next_token(model, batch, config.objective)
        size = jnp.sum(bytes_of[batch["labels"]] * batch["loss_mask"])
        return metrics["cross_entropy"], metrics["weight"], size

    batch_size = config.batch_size // config.accumulate  # what fits in training fits here
    rows = sharding.batch_rows(mesh, batch_size)

    def batches() -> Iterator[HostBatch]:
        whole = one_pass(
            held_out,
            row_length=config.model.context_length,
            batch_size=batch_size,
            packing=config.data.packing,
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
        return {"loss": nats / tokens, "bits_per_byte": nats / math.log(2) / size}

    return evaluate


def write_samples(model: Transformer, *, config: Experiment, tokenizer: Tokenizer) -> list[dict[str, str]]:
    """What the model writes after each prompt of `config.sample`; the same random numbers every time."""
    requests = [
        Request(
            (tokenizer.document_start, *tokenizer.encode(prompt)),
            config.sample.tokens,
            Sampling(temperature=config.sample.temperature),
            seed=(config.seed + i) % 2**32,
            stop_tokens=(tokenizer.document_start,),
        )
        for i, prompt in enumerate(config.sample.prompts)
    ]
    engine = Engine(model, slots=len(requests), symbols=tokenizer.vocab_size)
    return [
        {"prompt": prompt, "text": tokenizer.decode(completion.content)}
        for prompt, (completion,) in zip(config.sample.prompts, generate(engine, requests), strict=True)
    ]
