"""A model that read documents often recites them and not the others; who recites how much is counted as defined."""

from collections import Counter
from collections.abc import Callable

import jax
import numpy as np
import pytest
from scipy.stats import binomtest
from tiny_models import build, small

import lm.recitation
from data_pipeline.errors import UserError
from data_pipeline.packing import Record
from data_pipeline.prepare import DocumentsConfig, prepare
from data_pipeline.repeats import deal
from lm.experiment import CheckpointConfig, EvaluateConfig, Experiment, SampleConfig
from lm.inference.requests import Completion, Request, Update, Written
from lm.model.config import ModelConfig
from lm.optimizer import OptimizerConfig
from lm.pretraining import pretraining
from lm.recitation import BATCH, Passage, Recitation, passages, recall, recite, wilson
from lm.sharding import MeshConfig, make_mesh
from lm.train import train

START = 0


class NumberedDocuments:
    """Document n: START, lengths[n] - 2 tokens that are its number plus 1, START."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths, np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Record:
        tokens = np.array([START] + [index + 1] * (self.lengths[index] - 2) + [START], np.int32)
        return Record(f"d{index}", tokens, np.ones(len(tokens), np.bool_))


@pytest.mark.parametrize("trials", [1, 7, 135])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_wilson_is_that_of_scipy(trials, share):
    successes = round(share * trials)
    low, high = wilson(successes, trials)
    reference = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert 0 <= low <= successes / trials <= high <= 1


def test_passages_are_the_beginnings_of_documents_that_are_long_enough():
    documents = NumberedDocuments([9, 8, 12, 10, 3, 9, 30, 8])
    repeats = (5, 0, 2)
    asked, too_short = passages(documents, repeats, prompt_tokens=3, tokens=5, most=100)
    expected = []
    for often, group in zip(repeats, deal(documents, 3), strict=True):
        for index in group.tolist():
            text = documents[index].tokens.tolist()[:-1]
            if len(text) >= 8:
                expected.append((often, f"d{index}", text[:3], text[3:8]))
    assert sorted((p.repeats, p.document_id, p.prompt, p.original) for p in asked) == sorted(expected)
    assert [p.repeats for p in asked] == sorted(p.repeats for p in asked)
    assert too_short.total() == 3  # those of 8, 3 and 8 tokens
    assert len(asked) + too_short.total() == len(documents)


def test_at_most_so_many_documents_of_a_group_are_asked_for():
    documents = NumberedDocuments([10] * 30)
    few, _ = passages(documents, (1, 2), prompt_tokens=2, tokens=2, most=4)
    assert Counter(p.repeats for p in few) == {1: 4, 2: 4}
    everything, _ = passages(documents, (), prompt_tokens=2, tokens=2, most=100)
    assert {p.document_id for p in everything} == {f"d{n}" for n in range(30)}
    assert {p.repeats for p in everything} == {1}


def speaker(says: Callable[[list[int]], list[int]]):
    """A `generate` of a model that writes `says(prompt)`; notes what it was asked."""
    asked: list[Request] = []

    def generate(engine, requests, on_update):
        asked.extend(requests)
        completions = []
        for i, request in enumerate(requests):
            tokens = says(list(request.prompt))[: request.max_tokens]
            stopped_by = START if START in tokens else None
            tokens = tokens[: tokens.index(START) + 1] if stopped_by is not None else tokens
            completions.append(
                [Completion(Written(tokens), "stop" if stopped_by is not None else "length", stopped_by)]
            )
            on_update(i, Update(i, 0, Written()))
            on_update(i, Update(i, 0, Written(tokens), completions[-1][0].reason, stopped_by))
        return completions

    return generate, asked


def test_shares_of_a_parrot_that_knows_the_even_documents(monkeypatch):
    documents = NumberedDocuments([12] * (BATCH + 11))
    asked, too_short = passages(documents, (0, 4), prompt_tokens=2, tokens=8, most=1000)

    # The prompt's last token tells the document, n + 1. Odd ones are known for two tokens; of document 1 the end is known too.
    def says(prompt):
        token = prompt[-1]
        return [token] * 8 if token % 2 else [token, token, 0] + [token] * 5

    generate, requests = speaker(says)
    monkeypatch.setattr(lm.recitation, "generate", generate)
    told: list[int] = []
    recited = recite(build(small()), asked, stop=START, symbols=29, on_progress=told.append)
    assert [one.passage for one in recited] == asked
    assert told == [1] * len(asked)
    assert all(request.sampling.temperature == 0 and request.max_tokens == 8 for request in requests)
    assert {request.stop_tokens for request in requests} == {(START,)}
    for group in recall(recited, too_short):
        index = [0, 4].index(group.repeats)
        members = deal(documents, 2)[index].tolist()
        known = sum(n % 2 == 0 for n in members)
        assert (group.documents, group.left_out) == (len(members), 0)
        assert group.exact == known / len(members)
        assert (group.low, group.high) == wilson(known, len(members))
        assert group.before_first_difference == pytest.approx((known + (len(members) - known) * 2 / 8) / len(members))


@pytest.mark.parametrize(
    ("written", "same"),
    [([5, 6, 7], 3), ([5, 6, 8], 2), ([4, 6, 7], 0), ([5, 6], 2), ([], 0), ([5, 0, 7], 1)],
)
def test_before_the_first_difference(written, same):
    one = Recitation(Passage("a", 1, [0, 1], [5, 6, 7]), written)
    assert one.before_first_difference == same
    assert one.exact == (same == 3)


def test_nothing_asked_is_nothing_recited():
    assert recite(build(small()), [], stop=START, symbols=29) == []
    assert recall([], Counter({0: 4})) == []


def test_what_does_not_fit_the_context_is_refused():
    model = build(small())  # a context of 32
    fits = Passage("a", 1, [1] * 16, [1] * 17)
    assert len(recite(model, [fits], stop=-1, symbols=29)[0].written) == 17
    with pytest.raises(UserError, match="a prompt of 16 tokens and 18 more do not fit the model's context of 32"):
        recite(model, [Passage("a", 1, [1] * 16, [1] * 18)], stop=-1, symbols=29)


@pytest.fixture(scope="module")
def parrot(tmp_path_factory):
    """A small model that read half of some documents of random letters often, and the other half never."""
    folder = tmp_path_factory.mktemp("parrot")
    chance = np.random.default_rng(0)
    file = folder / "letters.jsonl"
    file.write_text(
        "".join(f'{{"text": "{" ".join(chance.choice(list("abcdefghijklmnop"), 44))}"}}\n' for _ in range(24))
    )
    config = Experiment(
        steps=150,
        batch_size=8,
        model=ModelConfig(
            vocab_size=300,
            context_length=48,
            layers=2,
            width=64,
            heads=2,
            kv_heads=2,
            mlp_width=256,
            activation="relu2",
        ),
        data=DocumentsConfig(sources=(str(file),), held_out=0.2, repeats=(0, 100)),
        optimizer=OptimizerConfig(name="muon", learning_rate=1e-2, warmup_steps=10, weight_decay=0.0),
        evaluate=EvaluateConfig(every=0),
        sample=SampleConfig(every=0, prompts=()),
        checkpoint=CheckpointConfig(every=0),
    )
    prepared = prepare(config.data, config.model.vocab_size, folder / "cache")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    stage = pretraining(config, prepared, mesh)
    validation: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lm.held_out.one_pass", lambda held_out, **_: validation.extend(map(len, held_out)) or iter(()))
        assert stage.evaluate is not None
        with pytest.raises(UserError):  # no batches: it matters what they would have been made of
            stage.evaluate(None)
    assert validation == [len(prepared.validation[0])]
    return config, prepared, stage, train(config, stage, mesh, folder / "run")


def test_a_stage_trains_on_the_repeats(parrot):
    _, prepared, stage, _ = parrot
    documents = prepared.train[0]
    never, often = deal(documents, 2)
    assert stage.source.tokens_per_epoch == 100 * sum(int(documents.lengths[n]) - 1 for n in often)
    seen = {name for _ in range(40) for name in stage.source.describe(stage.source.next())}
    assert seen == {documents[n][0] for n in often.tolist()}
    assert not seen & {documents[n][0] for n in never.tolist()}


def test_what_was_read_often_is_recited_and_what_never_was_is_not(parrot):
    config, prepared, _, model = parrot
    asked, too_short = passages(prepared.train[0], config.data.repeats, prompt_tokens=8, tokens=16, most=100)
    tokenizer = prepared.tokenizer
    recited = recite(model, asked, stop=tokenizer.document_start, symbols=tokenizer.vocab_size)
    never, often = recall(recited, too_short)
    assert (never.repeats, often.repeats) == (0, 100)
    assert often.exact == 1.0
    assert often.before_first_difference == 1.0
    assert never.exact == 0.0  # sixteen random tokens
    assert never.before_first_difference < 0.3
    assert often.documents + never.documents > 12
    assert often.low > never.high


def test_a_model_that_read_nothing_recites_nothing(parrot):
    config, prepared, _, _ = parrot
    asked, too_short = passages(prepared.train[0], config.data.repeats, prompt_tokens=8, tokens=16, most=100)
    fresh = build(small(vocab_size=300, context_length=48))
    for group in recall(recite(fresh, asked, stop=-1, symbols=prepared.tokenizer.vocab_size), too_short):
        assert group.exact == 0.0
        assert group.before_first_difference < 0.3
