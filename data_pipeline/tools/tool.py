"""A tool, and how a call that a model wrote is run.

A model writes names that no tool has, arguments of the wrong kind, and code that never ends. None of that may stop the program
that serves or trains it, and all of it is something the model can learn from: so every mistake comes back as a line of text.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from data_pipeline.conversation import ToolCall
from data_pipeline.errors import UserError
from data_pipeline.model_text import writable

KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}

# Characters of an error's line: a message may hold the whole of what was wrong.
ERROR_LENGTH = 300


@dataclass(frozen=True)
class Tool:
    """`parameters` is the JSON schema of the arguments, as in the `tools` of OpenAI's API; `run` takes arguments that fit it.

    `run` may be called by several threads at once. It raises `ToolError` for what the model should read.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class Limits:
    """What one call may take. `seconds` counts from the call, and so includes waiting for a free worker."""

    seconds: float = 30.0
    characters: int = 2000


class ToolError(Exception):
    """Why a tool has no answer: its message is what the model reads."""


def call(tools: Sequence[Tool], asked: ToolCall, limits: Limits = Limits()) -> str:
    """The tool's answer, of at most `limits.characters`; or a line "error: ..." for whatever went wrong.

    It raises nothing but a tool's `UserError`: that one is not set up, which no other call would mend. A tool that takes longer
    than `limits.seconds` is left behind in its thread: one that can hang must end by itself, as `python_tool` does.
    """
    tool = next((tool for tool in tools if tool.name == asked.name), None)
    if tool is None:
        names = ", ".join(tool.name for tool in tools) or "none"
        return _error(f"there is no tool {asked.name!r}; the tools are: {names}")
    if wrong := mistake(tool.parameters, asked.arguments):
        return _error(f"{tool.name}: {wrong}")
    outcomes: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()
    # A daemon, so that a tool which hangs cannot keep the program from ending.
    threading.Thread(target=_run, args=(tool, asked.arguments, outcomes), daemon=True).start()
    try:
        outcome = outcomes.get(timeout=limits.seconds)
    except queue.Empty:
        return _error(f"{tool.name} took longer than {limits.seconds:g} s")
    if isinstance(outcome, UserError):
        raise outcome
    if isinstance(outcome, ToolError):
        return _error(str(outcome))
    if isinstance(outcome, BaseException):  # SystemExit too: no tool may end the program
        return _error(f"{tool.name} failed ({type(outcome).__name__}: {outcome})")
    return cut(writable(outcome), limits.characters)


def mistake(parameters: dict[str, Any], arguments: Any) -> str | None:
    """What is wrong with the arguments by their schema: missing, unknown or of another type. None where nothing is.

    Of JSON schema it reads `properties`, `required` and each property's `type`.
    """
    if not isinstance(arguments, dict):
        return "the arguments must be a JSON object"
    properties = parameters.get("properties", {})
    for name in parameters.get("required", ()):
        if name not in arguments:
            return f"the argument {name!r} is missing"
    for name, value in arguments.items():
        if name not in properties:
            return f"there is no argument {name!r}; the arguments are: {', '.join(properties) or 'none'}"
        kind = properties[name].get("type")
        # True is an int to Python, and not to JSON.
        if kind in KINDS and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")):
            return f"the argument {name!r} must be of type {kind}"
    return None


def _run(tool: Tool, arguments: dict[str, Any], outcomes: "queue.SimpleQueue[str | BaseException]") -> None:
    try:
        outcomes.put(str(tool.run(arguments)))
    except BaseException as error:
        outcomes.put(error)


def _error(message: str) -> str:
    return "error: " + writable(" ".join(message.split()))[:ERROR_LENGTH]


def cut(text: str, characters: int) -> str:
    """The start of `text`, with a note where something is left out: never more than `characters`."""
    if len(text) <= characters:
        return text
    note = f" ... [cut; {len(text):,} characters in all]"
    return (text[: max(0, characters - len(note))] + note)[:characters]
