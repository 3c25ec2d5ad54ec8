"""`Conversation`: a worked example, the second of the four kinds of data that a textbook holds.

How one becomes tokens, and tokens become one, is the protocol's business (`protocol.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from data_pipeline.errors import UserError

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True)
class Text:
    """Words to the other side."""

    text: str


@dataclass(frozen=True)
class Thinking:
    """What the assistant writes for itself before it answers."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """The assistant asks a tool. `arguments` is a JSON object."""

    name: str
    arguments: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class BrokenCall:
    """What a model wrote as a tool call and cannot be read as one. No data set holds any."""

    text: str
    problem: str  # such as "the arguments are not JSON": words for the model, which may try again


@dataclass(frozen=True)
class ToolResult:
    """What the tool answered, in the assistant's turn right after the call. Nobody is trained to write it."""

    text: str


Part = Text | Thinking | ToolCall | BrokenCall | ToolResult


@dataclass(frozen=True)
class Turn:
    """What one side said: only an assistant's turn may hold other parts than one `Text`."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """What it says to the other side: its `Text` parts."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def said(role: Role, text: str) -> Turn:
    """A turn of nothing but text."""
    return Turn(role, (Text(text),))


@dataclass(frozen=True)
class Conversation:
    """A worked example: at most one system turn, then the user and the assistant in turn, the user first."""

    id: str
    turns: tuple[Turn, ...]
    held_out: bool | None = None  # None: decided by a hash of what it says


def check_order(turns: Sequence[Turn]) -> None:
    """Raise `UserError` for a turn or a part that is not where it may be. Any beginning of a conversation is fine."""
    said = [turn.role for turn in turns]
    for role in said:
        if role not in ROLES:
            raise UserError(f"no role {role!r}: choose one of {', '.join(ROLES)}")
    dialogue = said[1:] if said[:1] == ["system"] else said
    if "system" in dialogue:
        raise UserError("a system turn may only be the first of a conversation, and there is at most one")
    for number, (role, expected) in enumerate(zip(dialogue, ("user", "assistant") * len(dialogue), strict=False)):
        if role != expected:
            where = f"after {said[len(said) - len(dialogue) + number - 1]}" if number else "at the start"
            raise UserError(f"a turn of the {role} {where}: the user and the assistant speak in turn, the user first")
    for turn in turns:
        if turn.role != "assistant" and [type(part) for part in turn.parts] != [Text]:
            raise UserError(f"a turn of the {turn.role} must be one text: only the assistant thinks and calls tools")
        for before, part in pairwise((None, *turn.parts)):
            if isinstance(part, ToolResult) and not isinstance(before, ToolCall | BrokenCall):
                raise UserError("a tool result without a call: it stands right after the call that it answers")


def check_prompt(turns: Sequence[Turn]) -> None:
    """Raise `UserError` for turns that an assistant cannot go on from."""
    check_order(turns)
    if not turns or not (turns[-1].role == "user" or waits(turns[-1])):
        raise UserError("the last turn must be the user's: it is what the assistant answers")


def waits(turn: Turn) -> bool:
    """Whether it is an assistant's turn that a tool result interrupts, so that the assistant goes on with it."""
    return turn.role == "assistant" and bool(turn.parts) and isinstance(turn.parts[-1], ToolResult)


def describe_parts(parts: Sequence[Part]) -> str:
    """An assistant's turn for people to read: what is not text stands in brackets."""
    return "".join(_described(part) for part in parts)


def _described(part: Part) -> str:
    match part:
        case Text():
            return part.text
        case Thinking():
            return f"[thinks: {part.text}]\n"
        case ToolCall():
            arguments = ", ".join(f"{name}={value!r}" for name, value in part.arguments.items())
            return f"[calls {part.name}({arguments})]\n"
        case BrokenCall():
            return f"[calls something: {part.problem}]\n"
        case ToolResult():
            return f"[gets: {part.text}]\n"
