"""Thinking, calls and results in tokens: against a slow renderer by the rules, there and back, and what models get wrong."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import CHATML, FORGED, LLAMA3, QWEN, byte_level, our_own

from data_pipeline.conversation import BrokenCall, Text, Thinking, ToolCall, ToolResult, Turn, said
from data_pipeline.errors import UserError
from data_pipeline.protocol import parse, parse_parts, prompt, render
from data_pipeline.special_tokens import SPECIAL_TOKENS

CALL = ToolCall("python", {"code": "2 + 2", "é": [1, None, 1.5]})
WHOLE = [
    said("system", "Be brief."),
    said("user", "2 + 2?"),
    Turn("assistant", (Thinking("hm"), Text("Let me see. "), CALL, ToolResult("4"), Text("It is 4."))),
    said("user", "Sure?"),
    said("assistant", "Yes."),
]
BASIC = Turn("assistant", (Text("a"),))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return our_own(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return byte_level(tmp_path_factory.mktemp("qwen"), QWEN)


@pytest.fixture(scope="module", params=["ours", "qwen"])
def tokenizer(request):
    found = request.getfixturevalue(request.param)
    return found if request.param == "ours" else found[0]


def by_the_rules(tokenizer, turns):
    """(token, trained) one by one, as the protocol is written down: special tokens by name, texts one at a time."""
    made = []

    def mark(name, trained):
        made.append((tokenizer.special_tokens[f"<|{name}|>"], trained))

    def text(words, trained):
        made.extend((token, trained) for token in tokenizer.encode(words))

    mark("document_start", False)
    for turn in turns:
        mark(f"{turn.role}_start", False)
        for part in turn.parts:
            if isinstance(part, Text):
                text(part.text, turn.role == "assistant")
            if isinstance(part, Thinking):
                mark("thinking_start", True)
                text(part.text, True)
                mark("thinking_end", True)
            if isinstance(part, ToolCall):
                mark("tool_call_start", True)
                text(part.name + "\n" + json.dumps(part.arguments, ensure_ascii=False), True)
                mark("tool_call_end", True)
            if isinstance(part, ToolResult):
                mark("tool_result_start", False)
                text(part.text, False)
                mark("tool_result_end", False)
        mark("end_of_turn", turn.role == "assistant")
    return made


words = st.lists(st.one_of(st.text(max_size=5), st.sampled_from(FORGED)), max_size=5).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
calls = st.builds(ToolCall, words.map(lambda name: name.replace("\n", "") or "f"), st.dictionaries(words, values))
answers = st.lists(
    st.one_of(
        st.builds(Text, words.filter(bool)).map(lambda part: [part]),
        st.builds(Thinking, words).map(lambda part: [part]),
        st.tuples(calls, st.builds(ToolResult, words)).map(list),
        calls.map(lambda part: [part]),
    ),
    max_size=5,
).map(
    # Neighbouring texts come back as one: here there are none.
    lambda groups: tuple(next(same) for _, same in itertools.groupby(itertools.chain(*groups), by_kind))
)


def by_kind(part):
    return Text if isinstance(part, Text) else part


@st.composite
def conversations(draw):
    turns = [said("system", draw(words))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3))):
        turns += [said("user", draw(words)), Turn("assistant", draw(answers))]
    return turns + ([said("user", draw(words))] if draw(st.booleans()) else [])


@given(turns=conversations())
@settings(max_examples=150, deadline=None)
def test_rendered_by_the_rules_and_read_back(ours, turns):
    rendered = render(ours, turns)
    assert list(zip(rendered.tokens, rendered.trained, strict=True)) == by_the_rules(ours, turns)
    assert rendered.turn_ends == [len(render(ours, turns[: n + 1]).tokens) for n in range(len(turns))]
    if turns:
        assert parse(ours, rendered.tokens) == turns


@given(turns=conversations())
@settings(max_examples=60, deadline=None)
def test_no_text_becomes_a_special_token(ours, turns):
    """The special tokens of a conversation are those of its structure, whatever its words are."""
    names = []
    for turn in turns:
        names += [f"{turn.role}_start"]
        for part in turn.parts:
            kind = {Thinking: "thinking", ToolCall: "tool_call", ToolResult: "tool_result"}.get(type(part))
            names += [f"{kind}_start", f"{kind}_end"] if kind else []
        names += ["end_of_turn"]
    special = ours.vocabulary.special_names
    found = [special[token] for token in render(ours, turns).tokens if token in special]
    assert found == ["<|document_start|>", *(f"<|{name}|>" for name in names)]


@given(turns=conversations())
@settings(max_examples=80, deadline=None)
def test_a_prompt_ends_where_the_assistant_begins_and_a_longer_conversation_starts_as_a_shorter_one(tokenizer, turns):
    whole = render(tokenizer, turns)
    for n, turn in enumerate(turns):
        shorter = render(tokenizer, turns[:n])
        assert whole.tokens[: len(shorter.tokens)] == shorter.tokens
        assert whole.trained[: len(shorter.tokens)] == shorter.trained
        if turn.role != "assistant":
            continue
        asked = list(prompt(tokenizer, turns[:n], "tokens").tokens)
        assert whole.tokens[: len(asked)] == asked
        assert not any(whole.trained[len(shorter.tokens) : len(asked)])
        assert whole.trained[len(asked)], "the assistant's first token is trained"
        for stop, part in enumerate(turn.parts, start=1):
            if isinstance(part, ToolResult):  # the assistant goes on with the turn
                asked = list(prompt(tokenizer, [*turns[:n], Turn("assistant", turn.parts[:stop])], "tokens").tokens)
                assert whole.tokens[: len(asked)] == asked
                assert not whole.trained[len(asked) - 1]
                assert whole.trained[len(asked)]


def test_the_end_of_turn_is_trained_where_the_assistant_ends_it(ours):
    rendered = render(ours, WHOLE)
    ends = [i for i, token in enumerate(rendered.tokens) if ours.piece(token) == "<|end_of_turn|>"]
    assert [rendered.trained[i] for i in ends] == [False, False, True, False, True]


def test_a_tool_result_is_not_trained_and_what_stands_around_it_is(ours):
    rendered = render(ours, WHOLE)
    pieces = [ours.piece(token) for token in rendered.tokens]
    start, stop = pieces.index("<|tool_result_start|>"), pieces.index("<|tool_result_end|>")
    assert not any(rendered.trained[start : stop + 1])
    assert pieces[start - 1] == "<|tool_call_end|>"
    assert rendered.trained[start - 1]
    assert rendered.trained[stop + 1]


def test_qwen_is_what_the_library_reads(qwen):
    tokenizer, library = qwen
    call = '<tool_call>\n{"name": "python", "arguments": {"code": "2 + 2", "é": [1, null, 1.5]}}\n</tool_call>'
    text = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
        f"<think>\nhm\n</think>\n\nLet me see. {call}<|im_end|>\n<|im_start|>user\n<tool_response>\n4\n</tool_response>"
        "<|im_end|>\n<|im_start|>assistant\nIt is 4.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n"
    )
    rendered = render(tokenizer, WHOLE)
    assert rendered.tokens == library.encode(text).ids
    wrote = f"<think>\nhm\n</think>\n\nLet me see. {call}<|im_end|>It is 4.<|im_end|>Yes.<|im_end|>"
    assert list(itertools.compress(rendered.tokens, rendered.trained)) == library.encode(wrote).ids


@given(parts=answers)
@settings(max_examples=80, deadline=None)
def test_what_a_qwen_wrote_is_read_back(qwen, parts):
    tokenizer, _ = qwen
    turns = [said("user", "x"), Turn("assistant", parts)]
    written = render(tokenizer, turns).tokens[len(prompt(tokenizer, turns[:1]).tokens) :]
    assert parse_parts(tokenizer, written) == parts


def test_parts_without_marks_are_told(tmp_path):
    for special, turns in ((LLAMA3, WHOLE), (CHATML, WHOLE)):
        tokenizer, _ = byte_level(tmp_path, special)
        with pytest.raises(UserError, match="no special tokens for thinking: leave them out, or add ours"):
            render(tokenizer, turns)
        with pytest.raises(UserError, match="no special tokens for tool calls"):
            render(tokenizer, [said("user", "x"), Turn("assistant", (CALL,))])
        render(tokenizer, [said("user", "x"), BASIC])
        with pytest.raises(UserError, match="only conversations in a vocabulary of ours"):
            parse(tokenizer, [0])
    gpt2, _ = byte_level(tmp_path, ["<|endoftext|>"])
    with pytest.raises(UserError, match="no special tokens for turns"):
        render(gpt2, WHOLE)


def tokens_of(tokenizer, written):
    """The tokens of a model's words, in which <|NAME|> stands for that special token."""
    ids = []
    for piece in filter(None, itertools.chain.from_iterable(split_marks(written))):
        ids += [tokenizer.special_tokens[piece]] if piece in SPECIAL_TOKENS else tokenizer.encode(piece)
    return ids


def split_marks(text):
    while found := min((name for name in SPECIAL_TOKENS if name in text), key=text.index, default=None):
        before, _, text = text.partition(found)
        yield before, found
    yield (text,)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("", ()),
        ("half an ans", (Text("half an ans"),)),
        ("<|thinking_start|>hm", (Thinking("hm"),)),
        ("<|thinking_start|>hm<|end_of_turn|>not read", (Thinking("hm"),)),
        ("<|thinking_start|>hm<|tool_call_start|>f\n{}<|tool_call_end|>", (Thinking("hm"), ToolCall("f", {}))),
        ("<|thinking_start|>a<|thinking_start|>b<|thinking_end|>c", (Thinking("a"), Thinking("b"), Text("c"))),
        ("a<|thinking_end|>b", (Text("ab"),)),
        ("a<|tool_result_end|><|user_start|>b", (Text("ab"),)),
        ('<|tool_call_start|>f\n{"a": 1', (BrokenCall('f\n{"a": 1', "the call was not finished"),)),
        ("<|tool_call_start|>f\n{}<|end_of_turn|>", (BrokenCall("f\n{}", "the call was not finished"),)),
        ('<|tool_call_start|>f\n{"a" 1}<|tool_call_end|>', "the arguments are not JSON: Expecting ':'"),
        ("<|tool_call_start|>f<|tool_call_end|>", "the arguments are not JSON"),
        ("<|tool_call_start|>f\n[1]<|tool_call_end|>", "the arguments of f are no JSON object"),
        ("<|tool_call_start|>\n{}<|tool_call_end|>", "the tool's name is ''"),
        ('<|tool_call_start|>f\n{"a": NaN}<|tool_call_end|>', "the arguments of f are not JSON"),
        ('<|tool_call_start|>f\n{"a": 1e999}<|tool_call_end|>', "the arguments of f are not JSON"),
        ('<|tool_call_start|>f\n{"a": "\\ud800"}<|tool_call_end|>', "the arguments of f are not JSON"),
        (f"<|tool_call_start|>f\n{'[' * 100_000}<|tool_call_end|>", "the arguments are not JSON"),
    ],
)
def test_what_a_model_may_get_wrong(ours, written, parts):
    found = parse_parts(ours, tokens_of(ours, written))
    if isinstance(parts, str):
        (broken,) = found
        assert isinstance(broken, BrokenCall)
        assert broken.problem.startswith(parts)
        assert "\n" not in broken.problem
        # It can stand in a prompt, as it was written, with the tool's complaint after it.
        again = prompt(ours, [said("user", "x"), Turn("assistant", (broken, ToolResult(broken.problem)))], "tokens")
        assert parse(ours, again.tokens)[-1].parts == (broken, ToolResult(broken.problem))
    else:
        assert found == parts


@given(tokens=st.lists(st.integers(0, 599), max_size=30))
@settings(max_examples=150, deadline=None)
def test_whatever_a_model_writes_is_read(ours, tokens):
    parts = parse_parts(ours, tokens)
    # What was read can be written and read again, without another loss.
    calls = [part for part in parts if isinstance(part, BrokenCall)]
    if not calls and all(not isinstance(part, ToolResult) for part in parts):
        turns = [said("user", "x"), Turn("assistant", parts)]
        assert parse(ours, render(ours, turns).tokens) == turns


def test_a_tool_s_tokens_in_what_the_engine_gives_are_a_result(ours):
    turns = WHOLE[:3]
    whole, asked = render(ours, turns).tokens, prompt(ours, turns[:2], "tokens").tokens
    assert parse_parts(ours, whole[len(asked) :]) == turns[2].parts
    assert parse(ours, whole[:-1]) == turns  # unfinished: without its end of turn
    assert parse(ours, asked) == [*turns[:2], Turn("assistant", ())]


@pytest.mark.parametrize("tokens", [[], [5], "a document", "no turn"])
def test_what_is_no_conversation_is_told(ours, tokens):
    if tokens == "a document":
        tokens = [ours.document_start, *ours.encode("hello")]
    if tokens == "no turn":
        tokens = [ours.document_start]
    with pytest.raises(UserError, match="these tokens are no conversation"):
        parse(ours, tokens)


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([Turn("user", (Text("x"), CALL))], "a turn of the user must be one text"),
        ([Turn("user", ())], "a turn of the user must be one text"),
        ([said("user", "x"), Turn("assistant", (ToolResult("4"),))], "a tool result without a call"),
        ([said("user", "x"), Turn("assistant", (CALL, Text("so"), ToolResult("4")))], "a tool result without a call"),
        ([said("user", "x"), Turn("assistant", (ToolCall("a\nb", {}),))], "the tool's name is 'a.nb'"),
        ([said("user", "x"), Turn("assistant", (ToolCall("", {}),))], "the tool's name is ''"),
        ([said("user", "x"), Turn("assistant", (ToolCall("f", [1]),))], "the arguments of f are no JSON object"),
        ([said("user", "x"), Turn("assistant", (ToolCall("f", {"a": float("nan")}),))], "are not JSON"),
        ([said("user", "x"), Turn("assistant", (ToolCall("f", {"a": {1, 2}}),))], "are not JSON"),
        ([said("user", "half \ud800")], "not valid Unicode"),
        ([said("user", "x"), said("user", "y")], "a turn of the user after user"),
    ],
)
def test_what_cannot_be_written_is_told(ours, turns, told):
    with pytest.raises(UserError, match=told) as error:
        render(ours, turns)
    assert "\n" not in str(error.value)


def test_the_plain_style_has_no_parts(ours):
    with pytest.raises(UserError, match="no way to write thinking and tool calls"):
        prompt(ours, WHOLE[:4], "plain")
    with pytest.raises(UserError, match="the last turn must be the user's"):
        prompt(ours, WHOLE, "tokens")
