"""Supervised finetuning as a `Stage`: the loop, the objective and the measure of pretraining; only the data is another.

What is read are whole conversations, packed, and the loss mask keeps what the assistant wrote.
"""

from functools import partial

from jax.sharding import Mesh

from data_pipeline.conversation import describe_parts, said
from data_pipeline.conversations import ConversationsConfig, PreparedConversations
from data_pipeline.errors import UserError
from data_pipeline.loader import PackedSource
from data_pipeline.tokenizer import Tokenizer
from lm import sharding
from lm.assistant import Toolbox, replies, request
from lm.experiment import Experiment
from lm.held_out import HOST_ONLY, make_evaluation
from lm.inference.engine import Engine
from lm.inference.sampling import Sampling
from lm.model.attention import check_attention
from lm.model.transformer import Transformer
from lm.objectives.next_token import NextTokenConfig, next_token
from lm.quiz import make_quiz
from lm.stage import Stage, Start


def finetuning(
    config: Experiment, prepared: PreparedConversations, mesh: Mesh, start: Start | None, toolbox: Toolbox | None
) -> Stage:
    """The stage for prepared conversations.

    Raises `UserError` when the batch or the attention does not suit the mesh, and for questions with nothing held out.
    """
    assert isinstance(config.data, ConversationsConfig)  # it was prepared from it
    assert isinstance(config.objective, NextTokenConfig)  # `check_experiment` has seen to it
    check_attention(config.model, mesh.devices.flat[0].platform)
    source = PackedSource(
        prepared.train,
        prepared.names,
        config.data.weights or None,
        row_length=config.model.context_length,
        batch_size=config.batch_size,
        seed=config.seed,
        rows=sharding.batch_rows(mesh, config.batch_size),
    )
    held_out = [records for records in prepared.validation if len(records)]
    measure = make_evaluation(config, held_out, prepared.tokenizer, mesh, "whole") if held_out else None
    quiz = None
    if config.questions.topics:
        if not measure:
            raise UserError(
                "questions.topics are asked at each validation, and nothing is held out: raise data.held_out"
            )
        quiz = make_quiz(config.questions, config.data.school, prepared.tokenizer, toolbox)

    def evaluate(model: Transformer) -> dict[str, float]:
        return {**(measure(model) if measure else {}), **(quiz(model) if quiz else {})}

    return Stage(
        source=source,
        objective=partial(next_token, config=config.objective),
        host_only=HOST_ONLY,
        evaluate=evaluate if measure else None,
        sample=partial(write_samples, config=config, tokenizer=prepared.tokenizer, toolbox=toolbox)
        if config.sample.prompts
        else None,
        start=start,
    )


def write_samples(
    model: Transformer, *, config: Experiment, tokenizer: Tokenizer, toolbox: Toolbox | None
) -> list[dict[str, str]]:
    """What the assistant answers to each prompt of `config.sample`; the same random numbers every time."""
    engine = Engine(model, slots=len(config.sample.prompts), symbols=tokenizer.vocab_size, steady=True)
    sampling = Sampling(temperature=config.sample.temperature)
    requests = [
        request(
            tokenizer,
            [said("user", text)],
            config.sample.tokens,
            sampling,
            seed=(config.seed + i) % 2**32,
            toolbox=toolbox,
            style="tokens",
        )
        for i, text in enumerate(config.sample.prompts)
    ]
    return [
        {"prompt": text, "text": describe_parts(reply.parts)}
        for text, (reply,) in zip(config.sample.prompts, replies(engine, tokenizer, requests), strict=True)
    ]
