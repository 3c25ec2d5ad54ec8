"""The messages of a chat as OpenAI's clients write them, and the turns that they are to us.

OpenAI writes a call, its result and what follows as three messages; to us they are one turn of the assistant. What our own
tools did in the middle of an answer OpenAI has no place for: `parts` (ours) holds it, and may be sent back as it came.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from data_pipeline.conversation import (
    BrokenCall,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    said,
    waits,
)
from launch.server.errors import ApiError

KINDS: dict[str, type] = {
    "thinking": Thinking,
    "tool_call": ToolCall,
    "broken_call": BrokenCall,
    "tool_result": ToolResult,
}


class Body(BaseModel):
    """Part of a request. Pydantic converts nothing: "3" is no number."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class TextPart(Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class CalledFunction(Body):
    """The function of a call."""

    name: str
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _an_object(cls, value: str) -> str:
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError("must be a JSON object, as a string")
        return value


class FunctionCall(Body):
    """A call that the assistant made of a tool of the client's."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int = Field(0, ge=0)  # of a stream, which clients leave in; the order of the list says it too


class ShownPart(Body):
    """(ours) What an assistant's turn holds besides its text: `at` so many characters of the content, in order."""

    type: Literal["thinking", "tool_call", "broken_call", "tool_result"]
    at: int = Field(ge=0)
    text: str = ""
    name: str = ""
    arguments: dict[str, Any] = {}
    problem: str = ""
    index: int = Field(0, ge=0)  # as in `FunctionCall`

    def part(self) -> Part:
        """As the project knows it."""
        kind = KINDS[self.type]
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})


def shown(part: Part, at: int) -> dict[str, Any]:
    """A part that is no text, for the client."""
    name = next(name for name, kind in KINDS.items() if isinstance(part, kind))
    return {"type": name, "at": at, **vars(part)}


class Message(Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: list[FunctionCall] = []
    parts: list[ShownPart] = []
    tool_call_id: str | None = Field(None, validate_default=True)
    name: str | None = None  # of the tool that answers; the model is shown the name in the call
    content: list[TextPart] = Field([], validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    @field_validator("tool_calls", "parts")
    @classmethod
    def _the_assistant_s(cls, value: list[Any], info: ValidationInfo) -> list[Any]:
        if value and info.data.get("role", "assistant") != "assistant":
            raise ValueError("only the assistant's messages have any")
        return value

    @field_validator("tool_call_id")
    @classmethod
    def _a_tool_s(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("role") == "tool":
            raise PydanticCustomError("missing", "Field required")
        if value is not None and info.data.get("role", "tool") != "tool":
            raise ValueError("only a tool's message answers a call")
        return value

    @field_validator("name")
    @classmethod
    def _also_a_tool_s(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("role", "tool") != "tool":
            raise ValueError("only a tool's message may have a name: a model is shown no other names")
        return value

    @field_validator("content", mode="before")
    @classmethod
    def _one_part(cls, value: Any, info: ValidationInfo) -> Any:
        if value == [] and not (info.data.get("tool_calls") or info.data.get("parts")):
            raise PydanticCustomError("missing", "Field required")
        return [{"type": "text", "text": value}] if isinstance(value, str) else value

    @property
    def text(self) -> str:
        """What it says."""
        return "".join(part.text for part in self.content)


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """The conversation as the project knows it. Raises `ApiError` for calls and results that do not belong together."""
    turns: list[Turn] = []
    answers: dict[str, Message] = {}  # the tool messages that follow what is looked at, by the call's id
    for number, message in reversed(list(enumerate(messages))):
        if message.role == "tool":
            assert message.tool_call_id is not None  # it was checked
            if message.tool_call_id in answers:
                raise _wrong(number, f"another answer to the call {message.tool_call_id[:100]!r}")
            answers[message.tool_call_id] = message
            continue
        turn = _turn(number, message, answers)
        if answers:
            raise _wrong(
                number + 1, f"an answer to {next(iter(answers))[:100]!r}, which the message before did not call"
            )
        if turns and turn.role == turns[-1].role == "assistant" and waits(turn):
            turns[-1] = Turn("assistant", (*turn.parts, *turns[-1].parts))
        else:
            turns.append(turn)
    if answers:
        raise _wrong(0, "a tool's message answers a call, and there is none before it")
    return turns[::-1]


def _turn(number: int, message: Message, answers: dict[str, Message]) -> Turn:
    """A message as a turn, with the answers to its calls, which are taken away."""
    if message.role != "assistant":
        role: Role = "user" if message.role == "user" else "system"
        return said(role, message.text)
    parts: list[Part] = []
    text, at = message.text, 0
    for each in message.parts:
        if not at <= each.at <= len(text):
            raise _wrong(number, f"parts stand in order, at most {len(text)} characters into the content")
        parts += [Text(text[at : each.at])] * (each.at > at)
        parts.append(each.part())
        at = each.at
    if text[at:] or not (parts or message.tool_calls):
        parts.append(Text(text[at:]))
    for call in message.tool_calls:
        if call.id not in answers:
            raise _wrong(number, f"the call {call.id[:100]!r} has no answer: a message of the role tool must follow")
        answer, name = answers.pop(call.id), call.function.name
        if answer.name not in (None, name):
            raise _wrong(
                number, f"the call {call.id[:100]!r} is of {name[:100]!r}, its answer of {answer.name[:100]!r}"
            )
        parts += [ToolCall(name, json.loads(call.function.arguments)), ToolResult(answer.text)]
    return Turn("assistant", tuple(parts))


def _wrong(number: int, told: str) -> ApiError:
    return ApiError(400, f"messages[{number}]: {told}", f"messages[{number}]")
