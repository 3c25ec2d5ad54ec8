"""Environments of the `verifiers` package (0.4) against our server: what its client sends, and the package itself, where it is.

Its chat program streams with OpenAI's client and sends an answer back as that client put it together: the calls keep the
`index` they had in the stream, and a tool's message names the tool. How a rollout of it begins and goes on is written down here.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from scripted_engine import ScriptedEngine, drawn_tokens
from serving import fetch, played_score, serving, tokenizer

from data_pipeline.conversation import Text, ToolCall, ToolResult, Turn, said
from data_pipeline.protocol import prompt
from launch.server.client_tools import ClientTool, with_tools
from launch.server.engine_thread import EngineThread
from launch.server.generation import Served

ENVIRONMENTS = Path(__file__).parent / "environments"
PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
PROGRAMS = [shutil.which(name, path=PLACES) for name in ("vf-eval", "uv")]
PACKAGE = pytest.mark.skipif(
    None in PROGRAMS,
    reason="environments of verifiers are NOT run: no vf-eval and uv on the PATH (pip install 'verifiers>=0.4' uv)",
)
QUESTION = "Ann has 2 apples and finds 3. How many apples has she?"
ADD = {
    "name": "sums_add",
    "description": "Add two numbers.",
    "parameters": {
        "type": "object",
        "title": "addArguments",
        "properties": {
            "first": {"title": "First", "type": "integer"},
            "second": {"title": "Second", "type": "integer"},
        },
        "required": ["first", "second"],
    },
}
CALL = ToolCall("sums_add", {"first": 2, "second": 3})
TALK = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": QUESTION}],
}
TOOLS = {"tools": [{"type": "function", "function": ADD}]}


@pytest.fixture(scope="module")
def symbols(tmp_path_factory):
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


def served(symbols, *answers, context=2048):
    """A model that says this, one answer after the other, and its engine."""
    engine = ScriptedEngine([drawn_tokens(symbols, *parts) for parts in answers])
    return Served("m", symbols, EngineThread(engine, 20), context, played_score, "tokens"), engine


def stream(url, body):
    """The events of a stream, asked for with the headers that the package sends."""
    headers = {"Content-Type": "application/json", "Authorization": "Bearer EMPTY", "X-Session-ID": "0123456789abcdef"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        *events, done = answer.read().decode().removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def put_together(events):
    """What the package reads of a stream: the message, why it ended, and what it cost."""
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({(event["id"], event["created"], event["model"]) for event in events}) == 1
    message, reasons = {"content": ""}, []
    for event in events[:-1]:
        (choice,) = event["choices"]
        assert choice["index"] == 0
        delta = choice["delta"]
        message["role"] = delta.get("role", message.get("role"))
        message["content"] += delta.get("content") or ""
        for call in delta.get("tool_calls") or []:
            assert call["index"] == len(message.setdefault("tool_calls", []))
            message["tool_calls"].append(call)
        reasons += [choice["finish_reason"]] * bool(choice["finish_reason"])
    assert events[-1]["choices"] == []
    (reason,) = reasons
    return message, reason, events[-1]["usage"]


def test_a_rollout_with_a_tool(symbols):
    model, engine = served(symbols, (Text("Let me see. "), CALL), (Text("It is 5."),))
    with serving(model) as url:
        message, reason, usage = put_together(stream(url, TALK | TOOLS))
        assert (message["role"], message["content"], reason) == ("assistant", "Let me see. ", "tool_calls")
        (call,) = message["tool_calls"]
        assert (call["index"], call["type"], call["function"]["name"]) == (0, "function", "sums_add")
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
        answer = {"role": "tool", "tool_call_id": call["id"], "content": "5", "name": "sums_add"}
        messages = [*TALK["messages"], message, answer]
        message, reason, _ = put_together(stream(url, TALK | TOOLS | {"messages": messages}))
        assert (message["content"], reason) == ("It is 5.", "stop")
    turns = [said("user", QUESTION), Turn("assistant", (Text("Let me see. "), CALL, ToolResult("5")))]
    turns = with_tools(turns, [ClientTool(type="function", function=ADD)])
    assert engine.requests[1].prompt == prompt(symbols, turns, "tokens").tokens


def test_a_user_who_is_played_by_a_model(symbols):
    """A conversation is sent whole each time, after what the model is told to be; settings of the run stand beside it."""
    model, engine = served(symbols, (Text("Five."),))
    messages = [
        {"role": "system", "content": "You are a clerk."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "Three?"},
        {"role": "user", "content": "No."},
    ]
    settings = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 24}
    with serving(model) as url:
        message, reason, _ = put_together(stream(url, TALK | settings | {"messages": messages}))
    assert (message["content"], reason) == ("Five.", "stop")
    talk = [
        said("system", "You are a clerk."),
        said("user", QUESTION),
        said("assistant", "Three?"),
        said("user", "No."),
    ]
    (request,) = engine.requests
    assert request.prompt == prompt(symbols, talk, "tokens").tokens
    assert (request.max_tokens, request.sampling.temperature, request.sampling.top_p) == (24, 0.5, 0.9)


def test_a_conversation_that_is_full_ends_a_rollout_and_is_no_failure(symbols):
    """The package knows it by the error's code, and the length of the context by a field of the model's."""
    model, _ = served(symbols, context=8)
    with serving(model) as url:
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(f"{url}/v1/chat/completions", TALK)
        assert caught.value.code == 400
        assert json.load(caught.value)["error"]["code"] == "context_length_exceeded"
        with urllib.request.urlopen(f"{url}/v1/models", timeout=20) as answer:
            (card,) = json.load(answer)["data"]
    assert (card["id"], card["context_length"]) == ("m", 8)


@PACKAGE
@pytest.mark.parametrize(
    ("environment", "answers", "scores", "turns"),
    [
        ("word_sums", [(Text(f"It is {number}."),) for number in (5, 5, 7, 8)], [1.0, 1.0, 0.0, 1.0], 1),
        ("word_sums_with_a_tool", [(Text("So: "), CALL), (Text("It is 5."),)], [1.0], 2),
    ],
)
def test_the_package_evaluates_a_model(symbols, tmp_path, environment, answers, scores, turns):
    model, engine = served(symbols, *answers)
    with serving(model) as url:
        evaluate(environment, url, len(scores), tmp_path)
    lines = (tmp_path / "run" / "traces.jsonl").read_text().splitlines()
    rollouts = [trace for line in lines for trace in json.loads(line)["traces"]]
    assert [trace["errors"] for trace in rollouts] == [[]] * len(scores)
    assert [trace["rewards"]["last_number_is_right"]["score"] for trace in rollouts] == scores
    assert {len(trace["calls"]) for trace in rollouts} == {turns}
    assert len(engine.requests) == len(answers)


def evaluate(environment, url, problems, folder):
    """Run the package's own program. What it runs itself it takes from a package index, which may be out of reach."""
    command = [PROGRAMS[0], environment, "--select.limit", str(problems), "--max-concurrent", "1", "--model", "m"]
    command += ["--env.agent.harness.id", "null", "--env.agent.runtime.type", "subprocess"]
    command += ["--client.base-url", f"{url}/v1", "--no-push", "--no-rich", "-o", str(folder), "--run.name", "run"]
    environ = os.environ | {"PYTHONPATH": str(ENVIRONMENTS), "PATH": PLACES}
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    output = done.stdout + done.stderr
    if "failed to prepare uv script" in output:
        pytest.skip(f"environments of verifiers are NOT run: uv cannot install what they run in: {output[-300:]}")
    assert done.returncode == 0, output[-2000:]
