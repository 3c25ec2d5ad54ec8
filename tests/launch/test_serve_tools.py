"""Tools over OpenAI's interface: those that the client brings, and those of the server; with OpenAI's own client."""

import contextlib
import json

import pytest
from scripted_engine import ScriptedEngine, drawn_tokens
from serving import CONTEXT, fetch, played, played_score, serving, tokenizer
from test_serve_mistakes import refused

from data_pipeline.conversation import BrokenCall, Text, Thinking, ToolCall, ToolResult, Turn, said
from data_pipeline.protocol import prompt
from data_pipeline.tools.tool import Tool
from launch.server.client_tools import ClientTool, with_tools
from launch.server.engine_thread import EngineThread
from launch.server.generation import Served
from lm.assistant import Toolbox

openai = pytest.importorskip("openai", reason='needs pip install "trivium[dev]"')

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Höhe", "parameters": PARAMETERS}}
USER = [{"role": "user", "content": "Is it wet in Rom?"}]
CALL, DOUBLE = ToolCall("weather", {"city": "Röm"}), ToolCall("double", {"a": 4})
TOOLBOX = Toolbox((Tool("double", "", {"properties": {"a": {}}}, lambda arguments: f"{2 * arguments['a']}"),))


@pytest.fixture(scope="module")
def symbols(tmp_path_factory):
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def serve(symbols):
    """A function (parts of each answer) -> client and engine."""
    with contextlib.ExitStack() as stack:

        def start(*answers, toolbox=None, style="tokens"):
            engine = ScriptedEngine([drawn_tokens(symbols, *parts) for parts in answers])
            thread = EngineThread(engine, 20)
            url = stack.enter_context(serving(Served("m", symbols, thread, CONTEXT, played_score, style, toolbox)))
            return openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0), engine

        yield start


def chat(client, messages=USER, **values):
    return client.chat.completions.create(model="m", messages=messages, **values)


def test_a_call_goes_to_the_client_and_its_answer_comes_back_into_the_same_turn(serve, symbols):
    client, engine = serve((Text("Let me see. "), CALL), (Text("Yes, it rains."),))
    first = chat(client, tools=[WEATHER], logprobs=True)
    (choice,) = first.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
        "function",
        "weather",
        {"city": "Röm"},
    )
    assert choice.message.content == "Let me see. "
    drawn = drawn_tokens(symbols, Text("Let me see. "), CALL)[:-1]  # the end of the turn was never written
    assert first.usage.completion_tokens == len(choice.logprobs.content) == len(drawn)
    # The model is told in a system text.
    turns = with_tools([said("user", USER[0]["content"])], [ClientTool(**WEATHER)])
    assert json.loads(turns[0].text.splitlines()[-1]) == WEATHER["function"]
    assert engine.requests[0].prompt == prompt(symbols, turns, "tokens").tokens
    answer = {"role": "tool", "tool_call_id": call.id, "content": "wet"}
    second = chat(client, [*USER, choice.message, answer], tools=[WEATHER])
    assert (second.choices[0].message.content, second.choices[0].finish_reason) == ("Yes, it rains.", "stop")
    assert second.choices[0].message.tool_calls is None
    turns.append(Turn("assistant", (Text("Let me see. "), CALL, ToolResult("wet"))))
    assert engine.requests[1].prompt == prompt(symbols, turns, "tokens").tokens
    # What was read and written before need not be read again.
    assert engine.requests[1].prompt[: len(engine.requests[0].prompt) + len(drawn)] == (
        *engine.requests[0].prompt,
        *drawn,
    )


def test_a_stream_of_calls(serve):
    client, _ = serve((Text("Let me see. "), CALL))
    seen, content, reasons = [], ["", ""], []
    for event in chat(client, tools=[WEATHER], stream=True, n=2):
        (choice,) = event.choices
        content[choice.index] += choice.delta.content
        seen += [(choice.index, call) for call in choice.delta.tool_calls or []]
        reasons += [choice.finish_reason] * bool(choice.finish_reason)
    assert content == ["Let me see. "] * 2
    assert reasons == ["tool_calls"] * 2
    assert sorted(index for index, _ in seen) == [0, 1]
    assert {(call.index, call.function.name) for _, call in seen} == {(0, "weather")}
    assert len({call.id for _, call in seen}) == 2


def test_openai_s_own_accumulator_reads_the_stream(serve):
    client, _ = serve((Text("Let me see. "), CALL))
    with client.chat.completions.stream(model="m", messages=USER, tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Röm"}
    assert message.content == "Let me see. "


@pytest.mark.parametrize("stream", [False, True])
def test_tools_of_the_server_run_inside_an_answer(serve, symbols, stream):
    parts = (Thinking("hm"), Text("Wéll: "), DOUBLE, Text("It is 8."))
    client, engine = serve(parts, (Text("Bye."),), toolbox=TOOLBOX)
    extra = {"return_token_ids": True}
    if stream:
        made = chat(client, stream=True, logprobs=True, stream_options={"include_usage": True}, extra_body=extra)
        message, ids, flags, logprobs = {"role": "assistant", "content": "", "parts": []}, [], [], []
        for event in made:
            usage = event.usage
            for choice in event.choices:
                message["content"] += choice.delta.content
                message["parts"] += getattr(choice.delta, "parts", [])
                ids += choice.token_ids
                flags += choice.token_drawn
                logprobs += choice.logprobs.content
                reason = choice.finish_reason
    else:
        made = chat(client, logprobs=True, extra_body=extra)
        (choice,) = made.choices
        message, ids, flags = choice.message, choice.token_ids, choice.token_drawn
        logprobs, reason, usage = choice.logprobs.content, choice.finish_reason, made.usage
    drawn = drawn_tokens(symbols, *parts)
    assert reason == "stop"
    assert [token for token, flag in zip(ids, flags, strict=True) if flag] == drawn
    assert usage.completion_tokens == len(logprobs) == len(drawn) < len(ids)
    assert [item.token for item in logprobs] == [symbols.piece(token) for token in drawn]
    found = message if stream else {"content": message.content, "parts": message.parts}
    assert found["content"] == "Wéll: It is 8."
    expected = [
        {"type": "thinking", "at": 0, "text": "hm"},
        {"type": "tool_call", "at": 6, "name": "double", "arguments": {"a": 4}},
        {"type": "tool_result", "at": 6, "text": "8"},
    ]
    assert found["parts"] == [{"index": n} | part if stream else part for n, part in enumerate(expected)]
    # Sent back as it came, it is read as it was written.
    chat(client, [*USER, message, {"role": "user", "content": "bye"}])
    first, second = engine.requests
    assert second.prompt[: len(first.prompt) + len(ids)] == (*first.prompt, *ids)


def test_openai_s_own_accumulator_reads_what_tools_of_the_server_did(serve):
    client, engine = serve((Thinking("hm"), Text("Well: "), DOUBLE, Text("It is 8.")), (Text("Bye."),), toolbox=TOOLBOX)
    with client.chat.completions.stream(model="m", messages=USER) as stream:
        message = stream.get_final_completion().choices[0].message
    assert [part["type"] for part in message.parts] == ["thinking", "tool_call", "tool_result"]
    messages = [*USER, message.model_dump(exclude_none=True), {"role": "user", "content": "bye"}]
    with client.chat.completions.stream(model="m", messages=messages) as stream:
        assert stream.get_final_completion().choices[0].message.content == "Bye."
    assert len(engine.requests) == 2


def test_the_client_s_tools_and_the_server_s_in_one_answer(serve):
    client, _ = serve((DOUBLE, Text("8. "), CALL, Text("never")), toolbox=TOOLBOX)
    (choice,) = chat(client, tools=[WEATHER]).choices
    assert [part["type"] for part in choice.message.parts] == ["tool_call", "tool_result"]
    assert [call.function.name for call in choice.message.tool_calls] == ["weather"]
    assert (choice.message.content, choice.finish_reason) == ("8. ", "tool_calls")


def test_calls_that_nobody_answers_end_the_turn(serve, symbols):
    call_end = symbols.special_tokens["<|tool_call_end|>"]
    client, engine = serve((DOUBLE, Text("9")), (CALL, Text("9")), (BrokenCall("weather\n{", ""), Text("9")))
    unknown, refused_, broken = (
        chat(client, tools=[WEATHER]),
        chat(client, tools=[WEATHER], tool_choice="none"),
        chat(client, tools=[WEATHER]),
    )
    for made, kind in ((unknown, "tool_call"), (refused_, "tool_call"), (broken, "broken_call")):
        (choice,) = made.choices
        assert (choice.message.content, choice.finish_reason, choice.message.tool_calls) == ("", "stop", None)
        assert [part["type"] for part in choice.message.parts] == [kind]
    # With tool_choice="none" the model is not told of any.
    user = [said("user", USER[0]["content"])]
    assert engine.requests[1].prompt == prompt(symbols, user, "tokens").tokens
    assert all(call_end in request.stop_tokens for request in engine.requests)


def test_none_turns_the_server_s_tools_off_too(serve):
    client, _ = serve((DOUBLE, Text("9")), toolbox=TOOLBOX)
    (choice,) = chat(client, tool_choice="none").choices
    assert [part["type"] for part in choice.message.parts] == ["tool_call"]


def test_a_history_of_several_calls_at_once(serve, symbols):
    """As other models write it; nulls as clients that dump a whole message leave them."""
    client, engine = serve((Text("So."),))
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": json.dumps({"city": name})}}
        for name in ("a", "b")
    ]
    messages = [
        {"role": "system", "content": "Be brief."},
        *USER,
        {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None, "function_call": None},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": "Both.", "tool_calls": None},
        {"role": "user", "content": "and?"},
    ]
    chat(client, messages)
    parts = (ToolCall("a", {"city": "a"}), ToolResult("1"), ToolCall("b", {"city": "b"}), ToolResult("2"))
    turns = [
        said("system", "Be brief."),
        said("user", USER[0]["content"]),
        Turn("assistant", (*parts, Text("Both."))),
        said("user", "and?"),
    ]
    assert engine.requests[0].prompt == prompt(symbols, turns, "tokens").tokens


def test_what_a_model_is_said_to_have(serve):
    client, _ = serve(toolbox=TOOLBOX)
    (model,) = client.models.list()
    assert (model.style, model.tools) == ("tokens", ["double"])


def called(arguments="{}", **more):
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}, **more}


ASSISTANT = {"role": "assistant", "tool_calls": [called()]}
TOOL = {"role": "tool", "tool_call_id": "1", "content": "x"}


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function", "tools[0].function is missing"),
        ({"tools": [{"type": "web"}]}, "tools[0].type", "tools[0].type='web': "),
        ({"tools": {}}, "tools", "tools={}: "),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "match pattern"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools[0].function.strict", ""),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 3}}]}, None, "valid dictionary"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "two tools are named weather"),
        ({"tools": [WEATHER] * 129}, "tools", "at most 128 items"),
        ({"tools": [WEATHER], "style": "plain"}, "tools", "this model cannot call tools"),
        ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice", "nothing here can make a model call"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
            "tool_choice",
            "nothing here can make",
        ),
        ({"functions": [{"name": "f"}]}, "functions", "functions is not served here"),
        ({"messages": [*USER, ASSISTANT]}, "messages[1]", "the call '1' has no answer"),
        ({"messages": [*USER, ASSISTANT, *USER]}, "messages[1]", "the call '1' has no answer"),
        ({"messages": [*USER, TOOL]}, "messages[1]", "which the message before did not call"),
        ({"messages": [TOOL]}, "messages[0]", "there is none before it"),
        ({"messages": [*USER, ASSISTANT, TOOL, TOOL]}, "messages[2]", "another answer to the call '1'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "tool_call_id is missing"),
        (
            {"messages": [*USER, ASSISTANT, TOOL | {"name": "g"}]},
            "messages[1]",
            "the call '1' is of 'f', its answer of 'g'",
        ),
        ({"messages": [{**USER[0], "name": "Ann"}]}, "messages[0].name", "only a tool's message may have a name"),
        (
            {"messages": [*USER, {"role": "assistant", "tool_calls": [called(index=-1)]}, TOOL]},
            "messages[1].tool_calls[0].index",
            "greater than or equal to 0",
        ),
        ({"messages": [{**USER[0], "tool_call_id": "1"}]}, "messages[0].tool_call_id", "only a tool's message"),
        ({"messages": [{**USER[0], "tool_calls": [called()]}]}, "messages[0].tool_calls", "only the assistant's"),
        ({"messages": [*USER, {"role": "assistant"}]}, "messages[1].content", "content is missing"),
        (
            {"messages": [*USER, {"role": "assistant", "tool_calls": [called("{")]}, TOOL]},
            "messages[1].tool_calls[0].function.arguments",
            "must be a JSON object, as a string",
        ),
        (
            {"messages": [*USER, {"role": "assistant", "tool_calls": [called("[" * 9999)]}, TOOL]},
            "messages[1].tool_calls[0].function.arguments",
            "must be a JSON object",
        ),
        (
            {
                "messages": [
                    *USER,
                    {"role": "assistant", "content": "ab", "parts": [{"type": "thinking", "at": 3}]},
                    *USER,
                ]
            },
            "messages[1]",
            "at most 2 characters into the content",
        ),
        (
            {
                "messages": [
                    *USER,
                    {"role": "assistant", "content": "", "parts": [{"type": "tool_result", "at": 0}]},
                    *USER,
                ]
            },
            "messages",
            "a tool result without a call",
        ),
        (
            {
                "messages": [
                    *USER,
                    {
                        "role": "assistant",
                        "content": "",
                        "parts": [{"type": "tool_call", "at": 0, "name": "a\nb"}, {"type": "tool_result", "at": 0}],
                    },
                ]
            },
            "messages",
            "a name is one line",
        ),
    ],
)
def test_mistakes(mistaken, body, param, told):
    status, error = refused(mistaken, "/v1/chat/completions", {"messages": USER, "style": "tokens"} | body)
    assert status == 400
    assert told in error["message"], error
    assert param is None or error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    served, _ = played(tmp_path_factory.mktemp("tokenizer"))
    with serving(served) as url:
        yield url
        assert fetch(f"{url}/v1/chat/completions", {"messages": USER, "max_tokens": 2})["choices"]  # it goes on
