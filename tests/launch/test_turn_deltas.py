"""A turn read while it is written is the turn as the protocol reads it whole, however its tokens come."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.conversation import BrokenCall, Text, Thinking, ToolCall, ToolResult
from data_pipeline.protocol import parse_parts, tool_result
from data_pipeline.special_tokens import END_OF_TURN, SPECIAL_TOKENS
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer
from launch.server.turn_deltas import TurnDeltas, joined
from lm.inference.requests import Written


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer(["python\n{} search the city of a small model\n" * 20], 300, path)
    return load_tokenizer(path)


def written(tokens, drawn=True):
    return Written(list(tokens), drawn=[drawn] * len(tokens))


def read(tokenizer, news, **more):
    deltas = TurnDeltas(tokenizer, marked=True, **more)
    parts = []
    for number, new in enumerate(news, 1):
        parts += deltas.feed(new, ended=number == len(news))
    return joined(parts)


# Only tools write results: the engine ends a turn in which the model begins one.
MARKS = [name for name in SPECIAL_TOKENS if "tool_result" not in name]
stretches = st.one_of(
    st.sampled_from(MARKS), st.sampled_from(["python\n{}", "a\n{", "the city", "☃", "\n\n", " "]), st.binary(max_size=2)
)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), pieces=st.lists(st.tuples(st.booleans(), stretches), max_size=12))
def test_however_it_comes_it_is_what_the_protocol_reads(tokenizer, data, pieces):
    """Any tokens, half characters too, cut anywhere; some of them a tool's."""
    special = tokenizer.special_tokens
    whole, news = [], []
    for of_tool, piece in pieces:
        if of_tool:
            # A tool answers a call that is whole; a result in the middle of a part cannot be.
            if news and news[-1].tokens[-1:] == [special["<|tool_call_end|>"]]:
                news.append(written(tool_result(tokenizer, "the city"), drawn=False))
                whole += news[-1].tokens
            continue
        if isinstance(piece, bytes):
            tokens = [token for token in range(len(special) + 1, 269) if tokenizer.token_bytes(token) in (piece,)]
        else:
            tokens = [special[piece]] if piece in special else tokenizer.encode(piece)
        cut = data.draw(st.integers(0, len(tokens)))
        news += [written(tokens[:cut]), written(tokens[cut:])]
        whole += tokens
    end = [special[END_OF_TURN]]
    # What comes after the end of a turn is never written.
    stop = next((i for i, new in enumerate(news) if end[0] in new.tokens), len(news))
    news = [*news[:stop], written(end)]
    whole = [token for new in news for token in new.tokens]
    assert read(tokenizer, news) == parse_parts(tokenizer, whole)


def test_each_part_is_told_as_soon_as_it_is_whole(tokenizer):
    special = tokenizer.special_tokens
    start, end = special["<|tool_call_start|>"], special["<|tool_call_end|>"]
    deltas = TurnDeltas(tokenizer, marked=True)
    assert deltas.feed(written(tokenizer.encode("a city"))) == [Text("a city")]
    assert deltas.feed(written([start, *tokenizer.encode("python\n{")])) == []
    assert deltas.feed(written([*tokenizer.encode("}"), end])) == [ToolCall("python", {})]
    assert deltas.feed(written(tool_result(tokenizer, "1"), drawn=False)) == [ToolResult("1")]
    assert deltas.feed(written([special["<|thinking_start|>"], *tokenizer.encode("so")])) == []
    closed = [special["<|thinking_end|>"], *tokenizer.encode("it is"), start, *tokenizer.encode("py")]
    assert deltas.feed(written(closed)) == [Thinking("so"), Text("it is")]
    (broken,) = deltas.feed(written([special[END_OF_TURN]]), ended=True)
    assert broken == BrokenCall("py", "the call was not finished")


def test_a_result_that_the_model_writes_is_none(tokenizer):
    special = tokenizer.special_tokens
    forged = [special["<|tool_result_start|>"]]
    assert read(tokenizer, [written(tokenizer.encode("a")), written(forged)]) == (Text("a"),)


def test_without_marks_it_is_all_text(tokenizer):
    deltas = TurnDeltas(tokenizer, ("\nUser:",), strip_start=True)
    assert deltas.feed(written(tokenizer.encode(" a city\nUs"))) == [Text("a city")]
    assert deltas.feed(written(tokenizer.encode("er:")), ended=True, by_string=True) == []
