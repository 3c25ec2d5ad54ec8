"""Whatever a model writes into a call, text comes back: of the asked length, and in time."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.conversation import ToolCall
from data_pipeline.errors import UserError
from data_pipeline.tools.tool import ERROR_LENGTH, Limits, Tool, ToolError, call, mistake

PARAMETERS = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "times": {"type": "integer"}, "scale": {"type": "number"}},
    "required": ["text"],
}
ECHO = Tool("echo", "Says it again.", PARAMETERS, lambda arguments: arguments["text"] * arguments.get("times", 1))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def of(run: Any) -> Tool:
    return Tool("odd", "", {"type": "object", "properties": {}}, run)


def test_the_answer_is_the_tools() -> None:
    assert call([ECHO], ToolCall("echo", {"text": "ab", "times": 3})) == "ababab"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (ToolCall("sing", {}), "error: there is no tool 'sing'; the tools are: echo"),
        (ToolCall("", {}), "error: there is no tool ''; the tools are: echo"),
        (ToolCall("echo", {}), "error: echo: the argument 'text' is missing"),
        (ToolCall("echo", {"text": 5}), "error: echo: the argument 'text' must be of type string"),
        (ToolCall("echo", {"text": "a", "times": True}), "error: echo: the argument 'times' must be of type integer"),
        (ToolCall("echo", {"text": "a", "times": 1.5}), "error: echo: the argument 'times' must be of type integer"),
        (
            ToolCall("echo", {"text": "a", "loud": 1}),
            "error: echo: there is no argument 'loud'; the arguments are: text, times, scale",
        ),
        (ToolCall("echo", ["text"]), "error: echo: the arguments must be a JSON object"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_call_is_answered_by_one_line(asked: ToolCall, answer: str) -> None:
    assert call([ECHO], asked) == answer


def test_a_whole_number_is_a_number_and_what_is_optional_may_be_missing() -> None:
    assert mistake(PARAMETERS, {"text": "", "scale": 2}) is None
    assert mistake({}, {}) is None


def fail(error: BaseException) -> Any:
    def run(arguments: dict[str, Any]) -> str:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ToolError("two\nlines"), "error: two lines"),
        (ValueError("bad"), "error: odd failed (ValueError: bad)"),
        (SystemExit(3), "error: odd failed (SystemExit: 3)"),
        (KeyboardInterrupt(), "error: odd failed (KeyboardInterrupt: )"),
        (RecursionError("deep"), "error: odd failed (RecursionError: deep)"),
    ],
)
def test_a_tool_that_raises_is_a_line(error: BaseException, line: str) -> None:
    assert call([of(fail(error))], ToolCall("odd", {})) == line


def test_a_tool_that_is_not_set_up_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no key"):
        call([of(fail(UserError("no key")))], ToolCall("odd", {}))


def test_an_errors_line_is_short() -> None:
    assert len(call([of(fail(ValueError("x" * 10**6)))], ToolCall("odd", {}))) <= ERROR_LENGTH + len("error: ")


def test_a_tool_that_hangs_is_left_behind() -> None:
    start = time.monotonic()
    answer = call([of(lambda _: time.sleep(5))], ToolCall("odd", {}), Limits(seconds=0.05))
    assert answer == "error: odd took longer than 0.05 s"
    assert time.monotonic() - start < 3


def test_a_long_answer_is_cut_with_a_note_and_a_fitting_one_is_not() -> None:
    asked = ToolCall("echo", {"text": "ab", "times": 500})
    cut = call([ECHO], asked, Limits(characters=100))
    assert len(cut) == 100
    assert cut.startswith("abab")
    assert cut.endswith(" ... [cut; 1,000 characters in all]")
    assert call([ECHO], asked, Limits(characters=1000)) == "ab" * 500
    assert len(call([ECHO], asked, Limits(characters=5))) == 5


def test_half_a_surrogate_pair_is_not_passed_on() -> None:
    call([ECHO], ToolCall("echo", {"text": "a\ud800b"})).encode()
    call([ECHO], ToolCall("\udfff", {})).encode()


@given(
    name=st.sampled_from(["echo"]) | st.text(), arguments=st.dictionaries(st.sampled_from(["text", "x"]), JSON) | JSON
)
def test_no_call_raises(name: str, arguments: Any) -> None:
    answer = call([ECHO], ToolCall(name, arguments), Limits(characters=200))
    assert len(answer.encode()) >= 0
    assert len(answer) <= max(200, ERROR_LENGTH + len("error: "))
