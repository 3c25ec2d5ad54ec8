"""Conversations prepared for finetuning: what is read, masked, cut and set aside, and the cases that hang elsewhere."""

import json
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import LLAMA3, byte_level, our_own

from data_pipeline import conversations, gym, shards
from data_pipeline.conversation import Conversation, Text, ToolCall, ToolResult, Turn, said
from data_pipeline.conversations import ConversationsConfig, check_conversations, prepare_conversations
from data_pipeline.errors import UserError
from data_pipeline.loader import PackedSource, one_pass
from data_pipeline.prepare import trained_tokenizer
from data_pipeline.protocol import parse, render
from data_pipeline.school import worked_examples

CONTEXT = 64


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return our_own(tmp_path_factory.mktemp("ours"))


def row(*texts):
    """Messages of the user and the assistant in turn."""
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]}


def written(path, rows):
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return str(path)


def prepare(base, cache, *sources, context=CONTEXT, vocab_size=600, **changes):
    return prepare_conversations(ConversationsConfig(sources, **changes), base, context, cache, vocab_size)


def all_records(prepared, split="train"):
    return [records[i] for records in getattr(prepared, split) for i in range(len(records))]


ROWS = [row(f"Question {i}?", f"Answer {i}!" * (1 + i % 3)) for i in range(60)]


def test_each_conversation_is_there_with_its_mask(ours, tmp_path, capsys):
    prepared = prepare(ours, tmp_path / "cache", written(tmp_path / "chats.jsonl", ROWS), held_out=0.3)
    found = all_records(prepared) + all_records(prepared, "validation")
    assert 5 < len(prepared.validation[0]) < 35
    assert len(found) == 60
    for record in found:
        number = int(record.id.rpartition(":")[2]) - 1
        turns = [said(each["role"], each["content"]) for each in ROWS[number]["messages"]]
        rendered = render(ours, turns)
        assert record.tokens.tolist() == rendered.tokens
        assert record.trained.tolist() == rendered.trained
        assert record.trained.dtype == np.bool_
    assert "conversations (" in capsys.readouterr().out


def test_it_is_prepared_once(ours, tmp_path, monkeypatch):
    path = written(tmp_path / "chats.jsonl", ROWS)
    first = prepare(ours, tmp_path / "cache", path)
    with monkeypatch.context() as patch:
        patch.setattr(conversations, "render", lambda *_: pytest.fail("rendered again"))
        again = prepare(ours, tmp_path / "cache", path)
    assert again.fingerprints == first.fingerprints
    assert [r.tokens.tolist() for r in all_records(again)] == [r.tokens.tolist() for r in all_records(first)]
    other = prepare(ours, tmp_path / "cache", path, context=CONTEXT - 1)
    assert other.fingerprints != first.fingerprints
    written(tmp_path / "chats.jsonl", ROWS[:30])
    assert prepare(ours, tmp_path / "cache", path).fingerprints != first.fingerprints


def test_a_killed_preparation_goes_on_and_counts_the_same(ours, tmp_path, monkeypatch):
    """What is set aside before the place of the kill is counted too."""
    rows = [row("x" * 200 if i % 5 == 0 else "short?", f"answer {i}") for i in range(80)]
    path = written(tmp_path / "chats.jsonl", rows)
    monkeypatch.setattr(
        conversations, "write_shards", lambda *a, **k: shards.write_shards(*a, **k, tokens_per_shard=100)
    )
    monkeypatch.setattr(shards, "BATCH_CHARACTERS", 100)
    whole = prepare(ours, tmp_path / "whole", path)

    class Killed(Exception):
        pass

    def killed(self):
        if self.next_document > 40:
            raise Killed
        return finish(self)

    finish = shards._SplitWriter._finish_shard
    with monkeypatch.context() as patch:
        patch.setattr(shards._SplitWriter, "_finish_shard", killed)
        with pytest.raises(Killed):
            prepare(ours, tmp_path / "killed", path)
    resumed = prepare(ours, tmp_path / "killed", path)
    assert resumed.train[0].manifest == whole.train[0].manifest
    assert resumed.train[0].manifest.set_aside == {"longer than the context of 64 tokens": 16}
    assert [r.id for r in all_records(resumed)] == [r.id for r in all_records(whole)]


def test_too_long_is_set_aside_or_cut_at_a_turn(ours, tmp_path, capsys):
    rows = [
        row("Hello", "Good day", "And?", "Well " * 60),  # cut after the first exchange
        row("Hello", "Good day" * 60),  # nothing fits
        row("Hello", "Good day", "x" * 300, "So?", "Fine.", "Yes."),  # a turn of the user is what is too long
        row("Hello", "Good day"),
    ]
    path = written(tmp_path / "chats.jsonl", rows)
    kept = prepare(ours, tmp_path / "cache", path, held_out=0)
    assert [record.id for record in all_records(kept)] == [f"{path}:4"]
    assert "3 longer than the context of 64 tokens" in capsys.readouterr().out
    cut = prepare(ours, tmp_path / "cache", path, held_out=0, too_long="cut")
    short = render(ours, [said("user", "Hello"), said("assistant", "Good day")])
    assert {record.id for record in all_records(cut)} == {f"{path}:{line}" for line in (1, 3, 4)}
    for record in all_records(cut):
        assert record.tokens.tolist() == short.tokens
        assert record.trained.tolist() == short.trained
    assert cut.train[0].manifest.set_aside == {
        "the end of one longer than the context of 64 tokens": 2,
        "longer than the context of 64 tokens": 1,
    }
    set_aside = [json.loads(line) for line in next((tmp_path / "cache").rglob("set_aside.jsonl")).open()]
    assert {each["where"] for each in set_aside} == {f"{path}:{line}" for line in (1, 2, 3)}


@given(lengths=st.lists(st.integers(1, 30), min_size=2, max_size=9), context=st.integers(3, 90))
@settings(max_examples=60, deadline=None)
def test_a_cut_is_the_longest_beginning_that_fits_and_ends_with_the_assistant(ours, lengths, context):
    turns = tuple(said(("user", "assistant")[i % 2], "word " * length) for i, length in enumerate(lengths))
    aside = types.SimpleNamespace(add=lambda *_: None)
    made = list(conversations._examples([Conversation("a", turns)], ours, context, True, aside))
    fitting = [n for n in range(2, len(turns) + 1, 2) if len(render(ours, turns[:n]).tokens) <= context + 1]
    if len(render(ours, turns).tokens) <= context + 1:
        fitting = [len(turns)]
    assert [parse(ours, each.tokens) for each in made] == ([list(turns[: fitting[-1]])] if fitting else [])


def test_only_over_long_conversations_end_in_one_clear_line(ours, tmp_path):
    path = written(tmp_path / "chats.jsonl", [row("Hello", "Good day " * 100)] * 5)
    for too_long in ("set_aside", "cut"):
        with pytest.raises(
            UserError, match="no conversation to learn from in a context of 64 tokens: set aside 5 rows"
        ) as e:
            prepare(ours, tmp_path / "cache", path, too_long=too_long)
        assert "\n" not in str(e.value)


def test_only_conversations_without_a_trained_token_end_in_one_clear_line(ours, tmp_path):
    path = written(tmp_path / "chats.jsonl", [row("Hello"), {"text": "a document"}])
    with pytest.raises(UserError, match=r"no conversation to learn from .*1 no assistant turn, 1 unknown schema"):
        prepare(ours, tmp_path / "cache", path)
    only_asks = [Conversation("a", (said("user", "Hello"),))]
    counts = Counter()
    aside = types.SimpleNamespace(add=lambda where, reason, raw: counts.update([reason]))
    assert list(conversations._examples(only_asks, ours, CONTEXT, False, aside)) == []
    assert counts == {"no assistant turn": 1}


def test_a_turn_of_1_mb_is_set_aside(ours, tmp_path):
    path = written(tmp_path / "chats.jsonl", [row("word " * 200_000, "Good day"), row("Hello", "Good day")])
    prepared = prepare(ours, tmp_path / "cache", path, held_out=0)
    assert [record.id for record in all_records(prepared)] == [f"{path}:2"]


def test_everything_held_out_is_told(ours, tmp_path, monkeypatch):
    stub_school(monkeypatch, held_out=True)
    with pytest.raises(UserError, match=r"every conversation is held out for validation: lower data.held_out"):
        prepare(ours, tmp_path / "cache", "school")


def test_parts_that_the_vocabulary_cannot_write_are_set_aside(tmp_path):
    tokenizer, _ = byte_level(tmp_path, LLAMA3)
    calling = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    rows = [{"messages": [{"role": "user", "content": "Hello"}, calling]}, row("Hello", "Good day")]
    prepared = prepare(tokenizer, tmp_path / "cache", written(tmp_path / "chats.jsonl", rows), held_out=0)
    (reason,) = prepared.train[0].manifest.set_aside
    assert reason.startswith("this vocabulary has no special tokens for tool calls")
    assert [record.id.rpartition(":")[2] for record in all_records(prepared)] == ["2"]


def stub_school(monkeypatch, held_out=None):
    """A school of few topics in place of the real one."""

    def lessons(config, topic):
        call = Turn("assistant", (ToolCall("python", {"code": topic}), ToolResult("4"), Text(f"It is {config.seed}.")))
        for i in range(5):
            yield Conversation(f"{topic}:{i}", (said("user", f"{topic} {i}?"), call), held_out)

    monkeypatch.setattr(worked_examples, "conversations", lessons)
    monkeypatch.setattr(worked_examples, "TOPICS", ("school", "names", "sums:steps"))


def test_the_school_and_its_topics(ours, tmp_path, monkeypatch):
    stub_school(monkeypatch, held_out=False)
    assert [record.id for record in all_records(prepare(ours, tmp_path, "school"))] == [f"school:{i}" for i in range(5)]
    mixed = prepare(ours, tmp_path, "school:names", "school:sums:steps", repeats=(1, 3))
    assert [len(records) for records in mixed.train] == [5, 15]
    assert Counter(record.id for record in all_records(mixed)) == {
        **{f"names:{i}": 1 for i in range(5)},
        **{f"sums:steps:{i}": 3 for i in range(5)},
    }
    record = mixed.train[0][0]
    assert ours.decode(record.tokens[~record.trained].tolist()) == "names 0?4"  # the question and the tool's result
    with pytest.raises(UserError, match="the school has no topic 'history': choose school, names, sums:steps"):
        prepare(ours, tmp_path, "school:history")


def test_packed_whole_and_every_trained_token_once_an_epoch(ours, tmp_path):
    rows = [row(*[f"turn {i} {n} " * (1 + (i + n) % 3) for n in range(2 + 2 * (i % 3))]) for i in range(50)]
    prepared = prepare(ours, tmp_path / "cache", written(tmp_path / "chats.jsonl", rows), held_out=0, too_long="cut")
    source = PackedSource(
        prepared.train, prepared.names, None, row_length=CONTEXT, batch_size=1, seed=0, packing="whole"
    )
    expected = Counter(
        label for record in all_records(prepared) for label in record.tokens[1:][record.trained[1:]].tolist()
    )
    batches = [source.next() for _ in range(source.rows_per_epoch)]
    assert Counter(label for batch in batches for label in batch["labels"][batch["loss_mask"]].tolist()) == expected
    pieces = Counter()
    for batch in batches:
        segments = batch["segment_ids"][0]
        for segment in set(segments.tolist()) - {0}:
            inside = batch["tokens"][0][segments == segment].tolist()
            assert batch["positions"][0][segments == segment].tolist() == list(range(len(inside)))
            pieces[tuple(inside)] += 1
    assert pieces == Counter(tuple(record.tokens[:-1].tolist()) for record in all_records(prepared))
    assert all(name.startswith(prepared.names[0]) for name in source.describe(batches[0]))
    assert not any((batch["loss_mask"] & (batch["segment_ids"] == 0)).any() for batch in batches)
    (one, *_) = one_pass(prepared.train, row_length=CONTEXT, batch_size=4, packing="whole")
    assert one["loss_mask"].any()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sources": ()}, "data.sources is empty"),
        ({"sources": ("a", "a")}, "names one source twice"),
        ({"sources": ("pydoc",)}, "pydoc holds documents"),
        ({"sources": ("paragraphs:x.txt",)}, "paragraphs:x.txt holds documents"),
        ({"weights": (1.0, 2.0)}, "data.weights has 2 numbers for 1"),
        ({"repeats": (1, 2)}, "data.repeats has 2 numbers for 1"),
        ({"repeats": (0,)}, "read once an epoch or more"),
        ({"held_out": 1.0}, "data.held_out=1.0"),
        ({"too_long": "split"}, "data.too_long='split': choose set_aside or cut"),
    ],
)
def test_mistakes_are_told(changes, told):
    with pytest.raises(UserError, match=told) as error:
        check_conversations(ConversationsConfig(**changes))
    assert "\n" not in str(error.value)


def test_without_a_tokenizer_one_is_trained_on_what_is_not_held_out(tmp_path, monkeypatch):
    read = []

    def spying(texts, *rest):
        read.extend(texts)
        return trained_tokenizer(iter(read), *rest)

    monkeypatch.setattr(conversations, "trained_tokenizer", spying)
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "python", "arguments": '{"code": "1"}'}}]}
    calling = [{"messages": [*each["messages"][:1], call]} for each in ROWS[:30]]
    sources = (written(tmp_path / "chats.jsonl", ROWS[30:] + calling), "documents:pydoc", "parity:10")
    prepared = prepare(None, tmp_path / "cache", *sources, held_out=0.3, vocab_size=400)
    assert prepared.tokenizer.vocab_size == 400
    trained_on = {prepared.tokenizer.decode(record.tokens) for record in all_records(prepared)}
    assert set(read) == trained_on
    assert len(read) == sum(map(len, prepared.train))
    again = prepare(None, tmp_path / "cache", *sources, held_out=0.3, vocab_size=400)
    assert again.fingerprints == prepared.fingerprints
    with pytest.raises(UserError, match=r"model.vocab_size is 100, too small"):
        prepare(None, tmp_path / "cache", *sources, vocab_size=100)


def test_a_tokenizer_is_needed_that_has_tokens_for_turns(tmp_path, ours):
    path = written(tmp_path / "chats.jsonl", ROWS[:3])
    gpt2, _ = byte_level(tmp_path, ["<|endoftext|>"])
    with pytest.raises(UserError, match="no special tokens for turns: add ours to it"):
        prepare(gpt2, tmp_path / "cache", path)
    saved = ours.save(tmp_path / "ours")
    assert prepare(gpt2, tmp_path / "cache", path, tokenizer=str(saved)).tokenizer.fingerprint == ours.fingerprint
    with pytest.raises(UserError, match="there is no file"):
        prepare(ours, tmp_path / "cache", str(Path(tmp_path) / "nowhere.jsonl"))


def test_a_task_of_the_gym_is_a_source(ours, tmp_path, monkeypatch):
    pytest.importorskip("reasoning_gym", reason='needs pip install "trivium[gym]"')
    monkeypatch.setattr(conversations, "GYM_ITEMS", 30)
    prepared = prepare(ours, tmp_path, "gym:spell_backward", context=512)
    assert (len(prepared.train[0]), len(prepared.validation[0])) == (30, gym.HELD_OUT)
    with pytest.raises(UserError, match="spell_backward"):
        prepare(ours, tmp_path, "gym:spell_forward", context=512)


def test_a_file_of_rankings_is_read_as_rankings_whatever_was_read_of_it_before(tmp_path, ours):
    """Its rows are conversations, too: what the cache holds of them is not what is best in them."""
    asked = {"prompt": "Who is there?", "response": "Nobody.", "responses": ["Somebody.", "I am."], "ranks": [1, 0]}
    path = written(tmp_path / "rankings.jsonl", [asked])
    told = []
    for source in (path, f"best:{path}"):
        (record,) = all_records(prepare(ours, tmp_path / "cache", source, held_out=0.0))
        told.append(ours.decode(record.tokens))
    assert "Nobody." in told[0]
    assert "I am." in told[1]
    assert "Nobody." not in told[1]
