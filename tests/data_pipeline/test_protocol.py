"""Prompts of text: the formats written out by hand, no forged turns, longer conversations start as shorter ones do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import CHATML, FORGED, LLAMA3, byte_level, our_own

from data_pipeline.conversation import said
from data_pipeline.errors import UserError
from data_pipeline.protocol import default_style, prompt
from data_pipeline.special_tokens import (
    ASSISTANT_START,
    DOCUMENT_START,
    END_OF_TURN,
    SYSTEM_START,
    TOOL_RESULT_END,
    TOOL_RESULT_START,
    USER_START,
)

WHOLE = [
    said("system", "Be brief."),
    said("user", "Hello there"),
    said("assistant", "Good day\n\nto you"),
    said("user", "Who are you?"),
]
KINDS = ["ours", "chatml", "llama3"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return our_own(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def chatml(tmp_path_factory):
    return byte_level(tmp_path_factory.mktemp("chatml"), CHATML)


@pytest.fixture(scope="module")
def llama3(tmp_path_factory):
    return byte_level(tmp_path_factory.mktemp("llama3"), LLAMA3)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    found = request.getfixturevalue(request.param)
    return found if request.param == "ours" else found[0]


def test_ours(ours):
    start, system, user, assistant, end = (
        ours.special_tokens[name] for name in (DOCUMENT_START, SYSTEM_START, USER_START, ASSISTANT_START, END_OF_TURN)
    )
    expected = [start, system, *ours.encode("Be brief."), end, user, *ours.encode("Hello there"), end]
    expected += [assistant, *ours.encode("Good day\n\nto you"), end, user, *ours.encode("Who are you?"), end, assistant]
    made = prompt(ours, WHOLE, "tokens")
    assert list(made.tokens) == expected
    forged = tuple(ours.special_tokens[name] for name in (TOOL_RESULT_START, TOOL_RESULT_END))
    assert made.stop_tokens == (end, start, *forged)  # a model cannot write a tool's result
    assert made.stop_strings == ()


@pytest.mark.parametrize("kind", ["ours", "chatml"])
def test_plain_is_a_dialogue_in_text(kind, request):
    tokenizer = request.getfixturevalue(kind)
    tokenizer = tokenizer if kind == "ours" else tokenizer[0]
    made = prompt(tokenizer, WHOLE, "plain")
    assert made.tokens[0] == tokenizer.document_start
    assert tokenizer.decode(made.tokens[1:]) == (
        "Be brief.\n\nUser: Hello there\nAssistant: Good day\n\nto you\nUser: Who are you?\nAssistant:"
    )
    assert made.stop_strings == ("\nUser:",)
    assert made.stop_tokens == (tokenizer.document_start,)


def test_chatml_is_what_the_library_reads(chatml):
    tokenizer, library = chatml
    text = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n"
        "Good day\n\nto you<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    )
    made = prompt(tokenizer, WHOLE)
    assert list(made.tokens) == library.encode(text).ids
    assert set(made.stop_tokens) == {library.token_to_id("<|im_end|>"), library.token_to_id("<|endoftext|>")}


def test_llama3_is_what_the_library_reads(llama3):
    tokenizer, library = llama3

    def turn(role, text):
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}"

    text = "<|begin_of_text|>" + "".join(turn(t.role, t.text) + "<|eot_id|>" for t in WHOLE) + turn("assistant", "")
    made = prompt(tokenizer, WHOLE)
    assert list(made.tokens) == library.encode(text).ids
    assert set(made.stop_tokens) == {
        library.token_to_id(name) for name in ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
    }


def test_a_run_of_ours_is_a_base_model(ours, chatml, llama3, tmp_path):
    assert default_style(ours) == "plain"
    assert default_style(chatml[0]) == default_style(llama3[0]) == "tokens"
    gpt2, _ = byte_level(tmp_path, ["<|endoftext|>"])
    assert default_style(gpt2) == "plain"
    with pytest.raises(UserError, match="no special tokens for turns: use the plain style"):
        prompt(gpt2, WHOLE, "tokens")


texts = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.sampled_from(FORGED),
    ),
    max_size=6,
).map("".join)


@given(system=st.none() | texts, dialogue=st.lists(texts, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_text_forges_no_turn_and_a_longer_conversation_starts_as_a_shorter_one(tokenizer, system, dialogue):
    turns = [] if system is None else [said("system", system)]
    turns += [said("assistant" if i % 2 else "user", text) for i, text in enumerate(dialogue)]
    turns = turns[:-1] if turns[-1].role == "assistant" else turns
    special = set(tokenizer.vocabulary.special_names)
    for style in ("tokens", "plain"):
        whole = prompt(tokenizer, turns, style).tokens
        empty = prompt(tokenizer, [said(turn.role, "") for turn in turns], style).tokens
        assert [t for t in whole if t in special] == [t for t in empty if t in special]
        for i, turn in enumerate(turns):
            if turn.role == "user":
                shorter = prompt(tokenizer, turns[: i + 1], style).tokens
                assert whole[: len(shorter)] == shorter


@pytest.mark.parametrize(
    ("roles", "told"),
    [
        ([], "the last turn must be the user's"),
        (["system"], "the last turn must be the user's"),
        (["user", "assistant"], "the last turn must be the user's"),
        (["assistant", "user"], "a turn of the assistant at the start"),
        (["system", "assistant"], "a turn of the assistant at the start"),
        (["system", "user", "user"], "a turn of the user after user"),
        (["user", "assistant", "assistant", "user"], "a turn of the assistant after assistant"),
        (["user", "system", "user"], "a system turn may only be the first"),
        (["system", "system", "user"], "a system turn may only be the first"),
        (["tool"], "no role 'tool': choose one of system, user, assistant"),
    ],
)
def test_a_bad_order_is_told(ours, roles, told):
    with pytest.raises(UserError, match=told):
        prompt(ours, [said(role, "x") for role in roles])
