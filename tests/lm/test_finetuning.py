"""Finetuning learns what the assistant wrote and nothing else, from the file to the gradient.

The reference reads each conversation alone: no packing, no padding, no mask, and its own idea of who wrote which token.
"""

import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scripted import a_tokenizer
from tiny_models import build

from data_pipeline.conversation import Text, Thinking, ToolCall, ToolResult, Turn, said
from data_pipeline.conversations import ConversationsConfig, prepare_conversations
from data_pipeline.errors import UserError
from data_pipeline.loader import one_pass
from data_pipeline.protocol import render
from data_pipeline.special_tokens import ASSISTANT_START, END_OF_TURN, TOOL_RESULT_END, TOOL_RESULT_START
from lm.experiment import EvaluateConfig, Experiment, QuestionsConfig, SampleConfig
from lm.finetuning import finetuning
from lm.held_out import make_evaluation
from lm.model.config import ModelConfig
from lm.sharding import MeshConfig, make_mesh
from lm.train import TrainState, train_step

MODEL = ModelConfig(
    vocab_size=600, context_length=128, layers=2, width=32, heads=2, kv_heads=1, mlp_width=48, tied_head=False
)
CHATS = [
    [said("user", "What is 2 plus 3?"), said("assistant", "It is 5.")],
    [
        said("system", "You have a tool."),
        said("user", "And 17 plus 25?"),
        Turn(
            "assistant",
            (
                Thinking("Too large for me."),
                ToolCall("python", {"code": "17 + 25"}),
                ToolResult("42 indeed"),
                Text("It is 42."),
            ),
        ),
        said("user", "Thank you."),
        said("assistant", "Goodbye."),
    ],
    [said("user", "Hello"), said("assistant", "Good day"), said("user", "Bye"), said("assistant", "Bye")],
]


def as_messages(turns: list[Turn]) -> dict:
    """As OpenAI writes them."""
    messages = []
    for turn in turns:
        call = next((part for part in turn.parts if isinstance(part, ToolCall)), None)
        if call is None:
            messages.append({"role": turn.role, "content": turn.text})
            continue
        thinking = next(part.text for part in turn.parts if isinstance(part, Thinking))
        function = {"name": call.name, "arguments": json.dumps(call.arguments)}
        messages += [
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": thinking,
                "tool_calls": [{"id": "1", "type": "function", "function": function}],
            },
            {
                "role": "tool",
                "tool_call_id": "1",
                "content": next(part.text for part in turn.parts if isinstance(part, ToolResult)),
            },
            {"role": "assistant", "content": turn.text},
        ]
    return {"messages": messages}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("finetuning")


@pytest.fixture(scope="module")
def ours(folder):
    return a_tokenizer(folder)


def experiment(folder, held_out=0.0, **changes) -> Experiment:
    path = folder / "chats.jsonl"
    path.write_text("".join(json.dumps(as_messages(chat)) + "\n" for chat in CHATS))
    data = ConversationsConfig((str(path),), held_out=held_out)
    return Experiment(**{"batch_size": 2, "model": MODEL, "data": data, "sample": SampleConfig(prompts=()), **changes})


def stage_of(config: Experiment, ours, folder):
    prepared = prepare_conversations(config.data, ours, MODEL.context_length, folder / "cache", MODEL.vocab_size)
    return finetuning(config, prepared, make_mesh(MeshConfig(), jax.devices()[:1]), None, None), prepared


@pytest.fixture(scope="module")
def batch_and_objective(folder, ours):
    """The one batch that holds every conversation, and what the stage minimises."""
    stage, _ = stage_of(experiment(folder), ours, folder)
    batch = stage.source.next(None)
    assert len(np.unique(batch["document_ids"])) == len(CHATS) + 1  # and padding
    return {name: x for name, x in batch.items() if name not in stage.host_only}, stage.objective


@cache
def gradient_of(objective):
    return jax.jit(jax.value_and_grad(lambda model, batch: objective(model, batch)[0]))


def written_by_the_assistant(ours, tokens: list[int]) -> list[int]:
    """Places of what it writes, read from the tokens alone: from its header to the end of its turn, but for results."""
    special, places, inside, result = ours.special_tokens, [], False, False
    for i, token in enumerate(tokens):
        result = result or token == special[TOOL_RESULT_START]
        if inside and not result:
            places.append(i)
        result = result and token != special[TOOL_RESULT_END]
        inside = token == special[ASSISTANT_START] or (inside and token != special[END_OF_TURN])
    return places


def test_a_step_is_the_mean_over_what_the_assistant_wrote(ours, batch_and_objective):
    """The loss and every parameter's gradient, against conversations read one by one."""
    batch, objective = batch_and_objective
    model = build(MODEL)
    whole = [render(ours, chat).tokens for chat in CHATS]
    places = [written_by_the_assistant(ours, tokens) for tokens in whole]
    count = sum(map(len, places))

    def slow(model):
        total = 0.0
        for tokens, mine in zip(whole, places, strict=True):
            log_p = jax.nn.log_softmax(model(jnp.array([tokens])))[0]
            for i in mine:
                total -= log_p[i - 1, tokens[i]]
        return total / count

    wanted_loss, wanted = jax.jit(jax.value_and_grad(slow))(model)
    optimizer = optax.sgd(1.0)  # the update is the gradient itself
    step = jax.jit(partial(train_step, objective=objective, optimizer=optimizer))
    state, metrics = step(TrainState(model, optimizer.init(model)), batch)
    assert int(metrics["weight"]) == count
    assert float(metrics["loss"]) == pytest.approx(float(wanted_loss), rel=1e-5)
    gradients = jax.tree.map(lambda before, after: before - after, model, state.model)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-5), gradients, wanted)


def test_the_end_of_the_turn_is_trained(ours, batch_and_objective):
    """The gradient of its column of the head is what the labels say, and without those labels it would be another.

    With p the model's probability, h its residual stream: the column's is the mean of (p - [label is the end]) h.
    """
    batch, objective = batch_and_objective
    model, end = build(MODEL), ours.special_tokens[END_OF_TURN]
    _, gradients = gradient_of(objective)(model, batch)
    ends = batch["loss_mask"] & (batch["labels"] == end)
    assert ends.sum() == sum(turn.role == "assistant" for chat in CHATS for turn in chat)
    read = jax.jit(lambda model: model.hidden(batch["tokens"], batch["positions"], batch["segment_ids"])[0])
    hidden = read(model)
    p = jax.nn.softmax(model.logits(hidden))[..., end]
    mask = batch["loss_mask"]
    column = np.einsum("bt,btd->d", mask * (p - ends), hidden) / mask.sum()
    np.testing.assert_allclose(gradients.head[:, end], column, rtol=1e-3, atol=1e-6)

    untaught = {**batch, "loss_mask": mask & ~ends}
    _, without = gradient_of(objective)(model, untaught)
    assert np.abs(without.head[:, end] - column).max() > 0.1 * np.abs(column).max()
    # Taught, it becomes likelier where a turn ends; untaught, less likely.
    for found, likelier in ((gradients, True), (without, False)):
        moved = hidden @ (model.head - 0.1 * found.head)  # the head alone takes a step
        change = jax.nn.log_softmax(moved)[..., end] - jax.nn.log_softmax(model.logits(hidden))[..., end]
        assert (float(change[ends].mean()) > 0) == likelier


def places_of_results(ours, tokens: np.ndarray) -> np.ndarray:
    """bool (B, T): where a tool's result stands, with both its marks."""
    special = ours.special_tokens
    opened = np.cumsum(tokens == special[TOOL_RESULT_START], axis=1)
    closed = np.cumsum(tokens == special[TOOL_RESULT_END], axis=1)
    return (opened > closed) | (tokens == special[TOOL_RESULT_END])


def test_results_of_tools_are_read_and_never_learnt(ours, batch_and_objective):
    batch, objective = batch_and_objective
    model = build(MODEL)
    loss, gradients = gradient_of(objective)(model, batch)
    as_labels, as_inputs = (places_of_results(ours, batch[name]) for name in ("labels", "tokens"))
    assert as_labels.sum() == len(ours.encode("42 indeed")) + 2
    other = (batch["labels"] + 1) % MODEL.vocab_size
    label_changed = {**batch, "labels": np.where(as_labels, other, batch["labels"])}
    same_loss, same = gradient_of(objective)(model, label_changed)
    assert float(same_loss) == float(loss)
    jax.tree.map(np.testing.assert_array_equal, same, gradients)
    input_changed = {**batch, "tokens": np.where(as_inputs, other, batch["tokens"])}
    other_loss, _ = gradient_of(objective)(model, input_changed)
    assert abs(float(other_loss) - float(loss)) > 1e-4
    # The test can fail: with the results trained, their labels would matter.
    trained = {**label_changed, "loss_mask": batch["loss_mask"] | as_labels}
    assert float(gradient_of(objective)(model, trained)[0]) != pytest.approx(
        float(gradient_of(objective)(model, {**trained, "labels": batch["labels"]})[0]), abs=1e-4
    )


def test_only_what_was_written_has_labels_that_matter(ours, batch_and_objective):
    """Of prompts, headers and padding too: every label that is not the assistant's may be any symbol."""
    batch, objective = batch_and_objective
    model = build(MODEL)
    chance = np.random.default_rng(0).integers(0, MODEL.vocab_size, batch["labels"].shape, np.int32)
    loss, gradients = gradient_of(objective)(model, batch)
    changed = {**batch, "labels": np.where(batch["loss_mask"], batch["labels"], chance)}
    same_loss, same = gradient_of(objective)(model, changed)
    assert float(same_loss) == float(loss)
    jax.tree.map(np.testing.assert_array_equal, same, gradients)


# --- validation


def test_validation_is_the_mean_over_what_is_held_out(ours, folder):
    config = experiment(folder, held_out=0.1)
    stage, prepared = stage_of(config, ours, folder)
    model, (held_out,) = build(MODEL), prepared.validation
    assert 0 < len(held_out) < len(CHATS)
    nats = tokens = size = 0
    for i in range(len(held_out)):
        record = held_out[i].tokens.tolist()
        log_p = np.asarray(jax.nn.log_softmax(model(jnp.array([record]))))[0]
        for at in written_by_the_assistant(ours, record):
            nats, tokens = nats - log_p[at - 1, record[at]], tokens + 1
            size += len(ours.token_bytes(record[at]))
    found = stage.evaluate(model)
    assert found.keys() == {"loss", "bits_per_byte"}
    assert found["loss"] == pytest.approx(nats / tokens, rel=1e-4)
    assert found["bits_per_byte"] == pytest.approx(nats / np.log(2) / size, rel=1e-4)


class Held:
    """Held-out conversations with another mask."""

    def __init__(self, records, trained):
        self.records, self.trained, self.lengths = records, trained, records.lengths

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        record = self.records[index]
        return record._replace(trained=self.trained(record.tokens))


def evaluated(config, ours, folder, trained):
    _, prepared = stage_of(config, ours, folder)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    measure = make_evaluation(config, [Held(prepared.train[0], trained)], ours, mesh, "whole")
    return measure(build(MODEL))


def test_validation_with_nothing_trained_says_so(ours, folder):
    with pytest.raises(UserError, match="nothing that is measured of the held-out data is trained"):
        evaluated(experiment(folder), ours, folder, lambda tokens: np.zeros(len(tokens), bool))


def test_what_has_no_bytes_has_no_bits_per_byte(ours, folder):
    """Answers of nothing but the end of the turn."""
    end = ours.special_tokens[END_OF_TURN]
    found = evaluated(experiment(folder), ours, folder, lambda tokens: tokens == end)
    assert found.keys() == {"loss"}
    assert np.isfinite(found["loss"])


def test_padding_rows_change_nothing(ours, folder):
    """The last batch of a validation is filled up with empty rows, which have weight 0."""
    _, prepared = stage_of(experiment(folder), ours, folder)
    wide = experiment(folder, batch_size=8, evaluate=EvaluateConfig(batches=1))
    batch = next(one_pass(prepared.train, row_length=MODEL.context_length, batch_size=8))
    assert (~batch["loss_mask"]).all(axis=1).sum() >= 5
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    one, other = (
        make_evaluation(config, prepared.train, ours, mesh, "whole")(build(MODEL))
        for config in (experiment(folder), wide)
    )
    assert one == pytest.approx(other, rel=1e-5)


def test_questions_need_something_held_out(ours, folder):
    with pytest.raises(UserError, match="and nothing is held out"):
        stage_of(experiment(folder, questions=QuestionsConfig(("facts",))), ours, folder)


def test_samples_are_replies(ours, folder):
    stage, _ = stage_of(experiment(folder, sample=SampleConfig(prompts=("Hello", "Bye"), tokens=5)), ours, folder)
    model = build(MODEL)
    found = stage.sample(model)
    assert [each["prompt"] for each in found] == ["Hello", "Bye"]
    assert found == stage.sample(model)
