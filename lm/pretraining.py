"""Pretraining as a `Stage`: packed documents in, the next token as objective, bits per byte as the measure."""

from functools import partial

from jax.sharding import Mesh

from data_pipeline.loader import PackedSource
from data_pipeline.prepare import DocumentsConfig, PreparedDocuments
from data_pipeline.repeats import repeated
from data_pipeline.tokenizer import Tokenizer
from lm import sharding
from lm.experiment import Experiment
from lm.held_out import HOST_ONLY, make_evaluation
from lm.inference.engine import Engine
from lm.inference.generate import generate
from lm.inference.requests import Request
from lm.inference.sampling import Sampling
from lm.model.attention import check_attention
from lm.model.transformer import Transformer
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.stage import Stage, Start


def pretraining(config: Experiment, prepared: PreparedDocuments, mesh: Mesh, start: Start | None = None) -> Stage:
    """The stage for prepared documents. Raises `UserError` when the batch or the attention does not suit the mesh."""
    assert isinstance(config.data, DocumentsConfig)  # it was prepared from it
    assert isinstance(config.objective, NextTokenConfig)  # `check_experiment` has seen to it
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
        evaluate=make_evaluation(config, held_out, prepared.tokenizer, mesh, config.data.packing) if held_out else None,
        sample=partial(write_samples, config=config, tokenizer=prepared.tokenizer) if config.sample.prompts else None,
        start=start,
    )


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
    engine = Engine(model, slots=len(requests), symbols=tokenizer.vocab_size, steady=True)
    return [
        {"prompt": prompt, "text": tokenizer.decode(completion.content)}
        for prompt, (completion,) in zip(config.sample.prompts, generate(engine, requests), strict=True)
    ]
