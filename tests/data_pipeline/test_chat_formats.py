"""Every chat format by hand, every bad row by name, and real data where it is there."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.chat_formats import BadRow, conversation_of, read_conversations
from data_pipeline.conversation import Text, Thinking, ToolCall, ToolResult, Turn, check_order, said
from data_pipeline.set_aside import SetAside

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
HELLO = (said("user", "Hello"), said("assistant", "Good day"))


def user(text="Hello"):
    return {"role": "user", "content": text}


def assistant(text="Good day", **more):
    return {"role": "assistant", "content": text, **more}


def asks(name="add", arguments='{"a": 1}', **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def turns(row):
    return conversation_of("here:1", row).turns


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [user(), assistant()]},
        {"messages": [user([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]), assistant()]},
        {"messages": {"role": ["user", "assistant"], "content": ["Hello", "Good day"]}},  # as TFDS stores it
        {"messages": [user(), assistant(), user("unanswered")]},
        {"messages": [{"role": "system", "content": " "}, user(), assistant()]},
        {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day"}]},
        {"conversation": [{"role": "user", "value": "Hello"}, {"from": "assistant", "content": "Good day"}]},
        {"instruction": "Hello", "input": "", "output": "Good day"},
        {"instruction": "Hello", "output": "Good day", "rejected": "Go away"},
        {"prompt": "Hello", "response": "Good day"},
        {"question": "Hello", "answer": "Good day"},
        {"prompt": "Hello", "completion": "Good day"},
        {
            "prompt": {
                "role": "prompter",
                "text": "Hello",
                "replies": [
                    {"role": "assistant", "text": "What?", "rank": 1, "replies": []},
                    {"role": "assistant", "text": "Good day", "rank": 0, "replies": []},
                    {"role": "assistant", "text": "(deleted)", "rank": None, "deleted": True},
                ],
            }
        },
    ],
)  # fmt: skip
def test_one_exchange_in_every_format(row):
    assert turns(row) == HELLO
    assert conversation_of("here:1", row).id == "here:1"
    assert conversation_of("here:1", row | {"id": 7}).id == "7"
    assert conversation_of("here:1", row).held_out is None


def test_a_system_message_and_several_turns():
    longer = (said("system", "Be brief."), *HELLO, said("user", "And?"), said("assistant", "Well"))
    openai = [{"role": "developer", "content": "Be brief."}, user(), assistant(), user("And?"), assistant("Well")]
    assert turns({"messages": openai}) == longer
    sharegpt = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hello"}]
    sharegpt += [
        {"from": "gpt", "value": "Good day"},
        {"from": "user", "value": "And?"},
        {"from": "bot", "value": "Well"},
    ]
    assert turns({"conversations": sharegpt}) == longer
    assert turns({"system": "Be brief.", "conversations": sharegpt[1:]}) == longer
    assert turns({"instruction": "Sum up", "input": "A text", "output": "Short"}) == (
        said("user", "Sum up\n\nA text"),
        said("assistant", "Short"),
    )


def test_thinking_and_calls_of_openai_messages():
    """Two calls at once, answered in the other order: each result comes right after its call."""
    row = {
        "messages": [
            user(),
            assistant(None, reasoning_content="hm", tool_calls=[asks(id="x"), asks("sub", {"b": 2}, id="y")]),
            {"role": "tool", "tool_call_id": "y", "content": "minus"},
            {"role": "tool", "tool_call_id": "x", "content": ""},
            assistant("One more.", tool_calls=[asks()]),
            {"role": "tool", "content": "3"},
            assistant(),
        ]
    }
    add = ToolCall("add", {"a": 1})
    parts = (Thinking("hm"), add, ToolResult(""), ToolCall("sub", {"b": 2}), ToolResult("minus"), Text("One more."))
    assert turns(row) == (said("user", "Hello"), Turn("assistant", (*parts, add, ToolResult("3"), Text("Good day"))))


def test_calls_of_sharegpt_and_of_older_openai_messages():
    whole = (
        said("user", "Hello"),
        Turn("assistant", (ToolCall("add", {"a": 1}), ToolResult("3"), Text("Good day"))),
    )
    sharegpt = [
        {"from": "human", "value": "Hello"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "Good day"},
    ]
    older = [
        user(),
        assistant(None, function_call={"name": "add", "arguments": '{"a": 1}'}),
        {"role": "function", "name": "add", "content": "3"},
        assistant(),
    ]
    assert turns({"conversations": sharegpt}) == turns({"messages": older}) == whole
    # A call that ends the conversation may be all that it teaches.
    assert turns({"conversations": sharegpt[:2]})[-1].parts == (ToolCall("add", {"a": 1}),)


CALLING = assistant(None, tool_calls=[asks(id="x")])
ANSWERED = {"role": "tool", "tool_call_id": "x", "content": "3"}


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("unknown schema", {"text": "a document"}),
        ("unknown schema", {}),
        ("unknown schema", {"prompt": "Hello"}),
        ("unknown schema", {"prompt": ["Hello"], "response": "Good day"}),
        ("unknown role", {"messages": [user(), {"role": "robot", "content": "beep"}]}),
        ("unknown role", {"messages": [user(), {"content": "Good day"}]}),
        ("unknown role", {"messages": [user(), {"role": ["user"], "content": "Good day"}]}),
        ("empty turn", {"messages": [user(" \n"), assistant()]}),
        ("empty turn", {"messages": [user(), assistant("")]}),
        ("empty turn", {"messages": [user(), assistant(None, reasoning_content="hm")]}),
        ("empty turn", {"instruction": "", "output": "Good day"}),
        ("assistant first", {"messages": [assistant(), user(), assistant()]}),
        ("assistant first", {"messages": [{"role": "system", "content": "Be brief."}, assistant()]}),
        ("two users in a row", {"messages": [user(), user(), assistant()]}),
        ("two assistants in a row", {"messages": [user(), assistant(), assistant()]}),
        ("system message in the middle", {"messages": [user(), {"role": "system", "content": "x"}, assistant()]}),
        ("tool result without a call", {"messages": [user(), ANSWERED, assistant()]}),
        ("tool result without a call", {"messages": [user(), assistant(), ANSWERED]}),
        ("tool result without a call", {"messages": [user(), CALLING, ANSWERED, ANSWERED, assistant()]}),
        ("tool result without a call", {"messages": [user(), CALLING, ANSWERED | {"tool_call_id": "z"}, assistant()]}),
        ("tool result without an answer after it", {"messages": [user(), CALLING, ANSWERED]}),
        ("tool call without a result", {"messages": [user(), CALLING, assistant()]}),
        ("tool call without a result", {"messages": [user(), assistant(None, tool_calls=[asks(), asks()])]}),
        ("tool call without a name", {"messages": [user(), assistant(None, tool_calls=[asks("")])]}),
        ("tool call without a name", {"messages": [user(), assistant(None, tool_calls=["add"])]}),
        *(
            (
                "call arguments that are not a JSON object",
                {"messages": [user(), assistant(None, tool_calls=[asks(arguments=bad)])]},
            )
            for bad in ("{", "[1]", "3", None, "", [1], '{"a": NaN}', "[" * 100_000)
        ),
        ("call arguments that are not a JSON object", {"conversations": [
            {"from": "human", "value": "Hello"}, {"from": "function_call", "value": "add(1)"}]}),
        ("no assistant turn", {"messages": []}),
        ("no assistant turn", {"messages": [user()]}),
        ("no assistant turn", {"messages": [{"role": "system", "content": "Be brief."}]}),
        ("content that is not text", {"messages": [user({"a": 1}), assistant()]}),
        ("content that is not text", {"messages": [user([{"type": "image_url", "image_url": "x"}]), assistant()]}),
        ("content that is not text", {"instruction": "Hello", "output": 3}),
        ("something else where the list of messages should be", {"messages": "Hello"}),
        ("something else where the list of messages should be", {"conversations": ["Hello", "Good day"]}),
        ("text with half a surrogate pair", {"messages": [user("\ud800"), assistant()]}),
    ],
)  # fmt: skip
def test_bad_rows_by_name(reason, row):
    with pytest.raises(BadRow) as error:
        conversation_of("here:1", row)
    assert str(error.value) == reason


def test_a_file_of_mixed_rows(tmp_path):
    good = [
        {"messages": [user(), assistant()]},
        {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day"}]},
        {"instruction": "Hello", "output": "Good day"},
        {"prompt": "Hello", "response": "Good day"},
        {"messages": [user("x" * 1_000_000), assistant()]},  # a turn of 1 MB
    ]
    bad = [
        '{"messages": [',
        "[1, 2]",
        '"text"',
        '{"messages": [{"role": "robot", "content": "beep"}]}',
        '{"text": "x"}',
    ]
    lines = [line for pair in zip(map(json.dumps, good), bad, strict=True) for line in pair]
    contents = "\n".join(lines).encode()
    for name, stored in (
        ("chats.jsonl", contents),
        ("chats.jsonl.gz", gzip.compress(contents)),
        ("chats.jsonl.zst", zstandard.compress(contents)),
    ):
        (tmp_path / name).write_bytes(stored)
        set_aside = SetAside(tmp_path / "set_aside.jsonl")
        found = list(read_conversations(str(tmp_path / name), set_aside))
        assert [each.turns for each in found[:4]] == [HELLO] * 4
        assert [each.id for each in found] == [f"{tmp_path / name}:{line}" for line in (1, 3, 5, 7, 9)]
        assert len(found[4].turns[0].text) == 1_000_000
        assert dict(set_aside.counts) == {
            "JSON that does not parse": 1,
            "JSON that is not an object": 2,
            "unknown role": 1,
            "unknown schema": 1,
        }
        kept = [json.loads(line) for line in set_aside.path.read_text().splitlines()]
        assert [row["where"] for row in kept] == [f"{tmp_path / name}:{line}" for line in (2, 4, 6, 8, 10)]
        assert json.loads(kept[3]["raw"]) == json.loads(bad[3])


def test_a_json_file_of_a_list(tmp_path):
    (tmp_path / "chats.json").write_text(json.dumps([{"prompt": "Hello", "response": "Good day"}] * 2, indent=1))
    found = list(read_conversations(str(tmp_path / "chats.json"), SetAside(tmp_path / "aside")))
    assert [each.turns for each in found] == [HELLO] * 2


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "user", "assistant", "tool", "{}", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "from",
                    "value",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "replies",
                    "text",
                    "type",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KEYS = ["messages", "conversations", "prompt", "response", "instruction", "input", "output", "system", "id"]


@given(row=st.dictionaries(st.sampled_from(KEYS), values, max_size=4))
@settings(max_examples=500, deadline=None)
def test_any_row_is_a_conversation_or_a_bad_row(row):
    try:
        made = conversation_of("here", row)
    except BadRow:
        return
    check_order(made.turns)
    assert made.turns[-1].role == "assistant"


def shared(path):
    if not (DATA / path).exists():
        pytest.skip(f"needs {path} in {DATA}, which holds real conversations for tests")
    return str(DATA / path)


def test_openassistant_trees(tmp_path):
    set_aside = SetAside(tmp_path / "aside")
    found = list(read_conversations(shared("oasst_sample/en_100_tree.jsonl.gz"), set_aside))
    assert len(found) + set_aside.counts.total() == 100
    assert set(set_aside.counts) <= {"no assistant turn"}
    assert len(found) > 80
    for each in found:
        check_order(each.turns)
    assert max(len(each.turns) for each in found) >= 4


def test_rasbt_s_instructions(tmp_path):
    set_aside = SetAside(tmp_path / "aside")
    path = shared("rasbt_instruct/instruction-data.json")
    rows = json.loads(Path(path).read_text())
    found = list(read_conversations(path, set_aside))
    assert not set_aside.counts
    assert [each.turns[1].text for each in found] == [row["output"] for row in rows]
    assert all(row["input"] in each.turns[0].text for each, row in zip(found, rows, strict=True))
