"""launch.chat with tools: what is shown while they run, and what the next turn's prompt holds of it."""

import os
import re
import signal

import pytest
from programs import run
from scripted_engine import ScriptedEngine, drawn_tokens
from serving import save_run

from data_pipeline.conversation import BrokenCall, Text, Thinking, ToolCall, ToolResult, Turn, said
from data_pipeline.protocol import prompt
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer
from data_pipeline.tools.tool import Tool
from launch import chat
from lm.assistant import Toolbox
from lm.inference.sampling import Sampling

ONE = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
DOUBLE = Toolbox((Tool("double", "Doubles.", ONE, lambda arguments: f"\x1b{2 * arguments['a']}"),))
CALL, RESULT = ToolCall("double", {"a": 4}), ToolResult("\x1b8")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer(['User: double\nAssistant: double\n{"a": 1}\n' * 20], 300, path)
    return load_tokenizer(path)


def start(tokenizer, *turns, toolbox=DOUBLE, **more) -> chat.Chat:
    engine = ScriptedEngine([drawn_tokens(tokenizer, *parts) for parts in turns], **more)
    return chat.Chat(engine, tokenizer, 500, 100, 5, Sampling(), "tokens", toolbox)


def test_a_call_and_its_result_are_shown_and_the_next_turn_reads_them(tokenizer, capsys):
    parts = (Thinking("hm"), Text("Well: "), CALL, Text("It is 8."))
    talk = start(tokenizer, parts, (Text("Bye."),))
    chat.answer(talk, "double 4")
    printed = capsys.readouterr()
    assert printed.out == "Well: It is 8.\n"  # a pipe gets the words alone
    assert printed.err.splitlines() == ["[thinks: hm]", "[calls double(a=4)]", "[gets: ␛8]"]
    whole = Turn("assistant", (Thinking("hm"), Text("Well: "), CALL, RESULT, Text("It is 8.")))
    assert talk.turns == [said("user", "double 4"), whole]
    chat.answer(talk, "bye")
    first, second = talk.engine.requests
    expected = prompt(tokenizer, [said("user", "double 4"), whole, said("user", "bye")], "tokens").tokens
    assert second.prompt == expected
    assert second.prompt[: len(first.prompt)] == first.prompt  # what was read once need not be read again


def test_what_a_tool_wrote_is_not_counted_as_written(tokenizer, capsys):
    talk = start(tokenizer, (CALL, Text("It is 8.")))
    chat.obey(talk, "/tokens")
    chat.answer(talk, "double 4")
    printed = capsys.readouterr()
    assert "<|tool_call_start|>" in printed.out
    assert "<|tool_result_end|>" in printed.out
    drawn = len(drawn_tokens(tokenizer, CALL, Text("It is 8.")))
    by_tools = len(prompt(tokenizer, [said("user", "x"), Turn("assistant", (CALL, RESULT))], "tokens").tokens)
    by_tools -= len(prompt(tokenizer, [said("user", "x")], "tokens").tokens) + len(drawn_tokens(tokenizer, CALL)) - 1
    assert f"tokens read, {drawn} written, {by_tools} from tools)" in printed.err


def test_a_call_that_cannot_be_read_is_shown_and_answered(tokenizer, capsys):
    broken = BrokenCall("double\n{", "")
    talk = start(tokenizer, (broken, Text("Sorry.")))
    chat.answer(talk, "double 4")
    called, got = capsys.readouterr().err.splitlines()
    assert called.startswith("[calls something: the arguments are not JSON")
    assert got.startswith("[gets: error: the arguments are not JSON")
    assert [type(part) for part in talk.turns[1].parts] == [BrokenCall, ToolResult, Text]


def test_without_tools_a_call_ends_the_answer(tokenizer, capsys):
    talk = start(tokenizer, (CALL, Text("It is 9.")), toolbox=None)
    chat.answer(talk, "double 4")
    assert talk.turns[1] == Turn("assistant", (CALL,))
    assert capsys.readouterr().err == "[calls double(a=4)]\n"


def test_ctrl_c_while_a_tool_runs(tokenizer, capsys):
    talk = start(tokenizer, (Text("Well: "), CALL, Text("It is 8.")), (Text("Hi."),), slow=True)
    called = len(drawn_tokens(tokenizer, Text("Well: "), CALL))
    talk.engine.before_step = lambda number: os.kill(os.getpid(), signal.SIGINT) if number == called else None
    chat.answer(talk, "double 4")
    assert "(stopped)" in capsys.readouterr().err
    assert talk.turns[1] == Turn("assistant", (Text("Well: "), CALL))
    chat.answer(talk, "hello?")  # and the conversation goes on
    assert talk.turns[3] == said("assistant", "Hi.")


def test_in_a_terminal_a_call_has_a_line_of_its_own(tokenizer, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    chat.answer(start(tokenizer, (Text("Well: "), CALL, Text("It is 8."))), "double 4")
    printed = capsys.readouterr()
    assert printed.out == "Well: \nIt is 8.\n"
    assert printed.err == "\x1b[2m[calls double(a=4)]\x1b[0m\n\x1b[2m[gets: ␛8]\x1b[0m\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An untrained run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("base", "sft", "other"):
        (folder / name).mkdir()
        save_run(folder / name, {"base": None, "sft": ("school",), "other": ("notes.jsonl",)}[name])
    return folder


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("base", (), "a base model, which goes on with a dialogue. /help"),
        ("sft", (), "an assistant with python and search. /help"),
        ("sft", ("--tools=none",), "an assistant. /help"),
        ("sft", ("--tools=search", "--search=pydoc"), "an assistant with search. /help"),
        ("other", (), "an assistant with python. /help"),
        ("other", ("--search=pydoc",), "an assistant with python and search. /help"),
        ("base", ("--tools=python",), "error: .* holds a model that calls no tools: leave --tools out"),
        ("other", ("--tools=search",), "error: --tools=search: this run was not finetuned on the school"),
        ("sft", ("--tools=python,web",), "error: --tools=python,web: there is no tool 'web'"),
        ("sft", ("--tools=none,python",), "error: --tools=none,python: auto and none stand alone"),
        ("sft", ("--tools=none", "--search=pydoc"), "error: --search needs a tool to search with"),
        ("other", ("--search=no/such.txt",), "error: .*no/such.txt"),
    ],
)
def test_which_tools_a_run_has(runs, tmp_path, name, arguments, told):
    code, output = run("launch.chat", f"--workdir={runs / name}", *arguments, log=tmp_path / "log")
    assert code == (2 if told.startswith("error") else 0), output
    assert re.search(told, output), output
