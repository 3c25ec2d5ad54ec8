"""Turns written as messages are read back as the same turns, or are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.chat_formats import conversation_of
from data_pipeline.chat_messages import messages_of
from data_pipeline.conversation import BrokenCall, Text, Thinking, ToolCall, ToolResult, Turn, said

WORDS = st.text("ab \n=é<|", min_size=1, max_size=8).filter(str.strip)
CALLS = st.builds(ToolCall, st.sampled_from(["python", "search"]), st.dictionaries(WORDS, WORDS | st.integers()))
# What an assistant writes up to a call and its result, any number of times, and then its answer.
ROUND = st.tuples(st.lists(WORDS.map(Thinking), max_size=1), st.lists(WORDS.map(Text), max_size=1), CALLS, WORDS)
ANSWER = st.tuples(st.lists(WORDS.map(Thinking), max_size=1), WORDS.map(Text))
ASSISTANT = st.tuples(st.lists(ROUND, max_size=3), ANSWER).map(
    lambda drawn: Turn(
        "assistant",
        (
            *(part for t, s, call, result in drawn[0] for part in (*t, *s, call, ToolResult(result))),
            *drawn[1][0],
            drawn[1][1],
        ),
    )
)


@given(st.lists(WORDS, max_size=1), st.lists(st.tuples(WORDS, ASSISTANT), min_size=1, max_size=3))
def test_what_is_written_is_read_back(system, exchanges):
    turns = [said("system", text) for text in system]
    turns += [turn for text, answer in exchanges for turn in (said("user", text), answer)]
    assert conversation_of("", {"messages": messages_of(turns)}).turns == tuple(turns)


def test_it_is_openai_s_form():
    call, text = ToolCall("python", {"code": "1 + 1"}), Text("It is 2.")
    assert messages_of([said("user", "1 + 1?"), Turn("assistant", (Thinking("Hm."), call, ToolResult("2"), text))]) == [
        {"role": "user", "content": "1 + 1?"},
        {
            "role": "assistant",
            "reasoning_content": "Hm.",
            "tool_calls": [{"type": "function", "function": {"name": "python", "arguments": '{"code": "1 + 1"}'}}],
        },
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "It is 2."},
    ]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((Text("a"), Thinking("b")), "parts in an order that messages do not have"),
        ((ToolCall("f", {}), Text("a")), "parts in an order"),
        ((BrokenCall("f", "no JSON"), ToolResult("error"), Text("a")), "a call that cannot be read"),
        ((ToolCall("f", {}), ToolResult("a")), "empty turn"),
        ((Text(" "),), "empty turn"),
    ],
)
def test_what_would_be_read_otherwise_is_refused(parts, reason):
    with pytest.raises(ValueError, match=reason):
        messages_of([said("user", "?"), Turn("assistant", parts)])
