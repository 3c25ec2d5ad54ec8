"""Rows of other people's data sets as conversations. Each row is told by its keys, so that one file may mix them.

    messages                                     OpenAI: role and content, tool_calls, tool messages, reasoning_content
    conversations, conversation                  ShareGPT: from and value (human, gpt, system, function_call, observation)
    prompt: {text, role, replies}                OpenAssistant's trees: the reply of the best rank at each turn
    instruction, output, and perhaps input       Alpaca
    prompt or question, response, answer or completion

An id of the row names the conversation, else its place in the file does. What is not in these keys is not read; definitions of
tools neither: say in the system message what the model may call.

A user's turn at the very end is left out, since nothing in it would be trained; so is a system message without a word.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from data_pipeline.conversation import Conversation, Part, Text, Thinking, ToolCall, ToolResult, Turn, said
from data_pipeline.files import is_unicode
from data_pipeline.set_aside import SetAside
from data_pipeline.sources import read_rows

ROLES: dict[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response"), "tool"),
}
QUESTIONS = ("prompt", "question")
ANSWERS = ("response", "answer", "completion")


class BadRow(ValueError):
    """A row that is no conversation. The message says why, in the same words for all rows of its kind."""


def read_conversations(source: str, set_aside: SetAside) -> Iterator[Conversation]:
    """The conversations of a file, a glob or tfds:NAME; see `sources.read_rows`.

    Rows that are none go to `set_aside`. Raises `UserError` where the source cannot be found or read.
    """
    for where, row in read_rows(source, set_aside):
        try:
            yield conversation_of(where, row)
        except BadRow as error:
            set_aside.add(where, str(error), json.dumps(row, default=str).encode())


def conversation_of(where: str, row: dict[str, Any]) -> Conversation:
    """One row, found at `where`, as a conversation. Raises `BadRow` with the reason why it is none."""
    if not is_unicode(json.dumps(row, ensure_ascii=False, default=str)):
        raise BadRow("text with half a surrogate pair")
    turns = _turns(_messages(row))
    name = row.get("id")
    return Conversation(where if name is None or name == "" else str(name), turns)


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row as messages in OpenAI's form, whose roles are the values of `ROLES`."""
    for key in ("messages", "conversations", "conversation"):
        if key in row:
            return [*_system(row), *map(_message, records(row[key]))]
    if isinstance(row.get("prompt"), dict) and "replies" in row["prompt"]:
        return list(_best_path(row["prompt"]))
    if "instruction" in row and "output" in row:
        asked = "\n\n".join(_text(part) for part in (row["instruction"], row.get("input")) if part)
        return [*_system(row), *_exchange(asked, row["output"])]
    question = next((row[key] for key in QUESTIONS if key in row), None)
    answer = next((row[key] for key in ANSWERS if key in row), None)
    if isinstance(question, str) and isinstance(answer, str):
        return [*_system(row), *_exchange(question, answer)]
    raise BadRow("unknown schema")


def records(value: Any) -> list[dict[str, Any]]:
    """A list of objects, also as TFDS stores one. Raises `BadRow`."""
    if isinstance(value, dict) and value and all(isinstance(each, list) for each in value.values()):
        # TFDS stores a list of records as a record of lists, all of one length.
        value = [dict(zip(value, record, strict=True)) for record in zip(*value.values(), strict=False)]
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise BadRow("something else where the list of messages should be")
    return value


def _system(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "system", "content": row["system"]}] if row.get("system") else []


def _exchange(question: Any, answer: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _message(message: dict[str, Any]) -> dict[str, Any]:
    named = message.get("role", message.get("from"))
    role = ROLES.get(named) if isinstance(named, str) else None
    if role is None:
        raise BadRow("unknown role")
    if named == "function_call":
        return {"role": role, "function_call": _json_object(message.get("value", message.get("content")))}
    return {**message, "role": role, "content": message.get("content", message.get("value"))}


def _best_path(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """From the root of a tree to a leaf by the best rank; a reply without one comes last."""
    while True:
        yield _message({"role": message.get("role"), "content": message.get("text")})
        replies = [reply for reply in records(message.get("replies") or []) if not reply.get("deleted")]
        if not replies:
            return
        message = min(replies, key=lambda reply: rank if isinstance(rank := reply.get("rank"), int) else math.inf)


def _turns(messages: list[dict[str, Any]]) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    turn: _AssistantTurn | None = None
    for number, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            if turn is None:
                raise BadRow("tool result without a call")
            turn.answer(message)
            continue
        if role == "assistant":
            if not turns or turns[-1].role == "system":
                raise BadRow("assistant first")
            turn = turn or _AssistantTurn()
            turn.speak(message)
            continue
        if turn is not None:
            turns.append(turn.done())
            turn = None
        text = _text(message["content"])
        if role == "system":
            if number:
                raise BadRow("system message in the middle")
            if text.strip():
                turns.append(said(role, text))
            continue
        if turns and turns[-1].role == "user":
            raise BadRow("two users in a row")
        if not text.strip():
            raise BadRow("empty turn")
        turns.append(said(role, text))
    if turn is not None:
        turns.append(turn.done())
    if turns and turns[-1].role == "user":
        turns.pop()
    if not any(each.role == "assistant" for each in turns):
        raise BadRow("no assistant turn")
    return tuple(turns)


class _AssistantTurn:
    """The messages of one turn: what the assistant says, its calls, and what comes back, each right after its call."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.waiting: dict[int, Any] = {}  # place in `parts` of each call without a result -> its id

    def speak(self, message: dict[str, Any]) -> None:
        if self.parts and not isinstance(self.parts[-1], ToolResult | ToolCall):
            raise BadRow("two assistants in a row")
        self.check_answered()
        calls = message.get("tool_calls") or []
        if message.get("function_call"):
            calls = [{"function": message["function_call"]}]
        if not isinstance(calls, list):
            raise BadRow("tool call without a name")
        thinking, text = (_text(message.get(key)) for key in ("reasoning_content", "content"))
        if not text.strip() and not calls:
            raise BadRow("empty turn")
        if thinking.strip():
            self.parts.append(Thinking(thinking))
        if text:
            self.parts.append(Text(text))
        for call in calls:
            self.waiting[len(self.parts)] = call.get("id") if isinstance(call, dict) else None
            self.parts.append(_call(call))

    def answer(self, message: dict[str, Any]) -> None:
        named = message.get("tool_call_id")
        place = next((place for place, name in self.waiting.items() if named is None or name in (None, named)), None)
        if place is None:
            raise BadRow("tool result without a call")
        del self.waiting[place]
        self.parts.insert(place + 1, ToolResult(_text(message["content"])))
        self.waiting = {other + (other > place): name for other, name in self.waiting.items()}

    def check_answered(self) -> None:
        if self.waiting:
            raise BadRow("tool call without a result")

    def done(self) -> Turn:
        if self.waiting and list(self.waiting) != [len(self.parts) - 1]:  # the last one may be what it is all about
            self.check_answered()
        if isinstance(self.parts[-1], ToolResult):
            raise BadRow("tool result without an answer after it")
        return Turn("assistant", tuple(self.parts))


def _call(call: Any) -> ToolCall:
    function = call.get("function", call) if isinstance(call, dict) else {}
    function = function if isinstance(function, dict) else {}
    name = function.get("name")
    if not isinstance(name, str) or not name or "\n" in name:
        raise BadRow("tool call without a name")
    return ToolCall(name, _json_object(function.get("arguments")))


def _json_object(value: Any) -> dict[str, Any]:
    """A JSON object, or the text of one."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadRow("call arguments that are not a JSON object")
    return value


def _text(content: Any) -> str:
    """A message's content: a string, or OpenAI's list of text parts; nothing is the empty text."""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(_text(part.get("text")) for part in content)
    if content is not None and not isinstance(content, str):
        raise BadRow("content that is not text")
    return content or ""
