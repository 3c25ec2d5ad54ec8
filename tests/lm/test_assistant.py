"""A turn of the assistant, with its tools, by a real engine and a model that writes a script.

What should come out is the rendering of the whole conversation: the assistant's tokens drawn, the tools' not.
"""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from scripted import a_tokenizer, scripted

from data_pipeline.conversation import BrokenCall, Text, Thinking, ToolCall, ToolResult, Turn, said
from data_pipeline.protocol import parse_parts, prompt, render
from data_pipeline.special_tokens import (
    END_OF_TURN,
    TOOL_CALL_END,
    TOOL_CALL_START,
    TOOL_RESULT_END,
    TOOL_RESULT_START,
)
from data_pipeline.tools.tool import Limits, Tool, ToolError
from lm.assistant import NO_MORE, Toolbox, interjection, replies, request
from lm.inference.engine import Engine
from lm.inference.requests import LENGTH, STOP
from lm.inference.sampling import Sampling

GREEDY = Sampling(temperature=0.0)
ASKED = (said("system", "You add."), said("user", "What is 2 plus 3?"))


def add(arguments):
    if arguments["a"] < 0:
        raise ToolError("only of what is not negative")
    if arguments["a"] == 0:
        raise ZeroDivisionError("a bug")
    return str(arguments["a"] + arguments["b"])


NUMBER = {"type": "integer"}
ADD = Tool("add", "The sum.", {"properties": {"a": NUMBER, "b": NUMBER}, "required": ["a", "b"]}, add)
TOOLBOX = Toolbox((ADD,), calls=2, limits=Limits(seconds=10.0))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return a_tokenizer(tmp_path_factory.mktemp("ours"))


def call_of(a, b) -> ToolCall:
    return ToolCall("add", {"a": a, "b": b})


def length_of_prompt(ours) -> int:
    return len(prompt(ours, ASKED, "tokens").tokens)


def answered(ours, script, turns=ASKED, toolbox=TOOLBOX, max_tokens=400):
    """The reply of a model with this script, which begins where the prompt ends."""
    asked = request(ours, turns, max_tokens, GREEDY, toolbox=toolbox, style="tokens")
    model = scripted([*asked.prompt, *script], ours.vocab_size)
    ((reply,),) = replies(Engine(model, slots=1), ours, [asked])
    return reply


def written_as(ours, parts) -> list[int]:
    """The tokens of a turn with these parts, from where the assistant begins to write to the end of the turn."""
    before = length_of_prompt(ours)
    return render(ours, [*ASKED, Turn("assistant", tuple(parts))]).tokens[before:]


def as_rendered(ours, parts, toolbox=TOOLBOX):
    """Has a model write all of `parts` but the tools' results, and checks that what comes is their rendering.

    The script has something else where the results stand: they can only come from the tools.
    """
    before = length_of_prompt(ours)
    rendered = render(ours, [*ASKED, Turn("assistant", tuple(parts))])
    tokens, trained = rendered.tokens[before:], rendered.trained[before:]
    noise = ours.encode("x")[-1]
    reply = answered(
        ours, [token if own else noise for token, own in zip(tokens, trained, strict=True)], toolbox=toolbox
    )
    assert reply.completion.written.tokens == tokens
    assert reply.completion.written.drawn == trained
    assert reply.parts == tuple(parts)
    assert reply.completion.reason == STOP
    return reply


def test_the_prompt_ends_where_the_assistant_begins(ours):
    """Written out token by token, by hand."""
    special = ours.special_tokens
    asked = request(ours, ASKED, 7, GREEDY, seed=3, samples=2, toolbox=TOOLBOX, style="tokens")
    assert list(asked.prompt) == [
        ours.document_start,
        special["<|system_start|>"],
        *ours.encode("You add."),
        special[END_OF_TURN],
        special["<|user_start|>"],
        *ours.encode("What is 2 plus 3?"),
        special[END_OF_TURN],
        special["<|assistant_start|>"],
    ]
    assert special[END_OF_TURN] in asked.stop_tokens
    assert (asked.max_tokens, asked.seed, asked.samples, asked.stop_strings) == (7, 3, 2, ())
    assert asked.interjection.tokens == (special[TOOL_CALL_END],)
    assert request(ours, ASKED, 7, GREEDY, toolbox=None, style="tokens").interjection is None
    assert request(ours, ASKED, 7, GREEDY, toolbox=TOOLBOX, style="plain").interjection is None


def test_words_alone(ours):
    reply = as_rendered(ours, [Text("It is 5.")])
    assert (reply.text, reply.calls, reply.well_formed) == ("It is 5.", [], True)


def test_a_call_is_answered_and_nothing_of_the_answer_is_drawn(ours):
    parts = [Thinking("I add."), call_of(2, 3), ToolResult("5"), Text("It is 5.")]
    reply = as_rendered(ours, parts)
    assert (reply.text, reply.calls, reply.well_formed) == ("It is 5.", [call_of(2, 3)], True)
    # Rendered again, for training: what was not drawn is not trained.
    again = render(ours, [*ASKED, Turn("assistant", reply.parts)])
    before = length_of_prompt(ours)
    assert again.tokens[before:] == reply.completion.written.tokens
    assert again.trained[before:] == reply.completion.written.drawn
    result = written_as(ours, parts)
    start, stop = (result.index(ours.special_tokens[name]) for name in (TOOL_RESULT_START, TOOL_RESULT_END))
    assert not any(again.trained[before + start : before + stop + 1])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (call_of(-1, 3), "error: only of what is not negative"),
        (call_of(0, 3), "error: add failed (ZeroDivisionError: a bug)"),
        (call_of("2", 3), "error: add: the argument 'a' must be of type integer"),
        (ToolCall("add", {"a": 2}), "error: add: the argument 'b' is missing"),
        (ToolCall("subtract", {}), "error: there is no tool 'subtract'; the tools are: add"),
    ],
)
def test_errors_come_back_as_text(ours, call, told):
    as_rendered(ours, [call, ToolResult(told), Text("I could not.")])


def test_long_answers_are_cut(ours):
    shown = "1" + "0" * 9 + " ... [cut; 60 characters in all]"
    limits = Limits(characters=len(shown))
    as_rendered(ours, [call_of(10**59 - 1, 1), ToolResult(shown), Text("Much.")], replace(TOOLBOX, limits=limits))


def test_a_call_that_cannot_be_read_is_answered_too(ours):
    special = ours.special_tokens
    script = [special[TOOL_CALL_START], *ours.encode("add\n{a: 2"), special[TOOL_CALL_END]]
    problem = parse_parts(ours, script)[0].problem
    result = [special[TOOL_RESULT_START], *ours.encode(f"error: {problem}"), special[TOOL_RESULT_END]]
    noise = [ours.encode("x")[-1]] * len(result)
    reply = answered(ours, [*script, *noise, *ours.encode("Sorry."), special[END_OF_TURN]])
    assert reply.parts == (BrokenCall("add\n{a: 2", problem), ToolResult(f"error: {problem}"), Text("Sorry."))
    assert reply.completion.written.tokens[len(script) : len(script) + len(result)] == result
    assert reply.completion.written.drawn.count(False) == len(result)
    assert reply.completion.reason == STOP
    assert not reply.well_formed


def test_after_so_many_calls_an_error_and_then_the_end(ours):
    """Two calls are allowed: the third gets an error, and the fourth nothing, for there the turn ends."""
    parts: list = [Text("I add.")]
    parts += [part for i in range(4) for part in (call_of(i + 1, 1), ToolResult(str(i + 2) if i < 2 else NO_MORE))]
    special = ours.special_tokens
    reply = answered(ours, written_as(ours, parts))
    assert reply.parts == tuple(parts[:-1])
    assert (reply.completion.reason, reply.completion.stopped_by) == (STOP, special[TOOL_CALL_END])
    assert not reply.well_formed
    # One that stops asking in time may still answer.
    as_rendered(ours, [*parts[:7], Text("Well then.")])


def test_an_end_of_a_call_that_never_began_means_nothing(ours):
    special = ours.special_tokens
    script = [*ours.encode("It"), special[TOOL_CALL_END], *ours.encode(" is 5."), special[END_OF_TURN]]
    reply = answered(ours, script)
    assert reply.completion.written.tokens == script
    assert all(reply.completion.written.drawn)
    assert reply.calls == []
    assert reply.completion.reason == STOP


def test_without_tools_a_call_is_only_written(ours):
    script = written_as(ours, [call_of(2, 3), Text("It is 5.")])
    reply = answered(ours, script, toolbox=None)
    assert reply.completion.written.tokens == script
    assert reply.parts == (call_of(2, 3), Text("It is 5."))


def test_what_is_not_whole_is_not_well_formed(ours):
    cut_short = answered(ours, written_as(ours, [Text("It is 5.")]), max_tokens=2)
    assert cut_short.completion.reason == LENGTH
    assert not cut_short.well_formed
    said_nothing = answered(ours, [ours.special_tokens[END_OF_TURN]])
    assert said_nothing.completion.reason == STOP
    assert not said_nothing.well_formed
    open_call = answered(ours, [*written_as(ours, [Text("So."), call_of(2, 3)])[:-2], ours.special_tokens[END_OF_TURN]])
    assert isinstance(open_call.parts[-1], BrokenCall)
    assert not open_call.well_formed


def test_a_turn_that_a_result_interrupts_goes_on(ours):
    """The prompt may end with a result that somebody else's tool gave: the assistant goes on with its turn."""
    begun = Turn("assistant", (call_of(2, 3), ToolResult("5")))
    asked = request(ours, [*ASKED, begun], 50, GREEDY, style="tokens")
    whole = written_as(ours, [*begun.parts, Text("It is 5.")])
    start = len(asked.prompt) - length_of_prompt(ours)
    assert list(asked.prompt[length_of_prompt(ours) :]) == whole[:start]
    reply = answered(ours, whole[start:], turns=[*ASKED, begun])
    assert (reply.text, reply.completion.reason) == ("It is 5.", STOP)


def test_a_vocabulary_without_calls_has_no_interjection():
    names = dict(enumerate(["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]))
    llama3 = SimpleNamespace(special_tokens={}, vocabulary=SimpleNamespace(special_names=names), document_start=0)
    assert interjection(llama3, TOOLBOX) is None


def test_arguments_are_json(ours):
    """What the tool got is what was written, in this order and with these types."""
    got = []
    spy = Tool("spy", "", {"properties": {"x": {"type": "array"}}}, lambda arguments: got.append(arguments) or "ok")
    arguments = {"x": [1, 2.5, "é", None, {"y": True}]}
    answered(ours, written_as(ours, [ToolCall("spy", arguments), ToolResult("ok"), Text(".")]), toolbox=Toolbox((spy,)))
    assert json.dumps(got) == json.dumps([arguments])
